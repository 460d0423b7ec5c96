"""Rows as Arrow record batches, for the targets that are told of columns: Parquet, DuckDB and LanceDB."""

from __future__ import annotations

from typing import Any

import numpy as np

from .exported import Chunk, Exported
from .target import need

__all__ = ["fixed_bytes", "fixed_lists", "id_field", "ids_of", "label_fields", "labels_as_text", "pyarrow"]


def pyarrow() -> Any:
    return need("pyarrow", "pyarrow")


def id_field(source: Exported) -> Any:
    """The column ``id``: text, or int64."""
    pa = pyarrow()
    return pa.field("id", pa.string() if source.has_names else pa.int64(), nullable=False)


def ids_of(source: Exported, chunk: Chunk) -> Any:
    pa = pyarrow()
    return pa.array(chunk.ids, pa.string() if source.has_names else pa.int64())


def label_fields(source: Exported) -> list[Any]:
    """``label``, the name of the class, or ``labels``, the list of those of a multi-hot row; none where unlabelled."""
    pa = pyarrow()
    if source.labels is None:
        return []
    if source.labels.ndim == 1:
        return [pa.field("label", pa.string())]
    return [pa.field("labels", pa.list_(pa.string()))]


def labels_as_text(source: Exported, chunk: Chunk) -> list[Any]:
    """The columns of :func:`label_fields`."""
    texts = source.label_texts(chunk)
    return [] if texts is None else [pyarrow().array(texts, label_fields(source)[0].type)]


def fixed_bytes(codes: np.ndarray) -> Any:
    """Packed codes as a column of fixed-size binary."""
    pa = pyarrow()
    width = codes.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(codes), [None, pa.py_buffer(codes)])


def fixed_lists(codes: np.ndarray) -> Any:
    """Packed codes as a column of fixed-size lists of uint8."""
    pa = pyarrow()
    return pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1])
