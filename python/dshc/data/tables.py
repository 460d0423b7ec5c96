"""Lists of images that are tables, ``.csv`` and ``.tsv``; ``lists.py`` has the grammar."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..errors import InputError
from .image_fit import HEIF_SUFFIXES, IMAGE_SUFFIXES, printable
from .item_labels import as_hot_rows, labels_of_hot, labels_of_names

__all__ = ["ID_COLUMNS", "KNOWN_SUFFIXES", "PATH_COLUMNS", "from_table", "read_text"]

PATH_COLUMNS = ("path", "image", "file", "file_name", "filename", "image_path")
ID_COLUMNS = ("id", "ids", "image_id")
KNOWN_SUFFIXES = {*IMAGE_SUFFIXES, *HEIF_SUFFIXES, ".avif", ".webp", ".jp2"}
_PATH_COLUMN = f"a column {PATH_COLUMNS[0]} (or {', '.join(PATH_COLUMNS[1:])})"
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}


def from_table(
    text: str, delimiter: str, where: str, is_there: Callable[[str], bool]
) -> tuple[list[int], list[str], list[list[str]] | tuple[np.ndarray, tuple[str, ...]], dict[str, list[str]]]:
    """Line numbers, paths, labels (or finished ones) and further columns of a ``.csv`` or ``.tsv``.

    ``is_there`` says whether a path is a file: what begins a table without a header must be one, or look like an image.
    """
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
    if not named:
        _check_begins_with_image(first, rows[0][0], delimiter, where, is_there)
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
                f"{where}: must begin with a header that has {_PATH_COLUMN}, or hold a path and one label, or a path "
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
    # A column without a name is the number of the row, as spreadsheets and data frames write it.
    others = [i for i, name in enumerate(header) if name not in (named[0], "split", "", *ID_COLUMNS)]
    if not others:
        return numbers, paths, [[] for _ in body], extra
    hot = np.array([[cell in ("0", "1") for cell in columns[i]] for i in others], bool)
    if len(others) < 2 or not hot.all():
        raise InputError(
            f"{where}: must have a column label or labels, or one column of 0 and 1 for each label, got "
            f"{', '.join(printable(first[i].strip()) for i in others)}"
        )
    rows01 = np.array([[cell == "1" for cell in columns[i]] for i in others], np.uint8).T
    return numbers, paths, (labels_of_hot(rows01), tuple(printable(first[i].strip()) for i in others)), extra


def read_text(path: Path) -> str:
    """The text of a list or table: UTF-8, in which names may hold any bytes, or UTF-16 with its mark.

    Raises :class:`InputError` naming a file that cannot be read or is no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{printable(path)}: cannot be read ({error.strerror})") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError(f"{printable(path)}: must be UTF-16 text as its mark says ({error})") from None
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise InputError(f"{printable(path)}: must be a text file, got zero bytes")
    return text


def _check_header(header: list[str], named: list[str], where: str) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise InputError(f"{where}: must name each column once, got {', '.join(map(printable, twice))} twice")
    for group in (
        named,
        *([name for name in of if name in header] for of in (("label", "labels"), ID_COLUMNS)),
    ):
        if len(group) > 1:
            raise InputError(f"{where}: must have one of the columns {' and '.join(group)}, got both")


def _check_begins_with_image(
    first: list[str], number: int, delimiter: str, where: str, is_there: Callable[[str], bool]
) -> None:
    """Refuse a first row that is a header of unknown names, or whose columns are separated by something else."""
    path = first[0].strip()
    if os.path.splitext(path)[1].lower() in KNOWN_SUFFIXES or is_there(path):
        return
    other = next((mark for mark in _SEPARATORS if mark != delimiter and mark in path), None)
    hint = (
        ""
        if other is None
        else f"; columns must be separated by {_SEPARATORS[delimiter]}, not {_SEPARATORS[other]}"
    )
    raise InputError(
        f"{where}: must begin with a header that has {_PATH_COLUMN}, or with the path of an image; line {number} is "
        f"{printable(delimiter.join(first))!r}{hint}"
    )
