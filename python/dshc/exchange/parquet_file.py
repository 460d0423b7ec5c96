"""Parquet: columns ``id`` (int64 or text), ``code`` (fixed-size binary, our bytes as they are) and ``label`` or
``labels``.

``label`` is the class id, ``labels`` the list of those a multi-hot row has. The file's metadata has, under
``dshc``, a JSON object of code length, score, model and names of classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..storage import written_whole
from .arrow import fixed_bytes, id_field, ids_of, pyarrow
from .beside import Beside, beside_of, describe
from .exported import Chunk
from .source import Found
from .target import Job, check_new_file, need, starts_with

__all__ = ["read", "write"]

_MAGIC = b"PAR1"
_METADATA = b"dshc"


def write(job: Job) -> str:
    """Write ``out`` chunk by chunk."""
    source = job.source
    path = check_new_file(job, "a Parquet file", lambda path: starts_with(path, _MAGIC))
    pa = pyarrow()
    parquet = need("pyarrow.parquet", "pyarrow")
    n_labels = None if source.labels is None or source.labels.ndim == 1 else source.labels.shape[1]
    metadata = {_METADATA: json.dumps({**describe(source), "n_labels": n_labels}, ensure_ascii=False)}
    fields = [id_field(source), pa.field("code", pa.binary(source.codes.shape[1]), nullable=False)]
    if source.labels is not None:
        fields.append(
            pa.field("label", pa.int64()) if n_labels is None else pa.field("labels", pa.list_(pa.int64()))
        )
    schema = pa.schema(fields, metadata=metadata)
    with written_whole(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for chunk in source.chunks():
            columns = [ids_of(source, chunk), fixed_bytes(chunk.codes), *_labels(chunk, fields)]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            job.done(chunk.stop)
    codes = f'pyarrow.parquet.read_table({str(path)!r})["code"].combine_chunks().buffers()[1]'
    return f"np.frombuffer({codes}, np.uint8).reshape(-1, {source.codes.shape[1]})"


def _labels(chunk: Chunk, fields: list[Any]) -> list[Any]:
    if chunk.labels is None:
        return []
    rows = chunk.labels if chunk.labels.ndim == 1 else [np.flatnonzero(row) for row in chunk.labels]
    return [pyarrow().array(rows, fields[-1].type)]


def read(path: Path) -> Found:
    """The column ``code`` (binary, or lists of uint8, of one length), with ``id`` and labels where they are."""
    pa = pyarrow()
    parquet = need("pyarrow.parquet", "pyarrow")
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: must be a Parquet file, got another or a damaged one ({error})") from None
    if "code" not in table.column_names:
        raise InputError(f"{path}: must have a column 'code', got {', '.join(table.column_names) or 'none'}")
    codes = _codes(table["code"], path)
    ids = None
    if "id" in table.column_names:
        if table["id"].null_count:
            raise InputError(f"{path}: column 'id' must have a value in each row, got null")
        kind = table["id"].type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind  # categories of pandas
        texts = (
            pa.types.is_string,
            pa.types.is_large_string,
            getattr(pa.types, "is_string_view", lambda _: False),
        )
        if not (pa.types.is_integer(plain) or any(is_text(plain) for is_text in texts)):
            raise InputError(f"{path}: column 'id' must be integers or strings, got {kind}")
        ids = tuple(map(str, table["id"].to_pylist()))
    told, has_ids = _told(table, path)
    return Found(codes, ids if has_ids else None, told)


def _codes(column: Any, path: Path) -> np.ndarray:
    pa = pyarrow()
    kind = column.type
    if column.null_count:
        raise InputError(f"{path}: column 'code' must have a value in each row, got null")
    if pa.types.is_fixed_size_binary(kind):
        whole = column.combine_chunks()
        used = slice(whole.offset * kind.byte_width, (whole.offset + len(whole)) * kind.byte_width)
        return np.frombuffer(whole.buffers()[1], np.uint8)[used].reshape(len(whole), kind.byte_width)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        rows = column.to_pylist()
    elif (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)) and pa.types.is_uint8(kind.value_type):
        if any(chunk.flatten().null_count for chunk in column.chunks):
            raise InputError(f"{path}: column 'code' must have a value in each byte, got null")
        rows = list(map(bytes, column.to_pylist()))
    else:
        raise InputError(f"{path}: column 'code' must be binary or lists of uint8, got {kind}")
    lengths = set(map(len, rows))
    if len(lengths) > 1:
        raise InputError(f"{path}: codes must be of one length, got {min(lengths)} and {max(lengths)} bytes")
    width = lengths.pop() if lengths else 1
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), width)


def _told(table: Any, path: Path) -> tuple[Beside | None, bool]:
    """What the metadata tell, and whether the column ``id`` is more than row numbers."""
    metadata = table.schema.metadata or {}
    if _METADATA not in metadata:
        return None, True
    try:
        told = json.loads(metadata[_METADATA])
        n_labels, has_ids = told["n_labels"], bool(told["has_ids"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: damaged, its metadata 'dshc' must be the JSON object of an export"
        ) from None
    name = "label" if n_labels is None else "labels"
    rows = table[name].to_pylist() if name in table.column_names else None
    return beside_of({**told, "labels": rows}, str(path)), has_ids
