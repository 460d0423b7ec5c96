"""average_precision: every tie rule, denominator and cut; hand-worked vectors, brute force, long lists."""

from __future__ import annotations

import itertools

import numpy as np
import oracles
import pytest
from callers import both, native
from comparisons import assert_same_ap
from hypothesis import given
from hypothesis import strategies as st
from ranked import expected_ap_decimal, ranked_problem
from strategies import SCORES, Problem, make_codes, problems, seeds, strided_views

import dshc_fast

DENOMINATORS = ("retrieved", "min", "relevant")
ORDERS = ("index", "best", "worst")
ONE = ([0, 1, 1, 2, 2, 2], [1, 0, 1, 1, 0, 0])
TWO = ([0, 0, 0, 1], [1, 0, 0, 1])


@pytest.mark.parametrize(
    ("vector", "k", "denominator", "ties", "expected"),
    [
        (ONE, None, "retrieved", "expected", 49 / 60),
        (ONE, None, "min", "expected", 49 / 60),
        (ONE, 6, "relevant", "expected", 49 / 60),
        (ONE, None, "retrieved", "worst", 0.7222222222222222),
        (ONE, None, "retrieved", "best", 0.9166666666666666),
        (ONE, None, "retrieved", "index", 0.8055555555555556),
        (ONE, 4, "retrieved", "expected", 97 / 108),
        (ONE, 4, "min", "expected", 25 / 36),
        (ONE, 4, "relevant", "expected", 25 / 36),
        (ONE, 4, "retrieved", "best", 0.9166666666666666),
        (ONE, 4, "retrieved", "worst", 0.8333333333333334),
        (ONE, 2, "retrieved", "expected", 1.0),
        (ONE, 2, "min", "expected", 0.75),
        (ONE, 2, "relevant", "expected", 0.5),
        (TWO, 1, "retrieved", "expected", 1 / 3),
        (TWO, 1, "min", "expected", 1 / 3),
        (TWO, 1, "relevant", "expected", 1 / 6),
        (TWO, 2, "retrieved", "expected", 0.5),
        (TWO, 2, "min", "expected", 0.25),
        (TWO, 2, "relevant", "expected", 0.25),
        (TWO, 4, "retrieved", "expected", 5 / 9),
        (([0, 1, 2], [1, 0, 1]), None, "retrieved", "expected", 5 / 6),
        (([0, 1, 2], [1, 0, 0]), None, "retrieved", "expected", 1.0),
        (([0, 1, 2], [0, 0, 1]), 2, "retrieved", "expected", 0.0),
        (([0, 1, 2], [0, 0, 0]), None, "min", "expected", np.nan),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_hand_worked(vector, k, denominator: str, ties: str, expected: float, score: str, backend) -> None:
    values, hits = vector
    values = values if score == "hamming" else [7 - v for v in values]
    problem = ranked_problem(values, hits, score)
    for who, ap in both(
        "average_precision", backend.device, *problem, k=k, ties=ties, denominator=denominator, score=score
    ):
        assert_same_ap(ap, [expected], who)


def test_every_small_tie_pattern(backend) -> None:
    """Every relevance of every composition of 6 items into ties, every k, against all orders by brute force.

    Item j carries label j and a query asks for the labels of its pattern, so one call holds all patterns.
    """
    n = 6
    hits = np.array(list(itertools.product([0, 1], repeat=n)), dtype=bool)  # one query a relevance pattern
    for cuts in itertools.product([0, 1], repeat=n - 1):
        values = np.cumsum((0, *cuts))
        queries, database, _, _ = ranked_problem(values, hits[0])
        queries = np.repeat(queries, len(hits), axis=0)
        groups = [oracles.tie_groups(values, hit.astype(int)) for hit in hits]
        for denominator in DENOMINATORS:
            for k in (1, 2, 3, 4, 5, 6, 9):
                ap = native(
                    "average_precision",
                    backend.device,
                    queries,
                    database,
                    hits,
                    np.eye(n, dtype=bool),
                    k=k,
                    denominator=denominator,
                )
                wanted = [oracles.expected_ap(group, k, denominator) for group in groups]
                wanted = np.array([np.nan if w is None else float(w) for w in wanted])
                assert_same_ap(ap, wanted, f"ties {values.tolist()} k={k} {denominator}")


@given(problem=problems(max_query=3, max_db=9, widths=(1, 2, 9)), data=st.data())
def test_brute_force(problem: Problem, data, backend) -> None:
    """All options over arbitrary problems with small ties."""
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 2)), label="k")
    options = {
        "k": k,
        "score": problem.score,
        "allowed": problem.allowed,
        "denominator": data.draw(st.sampled_from(DENOMINATORS)),
        "ties": data.draw(st.sampled_from(("expected", *ORDERS))),
    }
    expected = oracles.average_precision(*problem.labelled(), **options)
    for who, ap in both(
        "average_precision", backend.device, *problem.labelled(), n_bits=problem.n_bits, **options
    ):
        assert_same_ap(ap, expected, f"{who} {options}")


@pytest.mark.parametrize("denominator", DENOMINATORS)
@given(problem=problems(max_db=90), data=st.data())
def test_ordered_ties(problem: Problem, denominator: str, data, backend) -> None:
    """index, best and worst are a plain loop over one sorted list."""
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 5)), label="k")
    ties = data.draw(st.sampled_from(ORDERS))
    options = {
        "k": k,
        "ties": ties,
        "denominator": denominator,
        "score": problem.score,
        "allowed": problem.allowed,
    }
    expected = oracles.average_precision(*problem.labelled(), **options)
    for who, ap in both(
        "average_precision", backend.device, *problem.labelled(), n_bits=problem.n_bits, **options
    ):
        assert_same_ap(ap, expected, f"{who} {ties} k={k}")


@pytest.mark.parametrize("score", SCORES)
def test_longer_lists(score: str, backend) -> None:
    """5003 items, several tiles, ties of a few hundred, cuts inside and between ties."""
    rng = np.random.default_rng(1)
    database, ids = make_codes(rng, 5003, 4, "near"), rng.integers(0, 3, 5003)
    queries, query_ids = database[:3] ^ 1, ids[:3]
    values = oracles.counts(queries, database, score)
    keys, hits = oracles.sort_keys(values, score), oracles.relevance(query_ids, ids)
    groups = [oracles.tie_groups(key, hit) for key, hit in zip(keys, hits, strict=True)]
    first = groups[0][0][0]
    for denominator in DENOMINATORS:
        for k in (None, 1, first, first + 1, 100, 2500, 5002, 5003):
            options = {"k": k, "denominator": denominator, "score": score}
            expected = [expected_ap_decimal(group, k, denominator) for group in groups]
            for who, ap in both(
                "average_precision", backend.device, queries, database, query_ids, ids, **options
            ):
                assert_same_ap(ap, expected, f"{who} k={k} {denominator}")
        options = {"k": 777, "denominator": denominator, "score": score}
        for ties in ORDERS:
            expected = oracles.average_precision(queries, database, query_ids, ids, ties=ties, **options)
            ap = native(
                "average_precision", backend.device, queries, database, query_ids, ids, ties=ties, **options
            )
            assert_same_ap(ap, expected, f"{ties} {denominator}")


@pytest.mark.parametrize("n_relevant", (1, 2, 700, 50_000, 99_999, 100_000))
def test_one_huge_tie(n_relevant: int, backend) -> None:
    """100,000 equal codes: sums of 1/t and a hypergeometric mean to 1e-12."""
    n = 100_000
    hits = (np.random.default_rng(n_relevant).permutation(n) < n_relevant).astype(np.int64)
    problem = ranked_problem(np.full(n, 3), hits)
    for k in (None, 1, 1000):
        for denominator in DENOMINATORS:
            expected = expected_ap_decimal([(n, n_relevant)], k, denominator)
            ap = native("average_precision", backend.device, *problem, k=k, denominator=denominator)
            assert_same_ap(ap, [expected], f"k={k} {denominator}")


def test_long_list_with_split_tie(backend) -> None:
    """A tie of 60,000 in the middle, cut in its middle: many terms of unequal weight."""
    sizes, relevant = (7, 20_000, 60_000, 20_000), (3, 5_000, 9_000, 1)
    values = np.repeat([0, 1, 2, 3], sizes)
    hits = np.concatenate([np.arange(n) < p for n, p in zip(sizes, relevant, strict=True)])
    shuffle = np.random.default_rng(2).permutation(len(values))
    problem = ranked_problem(values[shuffle], hits[shuffle])
    groups = list(zip(sizes, relevant, strict=True))
    for k in (5, 20_007, 20_008, 30_000, 80_006):
        for denominator in DENOMINATORS:
            ap = native("average_precision", backend.device, *problem, k=k, denominator=denominator)
            assert_same_ap(ap, [expected_ap_decimal(groups, k, denominator)], f"k={k} {denominator}")


@given(problem=problems(max_db=60), seed=seeds(), data=st.data())
def test_relations(problem: Problem, seed: int, data, backend) -> None:
    """All but `index` do not see the database's order; no rule sees an XOR mask, bit order or zero bytes."""
    rng = np.random.default_rng(seed)
    queries, database, query_labels, database_labels = problem.labelled()
    k = data.draw(st.one_of(st.none(), st.integers(1, len(database))), label="k")
    denominator = data.draw(st.sampled_from(DENOMINATORS))
    order, mask = (
        rng.permutation(8 * queries.shape[1]),
        rng.integers(0, 256, queries.shape[1], dtype=np.uint8),
    )
    shuffle = rng.permutation(len(database))
    for ties in ("expected", *ORDERS):
        options = {"k": k, "ties": ties, "denominator": denominator, "score": problem.score}

        def ap(q=queries, d=database, dl=database_labels, options=options):
            return native("average_precision", backend.device, q, d, query_labels, dl, **options)

        plain = ap()
        if problem.score == "hamming":
            assert_same_ap(ap(queries ^ mask, database ^ mask), plain, f"{ties} XOR mask")
        mixed = [oracles.pack(oracles.bits(codes)[:, order]) for codes in (queries, database)]
        assert_same_ap(ap(*mixed), plain, f"{ties} permuted bits")
        assert_same_ap(
            ap(*[np.pad(c, ((0, 0), (0, 7))) for c in (queries, database)]), plain, f"{ties} zero bytes"
        )
        if ties != "index":
            moved = ap(d=database[shuffle], dl=database_labels[shuffle])
            assert_same_ap(moved, plain, f"{ties} permuted database")


@given(problem=problems(max_db=60), data=st.data())
def test_bounds(problem: Problem, data, backend) -> None:
    """worst ≤ expected, index ≤ best, but for `retrieved` with a cut; at k ≥ n the denominators agree."""
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database))), label="k")
    denominator = data.draw(st.sampled_from(DENOMINATORS if k is None else DENOMINATORS[1:]))
    options = {"k": k, "denominator": denominator, "score": problem.score, "allowed": problem.allowed}
    ap = {
        ties: native("average_precision", backend.device, *problem.labelled(), ties=ties, **options)
        for ties in ("expected", *ORDERS)
    }
    slack = 1 + 1e-12
    for ties in ("expected", "index"):
        assert not (ap["worst"] > ap[ties] * slack).any() and not (ap[ties] > ap["best"] * slack).any(), ties
    if k is None:
        options |= {"denominator": "relevant", "k": len(problem.database) + 1}
        assert_same_ap(
            native("average_precision", backend.device, *problem.labelled(), **options), ap["expected"]
        )


@pytest.mark.deep
@pytest.mark.parametrize("labels", ("ids", "many ids", "multi-hot", "repeated multi-hot"))
@pytest.mark.parametrize(
    ("style", "score"), [("random", "hamming"), ("near", "overlap"), ("ties", "hamming"), ("ties", "overlap")]
)
def test_database_arranged_for_queries(style: str, score: str, labels: str, backend) -> None:
    """So many that the database is arranged for them; the last twenty queries repeat earlier ones."""
    rng = np.random.default_rng(6)
    n_query, n_db, n_bytes = 100, 700, 5
    codes = make_codes(rng, n_query + n_db, n_bytes, style)
    if labels.endswith("ids"):
        hot = rng.integers(0, 300 if labels == "many ids" else 4, n_query + n_db)
    elif labels == "multi-hot":
        hot = rng.random((n_query + n_db, 70)) < 0.03
    else:
        hot = (rng.random((5, 9)) < 0.3)[rng.integers(0, 5, n_query + n_db)]
    for part in (codes, hot):
        part[80:100] = part[rng.integers(0, 80, 20)]
    shared, own = rng.random(n_db) < 0.7, rng.random((n_query, n_db)) < 0.7
    problem = codes[:n_query], codes[n_query:], hot[:n_query], hot[n_query:]
    turns = itertools.cycle(DENOMINATORS)
    for ties, (k, allowed) in itertools.product(
        ORDERS, ((None, None), (90, None), (90, shared), (None, own))
    ):
        options = {"k": k, "ties": ties, "score": score, "allowed": allowed, "denominator": next(turns)}
        expected = oracles.average_precision(*problem, **options)
        assert_same_ap(
            native("average_precision", backend.device, *problem, **options), expected, f"{options}"
        )
    keys = oracles.sort_keys(oracles.counts(codes[:n_query], codes[n_query:], score), score)
    hits = oracles.relevance(hot[:n_query], hot[n_query:])
    for k, denominator in ((None, "retrieved"), (90, "min"), (90, "retrieved")):
        some = range(0, n_query, 9)
        expected = [expected_ap_decimal(oracles.tie_groups(keys[q], hits[q]), k, denominator) for q in some]
        ap = native("average_precision", backend.device, *problem, k=k, denominator=denominator, score=score)
        assert_same_ap(ap[::9], expected, f"expected k={k} {denominator}")


def test_allowed_is_a_smaller_database(backend) -> None:
    """Items not allowed count nowhere: neither in ranks, nor in R."""
    rng = np.random.default_rng(3)
    database, ids = make_codes(rng, 400, 2, "near"), rng.integers(0, 4, 400)
    mask = rng.random(400) < 0.5
    for ties, denominator in itertools.product(("expected", *ORDERS), DENOMINATORS):
        options = {"ties": ties, "denominator": denominator, "k": 31}
        part = native(
            "average_precision", backend.device, database[:9], database[mask], ids[:9], ids[mask], **options
        )
        for allowed in (mask, np.packbits(mask, bitorder="little"), np.tile(mask, (9, 1))):
            ap = native(
                "average_precision",
                backend.device,
                database[:9],
                database,
                ids[:9],
                ids,
                allowed=allowed,
                **options,
            )
            assert_same_ap(ap, part, f"{ties} {denominator}")


def test_strides(backend) -> None:
    rng = np.random.default_rng(4)
    codes, hot = make_codes(rng, 31, 3, "near"), rng.random((31, 70)) < 0.05
    for ties in ("index", "worst"):
        expected = oracles.average_precision(codes, codes, hot, hot, ties=ties)
        for code_view, label_view in zip(strided_views(codes), strided_views(hot)[::-1], strict=True):
            ap = native(
                "average_precision", backend.device, code_view, code_view, label_view, label_view, ties=ties
            )
            assert_same_ap(ap, expected, ties)


def test_edges(device: str) -> None:
    empty, codes, ids = np.empty((0, 2), np.uint8), np.zeros((3, 2), np.uint8), np.arange(3)
    for ties in ("expected", *ORDERS):
        assert_same_ap(
            native("average_precision", device, empty, codes, ids[:0], ids, ties=ties), np.empty(0)
        )
        one = native("average_precision", device, codes[:2], codes[:1], ids[:2], ids[:1], ties=ties, k=7)
        assert_same_ap(one, [1.0, np.nan], "n = 1")
        masked = native("average_precision", device, codes, codes, ids, ids, ties=ties, allowed=ids != 1)
        assert np.isnan(masked).tolist() == [False, True, False]


def test_is_float64_of_the_inputs_kind() -> None:
    problem = ranked_problem(*ONE)
    assert isinstance(dshc_fast.average_precision(*problem), np.ndarray)
