"""CIFAR's official files: the layout is read, and a pickle that wants more than arrays is refused by name."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from real_sets import real

from dshc.data import load, make_split
from dshc.data.cifar import read_plain_pickle


def python2_batch(
    images: np.ndarray, labels: list[int], names: list[str], label_key: str = "labels"
) -> bytes:
    """A batch file opcode by opcode as Python 2 wrote the official ones: all text is bytes."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    rows, columns = images.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01M"
        + struct.pack("<H", rows)
    )
    array += b"M" + struct.pack("<H", columns) + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    array += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", images.size)
    array += images.tobytes() + b"tb"
    out = b"\x80\x02}(" + text("batch_label") + text("testing batch 1 of 1")
    out += text(label_key) + b"](" + b"".join(b"K" + bytes([y]) for y in labels) + b"e"
    out += text("data") + array + text("filenames") + b"](" + b"".join(text(n) for n in names) + b"e"
    return out + b"u."


def planes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)


def write_cifar10(root: Path, write, n: int = 4) -> np.ndarray:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    all_images = []
    for i, file in enumerate([f"data_batch_{j}" for j in range(1, 6)] + ["test_batch"]):
        images = planes(n, i)
        names = [f"{file}_{j}.png" for j in range(n)]
        (folder / file).write_bytes(write(images, [(i + j) % 10 for j in range(n)], names))
        all_images.append(images)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}, 2))
    return np.concatenate(all_images)


def python3_batch(protocol: int, key=str):
    def write(images, labels, names):
        content = {"data": images, "labels": labels, "filenames": names}
        return pickle.dumps({key(k): v for k, v in content.items()}, protocol)

    return write


WRITERS = {"python2": python2_batch}
WRITERS |= {f"python3-protocol{p}": python3_batch(p) for p in (2, 3, 4)}
WRITERS["bytes-keys"] = python3_batch(4, key=str.encode)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("root_is_folder", [False, True])
def test_cifar10_layout(write, root_is_folder, tmp_path):
    flat = write_cifar10(tmp_path, write)
    data = load("cifar10", root=tmp_path / "cifar-10-batches-py" if root_is_folder else tmp_path)
    assert data.inputs.shape == (24, 32, 32, 3)
    # Pixel (row r, column q) of colour c is value 1024 c + 32 r + q of the file's row.
    for c, r, q in [(0, 0, 1), (1, 3, 0), (2, 31, 30)]:
        assert (data.inputs[:, r, q, c] == flat[:, 1024 * c + 32 * r + q]).all()
    assert data.labels.tolist() == [(i + j) % 10 for i in range(6) for j in range(4)]
    assert data.test_mask.tolist() == [False] * 20 + [True] * 4
    assert data.class_names[3] == "class 3" and data.ids[-1] == "test_batch_3.png"


@pytest.mark.parametrize(("name", "n_classes"), [("cifar100", 100), ("cifar100-coarse", 20)])
def test_cifar100_has_both_labels(name, n_classes, tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for file in ("train", "test"):
        content = {"data": planes(3), "fine_labels": [99, 0, 5], "coarse_labels": [19, 1, 2]}
        (folder / file).write_bytes(pickle.dumps(content, 2))
    names = {
        "fine_label_names": [f"f{i}" for i in range(100)],
        "coarse_label_names": [f"c{i}" for i in range(20)],
    }
    (folder / "meta").write_bytes(pickle.dumps(names, 2))
    data = load(name, root=tmp_path)
    assert (
        data.n_classes == n_classes
        and data.labels.tolist() == [n_classes - 1, *([0, 5] if n_classes == 100 else [1, 2])] * 2
    )
    assert data.ids is None and data.test_mask.tolist() == [False] * 3 + [True] * 3


class Evil:
    def __init__(self, call, *args):
        self.call = call, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("call", "named"),
    [(os.system, "(posix|nt).system"), (eval, "builtins.eval|__builtin__.eval"), (np.load, "numpy.*load")],
)
def test_a_malicious_pickle_is_refused_by_name_and_not_run(call, named, protocol, tmp_path):
    mark = tmp_path / "ran"
    argument = f"__import__('pathlib').Path({str(mark)!r}).touch()" if call is eval else f"touch {mark}"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Evil(call, argument)}, protocol))
    with pytest.raises(ValueError, match=f"data_batch_1: refused.*({named})"):
        read_plain_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "payload",
    {
        # numpy's own vocabulary, turned against the reader
        "huge array": b"cnumpy\nndarray\n(I100000000000\ntR.",
        "huge reconstruction": b"cnumpy.core.multiarray\n_reconstruct\n"
        b"(cnumpy\nndarray\n(I100000000000\ntS'b'\ntR.",
        "objects": b"cnumpy\ndtype\n(S'O'\ntR.",
        "attributes of the reader": b"cnumpy\ndtype\n(N}S'x'\nI1\nstb.",
        "persistent id": b"Pname\n.",
        "extension": b"\x80\x02\x82\x01.",
        "other encoding": b"c_codecs\nencode\n(Vabc\nVzip\ntR.",
        "numpy function": b"cnumpy\nfromfile\n(S'/etc/passwd'\ntR.",
        "no dictionary": pickle.dumps([1, 2]),
        "empty": b"",
        "no pickle": b"PNG and so on",
    }.items(),
    ids=lambda item: item[0],
)
def test_odd_pickles_are_refused_by_name(payload, tmp_path):
    path = tmp_path / "train"
    path.write_bytes(payload[1])
    with pytest.raises(ValueError, match="train: "):
        read_plain_pickle(path)


def test_every_cut_of_a_batch_file_is_refused(tmp_path):
    whole = python2_batch(planes(1), [3], ["a.png"])
    path = tmp_path / "test_batch"
    for length in [*range(0, 200, 7), 1500, len(whole) - 30, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="test_batch"):
            read_plain_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [1]}, r"'data' must be a uint8 array of shape \(n, 3072\), got NoneType"),
        ({"data": planes(1)[:, :100], "labels": [1]}, r"'data' must be .*, got uint8 of shape \(1, 100\)"),
        ({"data": planes(1).astype(np.int64), "labels": [1]}, "'data' must be .*, got int64 of shape"),
        ({"data": planes(1), "labels": [10]}, "integers from 0 to 9, got 10"),
        ({"data": planes(1), "labels": ["1"]}, "integers from 0 to 9, got '1'"),
        ({"data": planes(1)}, "'labels' must be a list of integers from 0 to 9, got NoneType"),
        ({"data": planes(1), "labels": [1, 2]}, "2 labels for 1 images"),
    ],
)
def test_cifar_batches_that_do_not_fit_are_named(content, message, tmp_path):
    write_cifar10(tmp_path, python2_batch)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_4"
    path.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ValueError, match=f"data_batch_4: .*{message}"):
        load("cifar10", root=tmp_path)


def test_a_missing_batch_is_named(tmp_path):
    write_cifar10(tmp_path, python2_batch)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(ValueError, match="official files data_batch_2 are missing"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize(("folder", "file"), [("cifar-10", "batches.meta"), ("cifar-100", "meta")])
def test_the_official_name_files(folder, file):
    names = read_plain_pickle(real(folder) / file)
    if folder == "cifar-10":
        assert names["label_names"][0] == b"airplane" and names["num_vis"] == 3072
    else:
        assert len(names["fine_label_names"]) == 100 and len(names["coarse_label_names"]) == 20


def test_the_real_cifar10():
    """Unpacked official files; the packed ones are not unpacked here, which takes a minute."""
    data = load("cifar10", root=real("cifar-10-batches-py"))
    assert data.inputs.shape == (60000, 32, 32, 3) and data.test_mask.sum() == 10000
    assert data.class_names[data.labels[0]] == "frog" and data.inputs[0, 0, 0].tolist() == [59, 62, 63]
    assert len(make_split(data, "cifar10-full").query) == 10000
