"""Every way through the ranking kernels: sizes at which they cut their work, codes that repeat, masks, sorted
databases, prepared or plain, at each SIMD level and with one to three threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import oracles
import pytest
import ranking_cases
import torch
from backends import LEVEL, SIMD_LEVELS
from comparisons import (
    assert_close,
    assert_same_ap,
    assert_same_histogram,
    assert_same_radius,
    assert_same_topk,
)
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ranked import expected_ap_decimal
from ranking_cases import LABELS, Case, build_case, cases, flip, make_labels, popcounts

import dshc_fast
from dshc_fast import HammingDatabase

TIES = ("expected", "index", "best", "worst")
DENOMINATORS = ("retrieved", "min", "relevant")


@pytest.fixture(autouse=True)
def restored(threads) -> Iterator[None]:
    yield
    dshc_fast.set_simd_level(LEVEL)


def ways(
    data, case: Case, labels: np.ndarray | None = None
) -> Iterator[tuple[str, np.ndarray | HammingDatabase, bool]]:
    """Every level, each with a number of threads, with a plain and with a prepared database."""
    first = data.draw(st.integers(0, 2), label="threads")
    for i, level in enumerate(SIMD_LEVELS):
        dshc_fast.set_simd_level(level)
        count = (first + i) % 3 + 1
        torch.set_num_threads(count)
        for prepared in (False, True):
            database = HammingDatabase(case.database, labels) if prepared else case.database
            yield f"{level}, {count} threads, {'prepared' if prepared else 'plain'}", database, prepared


@settings(max_examples=examples(150))
@given(data=st.data(), case=cases())
def test_topk(data, case: Case) -> None:
    n = len(case.database)
    k = data.draw(st.sampled_from(sorted({1, min(10, n), min(100, n), max(1, n // 2), n})), label="k")
    expected = ranking_cases.topk(case, k)
    for way, database, _ in ways(data, case):
        found = dshc_fast.hamming_topk(case.queries, database, k, score=case.score, allowed=case.allowed)
        assert_same_topk(found, *expected, way)


@settings(max_examples=examples(150))
@given(data=st.data(), case=cases())
def test_radius(data, case: Case) -> None:
    """Nothing, the nearest, a tenth of all pairs, half of them, all."""
    share = data.draw(st.sampled_from((0.0, 0.001, 0.1, 0.5, 1.0)), label="share of pairs inside")
    best_first = np.sort(case.counts, axis=None)[:: 1 if case.score == "hamming" else -1]
    limit = int(best_first[min(int(share * best_first.size), best_first.size - 1)])
    expected = ranking_cases.radius(case, limit)
    for way, database, _ in ways(data, case):
        found = dshc_fast.hamming_radius(
            case.queries, database, limit, score=case.score, allowed=case.allowed
        )
        assert_same_radius(found, expected, way)


@settings(max_examples=examples(150))
@given(data=st.data(), case=cases(), style=st.sampled_from(LABELS), seed=st.integers(0, 999))
def test_histogram(data, case: Case, style: str, seed: int) -> None:
    labels, database_labels, relevant = make_labels(np.random.default_rng(seed), case, style)
    expected = ranking_cases.histogram(case, relevant, 8 * case.queries.shape[1] + 1)
    for way, database, prepared in ways(data, case, database_labels):
        found = dshc_fast.hamming_histogram(
            case.queries, database, labels, None if prepared else database_labels,
            score=case.score, allowed=case.allowed,
        )  # fmt: skip
        assert_same_histogram(found, expected, way)


@pytest.mark.parametrize("ties", TIES)
@settings(max_examples=examples(150))
@given(data=st.data(), case=cases(max_pairs=300_000), style=st.sampled_from(LABELS), seed=st.integers(0, 999))
def test_average_precision(data, case: Case, style: str, seed: int, ties: str) -> None:
    labels, database_labels, relevant = make_labels(np.random.default_rng(seed), case, style)
    n = len(case.database)
    k = data.draw(st.sampled_from((None, 1, min(10, n), max(1, n // 2), n, n + 5)), label="k")
    denominator = data.draw(st.sampled_from(DENOMINATORS), label="denominator")
    expected = ranking_cases.average_precision(case, relevant & case.may, k, ties, denominator)
    for way, database, prepared in ways(data, case, database_labels):
        found = dshc_fast.average_precision(
            case.queries, database, labels, None if prepared else database_labels,
            k=k, ties=ties, denominator=denominator, score=case.score, allowed=case.allowed,
        )  # fmt: skip
        assert_same_ap(found, expected, way)


# Queries, items, bytes, codes, labels: enough of them that a whole arrangement of the database pays, and that it is
# walked in several chunks; more than one pass by index keeps notes of.
MANY = (
    (100, 20_000, 8, "random", "ids"),
    (96, 20_000, 4, "ascending", "ids in order"),
    (97, 9_001, 128, "clustered", "ids"),
    (98, 3_000, 129, "random", "ids by code"),
    (130, 5_000, 12, "random", "multi-hot by code"),
    (120, 6_001, 8, "random", "multi-hot"),
    (100, 3_000, 16, "clustered", "wide multi-hot"),
    (200, 4_097, 32, "few", "ids"),
    (1, 1_100_000, 4, "random", "ids"),
    (2, 1_100_000, 4, "few", "ids by code"),
)


@pytest.mark.parametrize("score", ("hamming", "overlap"))
@pytest.mark.parametrize(("n_query", "n_db", "n_bytes", "codes", "labelled"), MANY)
def test_many(n_query: int, n_db: int, n_bytes: int, codes: str, labelled: str, score: str) -> None:
    rng = np.random.default_rng(n_db + n_bytes)
    case = build_case(rng, n_query, n_db, n_bytes, codes, score=score)
    labels, database_labels, relevant = make_labels(rng, case, labelled)
    histogram = ranking_cases.histogram(case, relevant, 8 * n_bytes + 1)
    precisions = {
        ties: ranking_cases.average_precision(case, relevant, n_db // 3, ties, "min") for ties in TIES[:2]
    }
    best = ranking_cases.topk(case, 50)
    for i, level in enumerate(SIMD_LEVELS):
        dshc_fast.set_simd_level(level)
        torch.set_num_threads(i % 3 + 1)
        for database in (case.database, HammingDatabase(case.database)):
            given = case.queries, database, labels, database_labels
            assert_same_histogram(dshc_fast.hamming_histogram(*given, score=score), histogram, level)
            for ties, expected in precisions.items():
                options = {"k": n_db // 3, "ties": ties, "denominator": "min", "score": score}
                assert_same_ap(dshc_fast.average_precision(*given, **options), expected, f"{level} {ties}")
            assert_same_topk(dshc_fast.hamming_topk(case.queries, database, 50, score=score), *best, level)


@pytest.mark.parametrize("n_bytes", (16, 31, 32, 33))
@pytest.mark.parametrize("score", ("hamming", "overlap"))
def test_opposite_codes(score: str, n_bytes: int) -> None:
    """Pairs that differ in every bit beside pairs that are equal: 256 of 32 bytes is one more than a byte holds."""
    rng = np.random.default_rng(n_bytes)
    code = rng.integers(0, 256, (1, n_bytes), dtype=np.uint8)
    one_off = flip(rng, code, 1)
    database = np.concatenate([code, ~code, one_off, ~one_off])[rng.integers(0, 4, 700)]
    queries = np.concatenate([code, ~code])[rng.integers(0, 2, 9)]
    counts = popcounts(queries, database, score)
    case = Case(queries, database, score, None, np.ones(counts.shape, dtype=bool), counts, "opposite codes")
    limits = sorted({0, 1, 2, *(int(count) for count in np.unique(counts)), 8 * n_bytes - 1, 8 * n_bytes})
    for level in SIMD_LEVELS:
        dshc_fast.set_simd_level(level)
        for limit in limits:
            found = dshc_fast.hamming_radius(queries, database, limit, score=score)
            assert_same_radius(found, ranking_cases.radius(case, limit), f"{level}, within {limit}")
        for k in (1, 200, 400, 700):
            found = dshc_fast.hamming_topk(queries, database, k, score=score)
            assert_same_topk(found, *ranking_cases.topk(case, k), f"{level}, k={k}")


@given(data=st.data(), case=cases(largest=40, max_pairs=600))
def test_oracles_agree(data, case: Case) -> None:
    """Those of ranking_cases.py with those of oracles.py, which know nothing of each other."""
    queries, database, score = case.queries, case.database, case.score
    k = data.draw(st.integers(1, len(database)))
    for found, exact in (
        (ranking_cases.topk(case, k), oracles.topk(queries, database, k, score, case.allowed)),
        (ranking_cases.radius(case, k % 30), oracles.radius(queries, database, k % 30, score, case.allowed)),
    ):
        for a, b in zip(found, exact, strict=True):
            np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(k)
    labels, database_labels, relevant = make_labels(rng, case, data.draw(st.sampled_from(LABELS)))
    np.testing.assert_array_equal(relevant, oracles.relevance(labels, database_labels))
    exact = oracles.histogram(queries, database, labels, database_labels, score, None, case.allowed)
    for a, b in zip(ranking_cases.histogram(case, relevant, 8 * queries.shape[1] + 1), exact, strict=True):
        np.testing.assert_array_equal(a, b)
    for ties in TIES[1:]:
        for denominator in DENOMINATORS:
            options = {"k": k, "ties": ties, "denominator": denominator}
            exact = oracles.average_precision(
                queries, database, labels, database_labels, **options, score=score, allowed=case.allowed
            )
            found = ranking_cases.average_precision(case, relevant & case.may, **options)
            assert_close(found, exact, 1e-14, f"{options}")


@given(
    groups=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6),
    k=st.integers(1, 200),
    denominator=st.sampled_from(DENOMINATORS),
)
def test_expected_oracle(groups: list[tuple[int, int]], k: int, denominator: str) -> None:
    """Against closed forms in 50-digit decimals."""
    groups = [(n, min(n, p)) for n, p in groups]
    hits = np.concatenate([np.arange(n) < p for n, p in groups])
    values = np.repeat(np.arange(len(groups)), [n for n, _ in groups])
    k = min(k, len(hits))
    exact = expected_ap_decimal(groups, k, denominator)
    if hits.any():
        assert_close(np.float64(ranking_cases.expected_ap(hits, values, k, denominator)), exact, 1e-13)
