"""Parquet files: images, paths of images or embeddings, with their labels.

What is read, by column (other columns are passed over):

* images: ``image`` (or ``img``, ``picture``, ``bytes``), binary, or the struct of ``bytes`` and ``path`` that Hugging
  Face data sets have; or else paths: the columns that a CSV list may have (``dshc.data.lists``), text.
* or embeddings: ``features``, ``embedding`` or ``embeddings``, a list of numbers, equally many in each row.
* ``label`` or ``labels``: text, integers, or a list of either (none, one or several); lists of 0 and 1 of one length
  are multi-hot. Hugging Face's names of classes are found in the file's metadata.
* ``id`` (or ``ids``, ``image_id``): names; ``split``: ``train`` and ``test`` (or ``val``).

Images that fit into memory are decoded as they are read. More are kept, encoded, in a file without a name in the cache
folder, which is gone with the set or with the process, however it ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, install
from ..progress import progress
from .dataset import Dataset
from .gather import ImageOptions, gather, gather_batches, item_names, warn_of_unreadable
from .image_fit import printable
from .image_stores import PackedStore
from .item_labels import (
    as_hot_rows,
    check_classes_left,
    kind_of,
    labels_of_hot,
    labels_of_names,
    labels_of_numbers,
)
from .lists import Listed, Parts, check_distinct, read_parts, to_dataset
from .reading import Reading
from .tables import ID_COLUMNS, PATH_COLUMNS

__all__ = ["PARQUET_SUFFIXES", "holds_photos", "load_parquet"]

PARQUET_SUFFIXES = (".parquet",)
_IMAGE_COLUMNS = ("image", "img", "picture", "bytes")
_FEATURE_COLUMNS = ("features", "embedding", "embeddings")
_LABEL_COLUMNS = ("label", "labels")
_ROWS = 256  # read at a time


def load_parquet(path: Path, root: Path | None, options: ImageOptions) -> Dataset:
    """The set in a Parquet file, labels None where it gives none; see the module for what may be in it.

    Raises :class:`InputError` naming the file, and column or row, where it is damaged or can be read in two ways,
    and ``ImportError`` where pyarrow is not installed.
    """
    where = printable(path)
    arrow = _Arrow(path, where)
    kind, column = arrow.inputs()
    n = arrow.n_rows
    if not n:
        raise InputError(f"{where}: must have at least one row, got none")
    labels, class_names = _labels(arrow, where)
    options.check_kind(kind_of(labels), where)
    ids = arrow.texts(arrow.one_of(ID_COLUMNS))
    split = arrow.texts(arrow.one_of(("split",)))
    parts = Parts() if split is None else read_parts(split, lambda row: f"{where}: row {row}")
    mask = parts.test_mask
    name = printable(path.resolve().stem)
    if kind == "features":
        if options.image_size is not None or options.n_channels is not None:
            raise InputError(f"{where}: image_size and n_channels must go with images, got embeddings")
        features = arrow.features(column)
        reading = Reading(n, notes=parts.notes, what="embedding") if parts.notes else None
        names = None if ids is None else tuple(ids)
        try:
            return Dataset(name, "features", features, labels, class_names, mask, names, reading=reading)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from None
    paths = arrow.paths(column if kind == "paths" else None)
    if kind == "paths":
        base = os.fspath(path.parent if root is None else root)
        places = [f"row {row}" for row in range(n)]
        check_distinct([os.path.normpath(p) for p in paths], places, where)
        files = [os.path.join(base, p) for p in paths]
        return to_dataset(Listed(files, ids or paths, places, labels, class_names, parts), path, options)
    batches = arrow.image_bytes(column, skip_null=options.skip_unreadable)
    if options.fits(n):
        gathered = gather_batches(batches, n, options, where=where)
    else:
        store = PackedStore.write(chain.from_iterable(batches), origin=where)
        gathered = gather(store, options, where=where)
    names = item_names(ids or paths or [str(row) for row in range(n)])
    rows = np.flatnonzero(gathered.keep)
    skipped = tuple(names[i] for i in np.flatnonzero(~gathered.keep))
    warn_of_unreadable(where, skipped)
    check_classes_left(labels, rows, class_names, where)
    return Dataset(
        name,
        "images",
        gathered.inputs,
        None if labels is None else labels[rows],
        class_names,
        None if mask is None else mask[rows],
        tuple(names[i] for i in rows),
        skipped,
        Reading(len(rows), unreadable=len(skipped), notes=parts.notes),
    )


def holds_photos(path: Path) -> bool:
    """Whether a file is Parquet with images or their paths; False, too, where it cannot be read."""
    if path.suffix.lower() not in PARQUET_SUFFIXES:
        return False
    try:
        return _Arrow(path, printable(path)).inputs()[0] != "features"
    except (ImportError, InputError):
        return False


class _Arrow:
    """An opened Parquet file; every error names it."""

    def __init__(self, path: Path, where: str) -> None:
        try:
            import pyarrow
            import pyarrow.compute
            import pyarrow.parquet
        except ImportError:
            raise ImportError(f"{where}: reading Parquet needs pyarrow: {install('parquet')}") from None
        self._pa, self.where = pyarrow, where
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{where}: damaged or no Parquet file ({error})") from None
        self.schema = self._file.schema_arrow
        self.n_rows = self._file.metadata.num_rows

    def inputs(self) -> tuple[str, str]:
        """``"images"``, ``"paths"`` or ``"features"``, and the column that holds them."""
        types = self._pa.types
        images, paths, features = [], [], []
        for field in self.schema:
            name = field.name.lower()
            if name in _FEATURE_COLUMNS:
                features.append(field.name)
            elif name in _IMAGE_COLUMNS and (_is_bytes(types, field.type) or types.is_struct(field.type)):
                images.append(field.name)
            elif name in PATH_COLUMNS and (types.is_string(field.type) or types.is_large_string(field.type)):
                paths.append(field.name)
        if features and (images or paths):
            both = ", ".join(map(printable, [*features, *images, *paths]))
            raise InputError(f"{self.where}: must hold either embeddings or images, got the columns {both}")
        for kind, found in (("features", features), ("images", images), ("paths", paths)):
            if len(found) > 1:
                raise InputError(f"{self.where}: must have one column of {kind}, got {', '.join(found)}")
            if found and kind == "images" and not _is_bytes(types, self.schema.field(found[0]).type):
                return self._struct(found[0])
            if found:
                return kind, found[0]
        known = ", ".join(dict.fromkeys((*_IMAGE_COLUMNS, *PATH_COLUMNS, *_FEATURE_COLUMNS)))
        raise InputError(
            f"{self.where}: must have a column of images, paths or embeddings ({known}), "
            f"got {', '.join(printable(name) for name in self.schema.names) or 'none'}"
        )

    def _struct(self, column: str) -> tuple[str, str]:
        parts = {field.name for field in self.schema.field(column).type}
        if "bytes" not in parts:
            raise InputError(
                f"{self.where}: column {column} must be binary or a struct of bytes and path, "
                f"got a struct of {', '.join(sorted(parts))}"
            )
        return "images", column

    def one_of(self, names: Sequence[str]) -> str | None:
        """The one column of these names, in any case."""
        found = [name for name in self.schema.names if name.lower() in names]
        if len(found) > 1:
            raise InputError(f"{self.where}: must have one of the columns {' and '.join(found)}, got both")
        return found[0] if found else None

    def column(self, name: str, part: str | None = None) -> list[Any]:
        """A column as Python values, dictionaries and nulls resolved; of a struct perhaps one ``part`` alone."""
        try:
            return self._file.read(columns=[part or name])[name].to_pylist()
        except (OSError, self._pa.ArrowException, KeyError) as error:
            raise InputError(f"{self.where}: column {name} cannot be read ({error})") from None

    def texts(self, name: str | None) -> list[str] | None:
        """A column of text or integers as text."""
        if name is None:
            return None
        values = self.column(name)
        for row, value in enumerate(values):
            if not isinstance(value, (str, int)) or isinstance(value, bool):
                raise InputError(f"{self.where}: row {row}: {name} must be text or an integer, got {value!r}")
        return [str(value) for value in values]

    def paths(self, column: str | None) -> list[str] | None:
        """Paths of the images: a column of them, or what stands beside their bytes as long as all rows have it."""
        if column is not None:
            return self.texts(column)
        named = self.one_of(("path", "file", "file_name", "filename", "image_path"))
        if named is not None and None not in self.column(named):
            return self.texts(named)
        for field in self.schema:
            if field.name.lower() in _IMAGE_COLUMNS and self._pa.types.is_struct(field.type):
                if "path" in {part.name for part in field.type}:
                    found = self.column(field.name, f"{field.name}.path")
                    names = [value["path"] if value else None for value in found]
                    distinct = len(set(names)) == len(names)
                    return names if distinct and all(isinstance(name, str) for name in names) else None
        return None

    def image_bytes(self, column: str, *, skip_null: bool) -> Iterator[list[bytes]]:
        """The encoded images, some rows at a time; of a null nothing with ``skip_null``, which no decoder reads."""
        row = 0
        with progress(f"reading {self.n_rows:,} images") as update:
            try:
                for batch in self._file.iter_batches(batch_size=_ROWS, columns=[column]):
                    images = []
                    for value in batch.column(0).to_pylist():
                        data = value.get("bytes") if isinstance(value, dict) else value
                        if data is None and skip_null:
                            data = b""
                        if not isinstance(data, bytes):
                            raise InputError(
                                f"{self.where}: row {row}: {column} must hold the bytes of an image, got null"
                            )
                        images.append(data)
                        row += 1
                    if row > self.n_rows:
                        break
                    yield images
                    update(row, self.n_rows)
                if row != self.n_rows:
                    raise InputError(
                        f"{self.where}: must hold {self.n_rows} rows as it says, got {row} or more"
                    )
            except (OSError, self._pa.ArrowException) as error:
                raise InputError(f"{self.where}: damaged behind row {row} ({error})") from None

    def features(self, column: str) -> np.ndarray:
        """Embeddings, float32 ``(n, d)``."""
        pa = self._pa
        kind = self.schema.field(column).type
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not listed or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise InputError(
                f"{self.where}: column {column} must be a list of numbers in each row, got {kind}"
            )
        parts, width, row = [], None, 0
        try:
            for batch in self._file.iter_batches(batch_size=4096, columns=[column]):
                rows = batch.column(0)
                if rows.null_count:
                    bad = row + int(np.flatnonzero(np.asarray(rows.is_null()))[0])
                    raise InputError(f"{self.where}: row {bad}: {column} must be a list of numbers, got null")
                lengths = np.asarray(pa.compute.list_value_length(rows))
                width = int(lengths[0]) if width is None else width
                if (lengths != width).any():
                    bad = int(np.flatnonzero(lengths != width)[0])
                    raise InputError(
                        f"{self.where}: row {row + bad}: {column} must have {width} numbers as row 0 has, "
                        f"got {lengths[bad]}"
                    )
                flat = rows.flatten()
                if flat.null_count:
                    raise InputError(
                        f"{self.where}: {column} must hold numbers only, got nulls from row {row} on"
                    )
                with np.errstate(over="ignore"):  # what overflows float32 is refused as infinite
                    parts.append(
                        flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(rows), width)
                    )
                row += len(rows)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.where}: damaged behind row {row} ({error})") from None
        return np.concatenate(parts)

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """The names that Hugging Face's ``ClassLabel`` gives the numbers of a column."""
        try:
            text = (self.schema.metadata or {}).get(b"huggingface", b"{}")
            feature = json.loads(text).get("info", {}).get("features", {}).get(column)
            while isinstance(feature, (dict, list)) and not (
                isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
            ):
                feature = feature[0] if isinstance(feature, list) else feature.get("feature")
            names = feature.get("names") if feature else None
        except (ValueError, AttributeError, IndexError):  # metadata of another make
            return None
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            return None
        return tuple(names)


def _is_bytes(types: Any, kind: Any) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind)


def _labels(arrow: _Arrow, where: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    column = arrow.one_of(_LABEL_COLUMNS)
    if column is None:
        return None, ()
    values = arrow.column(column)
    if all(value is None for value in values):
        return None, ()
    rows = [value if isinstance(value, list) else [value] for value in values]
    for row, given in enumerate(rows):
        for label in given:
            if isinstance(label, bool) and isinstance(values[row], list):
                continue
            if not isinstance(label, (str, int)) or isinstance(label, bool) or label == "":
                raise InputError(
                    f"{where}: row {row}: {column} must be text, an integer or a list of either, got {label!r}"
                )
    place: Callable[[int], str] = lambda row: f"{where}: row {row}"  # noqa: E731
    names = arrow.class_names(column)
    if (hot := as_hot_rows(rows)) is not None:
        return labels_of_hot(hot), names if names and len(names) == hot.shape[1] else tuple(
            map(str, range(hot.shape[1]))
        )
    if names is not None and all(isinstance(label, int) for row in rows for label in row):
        return labels_of_numbers(rows, names, place), names
    if not any(rows):
        return None, ()
    return labels_of_names([[str(label) for label in row] for row in rows], place)
