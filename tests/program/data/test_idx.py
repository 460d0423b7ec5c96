"""MNIST and Fashion-MNIST: idx files raw and gzipped, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from real_sets import real

from dshc.data import load
from dshc.data.idx import read_idx


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool, n_train: int = 5, n_test: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, n, np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx_bytes(array)
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "sub"),
    [
        ("mnist", ""),
        ("mnist", "MNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
    ],
)
def test_idx_layouts(name, sub, packed, tmp_path):
    arrays = write_idx(tmp_path / sub, packed)
    data = load(name, root=tmp_path)
    assert data.name == name and data.inputs.shape == (8, 28, 28, 1)
    assert (data.inputs[:5, ..., 0] == arrays["train-images-idx3-ubyte"]).all()
    assert (data.labels[5:] == arrays["t10k-labels-idx1-ubyte"]).all()
    assert data.test_mask.tolist() == [False] * 5 + [True] * 3


def test_a_root_with_both_sets_gives_the_one_asked_for(tmp_path):
    write_idx(tmp_path, False, n_train=2)
    write_idx(tmp_path / "FashionMNIST/raw", True, n_train=7)
    assert load("fashion-mnist", root=tmp_path).n_items == 10
    assert load("mnist", root=tmp_path).n_items == 5


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_idx_files_are_refused_by_name(packed, tmp_path):
    write_idx(tmp_path, packed)
    path = tmp_path / ("train-images-idx3-ubyte" + ".gz" * packed)
    whole = path.read_bytes()
    for length in (0, 3, 10, 15, 16, 17, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=path.name):
            load("mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (idx_bytes(np.zeros((2, 3), np.uint8)), "no idx file of 1-dimensional"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0\0\0\0", "no idx file"),
        (idx_bytes(np.zeros(3, np.uint8)) + b"\0", r"announces 3 values \(3,\), the file holds more"),
        (b"\0\0\x08\x01" + b"\xff" * 4 + b"\0\0", "announces 4294967295 values"),
        (b"\0\0\x08", "cut short, 3 bytes"),
    ],
)
def test_idx_headers_are_checked(data, message, tmp_path):
    path = tmp_path / "labels-idx1-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"labels-idx1-ubyte: .*{message}"):
        read_idx(path, 1)


def test_damaged_gzip_is_refused_by_name(tmp_path):
    path = tmp_path / "labels-idx1-ubyte.gz"
    packed = bytearray(gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8))))
    packed[-6] ^= 1
    for data in (bytes(packed), b"not gzip at all"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=path.name):
            read_idx(path, 1)


def test_idx_parts_must_fit(tmp_path):
    write_idx(tmp_path, False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte: 4 labels for the 3 images"):
        load("mnist", root=tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(3, 11, np.uint8)))
    with pytest.raises(ValueError, match="labels must be 0 to 9, got 11"):
        load("mnist", root=tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte .or .gz. are missing"):
        load("mnist", root=tmp_path)


def test_the_real_fashion_mnist_is_read_where_it_lies():
    data = load("fashion-mnist", root=real("fashion-mnist"))
    assert data.inputs.shape == (70000, 28, 28, 1) and data.test_mask.sum() == 10000
    assert np.bincount(data.labels).tolist() == [7000] * 10
    assert np.bincount(data.labels[data.test_mask]).tolist() == [1000] * 10
    assert data.class_names[data.labels[0]] == "Ankle boot"
