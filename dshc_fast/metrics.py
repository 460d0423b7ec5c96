"""Retrieval metrics from histograms of distances: no sort, no matrix, ties defined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from . import _checks as checks
from . import _direct
from . import _metric_shapes as shapes
from ._arrays import Array, Kind, answer, as_tensor
from ._composite_ops import EMPTY
from .database import HammingDatabase, as_labelled_database
from .ranking import as_allowed

_op = torch.ops.dshc_fast


class HammingHistogram(NamedTuple, Generic[Kind]):
    """`items` and `relevant`, int64 (n_query, n_bits + 1): column j counts the database items at value j."""

    items: Kind
    relevant: Kind


class RetrievalCurves(NamedTuple, Generic[Kind]):
    """Curves of `retrieval_curves`, all float64.

    Along `radius` (best to worst): `precision` and `recall` are means over queries (macro), `precision_micro`
    and `recall_micro` pool all pairs, `empty_balls` is the share of queries with nothing inside. Along
    `ranks`: `precision_at_rank` and `recall_at_rank`, expected over the order inside ties.
    """

    radius: Kind
    precision: Kind
    recall: Kind
    precision_micro: Kind
    recall_micro: Kind
    empty_balls: Kind
    ranks: Kind
    precision_at_rank: Kind
    recall_at_rank: Kind


def labelled_inputs(
    queries: Array, database: Array | HammingDatabase, query_labels: Array, database_labels: Array | None
) -> tuple[tuple[Tensor, ...], Sequence[Tensor] | None]:
    """The four tensors of every metric, and what a prepared database keeps beside them."""
    queries = as_tensor(queries, "queries")
    codes, labels, prepared = as_labelled_database(database, database_labels)
    return (queries, codes, as_tensor(query_labels, "query_labels"), labels), prepared


def optional_int(value: object, name: str) -> int | None:
    return None if value is None else checks.as_int(value, name)


def hamming_histogram(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> HammingHistogram[Kind]:
    """How many items, and how many relevant items, each query has at each distance.

    Args:
        queries: uint8 (n_query, bytes). database: uint8 (n_db, bytes), at least one row; or a
            `HammingDatabase`.
        query_labels, database_labels: class ids (n,), any integers, relevant where equal; or multi-hot rows
            (n, n_labels) of 0 and 1, relevant where a label is shared. `database_labels` is left out where
            `database` is a `HammingDatabase` that has labels.
        score: "hamming" or "overlap" (then column j counts the items with overlap j).
        n_bits: code length, fixes the width; None: 8 * bytes. Set padding bits raise (value check).
        allowed: which items count, as in `hamming_topk`.
        check: whether values are checked; None: on the CPU yes, on CUDA no.

    Returns:
        Named tuple (`items`, `relevant`), int64 (n_query, n_bits + 1).

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> dshc_fast.hamming_histogram(codes[:1], codes, labels[:1], labels, n_bits=2)
        HammingHistogram(items=array([[1, 1, 1]]), relevant=array([[1, 1, 0]]))
    """
    checks.check_score(score)
    checks.check_flag(check, "check")
    inputs, prepared = labelled_inputs(queries, database, query_labels, database_labels)
    counts = _direct.run(
        "hamming_histogram",
        *inputs,
        score,
        optional_int(n_bits, "n_bits"),
        as_allowed(allowed),
        check,
        prepared,
    )
    return HammingHistogram(*(answer(tensor, queries) for tensor in counts))


def average_precision(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    allowed: Array | None = None,
    check: bool | None = None,
) -> Kind:
    """Average precision AP@k of each query, exact under ties.

    Args:
        queries, database, query_labels, database_labels, score, n_bits, allowed, check: as in
            `hamming_histogram`.
        k: cut-off rank, 1 or more (beyond n_db: all); None: all.
        ties: the order inside equal distances. "expected": the mean over all orders (McSherry & Najork 2008;
            He et al., CVPR 2018). "index": database order. "best" / "worst": relevant items first / last
            inside each tie.
        denominator: the sum of precisions at relevant items is divided by "retrieved": the relevant items
            among the first k (the deep-hashing papers'); "min": min(k, all relevant); "relevant": all
            relevant.

    Returns:
        float64 (n_query,). NaN where nothing in the database is relevant; 0 where nothing relevant is inside the cut.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> database = np.array([[0], [1], [2], [3], [5], [6]], dtype=np.uint8)  # distances 0 1 1 2 2 2
        >>> relevant = np.array([1, 0, 1, 1, 0, 0])
        >>> ap = dshc_fast.average_precision(database[:1], database, np.array([1]), relevant)
        >>> float(ap[0].round(6))
        0.816667
    """
    checks.check_score(score)
    checks.check_choice(ties, "ties", shapes.TIES)
    checks.check_choice(denominator, "denominator", shapes.DENOMINATORS)
    checks.check_flag(check, "check")
    inputs, prepared = labelled_inputs(queries, database, query_labels, database_labels)
    result = _direct.run(
        "average_precision",
        *inputs,
        optional_int(k, "k"),
        ties,
        denominator,
        score,
        optional_int(n_bits, "n_bits"),
        as_allowed(allowed),
        check,
        prepared,
    )
    return answer(result, queries)


@overload
def mean_average_precision(
    queries: np.ndarray,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Array | None = None,
    check: bool | None = None,
) -> float: ...


@overload
def mean_average_precision(
    queries: Tensor,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Array | None = None,
    check: bool | None = None,
) -> Tensor: ...


def mean_average_precision(
    queries: Array,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Array | None = None,
    check: bool | None = None,
) -> float | Tensor:
    """Mean of `average_precision` over the queries: mAP@k.

    Args:
        empty: how a query counts that has nothing relevant in the database: as 0 ("zero"), not at all
            ("skip"), or as an error ("error").
        k, ties, denominator, score, n_bits, allowed, check: as in `average_precision`.

    Returns:
        A Python float for numpy, a 0-d float64 tensor for torch; NaN where no query is left.

    Raises:
        TypeError, ValueError: naming the argument that does not fit; ValueError too for a query with nothing
            relevant where `empty` is "error".

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> round(dshc_fast.mean_average_precision(codes, codes, labels, labels), 12)
        0.972222222222
    """
    checks.check_choice(empty, "empty", EMPTY)
    checks.check_score(score)
    checks.check_choice(ties, "ties", shapes.TIES)
    checks.check_choice(denominator, "denominator", shapes.DENOMINATORS)
    checks.check_flag(check, "check")
    inputs, prepared = labelled_inputs(queries, database, query_labels, database_labels)
    mean = _op.mean_average_precision(
        *inputs,
        optional_int(k, "k"),
        ties,
        denominator,
        score,
        optional_int(n_bits, "n_bits"),
        empty,
        as_allowed(allowed),
        check,
        prepared,
    )
    return mean.item() if isinstance(queries, np.ndarray) else mean


def _as_ranks(ranks: object) -> list[int] | None:
    if ranks is None:
        return None
    if isinstance(ranks, (np.ndarray, Tensor)):
        tensor = as_tensor(ranks, "ranks")
        if tensor.is_meta:
            raise ValueError("ranks must be on cpu or cuda, got meta")
        ranks = tensor.tolist()
    if not isinstance(ranks, Sequence) or isinstance(ranks, (str, bytes)):
        raise TypeError(f"ranks must be a sequence of integers or None, got {type(ranks).__name__}")
    return [checks.as_int(rank, "ranks") for rank in ranks]


def retrieval_curves(
    queries: Kind,
    database: Array | HammingDatabase,
    query_labels: Array,
    database_labels: Array | None = None,
    *,
    ranks: Sequence[int] | None = None,
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Array | None = None,
    check: bool | None = None,
) -> RetrievalCurves[Kind]:
    """Precision and recall at every radius and at given ranks; the precision-recall curve, macro and micro.

    Args:
        ranks: ranks for precision and recall at k, 1 to n_db; None: those of 1, 5, 10, 50, 100, 500, 1000,
            5000 that exist.
        empty: as in `mean_average_precision`; "skip" leaves the query out of every curve, "zero" gives it
            recall 0.
        score, n_bits, allowed, check: as in `hamming_histogram`.

    Returns:
        `RetrievalCurves`, float64. `radius` runs from best to worst: 0..n_bits, with "overlap" n_bits..0. An
        empty ball has precision 0 and counts in `empty_balls`; NaN where no query is left.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import numpy as np, dshc_fast
        >>> codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
        >>> curves = dshc_fast.retrieval_curves(codes, codes, labels, labels, n_bits=2)
        >>> curves.precision.round(3), curves.recall.round(3)
        (array([1.   , 0.722, 0.556]), array([0.667, 1.   , 1.   ]))
    """
    checks.check_choice(empty, "empty", EMPTY)
    checks.check_score(score)
    checks.check_flag(check, "check")
    inputs, prepared = labelled_inputs(queries, database, query_labels, database_labels)
    curves = _op.retrieval_curves(
        *inputs,
        _as_ranks(ranks),
        score,
        optional_int(n_bits, "n_bits"),
        empty,
        as_allowed(allowed),
        check,
        prepared,
    )
    return RetrievalCurves(*(answer(tensor, queries) for tensor in curves))
