"""Settings: TOML, overrides, what is refused, and what the data decide."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.config import Config
from dshc.data import Dataset


def images(name="other", n_classes=4, multilabel=False):
    labels = np.zeros((8, n_classes), np.uint8) if multilabel else np.zeros(8, np.int64)
    return Dataset(
        name,
        "images",
        np.zeros((8, 8, 8, 1), np.uint8),
        labels,
        tuple(f"class {i}" for i in range(n_classes)),
    )


def test_toml_round_trip(tmp_path):
    config = Config(dataset='a "quoted"\\path\n', bits=48, lr=1e-5, flip=True, augment=False, root=None)
    path = config.save(tmp_path / "config.toml")
    assert Config.from_toml(path) == config
    text = path.read_text()
    assert "lr = 1e-05\n" in text and "# root: not set\n" in text and "flip = true\n" in text


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300))
def test_any_text_and_number_survives_toml(tmp_path_factory, text, number):
    config = Config(dataset=text, lr=number)
    path = config.save(tmp_path_factory.mktemp("toml") / "config.toml")
    assert Config.from_toml(path) == config


def test_flags_override_the_file_and_none_does_not(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('dataset = "mnist"\nbits = 48\nlr = 1\n')
    config = Config.from_toml(path, bits=64, lr=None)
    assert (config.dataset, config.bits, config.lr) == ("mnist", 64, 1.0)
    assert type(config.lr) is float


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("bit = 30", ValueError, r"unknown setting 'bit'; did you mean 'bits'"),
        ("zzz = 30", ValueError, r"unknown setting 'zzz'; known are dataset"),
        ("bits = 30.0", TypeError, r"bits: got 30.0, expected int or nothing"),
        ("bits = true", TypeError, r"bits: got True"),
        ('epochs = "3"', TypeError, r"epochs: got '3'"),
        ("dataset = 3", TypeError, r"dataset: got 3, expected str"),
        ("bits = 0", ValueError, r"bits: got 0, expected at least 1"),
        ("validation = 1.0", ValueError, r"validation: got 1.0"),
        ("lr = nan", ValueError, r"lr: got nan, expected a finite number"),
        ("lr = 0", ValueError, r"lr: got 0.0, expected more than 0"),
        ("topk = -1", ValueError, r"topk: got -1"),
        ('schedule = "step"', ValueError, r"schedule: got 'step', expected one of cosine, onecycle"),
        ('precision = "fp16"', ValueError, r"precision: got 'fp16', expected one of fp32, bf16"),
        ("[model]\nbits = 3", ValueError, r"unknown setting 'model'"),
        ("bits = ", ValueError, r"no TOML file"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, text, error, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(error, match=message) as caught:
        Config.from_toml(path)
    assert "settings.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.toml"):
        Config.from_toml(tmp_path / "nothing.toml")


def test_the_data_decide_what_is_left_open():
    config = Config(dataset="digits").resolved(images("digits", 10))
    assert (config.bits, config.backbone, config.flip) == (30, "small_net", False)
    assert None not in (config.width, config.epochs, config.batch_size, config.optimizer, config.lr)
    assert config.resolved(images("digits", 10)) == config
    assert Config(dataset="cifar10").resolved(images("cifar10", 10)).flip is True
    assert Config(bits=64, lr=0.3, flip=True).resolved(images()).override(seed=1).lr == 0.3


def test_multilabel_data_take_a_bit_a_label():
    assert Config(dataset="x").resolved(images(n_classes=7, multilabel=True)).bits == 7


def test_paths_are_kept_absolute(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    config = Config(dataset="photos", root="official", weights="w.pth").resolved(images())
    assert config.dataset == str(tmp_path / "photos")
    assert (config.root, config.weights) == (str(tmp_path / "official"), str(tmp_path / "w.pth"))
    (tmp_path / "digits").mkdir()
    assert Config(dataset="digits").resolved(images()).dataset == "digits"


def test_every_setting_is_described():
    assert all(setting.metadata["help"] for setting in dataclasses.fields(Config))


def test_a_folder_is_chosen_only_where_none_is_given():
    assert Config(dataset="x/photos").resolved(images()).out == "runs/photos"
    assert Config(dataset="x/photos", out="runs/default").resolved(images()).out == "runs/default"


def test_long_codes_are_taken_only_where_asked_for():
    assert Config().resolved(images(n_classes=85)).bits == 255
    with pytest.raises(
        ValueError, match=r"bits: .*500 classes.*1500 bits, which make 750,500 outputs.*--bits"
    ):
        Config().resolved(images(n_classes=500))
    assert Config(bits=1500).resolved(images(n_classes=500)).bits == 1500
    assert Config().resolved(images(n_classes=500, multilabel=True)).bits == 500


@pytest.mark.parametrize("settings", [{"threads": 1025}, {"seed": 2**63}])
def test_numbers_beyond_all_use_are_refused(settings):
    with pytest.raises(ValueError, match=r"(threads|seed): got \d+, expected at most \d+"):
        Config(**settings)
