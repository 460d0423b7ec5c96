"""Lists of images: every form of the grammar, and every text that could be read in two ways."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dshc.data import ImageFiles, load
from dshc.data.item_labels import as_hot_rows, labels_of_names
from dshc.data.lists import read_list

NAMES = ("a.png", "b.jpg", "my photo.png", "deep/c.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for i, name in enumerate(NAMES):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i * 50, 0, 0)).save(folder / name)
    return folder


def listed(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# name -> text, labels, class names
FORMS = {
    "bare.txt": ("a.png\nmy photo.png\n", None, ()),
    "one.txt": ("a.png cat\r\n\r\nmy photo.png   dog\r\nb.jpg cat", [0, 1, 0], ("cat", "dog")),
    "numbers.txt": ("a.png 10\nb.jpg 9\n./deep/c.png 10\n", [1, 0, 1], ("9", "10")),
    "several.txt": ("a.png cat dog\nb.jpg dog\n", [[1, 1], [0, 1]], ("cat", "dog")),
    "widths.txt": ("a.png cat dog\nb.jpg eel dog\n", [[1, 1, 0], [0, 1, 1]], ("cat", "dog", "eel")),
    "hot.txt": ("a.png 0 1 1\nb.jpg 0 0 0\n", [[0, 1, 1], [0, 0, 0]], ("0", "1", "2")),
    "onehot.txt": ("a.png 0 1 0\nb.jpg 1 0 0\n", [1, 0], ("0", "1", "2")),
    "tabs.txt": ("my photo.png\tred cat\na.png\tdog\n", [1, 0], ("dog", "red cat")),
    "label.csv": ("path,label\na.png,cat\nmy photo.png,\"dog, wet\"\n", [0, 1], ("cat", "dog, wet")),
    "labels.csv": ("file_name,labels,width\na.png,cat|dog,3\nb.jpg,,4\n", [[1, 1], [0, 0]], ("cat", "dog")),
    "semicolon.csv": ("labels,image\ncat; dog,a.png\ndog;,b.jpg\n", [[1, 1], [0, 1]], ("cat", "dog")),
    "single.csv": ("path,labels\na.png,cat\nb.jpg,dog\n", [0, 1], ("cat", "dog")),
    "columns.csv": ("path,cat,dog\na.png,1,1\nb.jpg,0,0\n", [[1, 1], [0, 0]], ("cat", "dog")),
    "plain.csv": ("a.png,cat\nb.jpg,dog\n", [0, 1], ("cat", "dog")),
    "plainhot.csv": ("a.png,0,1\nb.jpg,1,1\n", [[0, 1], [1, 1]], ("0", "1")),
    "bare.csv": ("a.png\nb.jpg\n", None, ()),
    "header.csv": ("path\na.png\nb.jpg\n", None, ()),
    "nothing.csv": ("path,label\na.png,\nb.jpg,\n", None, ()),
    "noneatall.csv": ("path,labels\na.png,\nb.jpg,\n", None, ()),
    "table.tsv": ("Path\tLabel\nmy photo.png\tcat\na.png\tdog, wet\n", [0, 1], ("cat", "dog, wet")),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(name, folder):
    text, labels, class_names = FORMS[name]
    for data in (text, b"\xef\xbb\xbf" + text.encode(), text.encode("utf-16")):
        path = listed(folder, name, data)
        found = load(path, require_labels=labels is not None, image_size=4)
        assert found.class_names == class_names and found.name == Path(name).stem
        assert labels is None if found.labels is None else found.labels.tolist() == labels
        assert found.inputs.shape == (len(found.ids), 4, 4, 3) and found.reading.n_read == found.n_items
        assert [int(image[0, 0, 0]) // 45 for image in found.inputs] == [
            NAMES.index(id_) for id_ in found.ids
        ]
        lazy = load(path, require_labels=labels is not None, image_size=4, max_memory_mib=0)
        assert isinstance(lazy.inputs, ImageFiles) and (lazy.inputs[:] == found.inputs).all()
    path.unlink()


def test_without_labels_only_where_none_are_needed(folder):
    with pytest.raises(
        ValueError, match="bare.txt: must have labels, got none; give one or several per image"
    ):
        load(listed(folder, "bare.txt", FORMS["bare.txt"][0]))


def test_split_and_id_columns(folder):
    text = "id,path,label,split\nx1,a.png,cat,train\nx2,b.jpg,dog,TEST\nx3,deep/c.png,dog,train\n"
    data = load(listed(folder, "parts.csv", text))
    assert data.test_mask.tolist() == [False, True, False] and data.ids == ("x1", "x2", "x3")
    data = load(listed(folder, "parts.csv", text.replace("TEST", "val")))
    assert data.test_mask.tolist() == [False, True, False]
    assert load(listed(folder, "parts.csv", text.replace("TEST", "train"))).test_mask is None
    with pytest.raises(ValueError, match="parts.csv: line 3: split must be train or test .*, got 'dev'"):
        load(listed(folder, "parts.csv", text.replace("TEST", "dev")))
    both = text.replace("TEST", "Val").replace("dog,train", "dog,test")
    data = load(listed(folder, "parts.csv", both))
    assert data.test_mask.tolist() == [False, False, True]
    line = "3 images read; val is read for training (validation is cut from all training items)"
    assert data.reading.line() == line
    with pytest.raises(ValueError, match="line 3: split must be .*got 'Val'"):
        load(listed(folder, "parts.csv", both.replace("cat,train", "cat,test")))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", "must name at least one image, got none"),
        ("x.txt", " \n\n", "must name at least one image, got none"),
        ("x.csv", "path,label\n", "must name at least one image, got none"),
        ("x.txt", "a.png b.jpg\n", "line 1 can be read in two ways, as a path to 'a.png' or to 'a.png b.jpg'"),
        ("x.txt", "a.png cat\n\nb.jpg\n", "line 3 must give a label, as line 1 does"),
        ("x.txt", "b.jpg\na.png cat\n", "line 1 must give a label, as line 2 does"),
        ("x.txt", "a.png\tcat\t\n", "line 1 must give a label"),
        ("x.txt", "a.png cat dog cat\nb.jpg dog\n", "line 1: must name each label once, names 'cat' twice"),
        ("x.txt", "a.png cat\n./a.png dog\n", "got 'a.png' in line 1 and line 2"),
        ("x.txt", "\tcat\n", "line 1 must begin with a path"),
        ("x.txt", b"a.png\0 cat\n", "must be a text file, got zero bytes"),
        ("x.csv", "path,label\na.png\n", "line 2 must have 2 columns as line 1 has, got 1"),
        ("x.csv", "path,label\na.png,\nb.jpg,dog\n", "line 2 must give a label, as line 3 does"),
        ("x.csv", "path,label,label\na.png,a,b\n", "must name each column once, got label twice"),
        ("x.csv", "path,image,label\na.png,a.png,b\n", "one of the columns path and image, got both"),
        ("x.csv", "path,label,labels\na.png,a,b\n", "one of the columns label and labels, got both"),
        ("x.csv", "path,animal\na.png,cat\n", "must have a column label or labels, .*, got animal"),
        ("x.csv", "path,cat\na.png,1\n", "for each label, got cat"),
        ("x.csv", "name,kind,x\na.png,cat,y\n", "must begin with a header that has a column path"),
        ("x.csv", "path,label\n,cat\n", "line 2 must name a file, its path is empty"),
        ("x.csv", 'path,label\na.png,"cat\n', "line [23] is no row of a table"),
        ("x.txt", "a.png cat\ngone.png cat\n", r"1 of 2 are missing: .*gone.png \(line 2\); root says"),
        ("x.txt", "deep cat\n", r"missing: .*deep \(line 1\)"),
        ("x.txt", b"\xff\xfe\x00", "must be UTF-16 text as its mark says"),
    ],
)  # fmt: skip
def test_refused_by_line(name, text, message, folder):
    with pytest.raises(ValueError, match=rf"{name}: (?s:.*){message}"):
        load(listed(folder, name, text))


def test_paths_are_relative_to_the_list_or_to_root(folder, tmp_path):
    path = listed(tmp_path, "elsewhere.txt", "a.png cat\nb.jpg dog\n")
    with pytest.raises(ValueError, match="2 of 2 are missing"):
        load(path)
    assert load(path, root=folder).ids == ("a.png", "b.jpg")
    absolute = listed(tmp_path, "absolute.txt", f"{folder}/a.png cat\n{folder}/b.jpg dog\n")
    assert load(absolute).ids == (f"{folder}/a.png", f"{folder}/b.jpg")


def test_missing_and_damaged_images_can_be_left_out(folder):
    (folder / "bad.png").write_bytes(b"no image")
    path = listed(folder, "some.txt", "a.png cat\ngone.png dog\nbad.png cat\nb.jpg dog\n")
    for limit in (0, 1024):
        with pytest.warns(UserWarning, match="1 unreadable images left out: bad.png"):
            data = load(path, skip_unreadable=True, max_memory_mib=limit)
        assert data.ids == ("a.png", "b.jpg") and data.labels.tolist() == [0, 1]
        assert data.skipped == ("gone.png", "bad.png")
        assert data.reading.line() == "2 images read; 1 unreadable image left out; 1 file of the list missing"
    with pytest.raises(ValueError, match="2 of 2 are missing"):
        load(listed(folder, "none.txt", "x.png a\ny.png b\n"), skip_unreadable=True)


@pytest.mark.parametrize("name", ["lost.csv", "lost.txt"])
def test_a_class_of_which_no_image_is_left_is_refused(name, folder):
    (folder / "bad.png").write_bytes(b"no image")
    text = "a.png,cat\ngone.png,dog\nbad.png,eel\nb.jpg,cat\n"
    path = listed(folder, name, text if name == "lost.csv" else text.replace(",", " "))
    message = f"{name}: must have an image of each class that can be read, got none of dog, eel"
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=message):
        load(path, skip_unreadable=True)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("name", "first", "hint"),
    [
        ("x.csv", "filepath,class", "line 1 is 'filepath,class'"),
        ("x.csv", "filepath,0,1", "line 1 is 'filepath,0,1'"),
        ("x.csv", "filepath", "line 1 is 'filepath'"),
        (
            "x.csv",
            "path;label",
            "line 1 is 'path;label'; columns must be separated by commas, not semicolons",
        ),
        ("x.csv", "gone.png;cat", "columns must be separated by commas, not semicolons"),
        ("x.csv", "path\tlabel", "columns must be separated by commas, not tabs"),
        ("x.tsv", "path,label", "columns must be separated by tabs, not commas"),
        ("x.tsv", "filepath\tclass", r"line 1 is 'filepath\\tclass'"),
    ],
)
def test_headers_of_unknown_names_are_refused(name, first, hint, skip, folder):
    parts = {"0,1": ",1,1", "\tclass": "\tcat", ";label": ";cat", ",class": ",cat", ",label": ",cat"}
    more = next((value for end, value in parts.items() if first.endswith(end)), "")
    path = listed(folder, name, f"{first}\na.png{more}\nb.jpg{more}\n")
    known = r"a column path \(or image, file, file_name, filename, image_path\)"
    with pytest.raises(ValueError, match=f"{name}: must begin with a header that has {known}, .*{hint}"):
        load(path, skip_unreadable=skip, require_labels=False)


def test_a_table_may_begin_with_a_file_of_any_name(folder):
    (folder / "filepath").write_bytes((folder / "a.png").read_bytes())
    path = listed(folder, "odd.csv", "filepath,class\na.png,cat\n")
    assert load(path).ids == ("filepath", "a.png")
    (folder / "filepath").unlink()


def test_a_list_names_files_of_any_bytes(folder):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("RGB", (8, 8)).save(folder / name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has names of UTF-8 only")
    data = load(listed(folder, "bytes.txt", b"caf\xe9.png caf\xe9\na.png tea\n"))
    assert data.ids == ("caf\\xe9.png", "a.png") and data.class_names == ("caf\\xe9", "tea")


words = st.text("abcé_-0123456789", min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(words, min_size=1, max_size=4, unique=True), min_size=1, max_size=8))
def test_labels_come_back_by_name(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("lists") / "x.txt"
    path.write_text(
        "".join(f"{i} b.png\t" + "\t".join(row) + "\n" for i, row in enumerate(rows)), encoding="utf-8"
    )
    found = read_list(path)
    assert found.names == [f"{i} b.png" for i in range(len(rows))]
    if as_hot_rows(rows) is not None:
        return
    if found.labels.ndim == 1:
        assert [[found.class_names[i]] for i in found.labels] == rows
    else:
        names = np.array(found.class_names)
        assert [set(names[row == 1]) for row in found.labels] == [set(row) for row in rows]


def test_the_order_of_class_names():
    for labels, names in (
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["01", "1"], ("01", "1")),
    ):
        assert labels_of_names([[name] for name in labels], str)[1] == names


def test_labels_of_more_digits_than_python_reads(folder):
    long = "1" * 4301
    assert load(listed(folder, "long.csv", f"a.png,{long}\nb.jpg,2\n")).class_names == (long, "2")
    data = load(listed(folder, "long.txt", f"a.png\t-{long}\nb.jpg\t2\n"))
    assert data.class_names == (f"-{long}", "2")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "x.txt",
            "a.png\t0 1 0\nb.jpg\t1 1 0\n",
            "line 1 must separate its 0 and 1 by tabs as its path, got '0 1 0'",
        ),
        ("x.csv", "path,label,id,image_id\na.png,a,1,x\n", "one of the columns id and image_id, got both"),
        ("x.csv", "path,label,id\na.png,a,1\nb.jpg,b,\n", "line 3 must give an id as others do, got none"),
        (
            "x.csv",
            "path,label,id\na.png,a,1\nb.jpg,b,1\n",
            "must name each item once .*, got '1' in line 2 and line 3",
        ),
    ],
)
def test_what_could_be_read_as_something_else_is_refused(name, text, message, folder):
    with pytest.raises(ValueError, match=message):
        load(listed(folder, name, text), require_labels=False)


def test_a_file_under_two_names_is_named_twice(folder):
    text = f"path,label,split\na.png,cat,train\n{folder / 'a.png'},dog,test\n"
    with pytest.raises(ValueError, match="must name each image once .*, got '.*a.png' in line 2 and line 3"):
        load(listed(folder, "x.csv", text))


def test_lines_may_end_by_a_carriage_return_alone(folder):
    data = load(listed(folder, "x.txt", "a.png\tcat\rb.jpg\tdog\r"))
    assert data.class_names == ("cat", "dog") and data.labels.tolist() == [0, 1]


def test_a_column_without_a_name_is_no_label(folder):
    data = load(listed(folder, "x.csv", ",path,x,y\n0,a.png,1,0\n1,b.jpg,1,1\n2,deep/c.png,0,1\n"))
    assert data.class_names == ("x", "y") and data.labels.tolist() == [[1, 0], [1, 1], [0, 1]]
