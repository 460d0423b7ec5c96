"""Lists of images: text files that name files and, if they have any, their labels.

``.txt``: an image per line.

* ``path`` alone on every line: images without labels.
* ``path label``, ``path label label ...``: one or several labels by name.
* ``path 0 0 1 0``: on every line equally many 0 and 1, at least two (the lists of HashNet and its followers).

A tab separates the parts of a line that holds one; else spaces do, and a path ends with its image suffix, so that
it may hold spaces. ``.csv`` (commas) and ``.tsv`` (tabs), quoted as usual, with a header that has a column ``path``
(or ``image``, ``file``, ``file_name``, ``filename``, ``image_path``):

* ``label``: exactly one in each row; or ``labels``: none, one or several, separated by ``|`` or ``;``.
* ``split``: ``train`` and ``test`` (or ``val``): the second is the official test part. Beside both, ``val`` is read for
  training. ``id``: the item's name.
* Without either label column the others may be a column per label, of 0 and 1.

Without a header, two columns are path and label, and more are a path with a 0 or 1 for each label; the first path
must look like that of an image, or be there. Paths are relative to the list's folder, or to ``root``. Text is UTF-8
(paths may hold any bytes) or, with its mark, UTF-16.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .gather import ImageOptions, gather, item_names, warn_of_unreadable
from .image_fit import printable
from .image_stores import FileStore
from .item_labels import as_hot_rows, check_classes_left, kind_of, labels_of_hot, labels_of_names
from .reading import VALIDATION_NAMES, Reading, read_for_training
from .scan import some
from .tables import KNOWN_SUFFIXES, from_table, read_text

__all__ = [
    "LIST_SUFFIXES",
    "Listed",
    "Parts",
    "check_distinct",
    "load_list",
    "read_list",
    "read_parts",
    "to_dataset",
]

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
_PATH_END = re.compile(rf"(?:{'|'.join(map(re.escape, sorted(KNOWN_SUFFIXES)))})(?=\s|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Parts:
    """What a column ``split`` says: the official test items, bool ``(n,)`` or None, and what was done, in words."""

    test_mask: np.ndarray | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Listed:
    """What a list says of its items, one after the other.

    ``files``: what is opened; ``names``: what the items are called; ``places``: their lines or rows; ``labels``: int64
    ``(n,)``, uint8 ``(n, C)`` or None; ``parts``: what the column ``split`` says.
    """

    files: list[str]
    names: list[str]
    places: Sequence[str]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    parts: Parts = Parts()


def load_list(path: Path, root: Path | None, options: ImageOptions) -> Dataset:
    """The images that a ``.txt``, ``.csv`` or ``.tsv`` names, as a set; labels None where it gives none.

    Raises :class:`InputError` naming the list, and the line, where it can be read in two ways, a file is missing
    or named twice, or labels are of a kind that was not asked for. With ``options.skip_unreadable`` missing and
    unreadable images are left out and counted; a class of which no image is left is refused.
    """
    return to_dataset(read_list(path, root), path, options)


def read_list(path: Path, root: Path | None = None) -> Listed:
    """What a list says; the files it names are not looked at, but for the first of a table without a header.

    Raises as :func:`load_list`.
    """
    text = read_text(path)
    where = printable(path)
    base = os.fspath(path.parent if root is None else root)
    if path.suffix.lower() == ".txt":
        lines, written, given = _from_lines(text, where)
        extra = {}
    else:
        delimiter = "," if path.suffix.lower() == ".csv" else "\t"
        is_there: Callable[[str], bool] = lambda name: _is_file(os.path.join(base, name))  # noqa: E731
        lines, written, given, extra = from_table(text, delimiter, where, is_there)
    if not written:
        raise InputError(f"{where}: must name at least one image, got none")
    places = [f"line {line}" for line in lines]
    if isinstance(given, tuple):
        labels, class_names = given
    else:
        labels, class_names = _labels(given, places, where)
    names = [os.path.normpath(name) for name in written]
    check_distinct(names, places, where, files=[os.path.normpath(os.path.join(base, name)) for name in names])
    ids = extra.get("id")
    if ids is not None:
        if "" in ids:
            raise InputError(f"{where}: {places[ids.index('')]} must give an id as others do, got none")
        check_distinct(ids, places, where, what="item")
    split = extra.get("split")
    return Listed(
        [os.path.join(base, name) for name in written],
        ids or names,
        places,
        labels,
        class_names,
        Parts() if split is None else read_parts(split, lambda row: f"{where}: {places[row]}"),
    )


def to_dataset(listed: Listed, path: Path, options: ImageOptions) -> Dataset:
    """The set of a list: its images found and read. ``path`` is the list's, for names and errors."""
    where = printable(path)
    options.check_kind(kind_of(listed.labels), where)
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
    check_classes_left(listed.labels, kept, listed.class_names, where)
    test_mask = listed.parts.test_mask
    return Dataset(
        printable(path.resolve().stem),
        "images",
        gathered.inputs,
        None if listed.labels is None else listed.labels[kept],
        listed.class_names,
        None if test_mask is None else test_mask[kept],
        tuple(ids[i] for i in kept),
        tuple(ids[i] for i in np.setdiff1d(np.arange(len(ids)), kept)),
        Reading(len(kept), missing=len(missing), unreadable=len(unreadable), notes=listed.parts.notes),
    )


def read_parts(values: Sequence[str], where: Callable[[int], str]) -> Parts:
    """What a column ``split`` says: test items where there are others, too; ``where(row)`` names an item in errors.

    ``val`` (or ``valid``, ``validation``) is the test part where there is no ``test``, and read for training beside
    ``train`` and ``test``.
    """
    parts = [value.strip().lower() for value in values]
    instead = "test" if "test" not in parts else "train" if "train" in parts else None
    notes = []
    for row, part in enumerate(parts):
        if part in VALIDATION_NAMES and instead is not None:
            parts[row] = instead
            if instead == "train" and (note := read_for_training(part)) not in notes:
                notes.append(note)
        elif part not in ("train", "test"):
            raise InputError(
                f"{where(row)}: split must be train or test (or val, where there is no test or both), "
                f"got {values[row]!r}"
            )
    mask = np.array([part == "test" for part in parts], bool)
    return Parts(mask if mask.any() and not mask.all() else None, tuple(notes))


def _from_lines(text: str, where: str) -> tuple[list[int], list[str], list[list[str]]]:
    """Line numbers, paths and labels of a ``.txt``."""
    numbers, paths, labels = [], [], []
    for number, line in enumerate(re.split("\r\n|\n|\r", text), 1):
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
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) == 2 and len(parts[1].split()) > 1 and {*parts[1].split()} <= {"0", "1"}:
            raise InputError(f"{where} must separate its 0 and 1 by tabs as its path, got {parts[1]!r}")
        return parts
    line = line.strip()
    ends = [match.end() for match in _PATH_END.finditer(line)]
    if len(ends) > 1:
        raise InputError(
            f"{where} can be read in two ways, as a path to {printable(line[: ends[0]])!r} or to "
            f"{printable(line[: ends[-1]])!r}; separate path and labels by tabs"
        )
    return [line[: ends[0]], *line[ends[0] :].split()] if ends else line.split()


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


def check_distinct(
    names: Sequence[str],
    places: Sequence[str],
    where: str,
    *,
    files: Sequence[str] | None = None,
    what: str = "image",
) -> None:
    """Refuse an image, or ``what`` they are, that is named twice; ``files``: what names stand for."""
    seen: dict[str, int] = {}
    for row, (name, key) in enumerate(zip(names, files or names, strict=True)):
        if (first := seen.setdefault(key, row)) != row:
            raise InputError(
                f"{where}: must name each {what} once (several labels of one stand together), got "
                f"{printable(name)!r} in {places[first]} and {places[row]}"
            )


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:
        return False
