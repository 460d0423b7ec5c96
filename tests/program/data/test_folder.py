"""A folder of class folders: order, size, colour, unreadable files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dshc.data import load, make_split, read_images
from dshc.data.scan import image_files


def picture(path: Path, colour, size=(20, 10), mode="RGB", **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def test_folder_of_class_folders(tmp_path):
    picture(tmp_path / "b" / "2.png", (0, 0, 255))
    picture(tmp_path / "b" / "10.jpg", (0, 255, 0))
    picture(tmp_path / "a" / "deep" / "x.BMP", (255, 0, 0))
    (tmp_path / "a" / "notes.txt").write_text("passed over")
    (tmp_path / ".cache").mkdir()
    picture(tmp_path / "a" / ".thumbs" / "hidden.png", (1, 2, 3))
    data = load(tmp_path, image_size=(6, 4))
    assert data.inputs.shape == (3, 6, 4, 3) and data.class_names == ("a", "b")
    assert data.ids == ("a/deep/x.BMP", "b/10.jpg", "b/2.png") and data.labels.tolist() == [0, 1, 1]
    assert data.inputs[0, 0, 0].tolist() == [255, 0, 0] and data.inputs[2, 5, 3].tolist() == [0, 0, 255]
    assert data.test_mask is None
    assert load(tmp_path).inputs.shape == (3, 64, 64, 3)


@pytest.mark.parametrize("second", ["test", "val"])
def test_train_and_test_folders_are_the_official_parts(second, tmp_path):
    for part, n in (("train", 3), (second, 2)):
        for name in ("cat", "dog"):
            for i in range(n):
                picture(tmp_path / part / name / f"{i}.png", (i, 0, 0))
    data = load(tmp_path, image_size=4)
    assert data.test_mask.tolist() == [False] * 6 + [True] * 4
    assert data.labels.tolist() == [0] * 3 + [1] * 3 + [0] * 2 + [1] * 2
    picture(tmp_path / second / "eel" / "0.png", 0, mode="L")
    with pytest.raises(ValueError, match=f"classes eel are not in both train and {second}"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_a_validation_folder_beside_train_and_test_is_read_for_training(name, tmp_path):
    for part, n in (("test", 2), ("train", 3), (name, 1)):
        for kind in ("cat", "dog"):
            for i in range(n):
                picture(tmp_path / part / kind / f"{i}.png", (i, 0, 0))
    picture(tmp_path / name / "loose.png", 0)
    data = load(tmp_path, image_size=4)
    assert data.test_mask.tolist() == [False] * 8 + [True] * 4
    assert data.labels.tolist() == [0] * 3 + [1] * 3 + [0, 1] + [0] * 2 + [1] * 2
    assert data.ids[6] == f"{name}/cat/0.png" and data.ids[8] == "test/cat/0.png"
    assert data.reading.line() == (
        "12 images read; 1 image beside the class folders left out; "
        f"{name} is read for training (validation is cut from all training items)"
    )
    split = make_split(data, validation=0.25)
    assert split.protocol == "official" and split.query.tolist() == [8, 9, 10, 11]
    (tmp_path / name / "cat" / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 unreadable images left out"):  # train has others of its class
        assert load(tmp_path, image_size=4, skip_unreadable=True).n_items == 11
    picture(tmp_path / name / "eel" / "0.png", 0)
    with pytest.raises(ValueError, match=f"classes eel are not in both train and {name}"):
        load(tmp_path)


def test_parts_that_do_not_fit(tmp_path):
    for part in ("train", "val", "validation"):
        picture(tmp_path / "two" / part / "cat" / "0.png", 0)
    with pytest.raises(
        ValueError, match=r"two: the parts must be train and test .*, got train, val, validation"
    ):
        load(tmp_path / "two")
    picture(tmp_path / "one" / "train" / "cat" / "0.png", 0)
    with pytest.raises(ValueError, match=r"one: the parts must be train and test .*, got train$"):
        load(tmp_path / "one")
    picture(tmp_path / "one" / "test" / "cat" / "0.png", 0)
    (tmp_path / "one" / "val").mkdir()
    with pytest.raises(ValueError, match="one/val: must hold one sub-folder of images per class"):
        load(tmp_path / "one")


def test_the_middle_of_an_image_is_kept(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    pixels = read_images([tmp_path / "wide.png"], image_size=10)
    assert (pixels[0] == 200).all()


def test_images_are_turned_upright(tmp_path):
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    Image.fromarray(half).save(tmp_path / "a.png", exif=exif)
    pixels = read_images([tmp_path / "a.png"], image_size=8)
    assert pixels[0, 0].max() == 0 and pixels[0, 7].min() == 255


def test_grey_and_colour(tmp_path):
    picture(tmp_path / "grey" / "a" / "1.png", 7, mode="L")
    picture(tmp_path / "grey" / "b" / "2.png", 9, mode="L")
    assert load(tmp_path / "grey", image_size=4).inputs[..., 0].max(axis=(1, 2)).tolist() == [7, 9]
    assert load(tmp_path / "grey", image_size=4).item_shape == (4, 4, 1)
    assert load(tmp_path / "grey", image_size=4, n_channels=3).item_shape == (4, 4, 3)
    picture(tmp_path / "grey" / "b" / "3.png", (255, 0, 0))
    assert load(tmp_path / "grey", image_size=4).item_shape == (4, 4, 3)
    grey = load(tmp_path / "grey", image_size=4, n_channels=1)
    assert grey.inputs[2, 0, 0, 0] == 76  # ITU-R 601: 0.299 of 255
    Image.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(tmp_path / "deep.png")
    assert (read_images([tmp_path / "deep.png"], image_size=4, n_channels=1) == 0x12).all()
    picture(tmp_path / "palette.gif", 3, mode="P")
    assert read_images([tmp_path / "palette.gif"], image_size=4).shape == (1, 4, 4, 3)


@pytest.mark.parametrize("damage", ["empty", "text", "cut"])
def test_unreadable_images(damage, tmp_path):
    for i in range(3):
        picture(tmp_path / "a" / f"{i}.png", (i, 0, 0), size=(50, 50))
        picture(tmp_path / "b" / f"{i}.jpg", (i, 0, 0), size=(50, 50))
    bad = tmp_path / "b" / "1.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(
        {"empty": b"", "text": b"<html>not found</html>", "cut": whole[: len(whole) * 2 // 3]}[damage]
    )
    with pytest.raises(ValueError, match=r"b/1\.jpg: not a readable image"):
        load(tmp_path, image_size=8)
    with pytest.warns(UserWarning, match=r"1 unreadable images left out: b/1\.jpg"):
        data = load(tmp_path, image_size=8, skip_unreadable=True)
    assert data.skipped == ("b/1.jpg",) and data.n_items == 5 and "b/1.jpg" not in data.ids
    assert data.labels.tolist() == [0, 0, 0, 1, 1] and data.inputs.shape == (5, 8, 8, 3)
    for i in (0, 2):
        (tmp_path / "b" / f"{i}.jpg").write_bytes(b"")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="b: a class folder with unreadable images only"),
    ):
        load(tmp_path, image_size=8, skip_unreadable=True)


def test_folders_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="must hold one sub-folder of images per class, got no such folder"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: a class folder without images"):
        load(tmp_path)
    picture(tmp_path / "empty" / "a.png", 0)
    for size in (0, 5000, 2.5, (4, 4, 4), True):
        with pytest.raises(ValueError, match="image_size must be"):
            load(tmp_path, image_size=size)
    with pytest.raises(ValueError, match="n_channels must be .*, got 2"):
        load(tmp_path, n_channels=2)


def test_images_without_labels(tmp_path, monkeypatch):
    picture(tmp_path / "2.png", (2, 2, 2))
    picture(tmp_path / "1.png", (1, 1, 1))
    with pytest.raises(ValueError, match="must hold one sub-folder of images per class, got no such folder"):
        load(tmp_path)
    with pytest.raises(
        ValueError,
        match="must be a folder with one sub-folder of images per class, got one image without a label",
    ):
        load(tmp_path / "1.png")
    data = load(tmp_path, image_size=4, require_labels=False)
    assert (
        data.labels is None and data.ids == ("1.png", "2.png") and data.inputs[:, 0, 0, 0].tolist() == [1, 2]
    )
    one = load(tmp_path / "1.png", image_size=4, require_labels=False, n_channels=1)
    assert one.inputs.shape == (1, 4, 4, 1) and one.ids == ("1.png",)
    monkeypatch.chdir(tmp_path)
    for name in ("1.png", "./1.png", f"../{tmp_path.name}/1.png"):
        assert load(name, image_size=4, require_labels=False).ids == ("1.png",)
    with pytest.raises(ValueError, match="root must go with a named set or a list of images, got '/nowhere'"):
        load(tmp_path, require_labels=False, root="/nowhere")


@pytest.mark.parametrize(
    ("parts", "got"),
    [
        (("train", "test", "unlabeled"), "test, train, unlabeled"),
        (("train", "dev"), "dev, train"),
        (("train", "holdout"), "holdout, train"),
        (("test", "val"), "test, val"),
    ],
)
def test_parts_of_other_names_are_no_classes(parts, got, tmp_path):
    for part in parts:
        for kind in ("cat", "dog"):
            (tmp_path / part / kind).mkdir(parents=True)
            picture(tmp_path / part / kind / "1.png", (2, 2, 2))
    with pytest.raises(ValueError, match=f"the parts must be train and test .*, got {got}"):
        load(tmp_path)


def test_a_class_may_be_called_train(tmp_path):
    for kind in ("bus", "train", "car"):
        (tmp_path / kind).mkdir()
        picture(tmp_path / kind / "1.png", (2, 2, 2))
    assert load(tmp_path, image_size=4).class_names == ("bus", "car", "train")
    assert read_images([], image_size=4).shape == (0, 4, 4, 3)


@pytest.mark.parametrize("limit", [0, 1024])
def test_loose_images_beside_folders_are_a_set_without_labels(limit, tmp_path):
    """A folder among loose images, even one that a file server put there, hides none of them."""
    for name in ("a.png", "c.png"):
        picture(tmp_path / name, 7, mode="L")
    (tmp_path / "@eaDir").mkdir()
    note = "read without labels, for images lie in the folder itself"
    data = load(tmp_path, image_size=4, require_labels=False, max_memory_mib=limit)
    assert data.labels is None and data.ids == ("a.png", "c.png")
    assert data.reading.line() == f"2 images read; {note}"
    picture(tmp_path / "b" / "deep" / "0.png", 7, mode="L")
    picture(tmp_path / ".thumbs" / "0.png", 7, mode="L")
    data = load(tmp_path, image_size=4, require_labels=False, max_memory_mib=limit)
    assert data.ids == ("a.png", "b/deep/0.png", "c.png")  # in the order of Hasher.encode(folder)
    assert [str(path.relative_to(tmp_path)) for path in image_files(tmp_path)] == list(data.ids)
    assert data.reading.line() == f"3 images read; {note}"
    with pytest.raises(ValueError, match="@eaDir: a class folder without images"):  # where labels are needed
        load(tmp_path)
    for name in ("a.png", "c.png"):
        (tmp_path / name).unlink()
    (tmp_path / "@eaDir").rmdir()
    data = load(tmp_path, image_size=4, require_labels=False)
    assert data.class_names == ("b",) and data.reading.complete


def test_a_closed_folder_is_named_where_no_labels_are_needed(tmp_path, monkeypatch):
    def closed(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("dshc.data.scan.os.scandir", closed)
    with pytest.raises(ValueError, match="the folder may not be opened"):
        load(tmp_path, require_labels=False)
