"""Metadata of items from a Parquet or CSV file, by their ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .layout import Layout
from .metadata_csv import read_columns
from .new_items import pyarrow_of_metadata, schema_of

__all__ = ["MetadataRows", "read_metadata"]


_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")


class MetadataRows:
    """Rows of a table by id."""

    def __init__(self, table: Any, ids: Sequence[Any], path: Path) -> None:
        self._table, self._path = table, path
        self._rows = {str(id): row for row, id in enumerate(ids)}
        if len(self._rows) != len(ids):
            raise InputError(f"{path}: must name each id once, got one twice")

    def of(self, ids: Sequence[Any]) -> Any:
        """The rows of these ids, as an Arrow table; null where the file has none."""
        pa = pyarrow_of_metadata()
        return self._table.take(pa.array([self._rows.get(str(id)) for id in ids], pa.int64()))

    def n_without(self, ids: Sequence[Any]) -> int:
        """How many of these ids the file does not have."""
        return sum(str(id) not in self._rows for id in ids)

    def remark(self, n_without: int, n_items: int, layout: Layout) -> str | None:
        """What the file did not say of the items that were given its metadata; None where it said all."""
        lacking = [name for name, _ in layout.metadata if name not in self._table.column_names]
        said = []
        if n_without:
            said.append(f"has no row of {n_without:,} of the {n_items:,} items")
        if lacking:
            said.append(f"has no column {', '.join(lacking)}")
        return f"{self._path}: {' and '.join(said)}, so that their metadata is null" if said else None


def read_metadata(path: Path, layout: Layout) -> MetadataRows:
    """Read the columns of an index from a file with a column ``id``; a column that is missing there is null.

    Raises ``FileNotFoundError``, or :class:`InputError` naming the file and what it lacks.
    """
    pa = pyarrow_of_metadata()
    from pyarrow import parquet

    if not layout.metadata:
        raise InputError(
            f"{path}: metadata must go with an index that has metadata columns, this one has none"
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: metadata must be a .parquet or .csv file")
    try:
        table = parquet.read_table(path) if suffix == ".parquet" else _read_csv(path, layout)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: damaged, or no {suffix} file ({str(error).splitlines()[0]})") from None
    if "id" not in table.column_names:
        raise InputError(f"{path}: must have a column id, got {', '.join(table.column_names) or 'none'}")
    ids = table["id"].to_pylist()
    known = [name for name, _ in layout.metadata if name in table.column_names]
    if not known:
        wanted = ", ".join(name for name, _ in layout.metadata)
        raise InputError(
            f"{path}: must have some of the columns {wanted}, got {', '.join(table.column_names)}"
        )
    return MetadataRows(table.select(known), ids, path)


def _read_csv(path: Path, layout: Layout) -> Any:
    pa = pyarrow_of_metadata()
    kinds = {field.name: field.type for field in schema_of(layout)}
    table = read_columns(path, {**kinds, "id": pa.string()})
    if layout.ids == "text" or "id" not in table.column_names:
        return table
    ids = [str(int(id)) if _INTEGER.fullmatch(id) else id for id in table["id"].to_pylist()]
    return table.set_column(table.column_names.index("id"), "id", pa.array(ids, pa.string()))
