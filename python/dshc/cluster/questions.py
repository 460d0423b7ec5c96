"""Queries of shards, checked before they are sent: a wrong one is refused here, by name."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np

from ..errors import InputError
from ..storage import CodeFile
from ..storage.code_files import kind_of
from .shard import ShardFacts

__all__ = ["query_codes", "query_labels"]


def query_codes(queries: np.ndarray | CodeFile, n_bits: int, model: str) -> np.ndarray:
    """Packed codes of queries, checked against the shards'; a code file of another model is warned of."""
    width = (n_bits + 7) // 8
    if isinstance(queries, CodeFile):
        if queries.n_bits != n_bits:
            raise InputError(
                f"{queries.path or 'queries'} must hold codes of {n_bits} bits, as the shards, got "
                f"{queries.n_bits} bits"
            )
        if queries.model and model and queries.model != model:
            warnings.warn(
                f"the codes come from different models: queries from {queries.model}, shards from {model}",
                UserWarning,
                stacklevel=4,
            )
        return queries.codes
    if not isinstance(queries, np.ndarray) or queries.dtype != np.uint8:
        raise TypeError(f"queries must be a numpy array of uint8 or a CodeFile, got {kind_of(queries)}")
    if queries.ndim != 2 or queries.shape[1] != width:
        raise InputError(
            f"queries must have shape (n, {width}) for codes of {n_bits} bits, got {queries.shape}"
        )
    if n_bits % 8 and queries.size and int(queries[:, -1].max()) >> (n_bits % 8):
        raise InputError(f"queries must have padding bits of 0 (from bit {n_bits} on), got some that are set")
    return queries


def query_labels(
    queries: np.ndarray | CodeFile,
    labels: np.ndarray | None,
    n_query: int,
    class_names: tuple[str, ...],
    shards: Iterable[ShardFacts],
) -> np.ndarray:
    """Labels of queries, int64 ``(n_query,)`` or uint8 ``(n_query, n_labels)``, of the kind that all shards have."""
    if not n_query:
        raise InputError("queries must hold at least one item, got none")
    if labels is None and isinstance(queries, CodeFile):
        labels = queries.labels
        names = queries.class_names
        if names and class_names and names != class_names:
            raise InputError(
                f"{queries.path or 'queries'} and the shards: their labels name different classes"
            )
    if labels is None:
        raise InputError("labels of the queries must be given where no code file holds them, got None")
    labels = np.asarray(labels)
    kind = "ids" if labels.ndim == 1 else "multi-hot"
    if labels.ndim not in (1, 2) or len(labels) != n_query or labels.dtype.kind not in "biu":
        raise InputError(
            f"labels must be integers of shape ({n_query},), or multi-hot ({n_query}, n_labels), got "
            f"{labels.dtype} {labels.shape}"
        )
    if labels.ndim == 1 and (n_unknown := int((labels < 0).sum())):
        raise InputError(f"queries must have a class each, {n_unknown:,} of {n_query:,} have none (-1)")
    for facts in shards:
        if facts.labels != kind:
            raise InputError(f"{facts.path}: must hold labels ({kind}, as the queries), got {facts.labels}")
    return labels.astype(np.int64 if kind == "ids" else np.uint8)
