"""Retrieval metrics of each query beside average precision: nDCG, reciprocal rank, precision, recall, hit rate, and
those that are cut at the number of relevant items."""

from __future__ import annotations

from . import _checks as checks
from . import _direct
from . import _metric_shapes as shapes
from ._arrays import Array, Kind, answer
from .database import HammingDatabase
from .metrics import labelled_inputs, optional_int
from .ranking import as_allowed


def retrieval_metric(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    metric: str = "ndcg",
    *,
    k: int | None = None,
    ties: str = "expected",
    gains: str = "linear",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """One retrieval metric by name, of each query, exact under ties.

    Args:
        queries, database, query_labels, database_labels, score, n_bits, allowed, check: as in `hamming_histogram`.
        metric: "ndcg", "reciprocal_rank", "precision", "recall", "hit_rate", "r_precision" or
            "average_precision_at_r"; the function of each name says what it is.
        k: cut-off rank, 1 or more; None: all. None for the two metrics at R, which have their own.
        ties: the order inside equal distances. "expected": the mean of the metric over all orders (McSherry & Najork
            2008). "index": database order. "best" / "worst": those worth most come first / last inside each tie.
        gains: for "ndcg", what an item is worth that shares s labels with the query: "linear" s, "exponential"
            2**s - 1.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> dshc_fast.retrieval_metric(codes, codes, labels, labels, "recall", k=1)
        array([0.5, 0.5, 1. ])
    """
    checks.check_choice(metric, "metric", shapes.METRICS)
    checks.check_score(score)
    checks.check_choice(ties, "ties", shapes.TIES)
    checks.check_choice(gains, "gains", shapes.GAINS)
    checks.check_flag(check, "check")
    inputs, prepared = labelled_inputs(queries, database, query_labels, database_labels)
    result = _direct.run(
        "retrieval_metric",
        *inputs,
        metric,
        optional_int(k, "k"),
        ties,
        gains,
        score,
        optional_int(n_bits, "n_bits"),
        as_allowed(allowed),
        check,
        prepared,
    )
    return answer(result, queries)


def ndcg(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    gains: str = "linear",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Normalised discounted cumulative gain nDCG@k of each query (Jarvelin & Kekalainen 2002).

    The gains of the first k items, each divided by log2(rank + 1), over the largest such sum that an order of the whole
    database can have. An item's gain is the number of labels that it shares with the query: 0 or 1 with class ids.

    Args:
        queries, database, query_labels, database_labels, k, ties, gains, score, n_bits, allowed, check: as in
            `retrieval_metric`. "exponential" gains, 2**s - 1, are those of the papers on multi-label hashing.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes = np.array([[0], [1], [3]], dtype=np.uint8)
        >>> labels = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1]])  # two, one and two labels in common with the first
        >>> dshc_fast.ndcg(codes[:1], codes, labels[:1], labels).round(6)
        array([0.965195])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "ndcg",
        k=k, ties=ties, gains=gains, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def reciprocal_rank(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """1 / rank of the first relevant item of each query, 0 where it lies beyond k. Its mean is MRR@k.

    Args:
        queries, database, query_labels, database_labels, k, ties, score, n_bits, allowed, check: as in
            `retrieval_metric`.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database, labels = np.array([[0], [1], [2]], dtype=np.uint8), np.array([0, 0, 1])
        >>> dshc_fast.reciprocal_rank(database[:1], database, np.array([1]), labels)  # second or third
        array([0.41666667])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "reciprocal_rank",
        k=k, ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def precision(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Precision@k of each query: the relevant items among the first k, over k.

    Args:
        queries, database, query_labels, database_labels, k, ties, score, n_bits, allowed, check: as in
            `retrieval_metric`. The divisor is k even where fewer items may be answered; without k it is their number.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database, labels = np.array([[0], [1], [2]], dtype=np.uint8), np.array([0, 0, 1])
        >>> dshc_fast.precision(database[:1], database, np.array([0]), labels, k=2)  # 2 or 1 of two
        array([0.75])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "precision",
        k=k, ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def recall(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Recall@k of each query: the relevant items among the first k, over all relevant ones.

    Metric-learning papers call `hit_rate` recall@k: whether any is among them.

    Args:
        queries, database, query_labels, database_labels, k, ties, score, n_bits, allowed, check: as in
            `retrieval_metric`.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database, labels = np.array([[0], [1], [2]], dtype=np.uint8), np.array([0, 0, 1])
        >>> dshc_fast.recall(database[:1], database, np.array([0]), labels, k=2)
        array([0.75])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "recall",
        k=k, ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def hit_rate(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Whether a relevant item is among the first k, of each query: 0 or 1, with expected ties the chance of it.

    Args:
        queries, database, query_labels, database_labels, k, ties, score, n_bits, allowed, check: as in
            `retrieval_metric`.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database, labels = np.array([[0], [1], [2]], dtype=np.uint8), np.array([0, 0, 1])
        >>> dshc_fast.hit_rate(database[:1], database, np.array([1]), labels, k=2)
        array([0.5])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "hit_rate",
        k=k, ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def r_precision(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Precision@R of each query, R being how many items of the database are relevant.

    Args:
        queries, database, query_labels, database_labels, ties, score, n_bits, allowed, check: as in `retrieval_metric`.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> dshc_fast.r_precision(codes, codes, labels, labels)
        array([1.  , 0.75, 1.  ])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "r_precision",
        ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip


def average_precision_at_r(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    ties: str = "expected",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """AP@R of each query, over R: R is how many items of the database are relevant. Its mean is MAP@R.

    Musgrave, Belongie & Lim, *A Metric Learning Reality Check*, ECCV 2020.

    Args:
        queries, database, query_labels, database_labels, ties, score, n_bits, allowed, check: as in `retrieval_metric`.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> dshc_fast.average_precision_at_r(codes, codes, labels, labels)
        array([1.  , 0.75, 1.  ])
    """
    return retrieval_metric(
        queries, database, query_labels, database_labels, "average_precision_at_r",
        ties=ties, score=score, n_bits=n_bits, allowed=allowed, check=check,
    )  # fmt: skip
