"""What each op must answer, in tiny numpy straight from the definitions.

Written without a look at `dshc_fast.reference`, so that twin and kernels cannot share a mistake with it.
Nothing here is fast: whole matrices, python loops, exact fractions.
"""

from __future__ import annotations

import functools
import itertools
from fractions import Fraction

import numpy as np

NO_DISTANCE = 2**31 - 1
DEFAULT_RANKS = (1, 5, 10, 50, 100, 500, 1000, 5000)


def bits(codes: np.ndarray) -> np.ndarray:
    """`(n, bytes)` codes as `(n, 8 * bytes)` of 0 and 1: bit j is byte j // 8, position j % 8."""
    n, n_bytes = codes.shape
    out = np.zeros((n, 8 * n_bytes), dtype=np.float64)
    for j in range(8 * n_bytes):
        out[:, j] = (codes[:, j // 8] >> (j % 8)) & 1
    return out


def pack(ones: np.ndarray) -> np.ndarray:
    """`(n, bits)` of 0 and 1 as packed codes, padding 0."""
    n, n_bits = ones.shape
    out = np.zeros((n, (n_bits + 7) // 8), dtype=np.uint8)
    for j in range(n_bits):
        out[:, j // 8] |= (ones[:, j] != 0).astype(np.uint8) << (j % 8)
    return out


def counts(queries: np.ndarray, database: np.ndarray, score: str) -> np.ndarray:
    """XOR or AND counts of all pairs, int64 `(n_query, n_db)`; float64 products of 0 and 1 are exact."""
    q, d = bits(queries), bits(database)
    both_ones = q @ d.T
    if score == "overlap":
        return both_ones.astype(np.int64)
    return (q.sum(1)[:, None] + d.sum(1)[None] - 2 * both_ones).astype(np.int64)


def sort_keys(values: np.ndarray, score: str) -> np.ndarray:
    """Small is near: the distance itself, or the negated overlap."""
    return values if score == "hamming" else -values


def allowed_matrix(allowed: np.ndarray | None, n_query: int, n_db: int) -> np.ndarray:
    """Any of the four forms of `allowed` as bool `(n_query, n_db)`."""
    if allowed is None:
        return np.ones((n_query, n_db), dtype=bool)
    allowed = np.asarray(allowed)
    if allowed.dtype == np.uint8:
        rows = np.atleast_2d(allowed)
        allowed = bits(rows)[:, :n_db].astype(bool).reshape(*allowed.shape[:-1], n_db)
    return np.array(np.broadcast_to(allowed, (n_query, n_db)))


def ranking(values: np.ndarray, may: np.ndarray, score: str) -> list[np.ndarray]:
    """Per query the allowed database indices, sorted by (distance, index)."""
    keys = sort_keys(values, score)
    out = []
    for row, ok in zip(keys, may, strict=True):
        index = np.nonzero(ok)[0]
        out.append(index[np.lexsort((index, row[index]))])
    return out


def topk(queries, database, k, score="hamming", allowed=None):
    """(distances int32, indices int64), filled up with "nothing" where fewer than k are allowed."""
    values = counts(queries, database, score)
    n_query, n_db = values.shape
    distances = np.full((n_query, k), NO_DISTANCE if score == "hamming" else -1, dtype=np.int32)
    indices = np.full((n_query, k), -1, dtype=np.int64)
    for q, order in enumerate(ranking(values, allowed_matrix(allowed, n_query, n_db), score)):
        first = order[:k]
        indices[q, : len(first)] = first
        distances[q, : len(first)] = values[q, first]
    return distances, indices


def radius(queries, database, r, score="hamming", allowed=None):
    """(offsets, indices, distances) of all within the radius, ordered like top-k."""
    values = counts(queries, database, score)
    may = allowed_matrix(allowed, *values.shape)
    inside = may & ((values <= r) if score == "hamming" else (values >= r))
    rows = ranking(values, inside, score)
    offsets = np.cumsum([0] + [len(row) for row in rows]).astype(np.int64)
    indices = np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64)
    distances = [values[q, row] for q, row in enumerate(rows)]
    return offsets, indices, np.concatenate([np.empty(0, np.int32), *distances]).astype(np.int32)


def relevance(query_labels: np.ndarray, database_labels: np.ndarray) -> np.ndarray:
    """Equal ids, or a shared label of multi-hot rows: bool `(n_query, n_db)`."""
    if query_labels.ndim == 1:
        out = [[int(a) == int(b) for b in database_labels] for a in query_labels]
        return np.array(out, dtype=bool).reshape(len(query_labels), len(database_labels))
    return query_labels.astype(np.float64) @ database_labels.astype(np.float64).T > 0


def histogram(queries, database, query_labels, database_labels, score="hamming", n_bits=None, allowed=None):
    """(items, relevant) int64 `(n_query, n_bits + 1)`: column j counts value j."""
    values = counts(queries, database, score)
    n_bits = 8 * queries.shape[1] if n_bits is None else n_bits
    may = allowed_matrix(allowed, *values.shape)
    relevant = may & relevance(query_labels, database_labels)
    items = np.stack([(may & (values == v)).sum(1) for v in range(n_bits + 1)], axis=1)
    hits = np.stack([(relevant & (values == v)).sum(1) for v in range(n_bits + 1)], axis=1)
    return items.astype(np.int64), hits.astype(np.int64)


def ap_of_ranking(hits, k: int | None, denominator: str) -> Fraction | None:
    """AP@k of one list of 0/1 in rank order, by its definition; None: nothing relevant."""
    total = sum(hits)
    if total == 0:
        return None
    k = len(hits) if k is None else min(k, len(hits))
    found, score = 0, Fraction(0)
    for rank, hit in enumerate(hits[:k], start=1):
        if hit:
            found += 1
            score += Fraction(found, rank)
    below = {"retrieved": found, "min": min(k, total), "relevant": total}[denominator]
    return score / below if below else Fraction(0)


def tied_orders(groups) -> list[list[int]]:
    """All equally likely 0/1 lists of a sequence of ties `(n items, n relevant)`."""
    inside = []
    for n, p in groups:
        inside.append(
            [[int(t in chosen) for t in range(n)] for chosen in itertools.combinations(range(n), p)]
        )
    return [sum(parts, []) for parts in itertools.product(*inside)]


def expected_ap(groups, k: int | None, denominator: str) -> Fraction | None:
    """Mean of AP@k over all orders inside ties, by trying every one."""
    return _expected_ap(tuple(groups), k, denominator)


@functools.lru_cache(maxsize=100_000)
def _expected_ap(groups, k: int | None, denominator: str) -> Fraction | None:
    scores = [ap_of_ranking(order, k, denominator) for order in tied_orders(groups)]
    return None if scores[0] is None else sum(scores, Fraction(0)) / len(scores)


def tie_groups(keys: np.ndarray, hits: np.ndarray) -> list[tuple[int, int]]:
    """(n items, n relevant) at each distance that occurs, near to far."""
    return [(int((keys == v).sum()), int(hits[keys == v].sum())) for v in np.unique(keys)]


def sorted_hits(keys: np.ndarray, hits: np.ndarray, ties: str) -> list[int]:
    """0/1 in rank order with ties broken by index, relevant first, or relevant last."""
    second = {"index": np.zeros(len(hits)), "best": 1.0 - hits, "worst": 1.0 * hits}[ties]
    return [int(h) for h in hits[np.lexsort((np.arange(len(hits)), second, keys))]]


def average_precision(
    queries,
    database,
    query_labels,
    database_labels,
    *,
    k=None,
    ties="expected",
    denominator="retrieved",
    score="hamming",
    allowed=None,
) -> np.ndarray:
    """float64 `(n_query,)`; `expected` by brute force, so only for small ties."""
    values = counts(queries, database, score)
    keys, hits = sort_keys(values, score), relevance(query_labels, database_labels)
    may = allowed_matrix(allowed, *values.shape)
    out = []
    for q in range(len(queries)):
        key, hit = keys[q][may[q]], hits[q][may[q]]
        if not hit.any():
            out.append(None)
        elif ties == "expected":
            out.append(expected_ap(tie_groups(key, hit), k, denominator))
        else:
            out.append(ap_of_ranking(sorted_hits(key, hit, ties), k, denominator))
    return np.array([np.nan if ap is None else float(ap) for ap in out], dtype=np.float64)


def expected_relevant_in(groups, rank: int) -> Fraction:
    """Expected number of relevant items among the first `rank`, uniform order inside ties."""
    left, found = rank, Fraction(0)
    for n, p in groups:
        taken = min(n, left)
        found += Fraction(p * taken, n)
        left -= taken
    return found


def top_order(logits: np.ndarray) -> np.ndarray:
    """Sub-classes from the largest logit down; equal logits: the lower index first."""
    return np.array([sorted(range(len(row)), key=lambda j: (-row[j], j)) for row in logits]).reshape(
        logits.shape
    )


def codes_from_logits(logits: np.ndarray, codebook: np.ndarray, k: int) -> np.ndarray:
    """Plain mean of the top-K codes, signed; a tied bit takes the top-1 sub-class's bit."""
    book = bits(codebook).astype(np.int64)
    out = np.zeros((len(logits), book.shape[1]), dtype=np.int64)
    for i, order in enumerate(top_order(logits)):
        votes = book[order[:k]].sum(0)
        out[i] = np.where(2 * votes == k, book[order[0]], 2 * votes > k)
    return pack(out)


def log_sum_exp(row: np.ndarray) -> np.longdouble:
    """log Σ exp in long double; -inf for nothing but -inf, +inf where one is +inf."""
    row = row.astype(np.longdouble)
    top = row.max()
    return top if np.isinf(top) else top + np.log(np.exp(row - top).sum())
