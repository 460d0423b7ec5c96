"""retrieval_metric and the functions of its metrics: hand-worked vectors, brute force, long lists, another library."""

from __future__ import annotations

import math

import metric_oracles
import numpy as np
import pytest
from callers import both, native
from comparisons import assert_same_ap
from hypothesis import given
from hypothesis import strategies as st
from metric_oracles import AT_R, METRICS
from ranked import ranked_problem
from strategies import SCORES, Problem, make_codes, problems, seeds

import dshc_fast

ORDERS = ("index", "best", "worst")
TIES = ("expected", *ORDERS)
GAINS = ("linear", "exponential")
ONE = ([0, 1, 1, 2, 2, 2], [0, 1, 0, 1, 1, 0])  # values, relevance
SECOND, THIRD = 1 / math.log2(3), 1 / 2
FOURTH, FIFTH, SIXTH = (1 / math.log2(rank + 1) for rank in (4, 5, 6))
IDEAL = 1 + SECOND + THIRD


@pytest.mark.parametrize(
    ("metric", "k", "ties", "expected"),
    [
        ("ndcg", None, "expected", ((SECOND + THIRD) / 2 + 2 / 3 * (FOURTH + FIFTH + SIXTH)) / IDEAL),
        ("ndcg", None, "best", (SECOND + FOURTH + FIFTH) / IDEAL),
        ("ndcg", None, "worst", (THIRD + FIFTH + SIXTH) / IDEAL),
        ("ndcg", 2, "expected", SECOND / 2 / (1 + SECOND)),
        ("ndcg", 99, "index", (SECOND + FOURTH + FIFTH) / IDEAL),
        ("reciprocal_rank", None, "expected", (1 / 2 + 1 / 3) / 2),
        ("reciprocal_rank", 2, "expected", 1 / 4),
        ("reciprocal_rank", 1, "expected", 0.0),
        ("reciprocal_rank", None, "worst", 1 / 3),
        ("precision", 3, "expected", 1 / 3),
        ("precision", 4, "expected", (1 + 2 / 3) / 4),
        ("precision", 4, "worst", 1 / 4),
        ("precision", None, "worst", 1 / 2),
        ("precision", 12, "best", 1 / 4),
        ("recall", 4, "expected", (1 + 2 / 3) / 3),
        ("recall", 4, "best", 2 / 3),
        ("hit_rate", 1, "expected", 0.0),
        ("hit_rate", 2, "expected", 1 / 2),
        ("hit_rate", 2, "worst", 0.0),
        ("hit_rate", 3, "worst", 1.0),
        ("r_precision", None, "expected", 1 / 3),
        ("average_precision_at_r", None, "expected", (1 / 2 + 1 / 3) / 2 / 3),
        ("average_precision_at_r", None, "index", 1 / 2 / 3),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_hand_worked(metric: str, k, ties: str, expected: float, score: str, backend) -> None:
    values, hits = ONE
    values = values if score == "hamming" else [7 - v for v in values]
    problem = ranked_problem(values, hits, score)
    for who, value in both("retrieval_metric", backend.device, *problem, metric, k=k, ties=ties, score=score):
        assert_same_ap(value, [expected], who)


@pytest.mark.parametrize("gains", GAINS)
def test_gains_of_shared_labels(gains: str, backend) -> None:
    """Items share 2, 0, 3, 1 labels, at distances 0, 1, 1, 1."""
    labels = np.array([[1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], dtype=bool)
    query = np.array([[1, 1, 1, 0]], dtype=bool)
    codes, *_ = ranked_problem([0, 1, 1, 1], [1] * 4)
    database = ranked_problem([0, 1, 1, 1], [1] * 4)[1]
    two, three = (2, 3) if gains == "linear" else (3, 7)
    ideal = three + two * SECOND + 1 * THIRD
    rest = {
        "expected": (three + 1) / 3 * (SECOND + THIRD + FOURTH),
        "index": three * THIRD + FOURTH,
        "best": three * SECOND + THIRD,
        "worst": THIRD + three * FOURTH,
    }
    for ties, value in rest.items():
        for who, found in both(
            "retrieval_metric", backend.device, codes, database, query, labels, "ndcg", ties=ties, gains=gains
        ):
            assert_same_ap(found, [(two + value) / ideal], f"{who} {ties}")


@given(problem=problems(max_query=3, max_db=7, widths=(1, 2, 9)), data=st.data())
def test_brute_force(problem: Problem, data, backend) -> None:
    """All metrics and options over arbitrary problems with small ties."""
    metric = data.draw(st.sampled_from(METRICS), label="metric")
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 2)), label="k")
    options = {
        "k": None if metric in AT_R else k,
        "score": problem.score,
        "allowed": problem.allowed,
        "ties": data.draw(st.sampled_from(TIES)),
        "gains": data.draw(st.sampled_from(GAINS)),
    }
    expected = metric_oracles.retrieval_metric(*problem.labelled(), metric, **options)
    for who, value in both(
        "retrieval_metric", backend.device, *problem.labelled(), metric, n_bits=problem.n_bits, **options
    ):
        assert_same_ap(value, expected, f"{who} {metric} {options}")


@pytest.mark.parametrize("metric", METRICS)
@given(problem=problems(max_db=90), data=st.data())
def test_twin(problem: Problem, metric: str, data, backend) -> None:
    """Ties of any size, against the twin and against the sorted list."""
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 5)), label="k")
    options = {
        "k": None if metric in AT_R else k,
        "ties": data.draw(st.sampled_from(TIES)),
        "gains": data.draw(st.sampled_from(GAINS)),
        "score": problem.score,
        "allowed": problem.allowed,
    }
    answers = dict(
        both(
            "retrieval_metric", backend.device, *problem.labelled(), metric, n_bits=problem.n_bits, **options
        )
    )
    assert_same_ap(answers["native"], answers["reference"], f"{metric} {options}")
    if options["ties"] != "expected":
        expected = metric_oracles.retrieval_metric(*problem.labelled(), metric, **options)
        assert_same_ap(answers["native"], expected, f"{metric} {options}")


@pytest.mark.parametrize("n_relevant", (1, 2, 3, 700, 99_999, 100_000))
def test_one_huge_tie(n_relevant: int, backend) -> None:
    """100,000 equal codes behind ten nearer ones: sums over all ranks, against closed forms of other kinds."""
    n, before = 100_000, 10
    hits = np.concatenate(
        [np.zeros(before), np.random.default_rng(n_relevant).permutation(n) < n_relevant]
    ).astype(np.int64)
    problem = ranked_problem(np.concatenate([np.zeros(before), np.full(n, 3)]).astype(np.int64), hits)
    ranks = np.arange(before + 1, before + n + 1)
    discounts = 1 / np.log2(ranks + 1)
    ideal = math.fsum(1 / np.log2(np.arange(1, n_relevant + 1) + 1))
    # The chance that the first relevant item is at each place of the tie, as the difference of two survivals.
    steps = 1 - n_relevant / (n - np.arange(n))
    survival = np.cumprod(np.concatenate([[1.0], steps]))[: n + 1]
    chances = survival[:-1] * (n_relevant / (n - np.arange(n))).clip(max=1)
    for k in (None, 11, 1000, 60_000):
        inside = n if k is None else k - before
        share = n_relevant / n
        expected = {
            "ndcg": share * math.fsum(discounts[:inside])
            / (ideal if k is None else math.fsum(1 / np.log2(np.arange(1, min(k, n_relevant) + 1) + 1))),
            "reciprocal_rank": math.fsum(chances[:inside] / ranks[:inside]),
            "hit_rate": math.fsum(chances[:inside]),
            "precision": share * inside / (n + before if k is None else k),
            "recall": share * inside / n_relevant,
        }  # fmt: skip
        for metric, value in expected.items():
            found = native("retrieval_metric", backend.device, *problem, metric, k=k)
            np.testing.assert_allclose(found, [value], rtol=1e-11, err_msg=f"{metric} k={k}")


@pytest.mark.parametrize("metric", METRICS)
@given(seed=seeds())
def test_a_perfect_ranking_is_one(metric: str, seed: int, backend) -> None:
    """All relevant items first, in ties: 1, and not an ulp more."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 3000))
    hits = np.arange(n) < int(rng.integers(1, n + 1))
    values = np.where(hits, rng.integers(0, 3, n), 8)
    problem, k = ranked_problem(values, hits), None if metric in AT_R else int(hits.sum())
    for ties in TIES:
        found = native("retrieval_metric", backend.device, *problem, metric, k=k, ties=ties)
        assert found[0] <= 1.0
        np.testing.assert_allclose(found, 1.0, rtol=1e-14)


@given(problem=problems(max_db=60), data=st.data())
def test_relations(problem: Problem, data, backend) -> None:
    """What follows from the definitions, and from `average_precision` and `retrieval_curves`."""
    k = data.draw(st.integers(1, len(problem.database)), label="k")
    ties = data.draw(st.sampled_from(TIES))
    options = {"ties": ties, "score": problem.score, "allowed": problem.allowed, "n_bits": problem.n_bits}

    def value(metric: str, **more) -> np.ndarray:
        return native("retrieval_metric", backend.device, *problem.labelled(), metric, **options, **more)

    items, relevant = native(
        "hamming_histogram", backend.device, *problem.labelled(),
        score=problem.score, allowed=problem.allowed, n_bits=problem.n_bits,
    )  # fmt: skip
    total = relevant.sum(1)
    with np.errstate(invalid="ignore"):
        assert_same_ap(value("recall", k=k) * total, value("precision", k=k) * k, "found")
    assert np.array_equal(np.isnan(value("ndcg")), total == 0)
    best, worst = (
        native("retrieval_metric", backend.device, *problem.labelled(), "ndcg", **{**options, "ties": which})
        for which in ("best", "worst")
    )
    kept = total > 0
    assert (worst[kept] <= value("ndcg")[kept] + 1e-12).all()
    assert (value("ndcg")[kept] <= best[kept] + 1e-12).all()
    for q in np.flatnonzero(kept):
        one = [
            problem.queries[q : q + 1],
            problem.database,
            problem.query_labels[q : q + 1],
            problem.database_labels,
        ]
        allowed = problem.allowed
        if allowed is not None and allowed.ndim == 2:
            allowed = allowed[q]
        more = {**options, "allowed": allowed}
        at_r = {"k": int(total[q]), "denominator": "relevant"}
        assert_same_ap(
            value("average_precision_at_r")[q : q + 1],
            native("average_precision", backend.device, *one, **more, **at_r),
            "at R",
        )
        assert_same_ap(
            value("r_precision")[q : q + 1],
            native("retrieval_metric", backend.device, *one, "precision", k=int(total[q]), **more),
            "precision at R",
        )


@pytest.mark.parametrize("metric", METRICS)
def test_named_functions(metric: str) -> None:
    """Each metric has a function of its own, which passes every argument on; a prepared database is taken too."""
    rng = np.random.default_rng(7)
    queries, database = make_codes(rng, 4, 2, "near"), make_codes(rng, 50, 2, "near")
    labels = rng.random((4, 6)) < 0.4, rng.random((50, 6)) < 0.4
    options = {
        "ties": "index",
        "score": "overlap",
        "n_bits": 16,
        "allowed": rng.random(50) < 0.8,
        "check": True,
    }
    options |= {} if metric in AT_R else {"k": 7}
    options |= {"gains": "exponential"} if metric == "ndcg" else {}
    call = getattr(dshc_fast, metric)
    expected = dshc_fast.retrieval_metric(queries, database, *labels, metric, **options)
    assert np.array_equal(call(queries, database, *labels, **options), expected, equal_nan=True)
    prepared = dshc_fast.HammingDatabase(database, labels[1])
    assert np.array_equal(call(queries, prepared, labels[0], **options), expected, equal_nan=True)
    assert_same_ap(expected, metric_oracles.retrieval_metric(
        queries, database, *labels, metric,
        **{key: value for key, value in options.items() if key not in ("n_bits", "check")},
    ))  # fmt: skip


@pytest.mark.parametrize("ties", TIES)
def test_databases_of_two_walks(ties: str, backend) -> None:
    """More items than are noted at once, with few queries; gains, and class ids."""
    rng = np.random.default_rng(3)
    n = (1 << 20) + 777
    database = rng.integers(0, 256, (n, 1), dtype=np.uint8)
    labels = rng.random((n, 3)) < 0.3
    queries, query_labels = database[:2] ^ 1, np.array([[1, 1, 1], [0, 1, 1]], dtype=bool)
    shared = metric_oracles.shared_labels(query_labels, labels)
    distances = np.bitwise_count(queries[:, None, 0] ^ database[None, :, 0]).astype(np.int64)
    discounts = 1 / np.log2(np.arange(1, n + 1) + 1)
    for q in range(2):
        second = {"best": -shared[q], "worst": shared[q]}.get(ties, np.zeros(n))
        order = np.lexsort((np.arange(n), second, distances[q]))
        gains = shared[q][order].astype(np.float64)
        if ties == "expected":
            key = distances[q][order]
            means = np.array([gains[key == d].mean() for d in range(9)])
            gains = means[key]
        ideal = math.fsum(np.sort(shared[q])[::-1] * discounts)
        found = native(
            "retrieval_metric", backend.device, queries[q : q + 1], database, query_labels[q : q + 1], labels,
            "ndcg", ties=ties,
        )  # fmt: skip
        np.testing.assert_allclose(found, [math.fsum(gains * discounts) / ideal], rtol=1e-11)


@given(seed=seeds(), data=st.data())
def test_tie_aware_retrieval_metrics(seed: int, data) -> None:
    """The values of PyPI's `tie-aware-retrieval-metrics` (Yang et al., ACL 2026), wherever it defines them."""
    trm = pytest.importorskip("trm", reason="tie-aware-retrieval-metrics is not installed")
    rng = np.random.default_rng(seed)
    n = data.draw(st.integers(1, 40), label="n")
    k = data.draw(st.integers(1, n), label="k")
    values, hits = rng.integers(0, 5, n), rng.integers(0, 2, n)
    hits[rng.integers(0, n)] = 1
    problem = ranked_problem(values, hits)
    names = {"ndcg": "ndcg", "mrr": "reciprocal_rank", "recall": "recall", "precision": "precision"}
    theirs = trm.evaluate(
        [(-values).tolist()], [hits.astype(bool).tolist()], metrics=[*names, "hits", "map"], k_list=[k]
    )
    orders = {"expected": "expected", "best": "maximum", "worst": "minimum", "index": "oblivious"}
    for ties, of_result in orders.items():
        for their_name, metric in names.items():
            ours = dshc_fast.retrieval_metric(*problem, metric, k=k, ties=ties)
            assert_same_ap(ours, [getattr(theirs.metrics[their_name][k], of_result)], f"{metric} {ties}")
        found = dshc_fast.precision(*problem, k=k, ties=ties) * k
        assert_same_ap(found, [getattr(theirs.metrics["hits"][k], of_result)], f"hits {ties}")
        ap = dshc_fast.average_precision(*problem, k=k, ties=ties, denominator="relevant")
        assert_same_ap(ap, [getattr(theirs.metrics["map"][k], of_result)], f"map {ties}")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"metric": "mrr"}, ValueError, "metric must be one of .*'ndcg'.*got 'mrr'"),
        ({"metric": None}, (TypeError, ValueError), "metric must be"),
        ({"k": 0}, ValueError, "k must be 1 or more, or None for all, got 0"),
        ({"k": 2.5}, TypeError, "k must be an integer, got"),
        ({"ties": "random"}, ValueError, "ties must be one of"),
        ({"gains": "square"}, ValueError, "gains must be one of"),
        ({"metric": "r_precision", "k": 3}, ValueError, "k must be None for r_precision"),
        (
            {"metric": "average_precision_at_r", "k": 3},
            ValueError,
            "k must be None for average_precision_at_r",
        ),
        ({"score": "cosine"}, ValueError, "score must be one of"),
    ],
)
def test_errors(change: dict, error, words: str) -> None:
    codes, labels = np.array([[0], [1], [3]], dtype=np.uint8), np.array([5, 5, 7])
    with pytest.raises(error, match=words):
        dshc_fast.retrieval_metric(codes, codes, labels, labels, **{"metric": "ndcg", **change})


def test_exponential_gains_of_too_many_labels() -> None:
    codes, labels = np.zeros((2, 1), np.uint8), np.ones((2, 961), bool)
    with pytest.raises(ValueError, match="query_labels must have at most 960 labels .* got 961"):
        dshc_fast.ndcg(codes, codes, labels, labels, gains="exponential")
    assert dshc_fast.ndcg(codes, codes, labels, labels).tolist() == [1.0, 1.0]
    assert dshc_fast.ndcg(codes, codes, labels[:, 1:], labels[:, 1:], gains="exponential").tolist() == [
        1.0,
        1.0,
    ]
