"""How well a set of codes uses its bits, and how well a classifier did: the numbers beside mAP.

mAP says nothing about whether all items of a class fell onto one code, whether a bit never changes, or
whether the ranking merely repeats the classifier. These do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from .conventions import Empty

__all__ = [
    "CodeStatistics",
    "TieStatistics",
    "as_numpy",
    "class_accuracy",
    "code_statistics",
    "mean_of_queries",
    "standard_error",
    "tie_group_size",
    "tie_statistics",
]

_CORRELATION_ROWS = 20_000
_CHUNK_ROWS = 4096
_TOP_CLASSES = 5
_TABLE_CELLS = 1 << 22


@dataclass(frozen=True)
class CodeStatistics:
    """What one set of packed codes looks like.

    Attributes:
        n_codes: number of items.
        n_distinct: number of different codes among them.
        n_bits: code length.
        constant_bits: bits that are the same in every code.
        bit_mean: float64 ``(n_bits,)``, share of ones of each bit (0.5 is balanced).
        bit_entropy: mean over the bits of the binary entropy of that share, 0..1.
        bit_correlation: mean absolute correlation over the pairs of bits that change; NaN with fewer than two
        such.
        correlation_rows: how many codes, evenly spaced, the correlation was computed on.
        n_most_frequent: how many items share the code that occurs most often.
        bit_partner: int64 ``(n_bits,)``, the other bit that correlates most with each, by size; the lowest of equal
            ones; -1 for a bit that never changes or that is the only one to change.
        bit_partner_correlation: float64 ``(n_bits,)``, that correlation, -1..1; NaN where there is none.
        bit_n_classes: int64 ``(n_bits,)``, classes (labels) more than half of whose items have a 1.
        bit_classes: int64 ``(n_bits, m)``, the m classes, 5 at most, of the largest share of ones, that first; the
            lower class of equal ones first.
        bit_class_share: float64 ``(n_bits, m)``, those shares: P(bit = 1 | class).

    The last three are None where no labels are known, and all from ``n_most_frequent`` on where they were read from a
    file of an earlier version.
    """

    n_codes: int
    n_distinct: int
    n_bits: int
    constant_bits: int
    bit_mean: np.ndarray
    bit_entropy: float
    bit_correlation: float
    correlation_rows: int
    n_most_frequent: int | None = None
    bit_partner: np.ndarray | None = None
    bit_partner_correlation: np.ndarray | None = None
    bit_n_classes: np.ndarray | None = None
    bit_classes: np.ndarray | None = None
    bit_class_share: np.ndarray | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for the JSON document; what is not known is left out."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in known.items()}

    @property
    def entropies(self) -> np.ndarray:
        """float64 ``(n_bits,)``, the binary entropy of each bit's share of ones, 0..1."""
        return _entropies(self.bit_mean)


def code_statistics(
    codes: np.ndarray | Tensor, n_bits: int, labels: np.ndarray | Tensor | None = None
) -> CodeStatistics:
    """Statistics of packed codes, uint8 ``(n, ceil(n_bits / 8))`` with n >= 1; CUDA tensors stay where they are.

    Works through the codes in slices, so that the unpacked bits never exist as a whole. ``labels``: class ids ``(n,)``
    or multi-hot ``(n, n_labels)``, on the device of the codes; None: what each bit says of the classes is left out.
    """
    if isinstance(codes, Tensor) and not codes.is_cuda:
        codes = codes.detach().numpy()
    n_codes = len(codes)
    ones = as_numpy(sum(_ones(bits) for bits in _slices(codes, n_bits)))
    share = ones / n_codes
    sample = codes[:: -(-n_codes // _CORRELATION_ROWS)]
    correlation, partner, strongest = _correlations(sample, n_bits)
    n_distinct, n_most_frequent = _count_distinct(codes)
    of_classes = {} if labels is None else _class_shares(codes, n_bits, labels)
    return CodeStatistics(
        n_codes=n_codes,
        n_distinct=n_distinct,
        n_bits=n_bits,
        constant_bits=int(((ones == 0) | (ones == n_codes)).sum()),
        bit_mean=share,
        bit_entropy=float(_entropies(share).mean()),
        bit_correlation=correlation,
        correlation_rows=len(sample),
        n_most_frequent=n_most_frequent,
        bit_partner=partner,
        bit_partner_correlation=strongest,
        **of_classes,
    )


def _entropies(share: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        ones, zeros = share * np.log2(share), (1 - share) * np.log2(1 - share)
    return np.abs(np.nan_to_num(ones) + np.nan_to_num(zeros))  # of a bit that never changes 0.0, not -0.0


def _slices(codes: np.ndarray | Tensor, n_bits: int) -> Iterator[np.ndarray | Tensor]:
    for start in range(0, len(codes), _CHUNK_ROWS):
        yield dshc_fast.unpack_codes(codes[start : start + _CHUNK_ROWS], n_bits)


def _ones(bits: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Ones of each bit, int64 ``(n_bits,)``."""
    return bits.sum(0, dtype=torch.int64 if isinstance(bits, Tensor) else np.int64)


def _count_distinct(codes: np.ndarray | Tensor) -> tuple[int, int]:
    """How many codes differ, and how often the most frequent one occurs."""
    if isinstance(codes, Tensor):
        counts = torch.unique(codes, dim=0, return_counts=True)[1]
    else:
        whole = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1])))
        counts = np.unique(whole, return_counts=True)[1]
    return len(counts), int(counts.max())


def _both(bits: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """How often two bits are both 1, ``(n_bits, n_bits)``."""
    # float32 counts are exact up to 2^24, far above a slice's rows and those of the sample.
    wide = bits.float() if isinstance(bits, Tensor) else bits.astype(np.float32)
    return wide.T @ wide


def _correlations(codes: np.ndarray | Tensor, n_bits: int) -> tuple[float, np.ndarray, np.ndarray]:
    """The mean absolute correlation, and for each bit the other one that correlates most with it, and how much."""
    partner, strongest = np.full(n_bits, -1, np.int64), np.full(n_bits, np.nan)
    both = as_numpy(sum(_both(bits) for bits in _slices(codes, n_bits))).astype(np.float64)
    share = np.diag(both) / len(codes)
    deviation = np.sqrt(share * (1 - share))
    changing = np.flatnonzero(deviation > 0)
    if len(changing) < 2:
        return math.nan, partner, strongest
    covariance = both / len(codes) - np.outer(share, share)
    correlation = covariance[np.ix_(changing, changing)] / np.outer(deviation[changing], deviation[changing])
    mean = float(np.abs(correlation[np.triu_indices(len(correlation), 1)]).mean())
    np.fill_diagonal(correlation, 0.0)
    # Rounding must not choose between bits that correlate equally, nor go beyond 1.
    correlation = np.clip(np.round(correlation, 12), -1.0, 1.0)
    np.fill_diagonal(size := np.abs(correlation), -1.0)
    most = size.argmax(axis=1)
    partner[changing] = changing[most]
    strongest[changing] = correlation[np.arange(len(changing)), most]
    return mean, partner, strongest


def _class_shares(
    codes: np.ndarray | Tensor, n_bits: int, labels: np.ndarray | Tensor
) -> dict[str, np.ndarray]:
    """What :class:`CodeStatistics` holds of bits and classes."""
    labels = labels.detach() if isinstance(labels, Tensor) else torch.from_numpy(np.array(labels))
    if labels.dim() == 2:
        classes = torch.nonzero((labels != 0).any(dim=0))[:, 0]
        members = (labels[:, classes] != 0).float()
        sizes = as_numpy(members.sum(dim=0, dtype=torch.float64))
    else:
        classes, members, counts = torch.unique(labels.long(), return_inverse=True, return_counts=True)
        sizes = as_numpy(counts)
    top = min(_TOP_CLASSES, len(classes))
    n_classes = np.zeros(n_bits, np.int64)
    best, shares = np.zeros((n_bits, top), np.int64), np.zeros((n_bits, top))
    # Some bits at a time, so that many classes of long codes do not make one large table.
    width = max(8, _TABLE_CELLS // max(len(classes), 1) // 8 * 8)
    for start in range(0, n_bits if top else 0, width):
        stop = min(n_bits, start + width)
        columns = codes[:, start // 8 : -(-stop // 8)]
        share = _ones_of_classes(columns, stop - start, members, len(classes)) / sizes[:, None]
        n_classes[start:stop] = (share > 0.5).sum(axis=0)
        for place in range(top):  # far cheaper than sorting a thousand classes for five
            first, bits = share.argmax(axis=0), np.arange(stop - start)
            best[start:stop, place], shares[start:stop, place] = as_numpy(classes)[first], share[first, bits]
            share[first, bits] = -1.0
    return {"bit_n_classes": n_classes, "bit_classes": best, "bit_class_share": shares}


def _ones_of_classes(codes: np.ndarray | Tensor, n_bits: int, members: Tensor, n_classes: int) -> np.ndarray:
    """How often each bit is 1 among the items of each class, ``(n_classes, n_bits)``; ``members`` says which class an
    item is of, int64 ``(n,)``, or which classes, float32 ``(n, n_classes)`` of 0 and 1.
    """
    ones = torch.zeros((n_classes, n_bits), dtype=torch.int32, device=members.device)
    for i, bits in enumerate(_slices(codes, n_bits)):
        bits = bits if isinstance(bits, Tensor) else torch.from_numpy(bits)
        part = members[i * _CHUNK_ROWS : (i + 1) * _CHUNK_ROWS]
        if members.dim() == 1:
            ones.index_add_(0, part, bits.int())
        else:
            ones += (part.T @ bits.float()).int()  # exact: a slice has far fewer than 2^24 rows
    return as_numpy(ones)


@dataclass(frozen=True)
class TieStatistics:
    """How much of a ranking is decided by the order of equally near items.

    Attributes:
        items_per_distance: mean over the queries of the items per distance (or overlap) that occurs.
        ranks: int64 ``(n_ranks,)``, the ranks below.
        split_share: float64 ``(n_ranks,)``, share of the queries whose item at the rank is as near as the next one, so
            that a list cut there shows some of equally near items and not others.
        tied_items: float64 ``(n_ranks,)``, mean over the queries of the number of items as near as that at the rank,
            itself included.
    """

    items_per_distance: float
    ranks: np.ndarray
    split_share: np.ndarray
    tied_items: np.ndarray

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for the JSON document."""
        columns = (self.ranks.tolist(), self.split_share.tolist(), self.tied_items.tolist())
        at_rank = [
            {"rank": rank, "split_share": share, "tied_items": items}
            for rank, share, items in zip(*columns, strict=True)
        ]
        return {"items_per_distance": self.items_per_distance, "at_rank": at_rank}


def tie_statistics(items: np.ndarray, ranks: np.ndarray, *, score: str) -> TieStatistics:
    """Ties of rankings; ``items`` is the histogram ``(n_query, n_bits + 1)``, ``ranks`` are 1..n_database.

    ``score`` says which end of the histogram is the nearest: distance 0 (``hamming``) or the largest overlap.
    """
    nearest_first = items[:, ::-1] if score == "overlap" else items
    up_to = np.cumsum(nearest_first, axis=1)
    rows, ranks = np.arange(len(items)), np.asarray(ranks, np.int64)
    split, tied = np.zeros(len(ranks)), np.zeros(len(ranks))
    for i, rank in enumerate(ranks):
        level = (up_to < rank).sum(axis=1)
        split[i] = (up_to[rows, level] > rank).mean()
        tied[i] = nearest_first[rows, level].mean()
    per_distance = up_to[:, -1] / (items > 0).sum(axis=1)
    return TieStatistics(float(per_distance.mean()), ranks, split, tied)


def tie_group_size(items: np.ndarray) -> float:
    """Mean size of the tie that a database item belongs to, over all queries and items.

    ``items`` is the histogram ``(n_query, n_bits + 1)``; the answer is the mean over queries of sum(items^2)
    / sum(items): 1 where no two items tie, n where all do.
    """
    counts = items.astype(np.float64)
    return float(((counts**2).sum(axis=1) / counts.sum(axis=1)).mean())


def mean_of_queries(per_query: np.ndarray, empty: Empty | str) -> float:
    """Mean AP, NaN being that of queries with nothing relevant, which ``empty`` tells how to count."""
    missing = np.isnan(per_query)
    if empty == "error" and missing.any():
        raise ValueError(
            f'each query must have something relevant with empty="error", got {int(missing.sum())} of '
            f"{len(per_query)} queries with nothing"
        )
    if empty == "zero":
        return float(np.nan_to_num(per_query).mean())
    return float(per_query[~missing].mean()) if not missing.all() else math.nan


def standard_error(per_query: np.ndarray, empty: Empty | str) -> float:
    """Of that mean: the standard deviation over the queries that count, by the root of their number."""
    kept = np.nan_to_num(per_query) if empty == "zero" else per_query[~np.isnan(per_query)]
    return float(kept.std(ddof=1) / math.sqrt(len(kept))) if len(kept) > 1 else math.nan


def as_numpy(array: np.ndarray | Tensor) -> np.ndarray:
    """A result on the CPU."""
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def class_accuracy(predictions: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> dict[str, float]:
    """Accuracy of predicted classes, by name.

    Class ids ``(n,)``: ``{"top_1": share of equal ids}``. Multi-hot ``(n, n_labels)``: ``exact_match`` (all
    labels of an item right), ``micro_f1`` and ``macro_f1`` (a label that neither occurs nor is predicted
    counts 0, as is usual).

    Raises:
        ValueError: shapes that do not agree, or nothing to count.
    """
    predictions, labels = as_numpy(predictions), as_numpy(labels)
    if predictions.shape != labels.shape or labels.ndim not in (1, 2):
        raise ValueError(
            "predictions and labels must have one shape, (n,) or (n, n_labels), got "
            f"{predictions.shape} and {labels.shape}"
        )
    if not len(labels):
        raise ValueError("predictions must hold at least one item, got none")
    if labels.ndim == 1:
        return {"top_1": float((predictions == labels).mean())}
    predicted, true = predictions.astype(bool), labels.astype(bool)
    hits = (predicted & true).sum(axis=0)
    either = predicted.sum(axis=0) + true.sum(axis=0)
    return {
        "exact_match": float((predicted == true).all(axis=1).mean()),
        "micro_f1": float(2 * hits.sum() / max(either.sum(), 1)),
        "macro_f1": float((2 * hits / np.maximum(either, 1)).mean()),
    }
