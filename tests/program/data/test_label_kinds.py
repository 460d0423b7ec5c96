"""Labels that do not fit what the caller can use: found before an image is opened."""

from __future__ import annotations

import lzma

import numpy as np
import pytest
from PIL import Image

from dshc.data import LabelsError, load
from dshc.errors import InputError
from dshc.runs import RunSettings
from dshc.runs.run import load_dataset

SOURCES = {
    "none.txt": ("none", "a.png\nb.png\n"),
    "none.csv": ("none", "path,label\na.png,\nb.png,\n"),
    "ids.csv": ("ids", "path,label\na.png,x\nb.png,y\n"),
    "several.csv": ("multi-hot", "path,labels\na.png,x|y\nb.png,y\n"),
    "hot.txt": ("multi-hot", "a.png 0 1\nb.png 1 1\n"),
}
IN_WORDS = {"ids": "one class per item", "multi-hot": "several labels per item"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Lists of two images that nobody may open."""
    for name in ("a.png", "b.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    for name, (_, text) in SOURCES.items():
        (tmp_path / name).write_text(text)

    def opened(*arguments):
        raise AssertionError("an image was opened")

    monkeypatch.setattr("dshc.data.gather.decode", opened)
    return tmp_path


@pytest.mark.parametrize("name", SOURCES)
def test_lists(name, folder):
    kind = SOURCES[name][0]
    if kind == "none":
        with pytest.raises(
            LabelsError,
            match=f"{name}: must have labels, got none; give one or several per image, or train a",
        ):
            load(folder / name)
        return
    other = next(known for known in IN_WORDS if known != kind)
    with pytest.raises(
        LabelsError, match=f"{name}: must have {IN_WORDS[other]}, got {IN_WORDS[kind]}"
    ) as caught:
        load(folder / name, label_kinds=(other,))
    assert caught.value.kind == kind
    with pytest.raises(LabelsError, match=f"must have {IN_WORDS[other]} or no labels, got {IN_WORDS[kind]}"):
        load(folder / name, label_kinds=(other, "none"))
    with pytest.raises(AssertionError, match="an image was opened"):
        load(folder / name)


def test_folders(folder):
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "a.png").rename(folder / "photos" / "cat" / "a.png")
    with pytest.raises(
        LabelsError, match="photos: must have several labels per item, got one class per item"
    ):
        load(folder / "photos", label_kinds=("multi-hot",))


def test_parquet(folder):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    image = (folder / "a.png").read_bytes()
    for columns in ({"image": [image] * 2}, {"path": ["a.png", "b.png"]}):
        pq.write_table(pa.table({**columns, "label": [["x", "y"], ["y"]]}), folder / "x.parquet")
        with pytest.raises(LabelsError, match="x.parquet: must have one class per item, got several"):
            load(folder / "x.parquet", label_kinds=("ids",))
        pq.write_table(pa.table(columns), folder / "x.parquet")
        with pytest.raises(LabelsError, match="x.parquet: must have labels, got none"):
            load(folder / "x.parquet")


def test_published_lists(tmp_path):
    """Before the images are looked for, too: there are none here."""
    labels = np.ones((3, 20), np.uint8)
    ids = np.frombuffer(b"a.jpg\nb.jpg\nc.jpg", np.uint8)
    parts = {"query": np.array([0]), "train": np.array([1, 2])}
    np.savez(tmp_path / "voc2012.npz", ids=ids, labels=np.packbits(labels, axis=1), n_labels=20, **parts)
    lists = tmp_path / "voc2012.npz"
    lists.with_suffix(".npz.xz").write_bytes(lzma.compress(lists.read_bytes()))
    with pytest.raises(
        LabelsError, match="voc2012: must have one class per item, got several labels per item"
    ):
        load("voc2012", root=tmp_path, label_kinds=("ids",))


def test_arrays_and_named_sets(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.ones((2, 3), np.float32), labels=np.ones((2, 2), np.uint8))
    with pytest.raises(LabelsError, match="x.npz: must have one class per item, got several"):
        load(tmp_path / "x.npz", label_kinds=("ids",))
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    assert load(tmp_path / "x.npy", label_kinds=("ids", "none")).labels is None
    with pytest.raises(
        LabelsError, match="digits: must have several labels per item, got one class per item"
    ):
        load("digits", label_kinds=("multi-hot",))
    with pytest.raises(InputError, match="label_kinds must be one of ids, multi-hot, none, got 'pairs'"):
        load("digits", label_kinds=("pairs",))


def test_a_training_names_the_methods_that_fit(folder):
    for name, method, message in (
        (
            "several.csv",
            "dshc",
            "method must be one of .*dshc-multilabel.* for items with several labels .* got 'dshc'",
        ),
        (
            "ids.csv",
            "dshc-multilabel",
            "method must be one of dshc, .* for items with one class .*got 'dshc-multilabel'",
        ),
        ("none.txt", "dshc", "none.txt: must have labels, got none; .*train a method that needs none"),
    ):
        settings = RunSettings.of(source=str(folder / name), method=method)
        with pytest.raises(ValueError, match=message):
            load_dataset(settings)
    settings = RunSettings.of(source=str(folder / "several.csv"))
    with pytest.raises(
        AssertionError, match="an image was opened"
    ):  # a comparison chooses methods by the labels
        load_dataset(settings, any_labels=True)
