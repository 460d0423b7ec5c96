"""Array files of one's own: keys, dtypes, labels, packed rows, and files that are damaged or do not fit."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from real_sets import real
from safetensors.torch import save_file as save_torch

from dshc.data import load


class Evil:
    """Pickles as a call."""

    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


FEATURES = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
LABELS = np.array([3, 10, 3, 7, 7, 10])


def write_arrays(path: Path, **arrays: object) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        metadata = {k: json.dumps(v) for k, v in arrays.items() if not isinstance(v, np.ndarray)}
        tensors = {k: v for k, v in arrays.items() if isinstance(v, np.ndarray)}
        safetensors.numpy.save_file(tensors, path, metadata)
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("keys", [("features", "labels"), ("embeddings", "y"), ("x", "labels")])
def test_embeddings_with_labels(keys, suffix, tmp_path):
    ids = [f"item {i}" for i in range(6)]
    path = write_arrays(
        tmp_path / f"set{suffix}", **{keys[0]: FEATURES, keys[1]: LABELS, "ids": ids, "n_train": 4}
    )
    data = load(path)
    assert data.kind == "features" and (data.inputs == FEATURES).all() and data.name == "set"
    assert data.labels.tolist() == [0, 2, 0, 1, 1, 2] and data.class_names == ("3", "7", "10")
    assert data.ids == tuple(ids) and data.test_mask.tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, bool])
def test_features_of_any_real_dtype(dtype, tmp_path):
    features = (FEATURES * 3).astype(dtype)
    data = load(write_arrays(tmp_path / "a.npz", features=features, labels=LABELS))
    assert data.inputs.dtype == np.float32 and (data.inputs == features.astype(np.float32)).all()


def test_bfloat16_features(tmp_path):
    features = torch.from_numpy(FEATURES).bfloat16()
    save_torch({"features": features, "labels": torch.from_numpy(LABELS)}, tmp_path / "a.safetensors")
    assert (load(tmp_path / "a.safetensors").inputs == features.float().numpy()).all()


def test_bare_npy_with_a_file_of_labels(tmp_path):
    np.save(tmp_path / "x.npy", FEATURES)
    with pytest.raises(ValueError, match="x.npy: must have labels, got none.*labels=FILE"):
        load(tmp_path / "x.npy")
    assert load(tmp_path / "x.npy", require_labels=False).labels is None
    (tmp_path / "l.txt").write_text("cat\ndog\ncat\nbird\nbird\ndog\n")
    data = load(tmp_path / "x.npy", labels=tmp_path / "l.txt")
    assert data.class_names == ("bird", "cat", "dog") and data.labels.tolist() == [1, 2, 1, 0, 0, 2]
    (tmp_path / "l.txt").write_text("\n".join(map(str, LABELS)))
    assert load(tmp_path / "x.npy", labels=tmp_path / "l.txt").class_names == ("3", "7", "10")
    np.save(tmp_path / "l.npy", np.eye(6, 3, dtype=bool))
    assert load(tmp_path / "x.npy", labels=tmp_path / "l.npy").multilabel
    for names, expected in [
        (["01", "1", "1", "10", "1_0", "2"], ("01", "1", "10", "1_0", "2")),
        (["10", "9", "9", "-1", "10", "9"], ("-1", "9", "10")),
        (["+1", "1", "1", "1", "1", "1"], ("+1", "1")),
    ]:
        (tmp_path / "l.txt").write_text("\n".join(names))
        data = load(tmp_path / "x.npy", labels=tmp_path / "l.txt")
        assert data.class_names == expected and [expected[i] for i in data.labels] == names
    np.savez(tmp_path / "two.npz", a=LABELS)
    (tmp_path / "two.npz").rename(tmp_path / "two.npy")
    with pytest.raises(
        ValueError, match="two.npy: a .npy file of labels must hold one array, got an archive"
    ):
        load(tmp_path / "x.npy", labels=tmp_path / "two.npy")
    for text, message in [("a\n\nb", "line 2 must be a class name"), ("a\nb", "l.txt: 2 labels for 6 items")]:
        (tmp_path / "l.txt").write_text(text)
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "x.npy", labels=tmp_path / "l.txt")
    (tmp_path / "L.TXT").write_text("\n".join("abcabc"))
    np.save(tmp_path / "X.npy", FEATURES)
    (tmp_path / "X.npy").rename(tmp_path / "X.NPY")
    assert load(tmp_path / "X.NPY", labels=tmp_path / "L.TXT").class_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="root must go with a named set or a list of images"):
        load(tmp_path / "x.npy", labels=tmp_path / "L.TXT", root=tmp_path)
    with pytest.raises(ValueError, match=r"l.json: a file of labels must be .npy, .*, got .\.json."):
        load(tmp_path / "x.npy", labels=tmp_path / "l.json")
    with pytest.raises(ValueError, match="none.txt: labels cannot be read"):
        load(tmp_path / "x.npy", labels=tmp_path / "none.txt")


def test_labels_in_words_are_numbered_by_the_class_names(tmp_path):
    words, names = np.array(list("cbccbb")), np.array(["c", "a", "b"])
    data = load(write_arrays(tmp_path / "a.npz", features=FEATURES, labels=words, class_names=names))
    assert data.class_names == ("c", "a", "b") and data.labels.tolist() == [0, 2, 0, 0, 2, 2]


def test_packed_rows_are_unpacked(tmp_path):
    rng = np.random.default_rng(2)
    features, labels = rng.integers(0, 2, (6, 13), np.uint8), rng.integers(0, 2, (6, 3), np.uint8)
    packed = {"features": np.packbits(features, axis=1), "labels": np.packbits(labels, axis=1)}
    data = load(write_arrays(tmp_path / "a.npz", **packed, n_features=np.int64(13), n_labels=np.int64(3)))
    assert (data.inputs == features).all() and (data.labels == labels).all() and data.multilabel
    plain = write_arrays(tmp_path / "b.npz", features=features, labels=labels, n_features=13, n_labels=3)
    assert (load(plain).labels == labels).all()
    with pytest.raises(
        ValueError, match="c.npz: features must have 100 columns, plain or packed in uint8, got dtype uint8"
    ):
        load(write_arrays(tmp_path / "c.npz", **packed, n_features=100, n_labels=3))


def test_arrays_of_images(tmp_path):
    images = np.random.default_rng(3).integers(0, 256, (6, 4, 5, 3), np.uint8)
    data = load(write_arrays(tmp_path / "a.npz", images=images, labels=LABELS))
    assert data.kind == "images" and (data.inputs == images).all()
    assert load(write_arrays(tmp_path / "b.npz", images=images[..., 0], labels=LABELS)).item_shape == (
        4,
        5,
        1,
    )
    with pytest.raises(TypeError, match="must be uint8 where it has 4 dimensions .images., got float32"):
        load(write_arrays(tmp_path / "c.npz", images=images.astype(np.float32), labels=LABELS))
    with pytest.raises(ValueError, match=r"must have shape .* to be images, got \(6, 3, 4, 5\)"):
        load(write_arrays(tmp_path / "d.npz", images=images.transpose(0, 3, 1, 2), labels=LABELS))


def with_nan(value: float) -> np.ndarray:
    features = FEATURES.copy()
    features[3, 1] = value
    return features


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"features": with_nan(np.nan), "labels": LABELS}, ValueError, "NaN or infinity, first in row 3"),
        ({"features": with_nan(-np.inf), "labels": LABELS}, ValueError, "NaN or infinity, first in row 3"),
        (
            {"features": FEATURES.astype(np.float64) * 1e60, "labels": LABELS},
            ValueError,
            "infinity, first in row 0",
        ),
        ({"features": FEATURES, "labels": LABELS[:5]}, ValueError, "labels: 5 labels for 6 items"),
        (
            {"features": FEATURES, "labels": LABELS.astype(float)},
            TypeError,
            "labels must be integers or text .*, got dtype float64",
        ),
        (
            {"features": FEATURES, "labels": np.full((6, 2), 2)},
            ValueError,
            "labels of two dimensions must be multi-hot, 0 and 1 .*, got others",
        ),
        (
            {"features": FEATURES, "labels": LABELS, "class_names": np.array(["a"])},
            ValueError,
            "for 1 class names",
        ),
        (
            {"features": FEATURES, "labels": LABELS[:, None] % 2},
            ValueError,
            r"labels must have shape \(n,\) or \(n, L\), L at least 2, got \(6, 1\)",
        ),
        ({"features": FEATURES, "labels": np.int64(3)}, ValueError, r"labels must have shape .*, got \(\)"),
        (
            {"features": FEATURES, "labels": LABELS % 2, "class_names": np.array(["a", "a"])},
            ValueError,
            "class names must differ, got 'a' more than once",
        ),
        (
            {"features": FEATURES, "labels": np.array(list("aabbab")), "class_names": np.array(["a", "c"])},
            ValueError,
            "labels must be among the class names, got 'b'",
        ),
        ({"features": FEATURES[0], "labels": LABELS}, ValueError, r"shape \(5,\)"),
        ({"features": FEATURES.astype(complex), "labels": LABELS}, TypeError, "complex128"),
        ({"codes": FEATURES}, ValueError, "must hold an array features .* got codes"),
        (
            {"features": FEATURES, "x": FEATURES, "labels": LABELS},
            ValueError,
            "one of features and x, got both",
        ),
        (
            {"features": FEATURES, "labels": LABELS, "n_train": np.int64(6)},
            ValueError,
            "n_train must be 1 to 5",
        ),
        ({"features": FEATURES, "labels": LABELS, "ids": np.array(["a"])}, ValueError, "1 ids for 6 items"),
        (
            {"features": FEATURES[:0], "labels": LABELS[:0]},
            ValueError,
            r"must have shape \(n, d\), none of them 0, got \(0, 5\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays, error, message, tmp_path):
    with pytest.raises(error, match=f"own.npz: .*{message}"):
        load(write_arrays(tmp_path / "own.npz", **arrays))


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_damaged_array_files_are_refused_by_name(suffix, tmp_path):
    path = tmp_path / f"own{suffix}"
    if suffix == ".npy":
        np.save(path, FEATURES)
    else:
        write_arrays(path, features=FEATURES, labels=LABELS)
    whole = path.read_bytes()
    for data in (b"", b"\0" * 40, whole[:50], whole[: len(whole) - 10], b"{'not': 'arrays'}"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"own{suffix}: "):
            load(path, require_labels=False)


def test_pickles_in_array_files_are_never_read(tmp_path):
    mark = tmp_path / "ran"
    evil = np.array([Evil(os.system, f"touch {mark}")], dtype=object)
    np.save(tmp_path / "a.npy", evil, allow_pickle=True)
    np.savez(tmp_path / "b.npz", features=evil)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(evil))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(ValueError, match=f"{name}: .*pickle"):
            load(tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "shape", "n_labels", "mean", "n_test"),
    [
        ("corel16k001", (13766, 500), 153, 2.86, None),
        ("corel5k", (5000, 499), 374, 3.52, 500),
        ("scene", (2407, 294), 6, 1.07, 1196),
    ],
)
def test_the_real_multilabel_features(name, shape, n_labels, mean, n_test):
    data = load(real("multilabel-features") / f"{name}.npz")
    assert data.inputs.shape == shape and data.labels.shape == (shape[0], n_labels)
    assert round(float(data.labels.sum(1).mean()), 2) == mean
    assert (None if data.test_mask is None else int(data.test_mask.sum())) == n_test
    assert len(data.class_names) == n_labels and not data.class_names[0].isdigit()
