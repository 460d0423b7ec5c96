"""What is said of a training that came to nothing."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
import torch
from photos import KINDS, write_photos
from small_sets import images
from training_runs import train

from dshc.data import make_split
from dshc.runs import RunSettings
from dshc.runs.advice import about_codes, about_training
from dshc.runs.evaluate import evaluate_run

of = RunSettings.of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", per_kind=8, side=16, kinds=KINDS[:2])


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
