"""The CPU implementations of the metrics; as _ops.py says, which registers them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _metric_shapes as shapes
from ._label_arguments import metric_operands
from ._metric_shapes import DENOMINATORS, GAINS, METRICS, TIES
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
    native.hamming_histogram(
        pairs.native,
        relevance.native,
        items.shape[1] - 1,
        items.data_ptr(),
        relevant.data_ptr(),
        torch.get_num_threads(),
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
    n_db = database.shape[0]
    native.average_precision(
        pairs.native,
        relevance.native,
        n_db if k is None else min(k, n_db),
        TIES.index(ties),
        DENOMINATORS.index(denominator),
        result.data_ptr(),
        torch.get_num_threads(),
    )
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
    native.retrieval_metric(
        pairs.native,
        relevance.native,
        *metric_codes(metric, k, ties, gains),
        result.data_ptr(),
        torch.get_num_threads(),
    )
    return result


def metric_codes(metric: str, k: int | None, ties: str, gains: str) -> tuple[int, int, int, int]:
    """What csrc/core/retrieval_metric.h calls a MetricTask."""
    return (
        METRICS.index(metric),
        0 if k is None else k,
        TIES.index(ties),
        GAINS.index(gains),
    )
