"""Ranking problems of some thousand items, made to reach every way through the kernels, and numpy oracles fast enough
for them.

The oracles go by the definitions: whole matrices, a stable sort, one sum over all ranks. They share nothing with
`dshc_fast.reference`, and are held against the exact ones of oracles.py (test_ranking_paths.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

# Around words, blocks, groups and tables; 20,000 items are some blocks for each thread.
EDGES = (1, 2, 3, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049,
         4095, 4096, 4097, 8191, 8193, 16385, 20_000)  # fmt: skip
QUERIES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 70, 95, 96, 97, 130, 200)
WIDTHS = (4, 8, 16, 32)
LONG = (40, 64, 127, 128, 129, 512)
CODES = (
    "random",
    "clustered",
    "few",
    "one",
    "two far apart",
    "ascending",
    "descending",
    "near ones last",
    "sparse",
)
LABELS = ("ids", "ids by code", "ids in order", "one id", "ids of their own", "multi-hot", "multi-hot by code",
          "wide multi-hot")  # fmt: skip
MASKS = (None, "shared", "shared packed", "each", "each packed", "nearest forbidden", "a run", "none")
NOTHING = {"hamming": 2**31 - 1, "overlap": -1}


class Case(NamedTuple):
    queries: np.ndarray
    database: np.ndarray
    score: str
    allowed: np.ndarray | None
    may: np.ndarray  # bool (n_query, n_db), what `allowed` says
    counts: np.ndarray  # int64 (n_query, n_db)
    what: str

    def __repr__(self) -> str:
        return f"{len(self.queries)} queries, {self.queries.shape[1]} bytes, {self.score}, {self.what}"


def popcounts(queries: np.ndarray, database: np.ndarray, score: str) -> np.ndarray:
    """XOR or AND counts of all pairs; float32 products of 0 and 1 are exact below 2^24."""
    q, d = (np.unpackbits(codes, axis=1).astype(np.float32) for codes in (queries, database))
    both = q @ d.T
    counts = both if score == "overlap" else q.sum(1)[:, None] + d.sum(1)[None] - 2 * both
    return counts.astype(np.int64)


def flip(rng: np.random.Generator, codes: np.ndarray, n_flips: int) -> np.ndarray:
    codes, row = codes.copy(), np.arange(len(codes))
    for _ in range(n_flips):
        bit = rng.integers(0, 8 * codes.shape[1], len(codes))
        codes[row, bit // 8] ^= (1 << (bit % 8)).astype(np.uint8)
    return codes


def make_database(rng: np.random.Generator, n: int, n_bytes: int, style: str) -> np.ndarray:
    random = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    if style == "clustered":
        centers = random[: min(n, 10)]
        return flip(rng, centers[rng.integers(0, len(centers), n)], int(rng.integers(0, 4)))
    if style == "few":
        kinds = random[: int(rng.integers(1, min(n, 310) + 1))]
        return kinds[rng.integers(0, len(kinds), n)]
    if style == "one":
        return np.repeat(random[:1], n, axis=0)
    if style == "two far apart":
        return np.where(rng.random((n, 1)) < 0.3, random[:1], ~random[:1])
    if style == "near ones last":
        return np.concatenate([~np.repeat(random[:1], n - n // 10, axis=0), flip(rng, random[: n // 10], 1)])
    if style == "sparse":
        return np.packbits(rng.random((n, 8 * n_bytes)) < 0.03, axis=1)
    return random


def make_queries(rng: np.random.Generator, n: int, database: np.ndarray, style: str) -> np.ndarray:
    if style == "random":
        return rng.integers(0, 256, (n, database.shape[1]), dtype=np.uint8)
    own = database[rng.integers(0, len(database), n)]
    if style == "repeated":
        return own[rng.integers(0, min(n, 3), n)]
    return flip(rng, own, 0 if style == "in the database" else 3)


def make_case(seed: int, largest: int = 20_000, max_pairs: int = 700_000) -> Case:
    """All is drawn from one seed: hypothesis by itself prefers small and alike problems, which cut no work in two."""
    rng = np.random.default_rng(seed)
    edges = EDGES[: int(rng.choice((len(EDGES) // 2, len(EDGES))))]
    n_db = min(int(rng.choice(edges) if rng.random() < 0.5 else rng.uniform(1, 20_000)), largest)
    n_query = min(int(rng.choice(QUERIES)), max(1, max_pairs // n_db))
    lengths = WIDTHS if rng.random() < 0.55 else range(1, 41) if rng.random() < 0.9 else LONG
    n_bytes = int(rng.choice(lengths))
    n_db = max(1, min(n_db, 30_000_000 // (n_query * n_bytes)))
    style, asked = (
        str(rng.choice(CODES)),
        str(rng.choice(("random", "in the database", "beside it", "repeated"))),
    )
    form = MASKS[int(rng.integers(1, len(MASKS)))] if rng.random() < 0.6 else None
    score = str(rng.choice(("hamming", "overlap")))
    return build_case(rng, n_query, n_db, n_bytes, style, asked, score, form)


def build_case(
    rng: np.random.Generator,
    n_query: int,
    n_db: int,
    n_bytes: int,
    style: str,
    asked: str = "random",
    score: str = "hamming",
    form: str | None = None,
) -> Case:
    database = make_database(rng, n_db, n_bytes, style)
    queries = make_queries(rng, n_query, database, asked)
    if style in (
        "ascending",
        "descending",
    ):  # as the first query sees them, which no sample of the rows tells
        order = np.argsort(popcounts(queries[:1], database, score)[0], kind="stable")
        database = np.ascontiguousarray(database[order if style == "ascending" else order[::-1]])
    counts = popcounts(queries, database, score)
    allowed, may = make_mask(rng, counts, form, float(rng.choice((0.003, 0.3, 0.9))))
    return Case(
        queries, database, score, allowed, may, counts, f"{n_db} codes {style!r}, {asked}, allowed {form!r}"
    )


def cases(largest: int = 20_000, max_pairs: int = 700_000) -> st.SearchStrategy[Case]:
    return st.builds(make_case, st.integers(0, 2**32 - 1), st.just(largest), st.just(max_pairs))


def make_mask(rng: np.random.Generator, counts: np.ndarray, form: str | None, share: float):
    """The mask as an op takes it, and as a matrix."""
    n_query, n_db = counts.shape
    if form is None:
        return None, np.ones(counts.shape, dtype=bool)
    mask = rng.random(counts.shape if form.startswith("each") else n_db) < share
    if form == "nearest forbidden":
        mask = counts[0] > counts[0].min()
    elif form == "a run":
        first = int(rng.integers(0, n_db))
        mask = (np.arange(n_db) >= first) & (np.arange(n_db) < first + max(1, n_db // 3))
    elif form == "none":
        mask = np.zeros(n_db, dtype=bool)
    matrix = np.broadcast_to(mask, counts.shape)
    return (np.packbits(mask, axis=-1, bitorder="little") if form.endswith("packed") else mask), matrix


def make_labels(
    rng: np.random.Generator, case: Case, style: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of queries and database, and which pairs are relevant."""
    n_query, n_db = case.counts.shape
    if style.startswith("ids") or style == "one id":
        if style == "ids of their own":
            database = rng.permutation(n_db) - n_db // 2
        elif style == "ids by code":
            database = case.database[:, 0].astype(np.int64) % 7 - 3
        else:
            database = rng.integers(0, 1 if style == "one id" else int(rng.integers(1, 200)), n_db)
        database = np.sort(database) if style == "ids in order" else database
        query = database[rng.integers(0, n_db, n_query)]
        query[rng.random(n_query) < 0.1] = 10**6  # nothing has it
        return query, database, query[:, None] == database[None]
    width = {"multi-hot": 21, "multi-hot by code": 5, "wide multi-hot": 130}[style]
    rows = rng.random((n_query + n_db, width)) < 0.08
    if style == "multi-hot by code":
        words = np.concatenate([case.queries, case.database])[:, 0]
        rows = (words[:, None] >> np.arange(width)) & 1 > 0
    query, database = rows[:n_query], rows[n_query:]
    return query, database, query.astype(np.float32) @ database.astype(np.float32).T > 0


def ordered(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """All items by (rank value, index), those that are not allowed last; how many are allowed."""
    best_first = case.counts if case.score == "hamming" else 8 * case.queries.shape[1] - case.counts
    keys = np.where(case.may, best_first, 2**15).astype(np.uint16)
    return np.argsort(keys, axis=1, kind="stable"), case.may.sum(1)


def topk(case: Case, k: int) -> tuple[np.ndarray, np.ndarray]:
    order, n_allowed = ordered(case)
    indices = np.where(np.arange(k) < n_allowed[:, None], order[:, :k], -1)
    found = np.take_along_axis(case.counts, order[:, :k], 1)
    return np.where(indices < 0, NOTHING[case.score], found), indices


def radius(case: Case, r: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order, _ = ordered(case)
    inside = (case.counts <= r if case.score == "hamming" else case.counts >= r) & case.may
    in_order = np.take_along_axis(inside, order, 1)
    counts = np.take_along_axis(case.counts, order, 1)
    offsets = np.concatenate([[0], np.cumsum(inside.sum(1))])
    return offsets, order[in_order], counts[in_order]


def histogram(case: Case, relevant: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    slot = case.counts + width * np.arange(len(case.counts))[:, None]
    size = width * len(case.counts)
    return tuple(
        np.bincount(slot[mask], minlength=size).reshape(-1, width) for mask in (case.may, case.may & relevant)
    )


def average_precision(
    case: Case, relevant: np.ndarray, k: int | None, ties: str, denominator: str
) -> np.ndarray:
    order, n_allowed = ordered(case)
    out = np.full(len(order), np.nan)
    for q, n in enumerate(n_allowed):
        mine = order[q, :n]
        hits, values = relevant[q, mine], case.counts[q, mine]
        if not hits.any():
            continue
        cut = int(n) if k is None else min(k, int(n))
        if ties == "expected":
            out[q] = expected_ap(hits, values, cut, denominator)
            continue
        if ties != "index":  # a stable sort by (tie, relevance)
            tie = np.cumsum(np.diff(values, prepend=values[0]) != 0)
            hits = hits[np.lexsort((hits if ties == "worst" else ~hits, tie))]
        found = np.cumsum(hits)
        precisions = (hits * found / np.arange(1, n + 1))[:cut].sum()
        out[q] = precisions / divisor(int(found[cut - 1]), int(found[-1]), cut, denominator)
    return out


def divisor(retrieved: float, total: int, k: int, denominator: str) -> float:
    return max({"retrieved": retrieved, "min": min(k, total), "relevant": total}[denominator], 1)


def expected_ap(hits: np.ndarray, values: np.ndarray, k: int, denominator: str) -> float:
    """Mean over all orders inside ties, of items in any order that has the ties in place (McSherry & Najork 2008)."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    sizes = np.diff(starts, append=len(values))
    found = np.add.reduceat(hits.astype(np.int64), starts)
    before = np.cumsum(found) - found
    split = int(np.searchsorted(starts, k)) - 1  # the tie that rank k lies in
    if denominator == "retrieved" and k < starts[split] + sizes[split]:
        whole = int(starts[split])
        score = precisions_of(starts[:split], sizes[:split], found[:split], before[:split], whole)
        return split_tie(whole, int(sizes[split]), int(found[split]), k - whole, int(before[split]), score)
    score = precisions_of(starts, sizes, found, before, k)
    return score / divisor(int(found[starts < k].sum()), int(found.sum()), k, denominator)


def precisions_of(starts, sizes, found, before, k: int) -> float:
    """Expected sum of precisions at the relevant items among the first k ranks."""
    place = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)  # inside its tie
    slope = np.where(sizes > 1, (found - 1) / np.maximum(sizes - 1, 1), 0.0)
    hits = np.repeat(before + 1, sizes) + place * np.repeat(slope, sizes)
    return float((np.repeat(found / sizes, sizes) * hits / np.arange(1, len(place) + 1))[:k].sum())


def split_tie(rank: int, n: int, p: int, m: int, before: int, score: float) -> float:
    """AP over retrieved items where m of a tie of n (p relevant) are retrieved: x of the m are relevant, by the
    hypergeometric law."""
    x = np.arange(max(0, m - (n - p)), min(p, m) + 1)
    mode = min(max(int((m + 1) * (p + 1) / (n + 2)) - int(x[0]), 0), len(x) - 1)
    ratio = ((p - x) * (m - x) / ((x + 1) * (n - p - m + x + 1.0)))[:-1]  # of a weight to the one before
    down = np.cumprod(1 / ratio[:mode][::-1])[::-1]
    weight = np.concatenate([down, [1.0], np.cumprod(ratio[mode:])])
    ranks = np.arange(rank + 1, rank + m + 1)
    first, second = (1 / ranks).sum(), (np.arange(m) / ranks).sum()
    inside = x / m * ((before + 1) * first + (x - 1) / max(m - 1, 1) * second)
    known = np.where(before + x > 0, (score + inside) / np.maximum(before + x, 1), 0.0)
    return float((weight * known).sum() / weight.sum())
