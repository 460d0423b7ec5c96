"""mAP of real-valued outputs, before they become codes: what binarisation costs is the difference to the codes'.

Average precision is what ``dshc_fast.average_precision`` computes for codes, under the same conventions; for outputs
of -1 and +1 ranked by inner product the numbers are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, one_of
from .conventions import Conventions, check_cut, name_of
from .ranked_precision import average_precision
from .statistics import as_numpy, mean_of_queries, standard_error

__all__ = ["Measure", "OutputsEvaluation", "evaluate_outputs"]

Measure = Literal["cosine", "inner", "l2"]
_LARGEST = 1e150  # whose square float64 still holds
_PAIRS = 2**21  # pairs at a time by default: about 400 MB


@dataclass(frozen=True, eq=False)
class OutputsEvaluation:
    """mAP of real-valued outputs with what it was computed under.

    Attributes:
        measure: what the database was ranked by.
        conventions: what was asked for; ``score`` is None.
        n_outputs, n_query, n_database: sizes; ``n_empty``: queries with nothing relevant in the database.
        mean_ap: mAP under the conventions; ``standard_error`` of it; ``at_k``: mAP at each further cut-off.
        per_query: AP of each query, float64 ``(n_query,)``, NaN where nothing in the database is relevant.
    """

    measure: str
    conventions: Conventions
    n_outputs: int
    n_query: int
    n_database: int
    n_empty: int
    mean_ap: float
    standard_error: float
    at_k: dict[int, float]
    per_query: np.ndarray

    def line(self) -> str:
        """Name and value of mAP, and in parentheses all that it depends on."""
        asked = self.conventions
        value = "undefined" if math.isnan(self.mean_ap) else f"{self.mean_ap:.4f}"
        parts = [f"measure={self.measure}", str(replace(asked, ks=())).partition(", ")[2]]
        parts += [f"{self.n_query} queries", f"{self.n_database} database", f"{self.n_outputs} real outputs"]
        if self.n_empty:
            parts.append(f"{self.n_empty} queries with nothing relevant")
        return f"{name_of(asked.k)} {value} ({', '.join(parts)})"


def evaluate_outputs(
    query_outputs: np.ndarray | Tensor,
    database_outputs: np.ndarray | Tensor,
    query_labels: np.ndarray | Tensor,
    database_labels: np.ndarray | Tensor,
    *,
    measure: Measure = "cosine",
    conventions: Conventions = Conventions(),  # noqa: B008  (frozen)
    chunk: int | None = None,
) -> OutputsEvaluation:
    """Average precision of queries whose database is ranked by real-valued outputs.

    Similarities are computed in float64, some queries at a time. Database items of equal outputs tie exactly, and so do
    all that are equally similar in whole numbers below 2^53, such as -1 and +1 ("cosine": of equal length). Of others
    that are equally similar on paper, rounding decides.

    Args:
        query_outputs, database_outputs: floating ``(n, n_outputs)``, numpy or torch, on one device; no NaN, nothing
            infinite.
        query_labels, database_labels: class ids, integer ``(n,)``, relevant where equal; or multi-hot 0 and 1
            ``(n, n_labels)``, relevant where a label is shared.
        measure: ``"cosine"`` (0 for outputs of length 0) and ``"inner"`` product, descending; ``"l2"`` distance,
            ascending.
        conventions: cut-offs, ties, denominator and empty queries; ``score`` must be None, ``metrics`` empty.
        chunk: queries at a time; None: as many as keep the working memory at some 400 MB, at least one.

    Raises:
        ValueError, TypeError: an argument of another shape, dtype or range; the message names it.

    >>> import numpy as np
    >>> database = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    >>> evaluation = evaluate_outputs(database[:1], database, np.array([7]), np.array([7, 8, 7]), measure="l2")
    >>> evaluation.mean_ap
    1.0
    """
    if measure not in get_args(Measure):
        raise one_of("measure", measure, get_args(Measure))
    if conventions.score is not None:
        raise InputError(
            f"score must be None for real-valued outputs, got {conventions.score!s}; measure ranks them"
        )
    if conventions.metrics:
        asked_for = ", ".join(conventions.metrics)
        raise InputError(
            f"metrics must be empty for real-valued outputs, which have mAP alone, got {asked_for}"
        )
    if chunk is not None:
        chunk = check_cut("chunk", chunk)
    queries = _outputs("query_outputs", query_outputs)
    database = _outputs("database_outputs", database_outputs)
    if queries.device != database.device or queries.shape[1] != database.shape[1]:
        raise InputError(
            "query_outputs and database_outputs must lie on one device and have one width, got "
            f"{tuple(queries.shape)} on {queries.device} and {tuple(database.shape)} on {database.device}"
        )
    asked = _labels("query_labels", query_labels, queries)
    found = _labels("database_labels", database_labels, database)
    if asked.shape[1:] != found.shape[1:]:
        raise InputError(
            "query_labels and database_labels must both be class ids, or multi-hot of one width, got shapes "
            f"{tuple(asked.shape)} and {tuple(found.shape)}"
        )
    rows = chunk or max(1, _PAIRS // len(database))
    cuts = (conventions.k, *conventions.ks)
    parts = []
    with torch.no_grad():
        for start, scores in _scores(queries, database, measure, rows):
            relevant = _relevant(asked[start : start + rows], found)
            parts.append(average_precision(scores, relevant, cuts, conventions.ties, conventions.denominator))
    per_cut = as_numpy(torch.cat(parts, dim=1))
    per_query = np.ascontiguousarray(per_cut[0])
    return OutputsEvaluation(
        measure=measure,
        conventions=conventions,
        n_outputs=queries.shape[1],
        n_query=len(queries),
        n_database=len(database),
        n_empty=int(np.isnan(per_query).sum()),
        mean_ap=mean_of_queries(per_query, conventions.empty),
        standard_error=standard_error(per_query, conventions.empty),
        at_k={
            k: mean_of_queries(values, conventions.empty)
            for k, values in zip(conventions.ks, per_cut[1:], strict=True)
        },
        per_query=per_query,
    )


def _scores(queries: Tensor, database: Tensor, measure: str, rows: int) -> Iterator[tuple[int, Tensor]]:
    """For every ``rows`` queries their first's number and the similarities, float64 ``(rows, n_database)``.

    A product of matrices may round equal columns apart, by where they stand in it. So equal items are computed once.
    """
    distinct, member = torch.unique(database.double(), dim=0, return_inverse=True)
    lengths = (distinct * distinct).sum(dim=1)
    # A query's own length does not change its ranking; that of an item divides last, so that equal ones stay equal.
    norms = lengths.sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    for start in range(0, len(queries), rows):
        scores = queries[start : start + rows].double() @ distinct.T
        if measure == "cosine":
            scores = scores / norms
        elif measure == "l2":
            scores = 2 * scores - lengths
        yield start, scores[:, member] + 0.0  # -0.0 becomes 0.0: some sorts tell them apart


def _relevant(query_labels: Tensor, database_labels: Tensor) -> Tensor:
    """bool ``(n_query, n_database)``."""
    if query_labels.dim() == 1:
        return query_labels[:, None] == database_labels
    return query_labels @ database_labels.T > 0


def _outputs(name: str, outputs: np.ndarray | Tensor) -> Tensor:
    if not isinstance(outputs, np.ndarray | Tensor):
        raise TypeError(f"{name} must be a numpy array or a torch tensor, got {type(outputs).__name__}")
    tensor = outputs.detach() if isinstance(outputs, Tensor) else torch.from_numpy(np.array(outputs))
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating-point numbers, got {outputs.dtype}")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise InputError(
            f"{name} must have shape (n, n_outputs) with at least one of each, got {tuple(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
        raise InputError(f"{name} must be finite numbers, got {what}")
    if (largest := float(tensor.abs().max())) > _LARGEST:
        raise InputError(f"{name} must be at most {_LARGEST:g} in size, got {largest:g}")
    return tensor


_KINDS = {"U": "text", "S": "bytes", "M": "dates", "m": "durations"}


def _labels(name: str, labels: np.ndarray | Tensor, outputs: Tensor) -> Tensor:
    """int64 ``(n,)``, or float32 ``(n, n_labels)``, on the device of the outputs."""
    if not isinstance(labels, Tensor) and (kind := np.asarray(labels).dtype.kind) not in "biufc":
        raise TypeError(f"{name} must be integers, or multi-hot 0 and 1, got {_KINDS.get(kind, 'objects')}")
    tensor = labels.detach() if isinstance(labels, Tensor) else torch.from_numpy(np.array(labels))
    if tensor.dim() not in (1, 2) or len(tensor) != len(outputs):
        raise InputError(
            f"{name} must have shape ({len(outputs)},) or ({len(outputs)}, n_labels), got {tuple(tensor.shape)}"
        )
    tensor = tensor.to(outputs.device)
    if tensor.dim() == 2:
        if not bool(((tensor == 0) | (tensor == 1)).all()):
            raise InputError(f"{name} must be 0 and 1 where they are multi-hot, got other values")
        return tensor.float()  # counts of shared labels are exact up to 2^24
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be integers where they are class ids, got {tensor.dtype}")
    return tensor.long()
