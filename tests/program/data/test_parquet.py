"""Parquet: images in it, paths, embeddings; labels of every kind; what contradicts itself is refused."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from dshc.data import ImageFiles, is_photos, load

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

N = 6


def encoded(value: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8), value if mode == "L" else (value, 0, 0)).save(file, "png")
    return file.getvalue()


IMAGES = [encoded(i * 20) for i in range(N)]
LABELS = ["cat", "dog"] * 3


def written(path, columns: dict, metadata: dict | None = None, **options):
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize("limit", [0, 1024])
@pytest.mark.parametrize("form", ["binary", "large", "struct"])
def test_images_as_bytes(form, limit, tmp_path):
    images = {
        "binary": IMAGES,
        "large": pa.array(IMAGES, pa.large_binary()),
        "struct": [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(IMAGES)],
    }[form]
    path = written(tmp_path / "set.parquet", {"image": images, "label": LABELS}, row_group_size=4)
    data = load(path, image_size=4, max_memory_mib=limit)
    assert is_photos(path) and data.kind == "images" and isinstance(data.inputs, ImageFiles) == (limit == 0)
    assert data.inputs[:][:, 0, 0].tolist() == [[i * 20, 0, 0] for i in range(N)]
    assert data.labels.tolist() == [0, 1] * 3 and data.class_names == ("cat", "dog")
    names = [f"{i}.png" if form == "struct" else str(i) for i in range(N)]
    assert data.ids == tuple(names) and data.reading.n_read == N
    assert load(path, image_size=4, max_memory_mib=limit).digest() == data.digest()


def test_more_rows_than_are_read_at_a_time(tmp_path):
    values = [i % 250 for i in range(1500)]
    path = written(
        tmp_path / "set.parquet", {"img": [encoded(v, "L") for v in values], "y": values}, row_group_size=700
    )
    for limit in (0, 1024):
        data = load(path, image_size=2, require_labels=False, max_memory_mib=limit)
        assert data.labels is None and data.item_shape == (2, 2, 1)
        assert data.inputs[:][:, 0, 0, 0].tolist() == values


@pytest.mark.parametrize("limit", [0, 1024])
def test_damaged_images_are_named_by_row(limit, tmp_path):
    images = [*IMAGES[:4], b"no image", IMAGES[5]]
    path = written(tmp_path / "set.parquet", {"image": images, "label": LABELS})
    with pytest.raises(ValueError, match=r"set\.parquet: row 4: not a readable image"):
        load(path, max_memory_mib=limit)
    with pytest.warns(UserWarning, match="1 unreadable images left out: 4"):
        data = load(path, skip_unreadable=True, max_memory_mib=limit)
    assert data.labels.tolist() == [0, 1, 0, 1, 1] and data.ids == ("0", "1", "2", "3", "5")
    assert data.inputs[:].shape == (5, 64, 64, 3) and data.skipped == ("4",) and data.reading.unreadable == 1


def test_paths(tmp_path):
    (tmp_path / "images").mkdir()
    for i, data in enumerate(IMAGES):
        (tmp_path / "images" / f"{i}.png").write_bytes(data)
    columns = {"file_name": [f"{i}.png" for i in range(N)], "label": LABELS, "split": ["train", "test"] * 3}
    path = written(tmp_path / "set.parquet", columns)
    data = load(path, root=tmp_path / "images", image_size=4)
    assert is_photos(path) and data.ids[5] == "5.png" and data.test_mask.tolist() == [False, True] * 3
    assert data.inputs[3, 0, 0].tolist() == [60, 0, 0]
    with pytest.raises(ValueError, match=r"6 of 6 are missing: .*0\.png \(row 0\)"):
        load(path)
    both = written(tmp_path / "both.parquet", {**columns, "image": IMAGES})
    assert load(both).ids[5] == "5.png"  # the bytes are read, the paths are their names


@pytest.mark.parametrize("kind", ["list", "fixed", "half", "integers"])
def test_embeddings(kind, tmp_path):
    values = np.arange(N * 3).reshape(N, 3)
    column = {
        "list": pa.array(values.astype(float).tolist()),
        "fixed": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel().astype(np.float32)), 3),
        "half": pa.array([list(row) for row in values.astype(np.float16)], pa.list_(pa.float16())),
        "integers": pa.array(values.tolist()),
    }[kind]
    path = written(
        tmp_path / "set.parquet", {"embedding": column, "label": [3, 1, 3, 1, 3, 1], "id": list("abcdef")}
    )
    data = load(path)
    assert data.kind == "features" and data.inputs.dtype == np.float32 and (data.inputs == values).all()
    assert (
        data.labels.tolist() == [1, 0] * 3 and data.class_names == ("1", "3") and data.ids == tuple("abcdef")
    )
    assert not is_photos(path)
    with pytest.raises(ValueError, match="image_size and n_channels must go with images, got embeddings"):
        load(path, image_size=4)


@pytest.mark.parametrize(
    ("given", "labels", "names"),
    [
        ([["a"], ["b"], ["a"]], [0, 1, 0], ("a", "b")),
        ([["a", "b"], [], ["a"]], [[1, 1], [0, 0], [1, 0]], ("a", "b")),
        ([[1, 10], [9], [10]], [[1, 0, 1], [0, 1, 0], [0, 0, 1]], ("1", "9", "10")),
        ([[0, 1, 1], [0, 0, 0], [1, 0, 0]], [[0, 1, 1], [0, 0, 0], [1, 0, 0]], ("0", "1", "2")),
        ([[False, True], [True, False], [True, False]], [1, 0, 0], ("0", "1")),
        ([7, 5, 7], [1, 0, 1], ("5", "7")),
        ([None, None, None], None, ()),
        ([[], [], []], None, ()),
        (["é", "a", "é"], [1, 0, 1], ("a", "é")),
    ],
)  # fmt: skip
def test_labels(given, labels, names, tmp_path):
    path = written(tmp_path / "set.parquet", {"image": IMAGES[:3], "labels": given})
    data = load(path, require_labels=labels is not None)
    assert data.class_names == names and (
        data.labels is None if labels is None else data.labels.tolist() == labels
    )


def test_names_of_classes_by_hugging_face(tmp_path):
    label = {"label": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}}
    several = {
        "labels": {"feature": {"names": ["cat", "dog", "eel"], "_type": "ClassLabel"}, "_type": "Sequence"}
    }
    path = written(
        tmp_path / "a.parquet", {"image": IMAGES[:3], "label": [2, 0, 2]}, {"info": {"features": label}}
    )
    data = load(path)
    assert data.class_names == ("cat", "dog", "eel") and data.labels.tolist() == [2, 0, 2]
    path = written(
        tmp_path / "b.parquet",
        {"image": IMAGES[:3], "labels": [[2, 0], [], [2]]},
        {"info": {"features": several}},
    )
    assert load(path).labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    path = written(
        tmp_path / "c.parquet", {"image": IMAGES[:3], "label": [2, -1, 2]}, {"info": {"features": label}}
    )
    with pytest.raises(ValueError, match=r"row 1: labels must be 0 to 2 \(the named classes\), got -1"):
        load(path)
    for odd in ({"info": []}, {"info": {"features": {"label": {"names": 3, "_type": "ClassLabel"}}}}):
        path = written(tmp_path / "d.parquet", {"image": IMAGES[:3], "label": [2, 0, 2]}, odd)
        assert load(path).class_names == ("0", "2")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture_of": IMAGES}, r"must have a column of images, paths or embeddings \(image, .*, got picture_of"),
        ({"image": IMAGES, "features": [[1.0]] * N}, "either embeddings or images, got the columns features, image"),
        ({"image": IMAGES, "img": IMAGES}, "one column of images, got image, img"),
        ({"path": ["a"] * N, "file": ["a"] * N}, "one column of paths, got path, file"),
        ({"image": [{"path": "a"}] * N}, "must be binary or a struct of bytes and path, got a struct of path"),
        ({"image": [*IMAGES[:5], None]}, "row 5: image must hold the bytes of an image, got null"),
        ({"image": [{"bytes": None, "path": "a"}] * N}, "row 0: image must hold the bytes of an image"),
        ({"image": IMAGES, "label": [1] * N, "labels": [1] * N}, "one of the columns label and labels, got both"),
        ({"image": IMAGES, "label": [1, None] * 3}, "row 1: label must be text, an integer .*, got None"),
        ({"image": IMAGES, "label": [1.5] * N}, "row 0: label must be .*got 1.5"),
        ({"image": IMAGES, "label": [True, False] * 3}, "row 0: label must be .*got True"),
        ({"image": IMAGES, "labels": [["a", "a"], ["b"]] * 3}, "row 0: must name each label once, names 'a' twice"),
        ({"image": IMAGES, "id": [None] * N}, "row 0: id must be text or an integer, got None"),
        ({"image": IMAGES, "label": LABELS, "split": ["dev"] * N}, "row 0: split must be train or test"),
        ({"features": [[1.0, 2.0]] * 5 + [[1.0]]}, "row 5: features must have 2 numbers as row 0 has, got 1"),
        ({"features": [[1.0]] * 5 + [None]}, "row 5: features must be a list of numbers, got null"),
        ({"features": [[1.0]] * 5 + [[None]]}, "features must hold numbers only, got nulls"),
        ({"features": [[1.0]] * 5 + [[np.nan]]}, "NaN or infinity, first in row 5"),
        ({"features": [1.0] * N}, "must be a list of numbers in each row, got double"),
        ({"features": [["a"]] * N}, "must be a list of numbers in each row"),
        ({"image": pa.array([], pa.binary())}, "must have at least one row"),
    ],
)  # fmt: skip
def test_refused_by_name(columns, message, tmp_path):
    with pytest.raises(ValueError, match=f"set.*{message}"):
        load(written(tmp_path / "set.parquet", columns), require_labels=False)


def test_no_parquet_file_and_no_pyarrow(tmp_path, monkeypatch):
    path = tmp_path / "set.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match="set.parquet: damaged or no Parquet file"):
        load(path)
    written(path, {"image": IMAGES, "label": LABELS})
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + bytes(100) + whole[300:])
    with pytest.raises(ValueError, match="set.parquet"):
        load(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'dshc-fast\[parquet\]'"):
        load(path)
    assert not is_photos(path)


def test_images_that_fit_into_memory_are_not_copied_to_the_disk(tmp_path, monkeypatch):
    path = written(tmp_path / "set.parquet", {"image": IMAGES, "label": LABELS})
    cache = tmp_path / "cache"
    monkeypatch.setenv("DSHC_CACHE", str(cache))
    assert isinstance(load(path, image_size=4).inputs, np.ndarray) and not cache.exists()
    data = load(path, image_size=4, max_memory_mib=0)
    assert isinstance(data.inputs, ImageFiles) and cache.is_dir() and not list(cache.iterdir())
    assert (data.inputs[:] == load(path, image_size=4).inputs).all()


@pytest.mark.parametrize("limit", [0, 1024])
def test_a_class_of_which_no_image_is_left_is_refused(limit, tmp_path):
    path = written(tmp_path / "set.parquet", {"image": [*IMAGES[:2], b""], "label": ["cat", "cat", "dog"]})
    message = "set.parquet: must have an image of each class that can be read, got none of dog"
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=message):
        load(path, skip_unreadable=True, max_memory_mib=limit)


def test_a_path_that_is_named_twice_is_refused(tmp_path):
    (tmp_path / "0.png").write_bytes(IMAGES[0])
    path = written(tmp_path / "set.parquet", {"path": ["0.png", "./0.png"], "label": ["a", "b"]})
    with pytest.raises(
        ValueError, match=r"set\.parquet: must name each image once .*got '0.png' in row 0 and row 1"
    ):
        load(path)


def test_a_validation_part_beside_train_and_test_is_read_for_training(tmp_path):
    split = ["train", "val", "test"] * 2
    data = load(written(tmp_path / "set.parquet", {"image": IMAGES, "label": LABELS, "split": split}))
    assert data.test_mask.tolist() == [False, False, True] * 2
    assert data.reading.line().startswith("6 images read; val is read for training")
    features = {"features": [[float(i)] for i in range(N)], "label": LABELS}
    data = load(written(tmp_path / "features.parquet", {**features, "split": split}))
    assert data.test_mask.tolist() == [False, False, True] * 2
    assert data.reading.line().startswith("6 embeddings read; val is read for training")
    assert load(written(tmp_path / "features.parquet", features)).reading is None


def test_a_row_without_an_image_is_unreadable(tmp_path):
    path = written(tmp_path / "set.parquet", {"image": [*IMAGES[:5], None], "label": LABELS})
    with pytest.raises(ValueError, match="row 5: image must hold the bytes of an image, got null"):
        load(path, image_size=4)
    with pytest.warns(UserWarning, match="1"):
        data = load(path, image_size=4, skip_unreadable=True)
    assert data.n_items == 5 and len(data.skipped) == 1


def test_names_beside_the_bytes_may_be_missing(tmp_path):
    columns = {"image": IMAGES, "file_name": [None, *"bcdef"], "label": LABELS}
    assert load(written(tmp_path / "set.parquet", columns), image_size=4).ids == tuple(map(str, range(N)))
