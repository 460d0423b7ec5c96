"""Items that are to be added, checked and in the form in which they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, install
from ..storage.code_files import kind_of
from .id_column import IdColumn, TextColumn, is_ascending, keys_of_texts, row_dtype
from .layout import Layout

if TYPE_CHECKING:
    import pyarrow

__all__ = ["NewItems", "checked_codes", "checked_ids", "pyarrow_of_metadata", "schema_of"]


@dataclass(frozen=True)
class NewItems:
    """``arrays`` by name as a part holds them, without those of the ids; ``metadata`` None where the index has none."""

    n_items: int
    ids: IdColumn | TextColumn
    arrays: dict[str, np.ndarray]
    metadata: pyarrow.Table | None

    @classmethod
    def check(
        cls,
        layout: Layout,
        codes: object,
        ids: object,
        *,
        labels: object = None,
        vectors: object = None,
        metadata: object = None,
        next_id: int = 0,
    ) -> NewItems:
        """Raises ``TypeError`` or :class:`InputError` naming the argument that does not fit the index."""
        codes = checked_codes(codes, layout)
        n = len(codes)
        arrays = {"codes": codes, **_labels(labels, n, layout), **_vectors(vectors, n, layout)}
        return cls(n, _id_column(ids, n, layout, next_id), arrays, _metadata(metadata, n, layout))


def checked_codes(codes: object, layout: Layout, name: str = "codes") -> np.ndarray:
    """Packed codes, uint8 ``(n, bytes)``, of the length of the index."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8:
        raise TypeError(f"{name} must be a numpy array of uint8 (packed codes), got {kind_of(codes)}")
    if codes.ndim != 2 or codes.shape[1] != layout.n_bytes:
        raise InputError(
            f"{name} of {layout.n_bits} bits must have shape (n, {layout.n_bytes}), got {codes.shape}"
        )
    if layout.n_bits % 8 and codes.size and int(codes[:, -1].max()) >> (layout.n_bits % 8):
        raise InputError(
            f"{name} must have padding bits of 0 (from bit {layout.n_bits} on), got some that are set; the lowest bit "
            "of a byte comes first (dshc_fast.reverse_bit_order turns them)"
        )
    return np.ascontiguousarray(codes)


def checked_ids(ids: object, layout: Layout) -> Any:
    """int64 ``(n,)``, or a list of texts, by the kind of the index."""
    if isinstance(ids, str):
        raise TypeError("ids must be a sequence, got a single text")
    if layout.ids == "text":
        texts = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)  # type: ignore[call-overload]
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"ids must be text in this index, got {wrong[0]!r}")
        for text in texts:
            try:
                text.encode()
            except UnicodeEncodeError:
                raise InputError(f"ids must be text that UTF-8 can hold, got {text!r}") from None
        return texts
    array = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))  # type: ignore[call-overload]
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(f"ids must be a sequence of int64 in this index, got {kind_of(array)} {array.shape}")
    return _as_int64(array, "ids")


def _as_int64(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{name} must fit int64, got {int(array.max())}")
    return array.astype(np.int64)


def _id_column(ids: object, n: int, layout: Layout, next_id: int) -> IdColumn | TextColumn:
    if ids is None:
        if layout.ids == "text":
            raise InputError("ids must be given to an index whose ids are text, got none")
        if next_id + n > np.iinfo(np.int64).max:
            raise InputError(f"ids must fit int64, the next one would be {next_id}; give ids")
        return IdColumn.counting(next_id, n)
    ids = checked_ids(ids, layout)
    if len(ids) != n:
        raise InputError(f"ids must name each of the {n} items, got {len(ids)}")
    if layout.ids == "text":
        _refuse_twice(sorted(ids))
        return _text_column(ids)
    if is_ascending(ids):
        if n and int(ids[-1]) - int(ids[0]) == n - 1:
            return IdColumn.counting(int(ids[0]), n)
        return IdColumn(ids)
    order = np.argsort(ids, kind="stable")
    _refuse_twice(ids[order])
    return IdColumn(ids, ids[order], order.astype(row_dtype(n)))


def _refuse_twice(ordered: Sequence[Any]) -> None:
    for before, after in zip(ordered[:-1], ordered[1:], strict=True):
        if before == after:
            shown = before if isinstance(before, str) else int(before)
            raise InputError(f"ids must differ, got {shown!r} twice")


def _text_column(ids: list[str]) -> TextColumn:
    encoded = [text.encode() for text in ids]
    offsets = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=offsets[1:])
    keys = keys_of_texts(ids)
    order = np.argsort(keys, kind="stable")
    text = np.frombuffer(b"".join(encoded), np.uint8)
    return TextColumn(text, offsets, keys[order], order.astype(row_dtype(len(ids))))


def _labels(labels: object, n: int, layout: Layout) -> dict[str, np.ndarray]:
    if layout.labels == "none":
        if labels is not None:
            raise InputError(
                "labels must not be given to an index without labels (create it with labels='ids')"
            )
        return {}
    if layout.labels == "ids":
        if labels is None:
            return {"labels": np.full(n, -1, np.int64)}
        array = np.asarray(labels)
        if array.dtype.kind not in "iu" or array.shape != (n,):
            raise TypeError(f"labels must be integers of shape ({n},), got {kind_of(array)} {array.shape}")
        array = _as_int64(array, "labels")
        top = len(layout.class_names) or np.iinfo(np.int64).max
        if array.size and not -1 <= int(array.min()) <= int(array.max()) < top:
            wrong = int(array.min()) if array.min() < -1 else int(array.max())
            raise InputError(f"labels must lie in 0..{top - 1}, or be -1 where not known, got {wrong}")
        return {"labels": array}
    if labels is None:
        return {"labels": np.zeros((n, layout.n_labels), np.uint8)}
    array = np.asarray(labels)
    if array.dtype.kind not in "biu" or array.shape != (n, layout.n_labels):
        raise TypeError(
            f"labels must be 0 and 1 of shape ({n}, {layout.n_labels}), got {kind_of(array)} {array.shape}"
        )
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= 1:
        raise InputError(f"labels must be 0 and 1, got {int(array.max())}")
    return {"labels": array.astype(np.uint8)}


def _vectors(vectors: object, n: int, layout: Layout) -> dict[str, np.ndarray]:
    if layout.vectors == "none":
        if vectors is not None:
            raise InputError(
                "vectors must not be given to an index without vectors (create it with vectors='float16')"
            )
        return {}
    shape = (n, layout.n_dimensions)
    array = np.asarray(vectors)
    if vectors is None or array.dtype.kind not in "fiu" or array.shape != shape:
        came = "none" if vectors is None else f"{kind_of(array)} {array.shape}"
        raise TypeError(f"vectors must be numbers of shape {shape}, got {came}")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values = array.astype(np.float32)
    largest = np.abs(values).max(axis=1, initial=0) if n else np.empty(0, np.float32)
    limit = float(np.finfo(np.float16 if layout.vectors == "float16" else np.float32).max)
    if wrong := np.flatnonzero(~(largest <= limit)).tolist():
        raise InputError(
            f"vectors must be finite and at most {limit:.5g}, got {float(np.abs(array[wrong[0]]).max())} in row "
            f"{wrong[0]}"
        )
    if layout.vectors == "float16":
        return {"vectors": values.astype(np.float16)}
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return {"vectors": np.rint(values / scales[:, None]).astype(np.int8), "vector_scales": scales}


def pyarrow_of_metadata() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(f"metadata needs pyarrow; {install('parquet')}") from None
    return pyarrow


def schema_of(layout: Layout) -> pyarrow.Schema:
    """The Arrow schema of the metadata; :class:`InputError` for a type that Arrow does not know."""
    pa = pyarrow_of_metadata()
    fields = []
    for name, kind in layout.metadata:
        try:
            fields.append(pa.field(name, pa.type_for_alias(kind)))
        except ValueError:
            raise InputError(
                f"metadata column {name!r} must have a type of Arrow such as int64, float32, string, bool, "
                f"timestamp[s], got {kind!r}"
            ) from None
    return pa.schema(fields)


def _metadata(metadata: object, n: int, layout: Layout) -> pyarrow.Table | None:
    if not layout.metadata:
        if metadata is not None:
            raise InputError("metadata must not be given to an index without metadata columns")
        return None
    pa = pyarrow_of_metadata()
    schema = schema_of(layout)
    try:
        if metadata is None:
            return (
                schema.empty_table()
                if n == 0
                else pa.table([pa.nulls(n, f.type) for f in schema], schema=schema)
            )
        table = _table_of(metadata, schema)
        columns = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        ]
    except (pa.ArrowException, KeyError, OverflowError, UnicodeError) as error:
        raise InputError(f"metadata must fit the columns of the index: {error}") from None
    if table.num_rows != n:
        raise InputError(f"metadata must have a row for each of the {n} items, got {table.num_rows}")
    return pa.table(columns, schema=schema)


def _table_of(metadata: Any, schema: pyarrow.Schema) -> pyarrow.Table:
    """Metadata in any of its forms. Names that the schema does not have are refused; in rows Arrow passes over them."""
    import pyarrow as pa

    if isinstance(metadata, pa.RecordBatch):
        metadata = pa.Table.from_batches([metadata])
    rows = None if isinstance(metadata, (pa.Table, Mapping)) else list(metadata)
    if wrong := [row for row in rows or () if not isinstance(row, Mapping)]:
        raise TypeError(f"metadata must be mappings, a row each, got {type(wrong[0]).__name__}")
    if rows is not None:
        names = {name for row in rows for name in row}
    else:
        names = set(metadata.column_names if isinstance(metadata, pa.Table) else metadata)
    if unknown := sorted(names - set(schema.names)):
        raise InputError(f"metadata must have the columns {', '.join(schema.names)}, got {unknown[0]!r} too")
    if rows is not None:
        return pa.Table.from_pylist(rows, schema=schema)
    return metadata if isinstance(metadata, pa.Table) else pa.table(dict(metadata))
