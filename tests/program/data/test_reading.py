"""What is read is said: every file that a folder holds is an item, or counted; links and odd names are defined."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

import dshc.data.scan as scan_module
from dshc.data import ImageFiles, Reading, is_photos, load
from dshc.data.gather import item_names
from dshc.data.image_fit import ImageFit
from dshc.data.scan import Scan, image_files, suffix_of


def picture(path: Path, colour=(1, 2, 3), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 8), colour).save(path)
    return path


def two_classes(folder: Path) -> Path:
    for name in ("cat", "dog"):
        for i in range(3):
            picture(folder / name / f"{i}.png")
    return folder


def test_everything_that_is_left_out_is_counted(tmp_path):
    folder = two_classes(tmp_path / "photos")
    for i in range(2):
        (folder / "cat" / f"{i}.svg").write_text("<svg/>")
    (folder / "dog" / "clip.MP4").write_bytes(b"")
    (folder / "dog" / "deep").mkdir()
    (folder / "dog" / "deep" / "notes.txt").write_text("")
    (folder / "dog" / "Mr. Smith").write_text("")
    (folder / "README").write_text("")
    picture(folder / "loose.png")
    (folder / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "dog" / "itself.png").symlink_to(folder / "dog" / "itself.png")
    os.mkfifo(folder / "dog" / "pipe.png")
    picture(folder / "cat" / ".hidden.png")
    picture(folder / ".thumbnails" / "0.png")
    (folder / ".DS_Store").write_text("")
    data = load(folder)
    assert data.reading == Reading(
        6, {".svg": 2, ".mp4": 1, ".txt": 1, "": 2}, loose=1, dangling=2, special=1
    )
    assert data.reading.line() == (
        "6 images read, 6 files skipped: 2 without a suffix, 2 .svg, 1 .mp4, 1 .txt; 1 image beside the class "
        "folders left out; 2 links to nothing; 1 pipe or device left out"
    )
    assert not data.reading.complete and load(two_classes(tmp_path / "plain")).reading.complete


def test_the_line():
    assert Reading(1).line() == "1 image read"
    assert Reading(12345).line() == "12,345 images read"
    reading = Reading(300, {".heic": 20, ".xcf": 10})
    assert reading.line().startswith("300 images read, 30 files skipped: 20 .heic, 10 .xcf")
    many = Reading(2, {f".{i}": i for i in range(1, 10)})
    assert many.line() == "2 images read, 45 files skipped: 9 .9, 8 .8, 7 .7, 6 .6, 5 .5, 4 .4, 3 more kinds"
    assert Reading(2, closed=1, repeated=2, unreadable=3, missing=4, notes=("so",)).line() == (
        "2 images read; 3 unreadable images left out; 4 files of the list missing; 2 links to folders already read; "
        "1 folder that may not be opened; so"
    )


def test_formats_that_need_a_plugin_are_counted_and_the_plugin_is_named(monkeypatch, tmp_path):
    folder = two_classes(tmp_path / "photos")
    (folder / "cat" / "a.heic").write_bytes(b"")
    kept = tuple(suffix for suffix in scan_module.IMAGE_SUFFIXES if suffix != ".heic")
    monkeypatch.setattr("dshc.data.scan.IMAGE_SUFFIXES", kept)
    monkeypatch.setattr("dshc.data.reading.IMAGE_SUFFIXES", kept)
    line = load(folder).reading.line()
    assert line == "6 images read, 1 file skipped: 1 .heic; pip install pillow-heif to read HEIC"
    (folder / "eel").mkdir()
    (folder / "eel" / "b.heic").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"eel: a class folder without images .*only 1 \.heic; pip install pillow-heif"
    ):
        load(folder)


def test_a_class_without_images_says_what_is_there(tmp_path):
    folder = two_classes(tmp_path / "photos")
    (folder / "eel").mkdir()
    with pytest.raises(ValueError, match=r"eel: a class folder without images \(.*\)$"):
        load(folder)
    (folder / "eel" / "a.pdf").write_bytes(b"")
    with pytest.raises(ValueError, match=r"eel: a class folder without images .*, only 1 \.pdf"):
        load(folder)


def test_folders_that_may_not_be_opened_are_counted(tmp_path, monkeypatch):
    """By a system call that fails as the system's would: the superuser may open every folder."""
    folder = two_classes(tmp_path / "photos")
    picture(folder / "dog" / "secret" / "9.png")
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith(shut):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(scan_module.os, "scandir", guarded)
    shut = "secret"
    data = load(folder)
    assert data.n_items == 6 and data.reading.closed == 1
    shut = "dog"
    with pytest.raises(ValueError, match="dog: a class folder: the folder may not be opened"):
        load(folder)
    shut = "photos"
    with pytest.raises(ValueError, match="photos: the folder may not be opened"):
        load(folder)


@pytest.mark.parametrize("second", ["test", "val", "valid", "validation"])
@pytest.mark.parametrize("case", [str.title, str.upper, str.lower])
def test_parts_are_seen_in_any_case(second, case, tmp_path):
    for part in ("train", second):
        two_classes(tmp_path / case(part))
    picture(tmp_path / case("train") / "loose.png")
    data = load(tmp_path)
    assert data.test_mask.tolist() == [False] * 6 + [True] * 6 and data.class_names == ("cat", "dog")
    assert data.ids[0] == f"{case('train')}/cat/0.png" and data.reading.loose == 1


def test_parts_that_cannot_be_told_apart(tmp_path):
    for part in ("train", "Train"):
        two_classes(tmp_path / part)
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system does not tell Train from train")
    with pytest.raises(ValueError, match="one folder for each part, got Train, train"):
        load(tmp_path)
    (tmp_path / "flat" / "train").mkdir(parents=True)
    picture(tmp_path / "flat" / "test" / "0.png")
    with pytest.raises(ValueError, match="flat/train: must hold one sub-folder of images per class"):
        load(tmp_path / "flat")


# --- links


def test_links_to_files_and_folders_are_followed(tmp_path):
    folder = two_classes(tmp_path / "photos")
    elsewhere = picture(tmp_path / "elsewhere" / "x.png").parent
    (folder / "cat" / "more").symlink_to(elsewhere)
    (folder / "dog" / "x.png").symlink_to(elsewhere / "x.png")
    (folder / "eel").symlink_to(elsewhere)
    data = load(folder)
    assert data.ids == (
        "cat/0.png", "cat/1.png", "cat/2.png", "cat/more/x.png",
        "dog/0.png", "dog/1.png", "dog/2.png", "dog/x.png", "eel/x.png",
    )  # fmt: skip
    assert data.reading.complete


def test_loops_end(tmp_path):
    folder = two_classes(tmp_path / "photos")
    (folder / "cat" / "up").symlink_to(folder / "cat")
    (folder / "dog" / "all").symlink_to(folder)  # holds dog
    data = load(folder)
    assert [id_ for id_ in data.ids if id_.startswith("cat")] == ["cat/0.png", "cat/1.png", "cat/2.png"]
    assert len(data.ids) == len(set(data.ids)) and data.reading.repeated == 2
    assert data.n_items == 6
    (folder / "cat" / "twice").symlink_to(picture(tmp_path / "more" / "x.png").parent)
    (folder / "cat" / "zwice").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "back").symlink_to(folder / "cat")
    again = load(folder)
    assert set(again.ids) - set(data.ids) == {"cat/twice/x.png"} and again.reading.repeated == 4


def test_a_link_to_the_folder_that_holds_it_is_that_folder(tmp_path):
    folder = picture(tmp_path / "photos" / "x.png").parent
    (folder / "loop").symlink_to(folder)
    assert [path.name for path in image_files(folder / "loop")] == ["x.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    fit = ImageFit(8, 8)
    for read in (lambda files: files[0], lambda files: files.digest()):
        with pytest.raises(ValueError, match=r"pipe.png: .*must be a file, got a folder, pipe or device"):
            read(ImageFiles([tmp_path / "pipe.png"], fit))


def test_order_is_that_of_the_paths(tmp_path):
    for name in ("b/1.png", "a.d/1.png", "a/2.png", "a/10.png", "a-/1.png", "A/1.png"):
        picture(tmp_path / name)
    found = [path.relative_to(tmp_path).parts for path in image_files(tmp_path)]
    assert found == sorted(found) and len(found) == 6


# --- names


def bytes_name(folder: Path, name: bytes) -> Path:
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
    try:
        return picture(path)
    except (OSError, UnicodeError):
        pytest.skip("this file system has names of UTF-8 only")


@pytest.mark.parametrize("limit", [0, 1024])
def test_names_that_are_no_utf8_work(limit, tmp_path):
    folder = two_classes(tmp_path / "photos")
    odd = bytes_name(folder / "cat", b"caf\xe9.png")
    picture(folder / "cat" / "caf\\xe9.png")  # what the other one's id reads like
    bytes_name(folder, b"cl\xff/0.png")
    data = load(folder, max_memory_mib=limit)
    assert data.inputs[:].shape == (9, 64, 64, 3) and len(set(data.ids)) == 9
    for id_ in (*data.ids, *data.class_names):
        id_.encode("utf-8")
    assert {"cat/caf\\xe9.png", "cat/caf\\xe9.png (2)", "cl\\xff/0.png"} <= set(data.ids)
    assert data.class_names == ("cat", "cl\\xff", "dog")
    odd.write_bytes(b"")
    with pytest.raises(ValueError, match=r"caf\\xe9\.png: not a readable image") as caught:
        load(folder, max_memory_mib=limit)
    str(caught.value).encode("utf-8")
    with pytest.warns(UserWarning, match=r"caf\\xe9"):
        data = load(folder, max_memory_mib=limit, skip_unreadable=True)
    assert data.n_items == 8
    alone = load(bytes_name(tmp_path, b"\xfe.png"), require_labels=False)
    assert alone.ids == ("\\xfe.png",) and alone.name == "\\xfe"


def test_ids_are_told_apart():
    names = ["a\udcff", "a\\xff", "b", "a\\xff (2)"]
    ids = item_names(names)
    assert ids[1:] == ("a\\xff", "b", "a\\xff (2)") and ids[0] == "a\\xff (3)"


def test_other_odd_names_stay_as_they_are(tmp_path):
    names = [
        "[draft].png",
        "a[/b].png",
        "line\nbreak.png",
        "\x1b[31mred.png",
        "ünï 漢字.png",
        " .png",
        "%s{}.png",
    ]
    for name in names:
        picture(tmp_path / "a" / name)
    assert load(tmp_path).ids == tuple(sorted(f"a/{name}" for name in names))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.JPG", ".jpg"),
        ("a", ""),
        (".png", ""),
        ("a.", ""),
        ("Mr. Smith went", ""),
        ("a.\x1b[31m", ""),
        ("a.tar.gz", ".gz"),
    ],
)
def test_suffixes(name, suffix):
    assert suffix_of(name) == suffix


def test_what_counts_as_photos(tmp_path):
    folder = two_classes(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("a.png cat\n")
    (tmp_path / "x.npy").write_bytes(b"")
    (tmp_path / "x.parquet").write_bytes(b"")
    expected = {folder: True, folder / "cat" / "0.png": True, tmp_path / "list.txt": True}
    expected |= {tmp_path / name: False for name in ("empty", "x.npy", "x.parquet", "nowhere", "nowhere.png")}
    assert {source: is_photos(source) for source in expected} == expected
    assert not any(is_photos(name) for name in ("digits", "", "\0", "a" * 5000))
    assert is_photos("coco")  # a list whose photos lie below root


def test_class_folders_that_are_links_are_photos(tmp_path):
    elsewhere = two_classes(tmp_path / "elsewhere")
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat", "dog"):
        (folder / name).symlink_to(elsewhere / name)
    assert is_photos(folder) and load(folder).n_items == 6
    loop = tmp_path / "loop"
    (loop / "deep").mkdir(parents=True)
    (loop / "deep" / "up").symlink_to(loop)
    (loop / "deep" / "top").symlink_to(tmp_path)  # holds images, and the folder itself
    assert not is_photos(loop)


def test_many_class_folders_are_photos(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_module, "_LOOKED_AT", 20)
    for i in range(60):
        (tmp_path / f"{i:02}").mkdir()
    picture(tmp_path / "00" / "0.png")
    assert is_photos(tmp_path)
    (tmp_path / "00" / "0.png").rename(tmp_path / "59" / "0.png")
    assert not is_photos(tmp_path)  # the folders opened before it are counted, too


def test_a_socket_is_special(tmp_path):
    picture(tmp_path / "a" / "0.png")
    scan = Scan()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(os.path.relpath(tmp_path / "a" / "s"))
        except OSError:
            pytest.skip("the path is too long for a socket")
        assert len(scan.walk(str(tmp_path))) == 1 and scan.special == 1


def test_unlabelled_folders(tmp_path):
    flat = tmp_path / "flat"
    picture(flat / "1.png")
    (flat / "a.txt").write_text("")
    data = load(flat, require_labels=False)
    assert data.labels is None and data.reading == Reading(1, {".txt": 1})
    with pytest.raises(
        ValueError,
        match="flat: must hold one sub-folder of images per class, got no such folder; 1 images lie in it",
    ):
        load(flat)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.pdf").write_text("")
    with pytest.raises(ValueError, match=r"none: must hold images .*, only 1 \.pdf"):
        load(tmp_path / "none", require_labels=False)
