"""Sets of photos whose labels and splits were published as lists: the images are yours, the lists a file.

Two forms of lists are read:

* ``.npz``, or ``.npz.xz``: ``ids`` (names of files, one per line, as UTF-8 bytes), ``labels`` (multi-hot, packed by
  ``np.packbits`` along the rows) and ``n_labels``; ``query``, ``train`` and perhaps ``database`` (row numbers).
* a folder of ``train.txt``, ``test.txt`` and perhaps ``database.txt`` with lines ``path 0 0 1 0``, as HashNet
  published them. HashNet's own lists hold every query in the database, too: queries are left out of it, and that
  is said.

Images are found below the folder by their file names, wherever they lie.
"""

from __future__ import annotations

import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .gather import ImageOptions, gather, item_names, warn_of_unreadable
from .image_fit import printable
from .image_stores import FileStore
from .item_labels import check_classes_left, kind_of, labels_of_hot
from .lists import read_list
from .scan import Scan, some

__all__ = ["PUBLISHED", "PublishedSet", "load_published", "read_label_lists"]

_PARTS = ("query", "train", "database")
_TEXT_PARTS = {"query": "test.txt", "train": "train.txt", "database": "database.txt"}


@dataclass(frozen=True)
class PublishedSet:
    """What is known of a set: the usual name of its lists, its sizes, where images and lists come from."""

    file: str
    n_images: int
    n_labels: int
    images: str
    lists: str


_HASHNET = "thuml/HashNet on GitHub, caffe/data"
_DEEPHASH = "swuxyj/DeepHash-pytorch on GitHub, data"
PUBLISHED = {
    "coco": PublishedSet(
        "coco80", 122_218, 80, "MS COCO 2014, train and val (cocodataset.org)", f"{_HASHNET}/coco"
    ),
    "imagenet100": PublishedSet(
        "imagenet100", 133_503, 100, "ILSVRC 2012, train and val (image-net.org)", f"{_HASHNET}/imagenet"
    ),
    "mirflickr25k": PublishedSet(
        "mirflickr25k", 25_000, 38, "MIRFLICKR-25000 (press.liacs.nl/mirflickr)", f"{_DEEPHASH}/mirflickr"
    ),
    "voc2012": PublishedSet(
        "voc2012", 11_540, 20, "PASCAL VOC 2012 (host.robots.ox.ac.uk/pascal/VOC)", f"{_DEEPHASH}/voc2012"
    ),
    "nuswide21": PublishedSet(
        "nuswide21_partial", 12_600, 21, "NUS-WIDE (lms.comp.nus.edu.sg)", f"{_DEEPHASH}/nuswide_21"
    ),
    "nuswide81": PublishedSet(
        "nuswide81_partial", 15_000, 81, "NUS-WIDE (lms.comp.nus.edu.sg)", "thulab/DeepHash on GitHub, data/nuswide_81"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class LabelLists:
    """Names of images, their multi-hot labels uint8 ``(n, C)``, rows of the split, and what was done to it."""

    names: list[str]
    hot: np.ndarray
    parts: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()


def load_published(name: str, root: Path | None, labels: Path | None, options: ImageOptions) -> Dataset:
    """A set of ``PUBLISHED`` from a folder of its images and a file or folder of its lists.

    ``root``: the images, at any depth; ``labels``: the lists, else looked for in ``root`` under their usual names.
    The set's ``published`` holds the rows of the published split. Raises :class:`InputError` saying what is needed
    where folder or lists are not given, and naming images that are missing (unless ``options.skip_unreadable``).
    """
    known = PUBLISHED[name]
    if root is None:
        raise InputError(
            f"{name}: root must be the folder of its images, got none. It needs {known.n_images:,} photos of "
            f"{known.images}, at any depth, and the lists {known.file}.npz.xz, or train.txt, test.txt and database.txt "
            f"of {known.lists}, in that folder or by labels=FILE. Nothing is downloaded"
        )
    where = printable(root)
    if not root.is_dir():
        raise InputError(
            f"{name}: root must be the folder of its images, got {where!r}, which is no folder here"
        )
    lists = read_label_lists(_find_lists(name, known, root, labels))
    if lists.hot.shape[1] != known.n_labels:
        raise InputError(
            f"{name}: its lists must have {known.n_labels} labels, got {lists.hot.shape[1]} in "
            f"{printable(labels or root)}"
        )
    class_labels = labels_of_hot(lists.hot)
    options.check_kind(kind_of(class_labels), name)
    scan = Scan()
    files = _find_images(lists.names, scan.walk(os.fspath(root)), where)
    missing = [row for row, file in enumerate(files) if file is None]
    if missing and (not options.skip_unreadable or len(missing) == len(files)):
        first = ", ".join(printable(lists.names[row]) for row in missing[:5])
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise InputError(
            f"{name}: must have all {len(files):,} images of its lists below {where}; {len(missing):,} are missing: "
            f"{first}{more}; skip_unreadable leaves them out (the split is then no longer the published one)"
        )
    rows = np.array([row for row, file in enumerate(files) if file is not None], np.int64)
    gathered = gather(FileStore(files[row] for row in rows), options, where=where)
    kept = rows[gathered.keep]
    ids = item_names(lists.names)
    unreadable = [ids[row] for row in rows[~gathered.keep]]
    warn_of_unreadable(where, unreadable)
    class_names = _class_names(name, lists.names, class_labels, known.n_labels)
    check_classes_left(class_labels, kept, class_names, name)
    left_out = np.setdiff1d(np.arange(len(ids)), kept)
    notes = lists.notes
    if len(left_out):
        notes = (*notes, f"the split is not the published one: {len(left_out):,} of its images are left out")
    return Dataset(
        name,
        "images",
        gathered.inputs,
        class_labels[kept],
        class_names,
        ids=tuple(ids[row] for row in kept),
        skipped=tuple(ids[row] for row in left_out),
        reading=replace(
            Scan().reading(len(kept), missing=len(missing), unreadable=len(unreadable)), notes=notes
        ),
        published=_renumbered(lists.parts, kept, len(ids)),
    )


def read_label_lists(path: Path) -> LabelLists:
    """Label lists of a file (``.npz``, ``.npz.xz``) or of a folder of text lists; see the module.

    Raises :class:`InputError` naming what is damaged, missing or contradicts itself.
    """
    lists = _from_folder(path) if path.is_dir() else _from_file(path)
    where = printable(path)
    query, train = lists.parts["query"], lists.parts["train"]
    if shared := len(np.intersect1d(query, train)):
        raise InputError(f"{where}: queries must not be training images, {shared:,} are")
    if "database" not in lists.parts:
        return lists
    database = lists.parts["database"]
    rest = np.setdiff1d(database, query)
    if len(rest) == len(database):
        return lists
    note = f"{len(database) - len(rest):,} queries that the published database holds are left out of it"
    return replace(lists, parts={**lists.parts, "database": rest}, notes=(*lists.notes, note))


def _find_lists(name: str, known: PublishedSet, root: Path, labels: Path | None) -> Path:
    if labels is not None and not labels.is_dir():
        return labels
    folder = labels or root
    for file in (f"{known.file}.npz.xz", f"{known.file}.npz"):
        if (folder / file).is_file():
            return folder / file
    if all((folder / _TEXT_PARTS[part]).is_file() for part in ("query", "train")):
        return folder
    raise InputError(
        f"{name}: its lists must be in {printable(folder)}: {known.file}.npz.xz, {known.file}.npz, or train.txt, "
        f"test.txt and database.txt (of {known.lists}); labels=FILE says where else they are"
    )


def _from_file(path: Path) -> LabelLists:
    where = printable(path)
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})") from None
    except (
        lzma.LZMAError,
        zipfile.BadZipFile,
        zlib.error,
        RuntimeError,  # zipfile, of a header that names a version or method it does not know
        ValueError,
        EOFError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        raise InputError(f"{where}: damaged or no file of label lists ({error})") from None
    if lacking := [key for key in ("ids", "labels", "n_labels", "query", "train") if key not in content]:
        raise InputError(
            f"{where}: must hold ids, labels, n_labels, query and train, got none called {', '.join(lacking)}"
        )
    try:
        names = content["ids"].astype(np.uint8).tobytes().decode("utf-8").split("\n")
        n_labels = int(content["n_labels"])
        packed = content["labels"]
        if packed.dtype != np.uint8 or packed.shape != (len(names), (n_labels + 7) // 8):
            raise ValueError(
                f"labels of {packed.dtype} {packed.shape} for {len(names)} ids of {n_labels} labels"
            )
        hot = np.unpackbits(packed, axis=1, count=n_labels)
    except (ValueError, TypeError) as error:
        raise InputError(f"{where}: damaged or no file of label lists ({error})") from None
    _check_distinct(names, where)
    parts = {}
    for part in _PARTS:
        if part in content:
            rows = content[part]
            if rows.dtype.kind not in "iu" or rows.ndim != 1:
                raise InputError(f"{where}: {part} must be row numbers, got {rows.dtype} {rows.shape}")
            rows = rows.astype(np.int64)
            outside = len(rows) and (rows.min() < 0 or rows.max() >= len(names))
            if outside or len(np.unique(rows)) != len(rows):
                raise InputError(f"{where}: {part} must hold rows below {len(names)}, each once")
            parts[part] = rows
    return LabelLists(names, hot, parts)


def _from_folder(folder: Path) -> LabelLists:
    """The text lists of a folder as one: an image that several of them name is one item."""
    where = printable(folder)
    numbers: dict[str, int] = {}
    names: list[str] = []
    hot: list[np.ndarray] = []
    parts: dict[str, np.ndarray] = {}
    for part, file in _TEXT_PARTS.items():
        if part == "database" and not (folder / file).is_file():
            continue
        listed = read_list(folder / file)
        n_labels = len(listed.class_names)
        if listed.labels is None or listed.class_names != tuple(map(str, range(n_labels))):
            raise InputError(f"{printable(folder / file)}: must give a 0 or 1 for each label behind the path")
        rows = listed.labels if listed.labels.ndim == 2 else np.eye(n_labels, dtype=np.uint8)[listed.labels]
        if hot and rows.shape[1] != hot[0].shape[0]:
            raise InputError(
                f"{printable(folder / file)}: must have {hot[0].shape[0]} labels, got {rows.shape[1]}"
            )
        chosen = []
        for name, row in zip(listed.names, rows, strict=True):
            number = numbers.setdefault(name, len(names))
            if number == len(names):
                names.append(name)
                hot.append(row)
            elif (hot[number] != row).any():
                raise InputError(
                    f"{where}: {printable(name)} must have one set of labels, {file} gives it another"
                )
            chosen.append(number)
        parts[part] = np.array(chosen, np.int64)
    return LabelLists(names, np.stack(hot), parts)


def _check_distinct(names: list[str], where: str) -> None:
    if len(set(names)) != len(names):
        raise InputError(f"{where}: must name each image once, names {len(names) - len(set(names)):,} again")


def _find_images(names: list[str], found: Iterable[str], where: str) -> list[str | None]:
    """The file of each name: by its last parts, all of those that tell two files of one name apart."""
    wanted = {alias for name in names for alias in _aliases(name)}
    by_name: dict[str, list[str]] = {}
    for path in found:
        if (base := os.path.basename(path)) in wanted:
            by_name.setdefault(base, []).append(path)
    files: list[str | None] = []
    for name in names:
        candidates = next((by_name[alias] for alias in _aliases(name) if alias in by_name), [])
        if len(candidates) > 1:
            likeness = [_shared_ending(path, name) for path in candidates]
            best = [path for path, like in zip(candidates, likeness, strict=True) if like == max(likeness)]
            if len(best) > 1:
                raise InputError(
                    f"{where}: must hold one file for each image, got several of {printable(name)}: {some(best)}"
                )
            candidates = best
        files.append(candidates[0] if candidates else None)
    return files


def _shared_ending(path: str, name: str) -> int:
    """How many parts, from the last one on, two paths share."""
    pairs = zip(reversed(path.split(os.sep)), reversed(name.split("/")), strict=False)
    return next((i for i, (one, other) in enumerate(pairs) if one != other), name.count("/") + 1)


def _aliases(name: str) -> tuple[str, ...]:
    """File names that an image may have: its own, and the one that COCO gave it in 2017."""
    base = os.path.basename(name)
    for prefix in ("COCO_train2014_", "COCO_val2014_"):
        if base.startswith(prefix):
            return base, base.removeprefix(prefix)
    return (base,)


def _class_names(name: str, names: list[str], labels: np.ndarray, n_labels: int) -> tuple[str, ...]:
    """Class names where the lists tell them: ImageNet's files bear their class; else numbers."""
    numbers = tuple(str(label) for label in range(n_labels))
    if name != "imagenet100" or labels.ndim != 1:
        return numbers
    synsets: list[set[str]] = [set() for _ in range(n_labels)]
    for file, label in zip(names, labels, strict=True):
        head = os.path.basename(file).split("_")[0]
        if head.startswith("n") and head[1:].isdigit():
            synsets[label].add(head)
    if all(len(found) == 1 for found in synsets):
        return tuple(next(iter(found)) for found in synsets)
    return numbers


def _renumbered(parts: Mapping[str, np.ndarray], kept: np.ndarray, n: int) -> dict[str, np.ndarray]:
    """Rows of all images as rows of those that were kept."""
    if len(kept) == n:
        return {part: np.sort(rows) for part, rows in parts.items()}
    place = np.full(n, -1, np.int64)
    place[kept] = np.arange(len(kept))
    return {part: np.sort(place[rows][place[rows] >= 0]) for part, rows in parts.items()}
