"""Retrieval evaluation: every number with the conventions it was computed under.

"mAP" is at least twelve different numbers (cut-off, order inside ties, denominator, queries without anything
relevant). :func:`evaluate` computes the asked one, its bounds over the order of tied items, curves and code
statistics, from packed codes; :class:`Evaluation` prints them with their conventions and writes the JSON of
docs/evaluation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

import dshc_fast

from .choices import Denominator, Empty, Score, Ties
from .result import SCHEMA, Evaluation
from .statistics import class_accuracy, code_statistics, tie_group_size

__all__ = ["SCHEMA", "Evaluation", "check_cut", "class_accuracy", "evaluate"]

_MAX_CUT = 2**63 - 1

Accuracy = float | Mapping[str, Mapping[str, float]]


def evaluate(
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_labels: np.ndarray,
    database_labels: np.ndarray,
    *,
    n_bits: int,
    k: int | None = None,
    ks: Sequence[int] = (),
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    empty: str = "zero",
    accuracy: Accuracy | None = None,
) -> Evaluation:
    """Evaluate packed query codes against packed database codes.

    Args:
        query_codes, database_codes: uint8 ``(n, ceil(n_bits / 8))``.
        query_labels, database_labels: class ids ``(n,)``, or multi-hot ``(n, n_labels)`` (relevant: a shared
            label).
        n_bits: code length.
        k: cut-off of the headline mAP; None: the whole database.
        ks: further cut-offs to report mAP at.
        ties: order inside ties, ``"expected"`` | ``"index"`` | ``"best"`` | ``"worst"``.
        denominator: of AP@k, ``"retrieved"`` | ``"min"`` | ``"relevant"``.
        score: ``"hamming"``, or ``"overlap"`` for multi-label codes.
        empty: queries with nothing relevant in the database count as 0 (``"zero"``), are left out
            (``"skip"``), or raise.
        accuracy: class accuracy to carry along: the top-1 accuracy of the queries, or ``{"queries": {"top_1":
            .98}}``.

    Raises:
        ValueError, TypeError: an argument of another shape, dtype or range; the message names it.

    >>> import numpy as np
    >>> codes = np.array([[0], [1], [3], [7]], np.uint8)
    >>> evaluate(codes[:1], codes[1:], np.array([0]), np.array([0, 0, 1]), n_bits=3).line()
    'mAP@all 1.0000 (ties=expected, denominator=retrieved, 1 queries, 3 database)'
    """
    _check_choice("ties", ties, Ties)
    _check_choice("denominator", denominator, Denominator)
    _check_choice("score", score, Score)
    _check_choice("empty", empty, Empty)
    for cut in (*(() if k is None else (k,)), *ks):
        check_cut("k", cut)
    if not len(query_codes):
        raise ValueError("query_codes holds no query; an evaluation needs at least one")

    database = dshc_fast.HammingDatabase(database_codes, database_labels)  # for half a dozen calls
    operands = (query_codes, database, query_labels)
    options = {"score": score, "n_bits": n_bits}
    histogram = dshc_fast.hamming_histogram(*operands, **options)

    def mean_at(cut: int | None, rule: str) -> tuple[float, np.ndarray]:
        per_query = dshc_fast.average_precision(
            *operands, k=cut, ties=rule, denominator=denominator, **options
        )
        return _mean(per_query, empty), per_query

    by_rule = {rule: mean_at(k, rule) for rule in map(str, Ties) if rule == ties or rule != "index"}
    mean_ap, per_query = by_rule[ties]
    n_database = len(database_codes)
    curves = dshc_fast.retrieval_curves(*operands, empty=empty, **options)
    ranks = {int(rank) for rank in curves.ranks}
    if cuts := {int(cut) for cut in (*ks, k or 1) if cut <= n_database} - ranks:  # the usual ranks and these
        curves = dshc_fast.retrieval_curves(*operands, ranks=sorted(ranks | cuts), empty=empty, **options)
    kept = np.nan_to_num(per_query) if empty == "zero" else per_query[~np.isnan(per_query)]
    return Evaluation(
        n_bits=int(n_bits),
        n_query=len(query_codes),
        n_database=n_database,
        multilabel=np.ndim(query_labels) == 2,
        k=None if k is None else int(k),
        ties=ties,
        denominator=denominator,
        score=score,
        empty=empty,
        mean_ap=mean_ap,
        standard_error=float(kept.std(ddof=1) / math.sqrt(len(kept))) if len(kept) > 1 else math.nan,
        by_ties={rule: value for rule, (value, _) in by_rule.items()},
        at_k={int(cut): mean_at(int(cut), ties)[0] for cut in ks},
        per_query=per_query,
        curves=curves,
        pairs=histogram.items.sum(axis=0),
        relevant_pairs=histogram.relevant.sum(axis=0),
        mean_tie_group=tie_group_size(histogram.items),
        query_codes=code_statistics(query_codes, n_bits),
        database_codes=code_statistics(database_codes, n_bits),
        accuracy=_accuracy(accuracy),
    )


def check_cut(name: str, cut: int) -> None:
    """Refuse what is no cut-off of a ranking; ``name`` is what the message calls it."""
    if isinstance(cut, bool) or not isinstance(cut, (int, np.integer)):
        raise TypeError(f"{name} must be an int of at least 1, got {type(cut).__name__}")
    if cut < 1:
        raise ValueError(f"{name} must be at least 1, got {cut}")
    if cut > _MAX_CUT:
        raise ValueError(f"{name} must be at most {_MAX_CUT}, got {cut}")


def _mean(per_query: np.ndarray, empty: str) -> float:
    """Mean AP under one rule for queries with nothing relevant (NaN)."""
    missing = np.isnan(per_query)
    if empty == "error" and missing.any():
        raise ValueError(
            f'{int(missing.sum())} of {len(per_query)} queries have nothing relevant (empty="error")'
        )
    if empty == "zero":
        return float(np.nan_to_num(per_query).mean())
    return float(per_query[~missing].mean()) if not missing.all() else math.nan


def _accuracy(accuracy: Accuracy | None) -> dict[str, dict[str, float]]:
    if accuracy is None:
        return {}
    if isinstance(accuracy, Mapping):
        return {part: {name: float(value) for name, value in by.items()} for part, by in accuracy.items()}
    return {"queries": {"top_1": float(accuracy)}}


def _check_choice(name: str, value: str, choices: type[StrEnum]) -> None:
    allowed = [str(choice) for choice in choices]
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
