"""``Dataset`` and ``load``: what a set may hold, what a source may be, and what is refused and how."""

from __future__ import annotations

import numpy as np
import pytest

import dshc.data
from dshc.data import Dataset, available, load


def small(**changes: object) -> Dataset:
    fields = {
        "name": "small",
        "kind": "features",
        "inputs": np.zeros((4, 2), np.float32),
        "labels": np.array([0, 1, 1, 0]),
        "class_names": ("a", "b"),
    }
    return Dataset(**(fields | changes))


def test_dataset_tells_what_it_holds():
    data = small()
    assert (data.n_items, data.n_classes, data.multilabel, data.item_shape) == (4, 2, False, (2,))
    assert small(labels=np.eye(4, 2, dtype=np.uint8)).multilabel
    blank = small(labels=None, class_names=())
    assert (blank.n_classes, blank.multilabel) == (0, False)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "text"}, ValueError, "kind must be 'images' or 'features', got 'text'"),
        ({"inputs": np.zeros((4, 2))}, TypeError, "features must be float32, got float64"),
        (
            {"inputs": np.zeros((0, 2), np.float32)},
            ValueError,
            r"features must have shape \(n, d\), none of them 0, got \(0, 2\)",
        ),
        ({"kind": "images", "inputs": np.zeros((4, 2, 2, 2), np.uint8)}, ValueError, "channels, got 2"),
        ({"inputs": np.float32([[0, 0], [0, np.nan], [0, 0], [0, 0]])}, ValueError, "first in row 1"),
        ({"labels": np.array([0, 1, 1])}, ValueError, "3 labels for 4 items"),
        ({"labels": np.array([0, 1, 2, 0])}, ValueError, "from 0 to 2 for 2 class names"),
        ({"labels": np.array([0, -1, 1, 0])}, ValueError, "from -1 to 1"),
        ({"labels": np.zeros(4, np.int32)}, TypeError, "must be int64, got int32"),
        ({"labels": np.full((4, 2), 2, np.uint8)}, ValueError, "must be 0 and 1, got 2"),
        ({"labels": np.zeros((4, 3), np.uint8)}, ValueError, r"got \(4, 3\)"),
        ({"labels": None}, ValueError, "class_names without labels"),
        ({"test_mask": np.zeros(4, np.uint8)}, TypeError, "test_mask must be bool, got uint8"),
        ({"test_mask": np.zeros(3, bool)}, ValueError, r"test_mask must have shape \(4,\), got \(3,\)"),
        ({"ids": ("a",)}, ValueError, "1 ids for 4 items"),
        ({"published": {"query": np.arange(2)}}, ValueError, "must have query, train .*got query"),
        ({"published": {"query": np.arange(2), "train": np.arange(2.0)}}, TypeError, "published train"),
        ({"published": {"query": np.array([4]), "train": np.arange(2)}}, ValueError, "rows below 4"),
        ({"published": {"query": np.array([1, 1]), "train": np.arange(2)}}, ValueError, "each row once"),
    ],
)
def test_dataset_refuses_by_name(changes, error, message):
    with pytest.raises(error, match=f"small: .*{message}"):
        small(**changes)


def test_available_sets():
    arrays = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "cifar100-coarse")
    photos = ("coco", "imagenet100", "mirflickr25k", "voc2012", "nuswide21", "nuswide81")
    assert available() == arrays + photos


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", {}, "source must be digits, mnist.*, got 'nowhere', which is no file or folder here"),
        ("", {}, "source must be a named set, a folder or a file, got ''"),
        ("nowhere.npy", {}, "nowhere.npy: no such file"),
        ("nowhere.safetensors", {}, "nowhere.safetensors: no such file"),
        (
            "digits",
            {"image_size": 8},
            "image_size must go with images in files, which 'digits' does not hold, got 8",
        ),
        ("x.npz", {"n_channels": 3}, "n_channels must go with images in files, .*, got 3"),
        ("digits", {"labels": "l.txt"}, "labels must go with .npy.* coco.*, got 'l.txt' with 'digits'"),
        ("didgits", {}, "source must be .*, got 'didgits'.*; did you mean 'digits'?"),
        ("digits", {"n_channels": 2}, "n_channels must be 1 .*, got 2"),
        ("digits", {"interpolation": "cubic"}, "interpolation must be one of bilinear, bicubic, got 'cubic'"),
        ("digits", {"max_memory_mib": -1}, "max_memory_mib must be a number of MiB from 0 on, got -1"),
        ("digits", {"max_memory_mib": "1"}, "max_memory_mib must be .*, got '1'"),
    ],
)
def test_load_refuses_by_name(source, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load(source, **options)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "cifar100-coarse"])
def test_a_set_that_is_not_there_names_the_files_and_the_remedy(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DSHC_DATA_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path}.*official files.*root="):
        load(name)


def test_digits():
    data = load("digits")
    assert data.inputs.shape == (1797, 8, 8, 1) and data.inputs.dtype == np.uint8
    assert np.unique(data.inputs).size == 17 and data.inputs.max() == 255
    assert data.labels.dtype == np.int64 and data.n_classes == 10 and data.test_mask is None


def test_the_packages_example():
    import doctest

    assert doctest.testmod(dshc.data).failed == 0


def test_the_digest_is_of_the_inputs_alone():
    data = small()
    assert data.digest() == small(labels=None, class_names=()).digest() == data.digest()
    assert data.digest() != small(inputs=np.ones((4, 2), np.float32)).digest()
    assert data.digest() != small(inputs=np.zeros((2, 4), np.float32), labels=None, class_names=()).digest()
    strided = np.zeros((4, 4), np.float32)[:, ::2]
    assert small(inputs=strided).digest() == data.digest()
