"""Reading evaluation.json: what the schema of docs/evaluation.md demands, checked field by field."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dshc_fast import RetrievalCurves

from ..errors import InputError
from .conventions import Conventions, Ties
from .evaluation import SCHEMA, Evaluation
from .statistics import CodeStatistics, TieStatistics

__all__ = ["read"]

_BY_BIT = (
    "bit_mean",
    "bit_partner",
    "bit_partner_correlation",
    "bit_n_classes",
    "bit_classes",
    "bit_class_share",
)

Number = float | None  # null is what is undefined
Share = Annotated[float, Field(ge=0, le=1)] | None
Correlation = Annotated[float, Field(ge=-1, le=1)] | None
_MOST = 2**63 - 1  # they go into arrays of int64
Count = Annotated[int, Field(ge=0, le=_MOST)]
Some = Annotated[int, Field(ge=1, le=_MOST)]
OrNone = Annotated[int, Field(ge=-1, le=_MOST)]  # an index, -1 of none


class _Object(BaseModel):
    # Fields may be added under the same schema name.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


class _Conventions(_Object):
    k: int | None
    ties: str
    denominator: str
    score: str
    empty: str
    gains: str = "linear"  # not in files of earlier versions


class _Counts(_Object):
    n_bits: Some
    n_query: Some
    n_database: Some
    n_empty_queries: Count
    multilabel: bool


class _AtK(_Object):
    k: Some
    value: Share


class _MeanAP(_Object):
    value: Share
    standard_error: Number
    by_ties: dict[Ties, Share]
    at_k: list[_AtK]


class _Curves(_Object):
    radius: list[Number]
    precision: list[Share]
    recall: list[Share]
    precision_micro: list[Share]
    recall_micro: list[Share]
    empty_balls: list[Share]
    ranks: list[Number]
    precision_at_rank: list[Share]
    recall_at_rank: list[Share]


class _Distances(_Object):
    pairs: list[Count]
    relevant_pairs: list[Count]


class _Codes(_Object):
    n_codes: Some
    n_distinct: Some
    n_bits: Some
    constant_bits: Count
    bit_mean: list[Share]
    bit_entropy: Number
    bit_correlation: Number
    correlation_rows: Some
    # Not in files of earlier versions.
    n_most_frequent: Some | None = None
    bit_partner: list[OrNone] | None = None
    bit_partner_correlation: list[Correlation] | None = None
    bit_n_classes: list[Count] | None = None
    bit_classes: list[list[OrNone]] | None = None
    bit_class_share: list[list[Share]] | None = None


class _TieAtRank(_Object):
    rank: Some
    split_share: Share
    tied_items: Number


class _Ties(_Object):
    items_per_distance: Number
    at_rank: list[_TieAtRank]


class _BothCodes(_Object):
    queries: _Codes
    database: _Codes


class _Group(_Object):
    name: str
    n_query: Some
    mean_average_precision: Share


class _Metric(_Object):
    name: str
    value: Share


class _Document(_Object):
    software: dict[str, str]
    conventions: _Conventions
    counts: _Counts
    mean_average_precision: _MeanAP
    curves: _Curves
    distances: _Distances
    mean_tie_group: Number
    codes: _BothCodes
    class_accuracy: dict[str, dict[str, Number]]
    average_precision: list[Share] | None = None
    ties: _Ties | None = None  # not in files of earlier versions
    query_groups: list[_Group] = []
    retrieval_metrics: list[_Metric] = []


def read(text: bytes, name: str) -> Evaluation:
    """The evaluation that the bytes of a JSON file hold; ``name`` is what an error calls the file.

    Raises:
        ValueError: not an evaluation of this schema, or a damaged one.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:  # of bytes that are no UTF-8, too
        raise InputError(f"{name} must be an evaluation in JSON: {error}") from None
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{name} must be an evaluation of schema {SCHEMA!r}, got {schema!r}")
    try:
        document = _Document.model_validate_json(text)
        _check_sizes(document)
        return _evaluation(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{name} is damaged: {where}: {first['msg']}") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} is damaged: {error}") from None


def _check_sizes(document: _Document) -> None:
    """Refuse parts that do not belong together."""
    counts, curves, codes = document.counts, document.curves, document.codes
    levels, ranks = counts.n_bits + 1, len(curves.ranks)
    sizes = [("distances.pairs", len(document.distances.pairs), levels)]
    sizes += [("distances.relevant_pairs", len(document.distances.relevant_pairs), levels)]
    sizes += [
        (f"curves.{field}", len(values), ranks if "rank" in field else levels) for field, values in curves
    ]
    for part, statistics, n_codes in (
        ("queries", codes.queries, counts.n_query),
        ("database", codes.database, counts.n_database),
    ):
        sizes.append((f"codes.{part}.n_bits", statistics.n_bits, counts.n_bits))
        sizes.append((f"codes.{part}.n_codes", statistics.n_codes, n_codes))
        sizes += [
            (f"codes.{part}.{field}", len(values), counts.n_bits)
            for field, values in statistics
            if field in _BY_BIT and values is not None
        ]
        sizes += _class_sizes(f"codes.{part}", statistics)
    for rule in (Ties.expected, Ties.best, Ties.worst):
        if rule not in document.mean_average_precision.by_ties:
            raise ValueError(
                f"mean_average_precision.by_ties must hold expected, best and worst, lacks {rule}"
            )
    if document.ties is not None and [at.rank for at in document.ties.at_rank] != curves.ranks:
        raise ValueError("ties must hold every rank of curves.ranks, and no other")
    pairs = counts.n_query * counts.n_database
    sizes.append(("the sum of distances.pairs", sum(document.distances.pairs), pairs))
    if document.average_precision is not None:
        empty = document.average_precision.count(None)
        sizes.append(("average_precision", len(document.average_precision), counts.n_query))
        sizes.append(("null in average_precision", empty, counts.n_empty_queries))
    for group in document.query_groups:
        if group.n_query > counts.n_query:
            raise ValueError(
                f"query_groups must count at most {counts.n_query} queries, got {group.n_query} in {group.name!r}"
            )
    for what, size, right in sizes:
        if size != right:
            raise ValueError(f"{what} must count {right}, got {size}")


def _class_sizes(part: str, codes: _Codes) -> list[tuple[str, int, int]]:
    """Sizes of the rows of classes: one width, classes and shares alike."""
    known = [codes.bit_n_classes, codes.bit_classes, codes.bit_class_share]
    if None in known:
        if any(values is not None for values in known):
            raise ValueError(
                f"{part} must hold all of bit_n_classes, bit_classes and bit_class_share, or none"
            )
        return []
    width = len(codes.bit_classes[0]) if codes.bit_classes else 0
    rows = (("bit_classes", codes.bit_classes), ("bit_class_share", codes.bit_class_share))
    return [(f"{part}.{field}[]", len(row), width) for field, values in rows for row in values]


def _evaluation(document: _Document) -> Evaluation:
    counts, mean = document.counts, document.mean_average_precision
    at_k = {cut.k: _number(cut.value) for cut in mean.at_k}
    metrics = {metric.name: _number(metric.value) for metric in document.retrieval_metrics}
    per_query = document.average_precision
    return Evaluation(
        n_bits=counts.n_bits,
        n_query=counts.n_query,
        n_database=counts.n_database,
        n_empty=counts.n_empty_queries,
        multilabel=counts.multilabel,
        conventions=Conventions(**document.conventions.model_dump(), ks=tuple(at_k), metrics=tuple(metrics)),
        mean_ap=_number(mean.value),
        standard_error=_number(mean.standard_error),
        by_ties={str(rule): _number(value) for rule, value in mean.by_ties.items()},
        at_k=at_k,
        per_query=None if per_query is None else _array(per_query),
        curves=RetrievalCurves(**{field: _array(values) for field, values in document.curves}),
        pairs=np.array(document.distances.pairs, np.int64),
        relevant_pairs=np.array(document.distances.relevant_pairs, np.int64),
        mean_tie_group=_number(document.mean_tie_group),
        query_codes=_statistics(document.codes.queries),
        database_codes=_statistics(document.codes.database),
        accuracy={
            part: {measure: _number(value) for measure, value in by.items()}
            for part, by in document.class_accuracy.items()
        },
        software=document.software,
        tie_statistics=None if document.ties is None else _ties(document.ties),
        groups={g.name: (g.n_query, _number(g.mean_average_precision)) for g in document.query_groups},
        metrics=metrics,
    )


def _statistics(codes: _Codes) -> CodeStatistics:
    fields: dict[str, Any] = codes.model_dump()
    for name in ("bit_entropy", "bit_correlation"):
        fields[name] = _number(fields[name])
    for name in ("bit_mean", "bit_partner_correlation"):
        fields[name] = None if fields[name] is None else _array(fields[name])
    for name in ("bit_partner", "bit_n_classes", "bit_classes"):
        fields[name] = None if fields[name] is None else np.array(fields[name], np.int64)
    shares = codes.bit_class_share
    fields["bit_class_share"] = None if shares is None else np.array([_array(row) for row in shares])
    return CodeStatistics(**fields)


def _ties(ties: _Ties) -> TieStatistics:
    return TieStatistics(
        items_per_distance=_number(ties.items_per_distance),
        ranks=np.array([at.rank for at in ties.at_rank], np.int64),
        split_share=_array([at.split_share for at in ties.at_rank]),
        tied_items=_array([at.tied_items for at in ties.at_rank]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _array(values: list[float | None]) -> np.ndarray:
    return np.array([_number(value) for value in values], np.float64)
