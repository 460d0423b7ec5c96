"""How well a set of codes uses its bits, and how well a classifier did: the numbers beside mAP.

mAP says nothing about whether all items of a class fell onto one code, whether a bit never changes, or
whether the ranking merely repeats the classifier. These do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import dshc_fast

__all__ = ["CodeStatistics", "class_accuracy", "code_statistics", "tie_group_size"]

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


def code_statistics(codes: np.ndarray, n_bits: int) -> CodeStatistics:
    """Statistics of packed codes, uint8 ``(n, ceil(n_bits / 8))`` with n >= 1.

    Works through the codes in slices, so that the unpacked bits never exist as a whole.
    """
    n_codes = len(codes)
    ones = np.zeros(n_bits)
    for start in range(0, n_codes, _CHUNK_ROWS):
        ones += dshc_fast.unpack_codes(codes[start : start + _CHUNK_ROWS], n_bits).sum(axis=0, dtype=np.int64)
    share = ones / n_codes
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nan_to_num(share * np.log2(share)) - np.nan_to_num((1 - share) * np.log2(1 - share))
    sample = codes[:: -(-n_codes // _CORRELATION_ROWS)]
    rows = np.ascontiguousarray(codes).view(np.dtype((np.void, codes.shape[1])))
    return CodeStatistics(
        n_codes=n_codes,
        n_distinct=len(np.unique(rows)),
        n_bits=n_bits,
        constant_bits=int(((ones == 0) | (ones == n_codes)).sum()),
        bit_mean=share,
        bit_entropy=float(entropy.mean()),
        bit_correlation=_mean_correlation(sample, n_bits),
        correlation_rows=len(sample),
    )


def _mean_correlation(codes: np.ndarray, n_bits: int) -> float:
    both, ones = np.zeros((n_bits, n_bits)), np.zeros(n_bits)
    for start in range(0, len(codes), _CHUNK_ROWS):
        # float32 counts are exact up to 2^24, far above a slice's rows.
        bits = dshc_fast.unpack_codes(codes[start : start + _CHUNK_ROWS], n_bits).astype(np.float32)
        both += bits.T @ bits
        ones += bits.sum(axis=0)
    share = ones / len(codes)
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


def class_accuracy(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy of predicted classes, by name.

    Class ids ``(n,)``: ``{"top_1": share of equal ids}``. Multi-hot ``(n, n_labels)``: ``exact_match`` (all
    labels of an item right), ``micro_f1`` and ``macro_f1`` (a label that neither occurs nor is predicted
    counts 0, as is usual).

    Raises:
        ValueError: shapes that do not agree, or nothing to count.
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim not in (1, 2):
        raise ValueError(
            f"predictions {predictions.shape} and labels {labels.shape} must have one shape (1-d or 2-d)"
        )
    if not len(labels):
        raise ValueError("predictions are empty; an accuracy needs at least one item")
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
