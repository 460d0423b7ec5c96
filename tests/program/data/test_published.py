"""Sets of label lists: the published splits, images found by name, what is missing, the traps of the lists."""

from __future__ import annotations

import lzma
import os

import numpy as np
import pytest
from PIL import Image
from real_sets import real

from dshc.data import Dataset, ImageFiles, load, make_split
from dshc.data.item_labels import labels_of_hot
from dshc.data.published import PUBLISHED, _class_names, read_label_lists

N, L = 12, 20  # VOC's 20 labels


def hot() -> np.ndarray:
    labels = np.eye(L, dtype=np.uint8)[np.arange(N) % L]
    labels[0, 7] = labels[5, 9] = 1
    labels[11] = 0
    return labels


def write_lists(path, *, names=None, labels=None, **parts):
    names = [f"2008_{i:06}.jpg" for i in range(N)] if names is None else names
    labels = hot() if labels is None else labels
    parts = parts or {"query": [10, 11], "train": [0, 1, 2, 3], "database": list(range(10))}
    content = {
        "ids": np.frombuffer("\n".join(names).encode(), np.uint8),
        "labels": np.packbits(labels, axis=1),
        "n_labels": labels.shape[1],
        **{part: np.array(rows, np.int32) for part, rows in parts.items()},
    }
    np.savez(path.with_suffix(""), **content)
    if path.suffix == ".xz":
        path.write_bytes(lzma.compress(path.with_suffix("").read_bytes()))
        path.with_suffix("").unlink()
    return path


def pictures(folder, names=None):
    for i, name in enumerate(names or [f"2008_{i:06}.jpg" for i in range(N)]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i * 20, 0, 0)).save(folder / name)
    return folder


@pytest.fixture
def voc(tmp_path):
    folder = pictures(tmp_path / "voc", [f"{'ab'[i % 2]}/2008_{i:06}.jpg" for i in range(N)])
    write_lists(folder / "voc2012.npz.xz")
    return folder


def test_images_are_found_and_the_split_is_the_published_one(voc):
    data = load("voc2012", root=voc, image_size=4)
    assert data.name == "voc2012" and data.multilabel and (data.labels == hot()).all()
    assert data.inputs[3, 0, 0, 0] == pytest.approx(60, abs=3) and data.ids[3] == "2008_000003.jpg"
    assert data.reading.line() == "12 images read" and data.class_names == tuple(map(str, range(L)))
    split = make_split(data, validation=0.25)
    assert split.protocol == "published" and split.query.tolist() == [10] and split.dropped == 1
    assert split.database.tolist() == list(range(10)) and len(split.validation) == 1
    assert sorted([*split.train, *split.validation]) == [0, 1, 2, 3]
    assert make_split(data, "random", validation=0).protocol == "random"
    lazy = load("voc2012", root=voc, image_size=4, max_memory_mib=0)
    assert isinstance(lazy.inputs, ImageFiles) and make_split(lazy, validation=0.25) == split


def test_lists_of_another_place(voc, tmp_path, monkeypatch):
    lists = voc / "voc2012.npz.xz"
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    lists = lists.rename(elsewhere / lists.name)
    with pytest.raises(ValueError, match="its lists must be in .*voc: voc2012.npz.xz, .*labels=FILE"):
        load("voc2012", root=voc)
    for labels in (lists, elsewhere, write_lists(tmp_path / "plain.npz")):
        assert load("voc2012", root=voc, labels=labels, image_size=4).n_items == N
    monkeypatch.setenv("DSHC_DATA_ROOT", str(tmp_path))
    voc.rename(tmp_path / "voc2012")
    assert load("voc2012", labels=lists, image_size=4).n_items == N


@pytest.mark.parametrize("name", PUBLISHED)
def test_without_a_folder_the_error_says_what_is_needed(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DSHC_DATA_ROOT", str(tmp_path))
    known = PUBLISHED[name]
    message = f"{name}: root must be the folder of its images.*{known.n_images:,} photos.*{known.file}.npz.xz"
    with pytest.raises(ValueError, match=message):
        load(name)
    with pytest.raises(ValueError, match="which is no folder here"):
        load(name, root=tmp_path / "gone")


def test_missing_images(voc):
    for i in (1, 10):
        next(voc.rglob(f"2008_{i:06}.jpg")).unlink()
    with pytest.raises(
        ValueError, match=r"all 12 images .*; 2 are missing: 2008_000001\.jpg, 2008_000010\.jpg; skip"
    ):
        load("voc2012", root=voc)
    bad = next(voc.rglob("2008_000004.jpg"))
    bad.write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 unreadable images left out: 2008_000004.jpg"):
        data = load("voc2012", root=voc, skip_unreadable=True, image_size=4)
    assert data.n_items == 9 and (data.reading.missing, data.reading.unreadable) == (2, 1)
    assert data.reading.line().endswith("the split is not the published one: 3 of its images are left out")
    assert [data.ids[row] for row in data.published["train"]] == [f"2008_{i:06}.jpg" for i in (0, 2, 3)]
    assert data.published["query"].tolist() == [8] and len(data.published["database"]) == 8
    with pytest.raises(ValueError, match="leaves no query with a label"):  # the one left has none
        make_split(data)


def test_two_files_of_one_name(voc):
    pictures(voc / "copy", ["2008_000003.jpg"])
    with pytest.raises(ValueError, match=r"got several of 2008_000003\.jpg: .*b/2008.*copy/2008"):
        load("voc2012", root=voc)
    names = [f"../data/voc/{'ab'[i % 2]}/2008_{i:06}.jpg" for i in range(N)]  # folders tell them apart
    write_lists(voc / "voc2012.npz.xz", names=names)
    data = load("voc2012", root=voc, image_size=4)
    assert data.inputs[3, 0, 0, 0] == pytest.approx(60, abs=3) and data.n_items == N


def test_coco_images_under_their_names_of_2017(tmp_path):
    names = [f"COCO_{'train' if i % 2 else 'val'}2014_{i:012}.jpg" for i in range(N)]
    labels = np.zeros((N, 80), np.uint8)
    labels[:, 3] = labels[::2, 4] = 1
    write_lists(tmp_path / "coco80.npz", names=names, labels=labels)
    pictures(tmp_path, [f"train2017/{i:012}.jpg" for i in range(N)])
    data = load("coco", root=tmp_path, image_size=4)
    assert data.ids == tuple(names) and data.inputs[5, 0, 0, 0] == pytest.approx(100, abs=3)


def text_lists(folder, **lists):
    for name, rows in lists.items():
        lines = (f"../img/2008_{i:06}.jpg {' '.join(map(str, hot()[i]))}\n" for i in rows)
        (folder / f"{name}.txt").write_text("".join(lines))


def test_text_lists_and_their_traps(voc):
    (voc / "voc2012.npz.xz").unlink()
    # As HashNet's: queries in the database, training images not in it; a query without a label.
    text_lists(voc, train=range(4), test=(10, 11), database=range(4, 12))
    data = load("voc2012", root=voc, image_size=4)
    assert data.n_items == N and data.reading.notes == (
        "2 queries that the published database holds are left out of it",
    )
    split = make_split(data, validation=0)
    names = {
        part: [int(data.ids[i][-10:-4]) for i in getattr(split, part)]
        for part in ("query", "database", "train")
    }
    assert (
        names == {"query": [10], "database": list(range(4, 10)), "train": list(range(4))}
        and split.dropped == 1
    )
    (voc / "database.txt").unlink()
    data = load("voc2012", root=voc, image_size=4)
    assert data.n_items == 6 and "database" not in data.published
    assert make_split(data, validation=0).database.tolist() == make_split(data, validation=0).train.tolist()
    text_lists(voc, train=range(4), test=(3, 11))
    with pytest.raises(ValueError, match="queries must not be training images, 1 are"):
        load("voc2012", root=voc)
    (voc / "test.txt").write_text("../img/2008_000003.jpg " + " ".join("1" * L) + "\n")
    with pytest.raises(
        ValueError, match="2008_000003.jpg must have one set of labels, train.txt gives it another"
    ):
        load("voc2012", root=voc)
    (voc / "test.txt").write_text("../img/2008_000009.jpg cat\n")
    with pytest.raises(ValueError, match="test.txt: must give a 0 or 1 for each label behind the path"):
        load("voc2012", root=voc)
    (voc / "test.txt").write_text("../img/2008_000009.jpg 0 1\n")
    with pytest.raises(ValueError, match="train.txt: must have 2 labels, got 20"):
        load("voc2012", root=voc)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros((N, 21), np.uint8)}, "must have 20 labels, got 21"),
        ({"names": ["a.jpg"] * N}, "must name each image once, names 11 again"),
        ({"names": ["a.jpg"]}, "damaged or no file of label lists"),
        ({"query": [0], "train": [12]}, "train must hold rows below 12"),
        ({"query": [0, 0], "train": [1]}, "query must hold rows below 12, each once"),
        ({"query": [0]}, "and train, got none called train"),
        ({"query": [0, 1], "train": [1]}, "queries must not be training images"),
    ],
)
def test_lists_that_contradict_themselves(changes, message, voc):
    write_lists(voc / "voc2012.npz.xz", **changes)
    with pytest.raises(ValueError, match=message):
        load("voc2012", root=voc)


def test_damaged_lists(voc):
    path = voc / "voc2012.npz.xz"
    whole = path.read_bytes()
    for data in (b"", whole[:100], lzma.compress(b"no arrays"), lzma.compress(lzma.decompress(whole)[:300])):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="voc2012.npz.xz: damaged or no file of label lists"):
            load("voc2012", root=voc)
    np.savez_compressed(voc / "small.npz", ids=np.zeros(5000, np.uint8))
    data = bytearray((voc / "small.npz").read_bytes())
    data[57] ^= 0xFF
    (voc / "small.npz").write_bytes(data)
    with pytest.raises(ValueError, match="small.npz: damaged or no file of label lists"):
        load("voc2012", root=voc, labels=voc / "small.npz")
    with pytest.raises(ValueError, match="gone.npz: cannot be read"):
        load("voc2012", root=voc, labels=voc / "gone.npz")


# --- the real lists

SIZES = {  # images, queries with a label, training images, database
    "coco": (122_218, 5_000, 10_000, 117_218),
    "imagenet100": (133_503, 5_000, 13_000, 128_503),
    "mirflickr25k": (25_000, 981, 4_000, 20_000),
    "voc2012": (11_540, 1_000, 4_000, 6_540),
    "nuswide21": (12_600, 2_100, 10_500, 10_500),
    "nuswide81": (15_000, 5_000, 10_000, 10_000),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_real_lists_have_the_sizes_of_the_papers(name):
    known = PUBLISHED[name]
    lists = read_label_lists(real(f"label-lists/{known.file}.npz.xz"))
    assert lists.hot.shape == (known.n_images, known.n_labels) and lists.notes == ()
    names = tuple(map(str, range(known.n_labels)))
    inputs = np.zeros((known.n_images, 1), np.float32)
    split = make_split(
        Dataset(name, "features", inputs, lists.hot, names, published=lists.parts), validation=0
    )
    sizes = SIZES[name]
    assert split.protocol == "published" and lists.hot[split.query].any(axis=1).all()
    assert (split.n_items, len(split.query), len(split.train), len(split.database)) == sizes
    assert len(split.query) + split.dropped == len(lists.parts["query"])


def test_imagenets_classes_have_the_names_of_their_files():
    lists = read_label_lists(real("label-lists/imagenet100.npz.xz"))
    labels = labels_of_hot(lists.hot)
    names = _class_names("imagenet100", lists.names, labels, 100)
    assert labels.ndim == 1 and len(set(names)) == 100
    for row in np.flatnonzero([name.startswith("n") for name in lists.names])[::1000]:
        assert lists.names[row].startswith(names[labels[row]] + "_")


def test_a_real_set_with_pictures_made_for_it(tmp_path):
    """Every image of VOC's lists is there, as one more link to one picture."""
    lists = real("label-lists/voc2012.npz.xz")
    names = read_label_lists(lists).names
    first = pictures(tmp_path, ["one.png"]) / "one.png"
    (tmp_path / "JPEGImages").mkdir()
    for file in names:
        os.link(first, tmp_path / "JPEGImages" / file)
    data = load("voc2012", root=tmp_path, labels=lists, image_size=32, max_memory_mib=16)
    assert isinstance(data.inputs, ImageFiles) and data.n_items == len(names)
    assert data.inputs[np.array([0, len(names) - 1])].shape == (2, 32, 32, 3)
    split = make_split(data)
    assert (len(split.query), len(split.database)) == (1_000, 6_540)
