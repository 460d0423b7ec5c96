"""The CUDA implementations of the metrics; as _cuda_ops.py says, which registers them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from . import _metric_shapes as shapes
from ._arguments import place, workspace_bytes
from ._label_arguments import metric_operands
from ._metric_ops import metric_codes
from ._metric_shapes import DENOMINATORS, TIES
from ._native import native


def _hamming_histogram(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    items, relevant = shapes.hamming_histogram(
        queries, database, query_labels, database_labels, score, n_bits, allowed, check, prepared
    )
    pairs, relevance = metric_operands(
        queries, database, query_labels, database_labels, score, n_bits, allowed, check, prepared
    )
    native.cuda.hamming_histogram(
        pairs.native,
        relevance.native,
        items.shape[1] - 1,
        items.data_ptr(),
        relevant.data_ptr(),
        *place(queries),
    )
    return items, relevant


def _average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> Tensor:
    result = shapes.average_precision(
        queries,
        database,
        query_labels,
        database_labels,
        k,
        ties,
        denominator,
        score,
        n_bits,
        allowed,
        check,
        prepared,
    )
    pairs, relevance = metric_operands(
        queries, database, query_labels, database_labels, score, n_bits, allowed, check, prepared
    )
    device, stream = place(queries)
    n_db, tie_code = database.shape[0], TIES.index(ties)
    workspace = workspace_bytes(
        native.cuda.average_precision_workspace_bytes(pairs.native, tie_code, device), queries
    )
    native.cuda.average_precision(
        pairs.native, relevance.native, n_db if k is None else min(k, n_db), tie_code,
        DENOMINATORS.index(denominator), result.data_ptr(), workspace.data_ptr(), device, stream,
    )  # fmt: skip
    return result


def _retrieval_metric(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    metric: str,
    k: int | None = None,
    ties: str = "expected",
    gains: str = "linear",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> Tensor:
    result = shapes.retrieval_metric(
        queries, database, query_labels, database_labels, metric, k, ties, gains, score, n_bits, allowed, check,
        prepared,
    )  # fmt: skip
    pairs, relevance = metric_operands(
        queries, database, query_labels, database_labels, score, n_bits, allowed, check, prepared
    )
    device, stream = place(queries)
    n_labels = query_labels.shape[1] if query_labels.dim() == 2 else 1
    task = (*metric_codes(metric, k, ties, gains), n_labels)
    workspace = workspace_bytes(
        native.cuda.retrieval_metric_workspace_bytes(pairs.native, *task, device), queries
    )
    native.cuda.retrieval_metric(
        pairs.native, relevance.native, *task, result.data_ptr(), workspace.data_ptr(), device, stream
    )
    return result
