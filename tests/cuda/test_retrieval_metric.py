"""The kernels of retrieval_metric, run on the CPU by the interpreter (simt.py)."""

from __future__ import annotations

import numpy as np
import pytest
from callers import native, twin
from comparisons import assert_same_ap
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from metric_oracles import AT_R, METRICS
from ranked import ranked_problem
from simt import ORDERS
from simt_kernels import FEW, GAINS, TIES, runs
from strategies import Problem, make_codes
from tiled import tiled_problems


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data(), problem=tiled_problems(max_query=3))
def test_metrics(data, metric: str, problem: Problem, order: str) -> None:
    k = data.draw(st.one_of(st.none(), st.integers(1, len(problem.database) + 3)), label="k")
    options = {
        "k": None if metric in AT_R else k,
        "ties": data.draw(st.sampled_from(TIES)),
        "gains": data.draw(st.sampled_from(GAINS)),
        "score": problem.score,
        "allowed": problem.allowed,
    }
    found = runs(order, data).retrieval_metric(*problem.labelled(), metric, **options)
    assert_same_ap(found, twin("retrieval_metric", *problem.labelled(), metric, **options), str(options))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("ties", TIES)
def test_many_chunks_of_queries(ties: str, order: str) -> None:
    """One call launches several times, its workspace used again."""
    rng = np.random.default_rng(4)
    pair = make_codes(rng, 600, 3, "near"), make_codes(rng, 40, 3, "near")
    labels = rng.random((600, 5)) < 0.4, rng.random((40, 5)) < 0.4
    for metric in ("ndcg", "reciprocal_rank"):
        found = runs(order, seed=1).retrieval_metric(*pair, *labels, metric, ties=ties)
        assert_same_ap(found, native("retrieval_metric", "cpu", *pair, *labels, metric, ties=ties), metric)


@pytest.mark.parametrize("ties", ["expected", *deep("index", "best", "worst")])
def test_counts_of_shared_labels_are_cut_into_chunks(ties: str) -> None:
    """Codes of 4,096 bits and 512 labels: a query's counts take 16 MiB, and 20 queries go in two launches."""
    rng = np.random.default_rng(5)
    pair = make_codes(rng, 20, 512), make_codes(rng, 30, 512)
    labels = rng.random((20, 512)) < 0.2, rng.random((30, 512)) < 0.2
    found = runs("ascending").retrieval_metric(*pair, *labels, "ndcg", ties=ties)
    assert_same_ap(found, native("retrieval_metric", "cpu", *pair, *labels, "ndcg", ties=ties))


@pytest.mark.parametrize("metric", METRICS)
def test_one_large_tie(metric: str) -> None:
    hits = np.random.default_rng(6).permutation(5003) < 7
    problem = ranked_problem(np.repeat([1, 4], [3, 5000]), hits.astype(np.int32))
    problem = (*problem[:2], problem[2].astype(np.int32), problem[3].astype(np.int32))
    for k in (None,) if metric in AT_R else (None, 3, 4, 2500):
        for ties in TIES:
            found = runs("random", seed=2).retrieval_metric(*problem, metric, k=k, ties=ties)
            expected = native("retrieval_metric", "cpu", *problem, metric, k=k, ties=ties)
            assert_same_ap(found, expected, f"k={k} {ties}")
