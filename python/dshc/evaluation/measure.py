"""Retrieval evaluation: every number with the conventions it was computed under.

"mAP" is at least twelve different numbers (cut-off, order inside ties, denominator, queries without anything
relevant). :func:`evaluate` computes the asked one, its bounds over the order of tied items, curves and code
statistics; :class:`Evaluation` prints them with their conventions and writes the JSON of docs/evaluation.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from ..errors import InputError
from ..storage.code_files import CodeFile, check_same_code
from .conventions import Conventions, Ties, metric_of
from .evaluation import Evaluation
from .statistics import (
    as_numpy,
    class_accuracy,
    code_statistics,
    mean_of_queries,
    standard_error,
    tie_group_size,
    tie_statistics,
)

__all__ = ["Encoder", "evaluate"]

Array = np.ndarray | Tensor
Accuracy = float | Mapping[str, Mapping[str, float]]


class Encoder(Protocol):
    """What :func:`evaluate` asks of a hasher; :class:`dshc.Hasher` is one."""

    n_bits: int
    score: str

    def encode_and_predict(self, items: Any) -> tuple[Array, Array | None]:
        """Packed codes, uint8 ``(n, ceil(n_bits / 8))``, and class ids ``(n,)``, multi-hot ``(n, n_labels)``, or None
        where nothing is predicted.
        """


def evaluate(
    queries: Any,
    database: Any,
    query_labels: Any = None,
    database_labels: Any = None,
    *,
    conventions: Conventions = Conventions(),  # noqa: B008  (frozen)
    hasher: Encoder | None = None,
    n_bits: int | None = None,
    accuracy: Accuracy | None = None,
    groups: Mapping[str, np.ndarray] | None = None,
) -> Evaluation:
    """Evaluate how well queries retrieve from a database, both coded or to be coded.

    What lies on a CUDA device is measured there; only the numbers leave it. Labels follow the codes.

    Args:
        queries, database: a :class:`dshc.storage.CodeFile`; packed codes uint8 ``(n, ceil(n_bits / 8))``, numpy or
            torch; or, with ``hasher``, any items that it encodes. One may be a file where the other is not.
        query_labels, database_labels: class ids ``(n,)``, or multi-hot ``(n, n_labels)`` (relevant: a shared
            label). None: those of the code file.
        conventions: which numbers are asked for.
        hasher: encodes what is no code file and predicts its classes, for the class accuracy.
        n_bits: code length; must be given with packed codes, and is known from a file or a hasher.
        accuracy: class accuracy to carry along instead: the top-1 accuracy of the queries, or ``{"queries":
            {"top_1": .98}}``; empty: none, as where the labels are not of the classes that the hasher predicts.
        groups: some of the queries, each group bool ``(n_query,)`` by its name, whose mAP is wanted too.

    Raises:
        ValueError, TypeError: an argument of another shape, dtype or range; the message names it.

    >>> import numpy as np
    >>> codes = np.array([[0], [1], [3], [7]], np.uint8)
    >>> evaluate(codes[:1], codes[1:], np.array([0]), np.array([0, 0, 1]), n_bits=3).line()
    'mAP@all 1.0000 (ties=expected, denominator=retrieved, 1 queries, 3 database)'
    """
    if not isinstance(conventions, Conventions):
        raise TypeError(f"conventions must be Conventions, got {type(conventions).__name__}")
    if isinstance(queries, CodeFile) and isinstance(database, CodeFile):
        check_same_code(queries, database)
    asked = _part("queries", queries, query_labels, hasher, n_bits)
    found = _part("database", database, database_labels, hasher, n_bits)
    if asked.n_bits != found.n_bits:
        raise InputError(
            f"queries and database must have codes of one length, got {asked.n_bits} and {found.n_bits} bits"
        )
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(f"groups must be arrays by name, such as a dict, got {type(groups).__name__}")
    if accuracy is None:
        accuracy = {
            part.name: class_accuracy(part.predicted, part.labels)
            for part in (asked, found)
            if part.predicted is not None
        }
    score = conventions.score or found.score or asked.score or "hamming"
    whole = _measure(asked, found, dataclasses.replace(conventions, score=score), _accuracy(accuracy))
    return dataclasses.replace(whole, groups=_groups(whole, groups or {}))


@dataclass(frozen=True)
class _Part:
    """Queries or database once they are codes."""

    name: str
    codes: Array
    labels: Array
    n_bits: int
    score: str | None
    predicted: Array | None


def _part(name: str, items: Any, labels: Any, hasher: Encoder | None, n_bits: int | None) -> _Part:
    label_name = "query_labels" if name == "queries" else "database_labels"
    score, predicted = None, None
    if isinstance(items, CodeFile):
        codes, own_bits, score = items.codes, items.n_bits, items.score
        if labels is None and items.n_unlabelled:
            raise InputError(
                f"{items.path or name}: must hold the class of each item to be evaluated, {items.n_unlabelled:,} of "
                f"{len(items):,} have none (-1)"
            )
        labels = items.labels if labels is None else labels
    elif hasher is not None:
        codes, predicted = hasher.encode_and_predict(items)
        own_bits, score = hasher.n_bits, hasher.score
    elif n_bits is None:
        raise InputError(f"n_bits must be given with packed {name}, got None")
    else:
        codes, own_bits = items, n_bits
    if n_bits is not None and (isinstance(n_bits, bool) or not isinstance(n_bits, (int, np.integer))):
        raise TypeError(f"n_bits must be a whole number, got {n_bits!r}")
    if n_bits is not None and own_bits != n_bits:
        raise InputError(f"n_bits must be {own_bits} for these {name}, got {n_bits}")
    if labels is None:
        what = f"{items.path or name} without labels" if isinstance(items, CodeFile) else "None"
        raise InputError(f"{label_name} must be given where no code file holds them, got {what}")
    if not isinstance(codes, np.ndarray | Tensor):
        raise TypeError(
            f"{name} must be packed codes (numpy or torch) or a CodeFile, got {type(codes).__name__}"
        )
    if not len(codes):
        raise InputError(f"{name} must hold at least one item, got none")
    if not isinstance(labels, Tensor):
        labels = np.asarray(labels)
    numbers = (
        labels.is_floating_point() or labels.is_complex()
        if isinstance(labels, Tensor)
        else (labels.dtype.kind not in "biu")
    )
    if labels.ndim == 1 and numbers:
        raise TypeError(f"{label_name} must be integers, or multi-hot 0 and 1, got {labels.dtype}")
    if isinstance(codes, Tensor) and codes.is_cuda:
        labels = torch.as_tensor(labels).to(codes.device)
    return _Part(name, codes, labels, int(own_bits), score, predicted)


def _measure(
    asked: _Part, found: _Part, conventions: Conventions, accuracy: dict[str, dict[str, float]]
) -> Evaluation:
    database = dshc_fast.HammingDatabase(found.codes, found.labels)  # for half a dozen calls
    operands = (asked.codes, database, asked.labels)
    n_bits, n_database, score = asked.n_bits, len(found.codes), str(conventions.score)
    options = {"score": score, "n_bits": n_bits}
    # On a CUDA device, too, values are looked at: once.
    histogram = dshc_fast.hamming_histogram(*operands, check=True, **options)
    items, relevant = (as_numpy(counts) for counts in histogram)

    def per_query_at(k: int | None, ties: Ties | str) -> np.ndarray:
        denominator = str(conventions.denominator)
        return as_numpy(
            dshc_fast.average_precision(*operands, k=k, ties=str(ties), denominator=denominator, **options)
        )

    def metric_at(name: str) -> float:
        metric, k = metric_of(name)
        choices = {"k": k, "ties": str(conventions.ties), "gains": str(conventions.gains)}
        values = dshc_fast.retrieval_metric(*operands, metric=metric, **choices, **options)
        return mean_of_queries(as_numpy(values), conventions.empty)

    empty, ties = conventions.empty, conventions.ties
    by_rule = {rule: per_query_at(conventions.k, rule) for rule in Ties if rule == ties or rule != Ties.index}
    at_k = {k: mean_of_queries(per_query_at(k, ties), empty) for k in conventions.ks}
    per_query = by_rule[ties]
    mean_ap = mean_of_queries(per_query, empty)  # first: it refuses empty queries where that is asked for
    curves = _curves(operands, n_database, conventions, options)
    return Evaluation(
        n_bits=n_bits,
        n_query=len(asked.codes),
        n_database=n_database,
        n_empty=int(np.isnan(per_query).sum()),
        multilabel=asked.labels.ndim == 2,
        conventions=conventions,
        mean_ap=mean_ap,
        standard_error=standard_error(per_query, empty),
        by_ties={str(rule): mean_of_queries(values, empty) for rule, values in by_rule.items()},
        at_k=at_k,
        per_query=per_query,
        curves=curves,
        pairs=items.sum(axis=0),
        relevant_pairs=relevant.sum(axis=0),
        mean_tie_group=tie_group_size(items),
        query_codes=code_statistics(asked.codes, n_bits),
        database_codes=code_statistics(found.codes, n_bits, found.labels),
        accuracy=accuracy,
        tie_statistics=tie_statistics(items, curves.ranks, score=score),
        software={"dshc_fast": dshc_fast.__version__},
        metrics={name: metric_at(name) for name in conventions.metrics},
    )


def _curves(
    operands: tuple[Any, ...], n_database: int, conventions: Conventions, options: dict[str, Any]
) -> dshc_fast.RetrievalCurves:
    """The usual ranks and the cut-offs asked for."""
    options = {**options, "empty": str(conventions.empty)}
    curves = dshc_fast.retrieval_curves(*operands, **options)
    ranks = {int(rank) for rank in curves.ranks}
    asked = {k for k in (*conventions.ks, conventions.k or 1) if k <= n_database}
    if asked - ranks:
        curves = dshc_fast.retrieval_curves(*operands, ranks=sorted(ranks | asked), **options)
    return dshc_fast.RetrievalCurves(*map(as_numpy, curves))


def _groups(evaluation: Evaluation, groups: Mapping[str, np.ndarray]) -> dict[str, tuple[int, float]]:
    """Number and mAP of the queries of each group."""
    per_query = evaluation.per_query
    assert per_query is not None
    found = {}
    for name, members in groups.items():
        members = np.asarray(members)
        if members.dtype != bool or members.shape != per_query.shape:
            raise InputError(
                f"groups[{name!r}] must be bool of shape {per_query.shape}, got {members.dtype} {members.shape}"
            )
        if not members.any():
            raise InputError(f"groups[{name!r}] must hold at least one query, got none")
        mean_ap = mean_of_queries(per_query[members], evaluation.conventions.empty)
        found[name] = (int(members.sum()), mean_ap)
    return found


def _accuracy(accuracy: Accuracy) -> dict[str, dict[str, float]]:
    if isinstance(accuracy, Mapping):
        return {part: {name: float(value) for name, value in by.items()} for part, by in accuracy.items()}
    if isinstance(accuracy, (bool, str)) or not isinstance(accuracy, (int, float, np.number)):
        raise TypeError(f"accuracy must be a number, or numbers by part and name, got {accuracy!r}")
    return {"queries": {"top_1": float(accuracy)}}
