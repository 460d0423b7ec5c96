"""As _shapes.py, for the metrics; and the words that choose among their conventions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks

TIES = ("expected", "index", "best", "worst")
DENOMINATORS = ("retrieved", "min", "relevant")
METRICS = (  # csrc/core/retrieval_metric.h, enum Metric
    "ndcg",
    "reciprocal_rank",
    "precision",
    "recall",
    "hit_rate",
    "r_precision",
    "average_precision_at_r",
)
AT_R = ("r_precision", "average_precision_at_r")  # the number of relevant items is their cut
GAINS = ("linear", "exponential")
MOST_EXPONENTIAL_LABELS = 960  # 2**960 times the discounts of all items is far from infinite in float64


def check_metric(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    score: str,
    n_bits: int | None,
    allowed: Tensor | None,
    prepared: Sequence[Tensor] | None,
) -> int:
    checks.check_pairs(queries, database, allowed, prepared)
    checks.check_labels(queries, database, query_labels, database_labels)
    checks.check_prepared_labels(database_labels, prepared)
    checks.check_score(score)
    if n_bits is None:
        return 8 * queries.shape[1]
    checks.check_bits(n_bits, queries.shape[1])
    return n_bits


def hamming_histogram(
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
    n_bits = check_metric(queries, database, query_labels, database_labels, score, n_bits, allowed, prepared)
    shape = (queries.shape[0], n_bits + 1)
    return queries.new_empty(shape, dtype=torch.int64), queries.new_empty(shape, dtype=torch.int64)


def check_cut(k: int | None) -> None:
    if k is not None and k < 1:
        raise ValueError(f"k must be 1 or more, or None for all, got {k}")


def average_precision(
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
    check_metric(queries, database, query_labels, database_labels, score, n_bits, allowed, prepared)
    checks.check_choice(ties, "ties", TIES)
    checks.check_choice(denominator, "denominator", DENOMINATORS)
    check_cut(k)
    return queries.new_empty((queries.shape[0],), dtype=torch.float64)


def retrieval_metric(
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
    check_metric(queries, database, query_labels, database_labels, score, n_bits, allowed, prepared)
    checks.check_choice(metric, "metric", METRICS)
    checks.check_choice(ties, "ties", TIES)
    checks.check_choice(gains, "gains", GAINS)
    check_cut(k)
    if k is not None and metric in AT_R:
        raise ValueError(f"k must be None for {metric}, whose cut is the number of relevant items, got {k}")
    if gains == "exponential" and query_labels.dim() == 2 and query_labels.shape[1] > MOST_EXPONENTIAL_LABELS:
        raise ValueError(
            f"query_labels must have at most {MOST_EXPONENTIAL_LABELS} labels (columns) with exponential gains, got "
            f"{query_labels.shape[1]}"
        )
    return queries.new_empty((queries.shape[0],), dtype=torch.float64)
