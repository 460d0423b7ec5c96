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
    "as_numpy",
    "class_accuracy",
    "code_statistics",
    "mean_of_queries",
    "standard_error",
    "tie_group_size",
]

_CORRELATION_ROWS = 20_000
_CHUNK_ROWS = 4096


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
    """

    n_codes: int
    n_distinct: int
    n_bits: int
    constant_bits: int
    bit_mean: np.ndarray
    bit_entropy: float
    bit_correlation: float
    correlation_rows: int

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for the JSON document."""
        return {**vars(self), "bit_mean": self.bit_mean.tolist()}


def code_statistics(codes: np.ndarray | Tensor, n_bits: int) -> CodeStatistics:
    """Statistics of packed codes, uint8 ``(n, ceil(n_bits / 8))`` with n >= 1; CUDA tensors stay where they are.

    Works through the codes in slices, so that the unpacked bits never exist as a whole.
    """
    if isinstance(codes, Tensor) and not codes.is_cuda:
        codes = codes.detach().numpy()
    n_codes = len(codes)
    ones = as_numpy(sum(_ones(bits) for bits in _slices(codes, n_bits)))
    share = ones / n_codes
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(share * np.log2(share)) - np.nan_to_num((1 - share) * np.log2(1 - share))
    sample = codes[:: -(-n_codes // _CORRELATION_ROWS)]
    return CodeStatistics(
        n_codes=n_codes,
        n_distinct=_count_distinct(codes),
        n_bits=n_bits,
        constant_bits=int(((ones == 0) | (ones == n_codes)).sum()),
        bit_mean=share,
        bit_entropy=float(entropy.mean()),
        bit_correlation=_mean_correlation(sample, n_bits),
        correlation_rows=len(sample),
    )


def _slices(codes: np.ndarray | Tensor, n_bits: int) -> Iterator[np.ndarray | Tensor]:
    for start in range(0, len(codes), _CHUNK_ROWS):
        yield dshc_fast.unpack_codes(codes[start : start + _CHUNK_ROWS], n_bits)


def _ones(bits: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Ones of each bit, int64 ``(n_bits,)``."""
    return bits.sum(0, dtype=torch.int64 if isinstance(bits, Tensor) else np.int64)


def _count_distinct(codes: np.ndarray | Tensor) -> int:
    if isinstance(codes, Tensor):
        return len(torch.unique(codes, dim=0))
    return len(np.unique(np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1])))))


def _both(bits: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """How often two bits are both 1, ``(n_bits, n_bits)``."""
    # float32 counts are exact up to 2^24, far above a slice's rows and those of the sample.
    wide = bits.float() if isinstance(bits, Tensor) else bits.astype(np.float32)
    return wide.T @ wide


def _mean_correlation(codes: np.ndarray | Tensor, n_bits: int) -> float:
    both = as_numpy(sum(_both(bits) for bits in _slices(codes, n_bits))).astype(np.float64)
    share = np.diag(both) / len(codes)
    deviation = np.sqrt(share * (1 - share))
    changing = deviation > 0
    if changing.sum() < 2:
        return float("nan")
    covariance = both / len(codes) - np.outer(share, share)
    correlation = covariance[np.ix_(changing, changing)] / np.outer(deviation[changing], deviation[changing])
    return float(np.abs(correlation[np.triu_indices(len(correlation), 1)]).mean())


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
