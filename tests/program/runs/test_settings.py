"""Settings of a run: TOML, values by name, what is refused, and what data and method decide."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc import methods
from dshc.data import Dataset
from dshc.errors import InputError
from dshc.runs import RunSettings
from dshc.runs.settings import TABLES

of = RunSettings.of


def images(name="other", n_classes=4, multilabel=False):
    labels = np.zeros((8, n_classes), np.uint8) if multilabel else np.zeros(8, np.int64)
    names = tuple(f"class {i}" for i in range(n_classes))
    return Dataset(name, "images", np.zeros((8, 8, 8, 1), np.uint8), labels, names)


def vectors(labels=True):
    known = np.zeros(8, np.int64) if labels else None
    return Dataset("x", "features", np.zeros((8, 5), np.float32), known, ("a",) if labels else ())


def saved(settings, path):
    path.write_text(settings.to_toml(), encoding="utf-8")
    return path


def test_toml_round_trip(tmp_path):
    settings = of(source='a "quoted"\\path\n', bits=48, lr=1e-5, flip=True, crop=False, root=None)
    path = saved(settings, tmp_path / "config.toml")
    assert RunSettings.from_toml(path) == settings
    text = path.read_text()
    assert "lr = 1e-05\n" in text and "# root: not set\n" in text and "flip = true\n" in text
    assert [line for line in text.splitlines() if line.startswith("[")] == [f"[{table}]" for table in TABLES]


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300))
def test_any_text_and_number_survives_toml(tmp_path_factory, text, number):
    settings = of(source=text, lr=number)
    assert RunSettings.from_toml(saved(settings, tmp_path_factory.mktemp("toml") / "config.toml")) == settings


@pytest.mark.parametrize("name", methods.available())
def test_every_method_survives_toml(tmp_path, name):
    settings = of(method=name, bits=24)
    again = RunSettings.from_toml(saved(settings, tmp_path / "config.toml"))
    assert again == settings and type(again.method) is methods.get(name).Settings
    assert again.fingerprint() == settings.fingerprint()


def test_values_override_the_file_and_none_does_not(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[data]\nsource = "mnist"\n[method]\nbits = 48\n[optim]\nlr = 1\n')
    settings = RunSettings.from_toml(path).with_values(bits=64, lr=None)
    assert (settings.data.source, settings.method.bits, settings.optim.lr) == ("mnist", 64, 1.0)
    assert type(settings.optim.lr) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[method]\nbit = 30", "method: unknown setting 'bit'; did you mean 'bits'"),
        ("[optim]\nzzz = 30", "optim: unknown setting 'zzz'; it must be one of epochs, first_size"),
        ("[method]\nbits = 30.0", "bits must be a whole number or nothing, got 30.0"),
        ("[method]\nbits = true", "bits must be a whole number or nothing, got True"),
        ('[optim]\nepochs = "3"', "epochs must be a whole number or nothing, got '3'"),
        ("[data]\nsource = 3", "source must be text, got 3"),
        ("[method]\nbits = 0", "bits must be at least 1 and at most 4096, got 0"),
        ("[data]\nvalidation = 1.0", "validation must be at least 0 and less than 1, got 1.0"),
        ("[optim]\nlr = nan", "lr must be a finite number, got nan"),
        ("[optim]\nlr = 0", "lr must be more than 0, got 0"),
        ("[method]\ntopk = -1", "topk must be at least 0, got -1"),
        ('[optim]\nschedule = "stairs"', "schedule must be one of cosine, onecycle"),
        ('[runtime]\nprecision = "fp16"', "precision must be one of fp32, bf16, got 'fp16'"),
        (
            "[model]\nbits = 3",
            "unknown table 'model'; it must be one of data, encoder, method, optim, runtime",
        ),
        ("[optin]\nlr = 3", "unknown table 'optin'; did you mean 'optim'"),
        ("bits = 3", "unknown table 'bits'"),
        ("data = 3", "data must be a table, got 3"),
        ('[method]\nname = "dshcc"', "method must be one of dshc, .* did you mean 'dshc'"),
        ('[method]\nname = "itq"\ntopk = 1', "method: unknown setting 'topk'"),
        (
            'dataset = "digits"\nbits = 30',
            r"written by an earlier version.*sort them into \[data\] \[encoder\]",
        ),
        ("[method]\nbits = ", "no TOML file"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, text, message):
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        RunSettings.from_toml(path)
    assert "settings.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.toml"):
        RunSettings.from_toml(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 100_000_000}, "width must be at least 1 and at most 16384, got 100000000"),
        ({"epochs": 1e30}, r"epochs must be a whole number or nothing, got 1e\+30"),
        (
            {"epochs": 10**30},
            "epochs must be at least 1 and at most 1000000, got 1000000000000000000000000000000",
        ),
        ({"batch_size": 10**9}, "batch_size must be at least 1 and at most 1000000, got 1000000000"),
        ({"bits": 100_000}, "bits must be at least 1 and at most 4096, got 100000"),
        ({"image_size": 100_000}, "image_size must be at least 1 and at most 4096, got 100000"),
        ({"threads": 1025}, "threads must be at least 1 and at most 1024, got 1025"),
        ({"threads": 0}, "threads must be at least 1 and at most 1024, got 0"),
        ({"seed": 2**63}, "seed must be at least 0 and at most 9223372036854775807, got 9223372036854775808"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"ema": 1.0}, "ema must be at least 0 and less than 1, got 1.0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1, got 1.0"),
        ({"clip_norm": 0.0}, "clip_norm must be more than 0, got 0.0"),
        ({"accumulate": 0}, "accumulate must be at least 1"),
        ({"lr": float("inf")}, "lr must be a finite number, got inf"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than 1, got 1.0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
    ],
)
def test_absurd_values_are_refused_by_name(values, message):
    with pytest.raises(InputError, match=message):
        of(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"foo": 1}, "unknown setting 'foo'; dshc train --help lists them"),
        ({"epoch": 1}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"eta": 0.1}, "eta is a setting of method dpsh, .*and not of the one chosen"),
        ({"optin.lr": 1.0}, "unknown table 'optin' in 'optin.lr'; did you mean 'optim'"),
        ({"optim.bits": 1}, "unknown setting 'optim.bits'; did you mean 'bits'"),
        ({"method": "dshcc"}, "method must be one of dshc, .*, got 'dshcc'; did you mean 'dshc'"),
    ],
)
def test_unknown_names_get_the_nearest_right_one(values, message):
    with pytest.raises(InputError, match=message):
        of(**values)


def test_another_method_keeps_the_length_and_nothing_else():
    settings = of(bits=24, topk=3, lr=0.3).with_values(method="dpsh")
    assert settings.method == methods.get("dpsh").Settings(bits=24) and settings.optim.lr == 0.3
    assert settings.with_values(method="dpsh", eta=0.2).method.eta == 0.2
    # The same method is no other.
    assert of(bits=24, topk=3).with_values(method="dshc").method.topk == 3


def test_settings_do_not_change():
    settings = of(bits=24)
    with pytest.raises(Exception, match="frozen"):
        settings.optim.lr = 1.0
    assert settings.with_values(bits=30).method.bits == 30 and settings.method.bits == 24


def test_the_fingerprint_is_of_what_decides_the_result():
    settings = of(source="digits", bits=30)
    for same in (
        {"threads": 2},
        {"device": "cpu"},
        {"checkpoint_every": 5},
        {"out": "elsewhere"},
        {"root": "r"},
    ):
        assert settings.with_values(**same).fingerprint() == settings.fingerprint(), same
    others = [
        settings.with_values(**other).fingerprint()
        for other in (
            *({"seed": 1}, {"lr": 0.1}, {"precision": "bf16"}, {"ema": 0.5}, {"width": 3}, {"bits": 31}),
            *({"validation": 0.2}, {"method": "itq"}, {"topk": 2}, {"crop": False}, {"accumulate": 2}),
        )
    ]
    assert len({settings.fingerprint(), *others}) == 1 + len(others)


# What is left open


def test_data_and_method_decide_what_is_left_open():
    settings = of(source="digits").resolved(images("digits", 10))
    assert (settings.method.bits, settings.encoder.backbone, settings.data.flip) == (30, "small_net", False)
    optim = settings.optim
    assert None not in (settings.encoder.width, optim.epochs, optim.batch_size, optim.optimizer, optim.lr)
    assert settings.resolved(images("digits", 10)) == settings
    assert of(source="cifar10").resolved(images("cifar10", 10)).data.flip is True
    assert of(bits=64, lr=0.3, flip=True).resolved(images()).with_values(seed=1).optim.lr == 0.3


@pytest.mark.parametrize("name", methods.available())
def test_a_methods_recipe_wins_over_the_datas_and_loses_to_the_users(name):
    method = methods.get(name)
    if "ids" in method.label_kinds:
        dataset = images()
    elif "none" in method.label_kinds:
        dataset = vectors(labels=False)
    else:
        dataset = images(multilabel=True)
    settings = of(method=name).resolved(dataset)
    for key, value in method.recipe.items():
        assert settings[key] == value
    assert settings.resolved(dataset) == settings
    assert of(method=name, lr=0.7).resolved(dataset).optim.lr == 0.7


def test_multilabel_data_take_a_bit_a_label():
    settings = of(source="x", method="dshc-multilabel").resolved(images(n_classes=7, multilabel=True))
    assert settings.method.bits == 7


def test_paths_are_kept_absolute(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "before").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = of(source="photos", root="official", weights="w.pth", start_from="before").resolved(images())
    assert settings.data.source == str(tmp_path / "photos")
    assert settings.data.root == str(tmp_path / "official")
    encoder = settings.encoder
    assert (encoder.weights, encoder.start_from) == (str(tmp_path / "w.pth"), str(tmp_path / "before"))
    assert of(start_from="somebody/hasher").resolved(images()).encoder.start_from == "somebody/hasher"
    (tmp_path / "digits").mkdir()
    assert of(source="digits").resolved(images()).data.source == "digits"


@pytest.mark.parametrize("name", ["source", "root", "labels", "weights", "start_from"])
def test_a_path_that_toml_cannot_hold_is_refused_by_name(tmp_path, monkeypatch, name):
    """Also where only the folder that it is relative to has such a name."""
    folder = tmp_path / os.fsdecode(b"b\xfccher")
    (folder / "inside").mkdir(parents=True)
    asked = {name: "inside"} if name == "source" else {"source": "digits", name: "inside"}
    monkeypatch.chdir(folder)
    with pytest.raises(InputError, match=rf"^{name} must be a path that is UTF-8, got .*b\\xfccher/inside;"):
        of(**asked).paths()
    with pytest.raises(InputError, match=f"^{name} must be a path that is UTF-8"):
        of(**asked).resolved(images())
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    by_link = of(**asked | {name: str(link / "inside")})
    assert by_link.resolved(images())[f"{'encoder' if name in ('weights', 'start_from') else 'data'}.{name}"]
    assert of(source=str(link)).folder.name == "b\\xfccher"


# What nothing is augmented for


@pytest.mark.parametrize(
    ("asked", "came"),
    [({"crop": True}, "true"), ({"flip": True}, "true"), ({"augment": "randaugment"}, "'rand")],
)
@pytest.mark.parametrize("dataset", [images(), vectors()], ids=["frozen", "embeddings"])
def test_augmentation_that_reaches_nothing_is_refused(dataset, asked, came):
    frozen = {"backbone": "timm:resnet18", "pretrained": True, "finetune": "none"}
    settings = of(source="x", **(frozen if dataset.kind == "images" else {}))
    (name,) = asked
    message = rf"^{name} must be (false|'none') with (a frozen|embeddings).*, got {came}"
    with pytest.raises(InputError, match=message) as caught:
        settings.with_values(**asked).resolved(dataset)
    assert ("--finetune last" in str(caught.value)) == (dataset.kind == "images")
    # What is not asked for, and what is not done, is not there.
    data = settings.with_values(crop=False).resolved(dataset).data
    assert (data.crop, data.flip, data.augment) == (False, False, "none")


@pytest.mark.parametrize("finetune", ["last", "all"])
def test_augmentation_of_what_is_trained_is_as_it_was(finetune):
    trained = of(source="x", backbone="timm:resnet18", pretrained=True, finetune=finetune)
    data = trained.with_values(augment="trivialaugment").resolved(images()).data
    assert (data.crop, data.flip, data.augment) == (True, True, "trivialaugment")
    assert of(source="cifar10").resolved(images("cifar10", 10)).data.flip is True


def test_a_method_that_is_only_fitted_augments_nothing():
    """One among others that are trained: what these are asked for it passes over."""
    assert of(source="cifar10", method="itq").resolved(images("cifar10", 10)).data.crop is False
    assert of(source="x", method="itq", flip=True).resolved(images()).data.flip is True


def test_every_setting_is_described():
    models = [RunSettings.model_fields[table].annotation for table in TABLES if table != "method"]
    for model in [*models, *(methods.get(name).Settings for name in methods.available())]:
        for name, field in model.model_fields.items():
            assert field.description or name == "name", f"{model.__name__}.{name}"


def test_a_folder_is_chosen_only_where_none_is_given():
    assert of(source="x/photos").resolved(images()).out == "runs/photos"
    assert of(source="x/photos", out="runs/default").resolved(images()).out == "runs/default"


def test_long_codes_are_taken_only_where_asked_for():
    assert of().resolved(images(n_classes=85)).method.bits == 255
    with pytest.raises(
        ValueError, match=r"bits must be given for 500 classes.*1500 bits, which make 750,500 outputs.*--bits"
    ):
        of(construction="cpbc").resolved(images(n_classes=500))
    assert of(bits=1500).resolved(images(n_classes=500)).method.bits == 1500


@pytest.mark.parametrize(
    ("values", "n_classes", "construction", "bits"),
    [
        ({}, 10, "cpbc", 30),
        ({}, 500, "separated", 17),
        ({"bits": 63}, 21, "cpbc", 63),
        ({"bits": 62}, 21, "separated", 62),
        ({"bits": 32}, 21, "separated", 32),
        ({"bits": 32, "construction": "cpbc"}, 21, "cpbc", 32),
        ({"bits": 32, "target": "paper"}, 21, "cpbc", 32),
        ({"construction": "separated"}, 10, "separated", 10),
    ],
)
def test_codes_are_separated_where_a_class_would_have_fewer_than_three_bits(
    values, n_classes, construction, bits
):
    method = of(**values).resolved(images(n_classes=n_classes)).method
    assert (method.construction, method.bits) == (construction, bits)


def test_several_labels_have_a_bit_each():
    multilabel = of(method="dshc-multilabel").resolved(images(n_classes=500, multilabel=True))
    assert multilabel.method.bits == 500


@pytest.mark.parametrize("name", [["dshc"], {"name": "dshc"}, 3, True])
def test_a_method_must_be_a_name(name):
    with pytest.raises(InputError, match="method must be one of .*, got "):
        of(method=name)
    with pytest.raises(InputError, match="method must be one of .*, got "):
        RunSettings.from_tables({"method": {"name": name}}, "config.toml")


@pytest.mark.parametrize(
    ("asked", "rates"),
    [
        ({}, (1e-3, 3e-4)),
        ({"lr": 1e-4}, (1e-4, 3e-5)),
        ({"optimizer": "sgd"}, (0.1, 0.03)),
        ({"optimizer": "sgd", "lr": 0.01}, (0.01, 0.003)),
        ({"lr": 1e-4, "backbone_lr": 1e-4}, (1e-4, 1e-4)),
        ({"method": "dcwh"}, (0.1, 0.03)),  # whose recipe is sgd
        ({"method": "dcwh", "lr": 0.01}, (0.01, 0.003)),
        ({"method": "dcwh", "optimizer": "adamw"}, (2e-3, 6e-4)),
    ],
)
def test_the_backbone_has_its_share_of_the_rate(asked, rates):
    settings = of(source="photos", backbone="timm:resnet18", pretrained=True, finetune="all", **asked)
    optim = settings.resolved(images()).optim
    assert (optim.lr, optim.backbone_lr) == pytest.approx(rates)
    plain = of(source="photos", backbone="small_net", **asked).resolved(images()).optim
    assert plain.backbone_lr == asked.get("backbone_lr")
