"""Lists of images: text files that name files and, if they have any, their labels.

``.txt``: an image per line.

* ``path`` alone on every line: images without labels.
* ``path label``, ``path label label ...``: one or several labels by name.
* ``path 0 0 1 0``: on every line equally many 0 and 1, at least two (the lists of HashNet and its followers).

A tab separates the parts of a line that holds one; else spaces do, and a path ends with its image suffix, so that
it may hold spaces. ``.csv`` (commas) and ``.tsv`` (tabs), quoted as usual, with a header that has a column ``path``
(or ``image``, ``file``, ``file_name``, ``filename``, ``image_path``):

* ``label``: exactly one in each row; or ``labels``: none, one or several, separated by ``|`` or ``;``.
* ``split``: ``train`` and ``test`` (or ``val``): the second is the official test part. ``id``: the item's name.
* Without either label column the others may be a column per label, of 0 and 1.

Without a header, two columns are path and label, and more are a path with a 0 or 1 for each label. Paths are
relative to the list's folder, or to ``root``. Text is UTF-8 (paths may hold any bytes) or, with its mark, UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .gather import ImageOptions, gather, item_names, warn_of_unreadable
from .image_files import FileStore
from .image_fit import HEIF_SUFFIXES, IMAGE_SUFFIXES, printable
from .item_labels import as_hot_rows, labels_of_hot, labels_of_names
from .reading import Reading
from .scan import some

__all__ = [
    "LIST_SUFFIXES",
    "ID_COLUMNS",
    "PATH_COLUMNS",
    "Listed",
    "load_list",
    "read_list",
    "test_part",
    "to_dataset",
]

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
PATH_COLUMNS = ("path", "image", "file", "file_name", "filename", "image_path")
ID_COLUMNS = ("id", "ids", "image_id")
_SUFFIXES = {*IMAGE_SUFFIXES, *HEIF_SUFFIXES, ".avif", ".webp", ".jp2"}
_PATH_END = re.compile(rf"(?:{'|'.join(map(re.escape, sorted(_SUFFIXES)))})(?=\s|$)", re.IGNORECASE)


@dataclass
class Listed:
    """What a list says of its items, one after the other.

    ``files``: what is opened; ``names``: what the items are called; ``places``: their lines or rows; ``labels``: int64
    ``(n,)``, uint8 ``(n, C)`` or None; ``test_mask``: bool ``(n,)`` or None.
    """

    files: list[str]
    names: list[str]
    places: Sequence[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    test_mask: np.ndarray | None = None


def load_list(path: Path, root: Path | None, options: ImageOptions) -> Dataset:
    """The images that a ``.txt``, ``.csv`` or ``.tsv`` names, as a set; labels None where it gives none.

    Raises :class:`InputError` naming the list, and the line, where it can be read in two ways, a file is missing
    or named twice. With ``options.skip_unreadable`` missing and unreadable images are left out and counted.
    """
    return to_dataset(read_list(path, root), path, options)


def read_list(path: Path, root: Path | None = None) -> Listed:
    """What a list says; the files it names are not looked at. Raises as :func:`load_list`."""
    text = _read_text(path)
    where = printable(path)
    if path.suffix.lower() == ".txt":
        lines, written, given = _from_lines(text, where)
        extra = {}
    else:
        lines, written, given, extra = _from_table(
            text, "," if path.suffix.lower() == ".csv" else "\t", where
        )
    if not written:
        raise InputError(f"{where}: must name at least one image, is empty")
    places = [f"line {line}" for line in lines]
    if isinstance(given, tuple):
        labels, class_names = given
    else:
        labels, class_names = _labels(given, places, where)
    names = [os.path.normpath(name) for name in written]
    _check_distinct(names, places, where)
    base = os.fspath(path.parent if root is None else root)
    split = extra.get("split")
    return Listed(
        [os.path.join(base, name) for name in written],
        extra.get("id") or names,
        places,
        labels,
        class_names,
        None if split is None else test_part(split, lambda row: f"{where}: {places[row]}"),
    )


def to_dataset(listed: Listed, path: Path, options: ImageOptions) -> Dataset:
    """The set of a list: its images found and read. ``path`` is the list's, for names and errors."""
    where = printable(path)
    there = np.array([_is_file(file) for file in listed.files], bool)
    missing = np.flatnonzero(~there)
    if len(missing) and (not options.skip_unreadable or len(missing) == len(there)):
        first = some([f"{printable(listed.files[i])} ({listed.places[i]})" for i in missing[:5]])
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        raise InputError(
            f"{where}: must name files that are there; {len(missing):,} of {len(there):,} are missing: {first}{more}"
            "; root says what folder the paths are relative to"
        )
    rows = np.flatnonzero(there)
    gathered = gather(FileStore(listed.files[i] for i in rows), options, where=where)
    kept = rows[gathered.keep]
    ids = item_names(listed.names)
    unreadable = [ids[i] for i in rows[~gathered.keep]]
    warn_of_unreadable(where, unreadable)
    return Dataset(
        printable(path.resolve().stem),
        "images",
        gathered.inputs,
        None if listed.labels is None else listed.labels[kept],
        listed.class_names,
        None if listed.test_mask is None else listed.test_mask[kept],
        tuple(ids[i] for i in kept),
        tuple(ids[i] for i in np.setdiff1d(np.arange(len(ids)), kept)),
        Reading(len(kept), missing=len(missing), unreadable=len(unreadable)),
    )


def test_part(values: Sequence[str], where: object) -> np.ndarray | None:
    """The test items of a column ``split``, bool ``(n,)``; None where all items are of one part.

    ``where(row)`` names an item in errors.
    """
    parts = [value.strip().lower() for value in values]
    parts = [
        "test" if part in ("val", "valid", "validation") and "test" not in parts else part for part in parts
    ]
    for row, part in enumerate(parts):
        if part not in ("train", "test"):
            raise InputError(
                f"{where(row)}: split must be train or test (or val, where there is no test), got {values[row]!r}"
            )
    mask = np.array([part == "test" for part in parts], bool)
    return mask if mask.any() and not mask.all() else None


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{printable(path)}: no UTF-16 text ({error})") from None
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise InputError(f"{printable(path)}: must be a text file, holds zero bytes")
    return text


def _from_lines(text: str, where: str) -> tuple[list[int], list[str], list[list[str]]]:
    """Line numbers, paths and labels of a ``.txt``."""
    numbers, paths, labels = [], [], []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        path, *given = _parts(line, f"{where}: line {number}")
        if not path:
            raise InputError(f"{where}: line {number} must begin with a path, got {printable(line)!r}")
        numbers.append(number)
        paths.append(path)
        labels.append(given)
    return numbers, paths, labels


def _parts(line: str, where: str) -> list[str]:
    if "\t" in line:
        return [part.strip() for part in line.split("\t")]
    line = line.strip()
    ends = [match.end() for match in _PATH_END.finditer(line)]
    if len(ends) > 1:
        raise InputError(
            f"{where} can be read in two ways, as a path to {printable(line[: ends[0]])!r} or to "
            f"{printable(line[: ends[-1]])!r}; separate path and labels by tabs"
        )
    return [line[: ends[0]], *line[ends[0] :].split()] if ends else line.split()


def _from_table(
    text: str, delimiter: str, where: str
) -> tuple[list[int], list[str], list[list[str]] | tuple[np.ndarray, tuple[str, ...]], dict[str, list[str]]]:
    """Line numbers, paths, labels (or finished ones) and further columns of a ``.csv`` or ``.tsv``."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise InputError(f"{where}: line {reader.line_num} is no row of a table ({error})") from None
    if not rows:
        return [], [], [], {}
    header = [cell.strip().lower() for cell in rows[0][1]]
    named = [name for name in header if name in PATH_COLUMNS]
    first, body = rows[0][1], rows[1:] if named else rows
    for number, row in body:
        if len(row) != len(first):
            raise InputError(
                f"{where}: line {number} must have {len(first)} columns as line {rows[0][0]} has, got {len(row)}"
            )
    numbers = [number for number, _ in body]
    columns = [[row[i].strip() for _, row in body] for i in range(len(first))]
    if not named:
        given = [list(row) for row in zip(*columns[1:], strict=True)] or [[] for _ in body]
        if len(columns) > 2 and as_hot_rows(given) is None:
            raise InputError(
                f"{where}: must begin with a header that has a column path, or hold a path and one label, or a path "
                f"and a 0 or 1 for each label; line {numbers[0]} is {printable(delimiter.join(first))!r}"
            )
        return numbers, columns[0], given, {}
    _check_header(header, named, where)
    paths = columns[header.index(named[0])]
    if "" in paths:
        raise InputError(
            f"{where}: line {numbers[paths.index('')]} must name a file, its {named[0]} is empty"
        )
    extra = {name: columns[header.index(name)] for name in ("split",) if name in header}
    for name in ID_COLUMNS:
        if name in header:
            extra["id"] = columns[header.index(name)]
    if "label" in header:
        labels = columns[header.index("label")]
        return numbers, paths, [[label] if label else [] for label in labels], extra
    if "labels" in header:
        cells = [
            [part.strip() for part in re.split(r"[|;]", cell)] for cell in columns[header.index("labels")]
        ]
        several = [[part for part in cell if part] for cell in cells]
        if not any(several):
            return numbers, paths, several, extra
        return numbers, paths, labels_of_names(several, lambda row: f"{where}: line {numbers[row]}"), extra
    others = [i for i, name in enumerate(header) if name not in (named[0], "split", *ID_COLUMNS)]
    if not others:
        return numbers, paths, [[] for _ in body], extra
    hot = np.array([[cell in ("0", "1") for cell in columns[i]] for i in others], bool)
    if len(others) < 2 or not hot.all():
        raise InputError(
            f"{where}: must have a column label or labels, or one column of 0 and 1 for each label; has "
            f"{', '.join(printable(first[i].strip()) for i in others)}"
        )
    rows01 = np.array([[cell == "1" for cell in columns[i]] for i in others], np.uint8).T
    return numbers, paths, (labels_of_hot(rows01), tuple(printable(first[i].strip()) for i in others)), extra


def _check_header(header: list[str], named: list[str], where: str) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{where}: must name each column once, has {', '.join(map(printable, twice))} twice")
    for group in (named, [name for name in ("label", "labels") if name in header]):
        if len(group) > 1:
            raise InputError(f"{where}: must have one of the columns {' and '.join(group)}, has both")


def _labels(
    given: list[list[str]], places: list[str], where: str
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Labels of parts that stand behind the path."""
    if not any(given):
        return None, ()
    if (hot := as_hot_rows(given)) is not None:
        return labels_of_hot(hot), tuple(str(i) for i in range(hot.shape[1]))
    for row, labels in enumerate(given):
        if not labels or "" in labels:
            other = next(i for i, labels in enumerate(given) if labels)
            raise InputError(
                f"{where}: {places[row]} must give a label, as {places[other]} does; to have items without one, "
                "list 0 and 1 for each label, or use a CSV with a column labels"
            )
    return labels_of_names(given, lambda row: f"{where}: {places[row]}")


def _check_distinct(names: list[str], places: list[str], where: str) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if (first := seen.setdefault(name, row)) != row:
            raise InputError(
                f"{where}: must name each image once (several labels of one stand together), "
                f"{printable(name)!r} is in {places[first]} and {places[row]}"
            )


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:
        return False
