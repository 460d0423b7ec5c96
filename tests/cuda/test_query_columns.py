"""The counting kernels that give each thread a query (csrc/cuda/query_columns.cu), run by the interpreter (simt.py).

Sizes lie around lanes, warps, tiles and what 16 bits can count; labels around what fits a word.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from callers import native
from comparisons import assert_same_ap, assert_same_array, assert_same_histogram
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from metric_oracles import AT_R, METRICS
from simt import Output, Virtual
from simt_kernels import DENOMINATORS, EDGES, FEW, GAINS, SCORES, TIES, runs
from strategies import CODE_STYLES, allowed_masks, clear_padding, labels, make_codes, seeds

WIDTHS = tuple(range(1, 33))
QUERIES = (1, 2, 3, 5, 8, 16, 27, 28, 31, 32, 33, 57, 64, 65, 96, 112, 113, 128, 129)


def expected_inside(pair, radius: int, score: str, allowed=None) -> np.ndarray:
    counts = oracles.counts(*pair, score)
    inside = counts <= radius if score == "hamming" else counts >= radius
    return (inside & oracles.allowed_matrix(allowed, *counts.shape)).sum(1)


@st.composite
def problems(draw, queries=QUERIES, widths=WIDTHS, max_db: int = 1100):
    """(queries, database), labels, mask, n_bits of a size at an edge."""
    rng = np.random.default_rng(draw(seeds()))
    n_bytes, n_query = draw(st.sampled_from(widths)), draw(st.sampled_from(queries))
    n_db = draw(st.one_of(st.integers(1, 90), st.sampled_from([n for n in EDGES if n < max_db])))
    pair = tuple(make_codes(rng, n, n_bytes, draw(st.sampled_from(CODE_STYLES))) for n in (n_query, n_db))
    n_bits = draw(st.one_of(st.none(), st.integers(8 * n_bytes - 7, 8 * n_bytes)))
    if n_bits is not None:
        pair = tuple(clear_padding(codes, n_bits) for codes in pair)
    return pair, draw(labels(n_query, n_db)), draw(allowed_masks(n_query, n_db)), n_bits


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), problem=problems())
def test_counts(data, problem, score: str, order: str) -> None:
    pair, ids, allowed, n_bits = problem
    kernels = runs(order, data)
    found = kernels.hamming_histogram(*pair, *ids, score, n_bits, allowed)
    assert_same_histogram(found, oracles.histogram(*pair, *ids, score, n_bits, allowed))
    radius = data.draw(st.integers(0, 8 * pair[0].shape[1] + 1), label="radius")
    found = kernels.hamming_radius_count(*pair, radius, score, allowed)
    assert_same_array(found, expected_inside(pair, radius, score, allowed), np.int64)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", WIDTHS)
def test_widths(n_bytes: int, order: str) -> None:
    rng = np.random.default_rng(n_bytes)
    for n_query in (2, 35):
        pair = make_codes(rng, n_query, n_bytes), make_codes(rng, 300, n_bytes)
        ids = rng.integers(0, 3, n_query), rng.integers(0, 3, 300)
        kernels = runs(order, seed=n_bytes)
        for score in SCORES:
            found = kernels.hamming_histogram(*pair, *ids, score)
            assert_same_histogram(found, oracles.histogram(*pair, *ids, score))
            middle = int(np.median(oracles.counts(*pair, score)))
            found = kernels.hamming_radius_count(*pair, middle, score)
            assert_same_array(found, expected_inside(pair, middle, score), np.int64)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_query", QUERIES)
def test_queries(n_query: int, order: str) -> None:
    """Any number of queries, so that each has 1 to 32 lanes and blocks have 32 to 128 threads."""
    rng = np.random.default_rng(n_query)
    pair = make_codes(rng, n_query, 8, "near"), make_codes(rng, 1100, 8, "near")
    ids = rng.integers(0, 3, n_query), rng.integers(0, 3, 1100)
    kernels = runs(order, seed=n_query)
    assert_same_histogram(kernels.hamming_histogram(*pair, *ids), oracles.histogram(*pair, *ids))
    found = kernels.hamming_radius_count(*pair, 3)
    assert_same_array(found, expected_inside(pair, 3, "hamming"), np.int64)


@pytest.mark.parametrize("n_query", (1, 40))
def test_labels_that_fill_no_word(n_query: int, order: str) -> None:
    """Ids and label rows that differ only past their first 32 bits, in some tiles."""
    rng = np.random.default_rng(n_query)
    n_db = 900
    pair = make_codes(rng, n_query, 8, "near"), make_codes(rng, n_db, 8, "near")
    choices = np.array([0, 2**32, -(2**32), 2**40, -1, 2**32 - 1, 7], dtype=np.int64)
    ids = rng.choice(choices, n_query), rng.choice(choices[[0, 4, 6]], n_db)
    ids[1][500:] = rng.choice(choices, n_db - 500)  # tiles before have no wide id
    assert_same_histogram(runs(order).hamming_histogram(*pair, *ids), oracles.histogram(*pair, *ids))
    for n_labels in (32, 33, 64, 65, 200):
        rows = rng.random((n_query, n_labels)) < 0.1, rng.random((n_db, n_labels)) < 0.05
        rows[1][:400, 32:] = False
        rows = tuple(row.astype(np.uint8) for row in rows)
        assert_same_histogram(runs(order).hamming_histogram(*pair, *rows), oracles.histogram(*pair, *rows))


@pytest.mark.parametrize("n_bytes", (3, 8, 16, 32, 40))
@pytest.mark.parametrize("n_query", (3, 150))
def test_a_sample_for_some_queries(n_query: int, n_bytes: int, order: str) -> None:
    """count_values of every item_step-th item, where only some queries need it."""
    rng = np.random.default_rng(n_bytes)
    n_db = 777
    pair = make_codes(rng, n_query, n_bytes, "near"), make_codes(rng, n_db, n_bytes, "near")
    ids = rng.integers(0, 3, n_query, dtype=np.int32), rng.integers(0, 3, n_db, dtype=np.int32)
    masks = (None, rng.random(n_db) < 0.5, rng.random((n_query, n_db)) < 0.5)
    kernels, shape = runs(order, seed=n_query), (n_query, 8 * n_bytes + 1)
    for step, may in zip((1, 2, 5, 100), (*masks, None), strict=True):
        inputs = {"queries": pair[0], "database": pair[1], "query_ids": ids[0], "database_ids": ids[1]}
        sizes = {"n_query": n_query, "n_db": n_db, "n_bytes": n_bytes, "score": 0, "n_words": 0}
        sizes["allowed_stride"] = 0 if may is None or may.ndim == 1 else (n_db + 7) // 8
        if may is not None:
            inputs["allowed"] = np.packbits(may, axis=-1, bitorder="little")
        outputs = {"items": Output(shape, np.int64), "relevant": Output(shape, np.int64)}
        seen = None if may is None else may[..., ::step]
        expected = oracles.histogram(pair[0], pair[1][::step], ids[0], ids[1][::step], "hamming", None, seen)
        found = kernels.run("count_values", inputs, outputs, item_step=step, **sizes)
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_array(ours, theirs, np.int64)
        needed = np.zeros(n_query, np.int32)
        found = kernels.run("count_values", {**inputs, "needed": needed}, outputs, item_step=step, **sizes)
        assert not found[0].any() and not found[1].any()
        needed[-1] = 5
        found = kernels.run("count_values", {**inputs, "needed": needed}, outputs, item_step=step, **sizes)
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_array(ours[-1], theirs[-1], np.int64)
            filled = ours.any(1)
            assert_same_array(ours[filled], np.asarray(theirs, np.int64)[filled], np.int64)
        assert n_query < 128 or not found[0][0].any()  # another block, that none needs


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), problem=problems(queries=(256, 257, 320), widths=WIDTHS[:20], max_db=300))
def test_ties_by_index(data, problem, score: str, order: str) -> None:
    """So many queries that index_columns.cu takes them, in launches of 256; codes of up to 160 bits."""
    pair, ids, allowed, _ = problem
    options = {
        "k": data.draw(st.one_of(st.none(), st.integers(1, len(pair[1]) + 3)), label="k"),
        "ties": "index",
        "denominator": data.draw(st.sampled_from(DENOMINATORS), label="denominator"),
        "score": score,
        "allowed": allowed,
    }
    found = runs(order, data).average_precision(*pair, *ids, **options)
    assert_same_ap(found, native("average_precision", "cpu", *pair, *ids, **options))


@pytest.mark.parametrize(("n_bytes", "n_db"), [(4, 2600), *deep((8, 2600), (16, 2600), (20, 2600), (21, 40))])
def test_ties_by_index_of_many_items(n_bytes: int, n_db: int, order: str) -> None:
    """Several shards, few distinct codes; codes too long for the same kernels."""
    rng = np.random.default_rng(n_bytes)
    pair = make_codes(rng, 256, n_bytes, "near"), make_codes(rng, n_db, n_bytes, "ties")
    ids = rng.integers(0, 3, 256), rng.integers(0, 3, n_db)
    for k in (None, n_db // 4, n_db // 20):
        found = runs(order, seed=n_bytes).average_precision(*pair, *ids, k=k, ties="index")
        assert_same_ap(found, native("average_precision", "cpu", *pair, *ids, k=k, ties="index"))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("metric", METRICS)
@given(data=st.data(), problem=problems(queries=(256, 257, 320), widths=WIDTHS[:20], max_db=300))
def test_ties_by_index_of_other_metrics(data, metric: str, problem, order: str) -> None:
    pair, ids, allowed, _ = problem
    k = data.draw(st.one_of(st.none(), st.integers(1, len(pair[1]) + 3)), label="k")
    options = {
        "k": None if metric in AT_R else k,
        "ties": "index",
        "gains": data.draw(st.sampled_from(GAINS), label="gains"),
        "score": data.draw(st.sampled_from(SCORES), label="score"),
        "allowed": allowed,
    }
    found = runs(order, data).retrieval_metric(*pair, *ids, metric, **options)
    assert_same_ap(found, native("retrieval_metric", "cpu", *pair, *ids, metric, **options), str(options))


@pytest.mark.parametrize("n_classes", (1, 2, 40, 1000))
@pytest.mark.parametrize("score", SCORES)
def test_ties_by_index_of_any_cut(score: str, n_classes: int) -> None:
    """Few and all items inside the cut, none to all of them relevant: queues that fill at once, late or never."""
    rng = np.random.default_rng(n_classes)
    n_db = 530
    pair = make_codes(rng, 256, 8, "near"), make_codes(rng, n_db, 8, "near")
    ids = rng.integers(0, n_classes, 256), rng.integers(0, n_classes, n_db)
    kernels = runs("random", seed=n_classes)
    for k in (1, n_db // 16, n_db // 16 + 1, n_db // 2, n_db - 1, n_db):
        found = kernels.average_precision(*pair, *ids, k=k, ties="index", score=score)
        expected = native("average_precision", "cpu", *pair, *ids, k=k, ties="index", score=score)
        assert_same_ap(found, expected, f"k={k}")


def _first_shard_alone(n_bytes: int, shard: int, k: int | None, call: str, *metric: str) -> None:
    """70,000 items, of which the first and the last shard run: the first queries see the first shard alone."""
    rng = np.random.default_rng(n_bytes)
    n_db, first = 70_000, 4  # of the last kernel, a warp a query
    pair = make_codes(rng, 256, n_bytes, "near"), make_codes(rng, n_db, n_bytes, "near")
    ids = rng.integers(0, 3, 256), rng.integers(0, 3, n_db)
    inputs = {"queries": pair[0], "database": pair[1], "query_wide_ids": ids[0], "database_wide_ids": ids[1]}
    sizes = {"n_query": 256, "n_db": n_db, "n_bytes": n_bytes, "score": 0, "n_words": 0, "allowed_stride": 0}
    sizes |= {
        "ties": TIES.index("index"),
        "k": k or n_db,
        "denominator": 0,
        "metric": 0,
        "gains": 0,
        "n_labels": 1,
    }
    kernels, result = runs("random", seed=n_bytes), {"result": Output((256,), np.float64)}
    found = kernels.run(call, inputs, result, only_ends=1, multiprocessors=1000, **sizes)[0]
    few = pair[0][:first], pair[1][:shard], ids[0][:first], ids[1][:shard]
    expected = native(call, "cpu", *few, *metric, k=min(k or shard, shard), ties="index")
    assert_same_ap(found[:first], expected)


@pytest.mark.parametrize(
    ("n_bytes", "shard", "k", "call"),
    [
        (1, 1280, None, ("average_precision",)),
        *deep((1, 1280, 1000, ("retrieval_metric", "ndcg")), (1, 1280, 40_000, ("average_precision",))),
        *deep((8, 1792, None, ("retrieval_metric", "ndcg")), (20, 3072, None, ("average_precision",))),
    ],
)
def test_ties_by_index_of_more_items_than_16_bits_count(
    n_bytes: int, shard: int, k: int | None, call
) -> None:
    """Counters of two words, and one word where the cut lets it."""
    _first_shard_alone(n_bytes, shard, k, *call)


@pytest.mark.parametrize("k", deep(None, 100, 40_000))
def test_ties_by_index_past_16_bits(k: int | None) -> None:
    """Places past 65,535, in one word that stops at the cut, or in two."""
    rng = np.random.default_rng(8)
    pair = make_codes(rng, 256, 1), make_codes(rng, 66_000, 1)
    ids = rng.integers(0, 3, 256), rng.integers(0, 3, 66_000)
    found = runs("ascending").average_precision(*pair, *ids, k=k, ties="index")
    assert_same_ap(found, native("average_precision", "cpu", *pair, *ids, k=k, ties="index"))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize(
    ("n_query", "n_bytes", "lanes", "blocks"), [(1, 32, 32, 1), (3, 2, 32, 3), (32, 2, 1, 1)]
)
def test_full_counters_past_31_bits(n_query: int, n_bytes: int, lanes: int, blocks: int, order: str) -> None:
    """More than 2^31 items, of which the first and the last shard run, `blocks` each: all of them at one distance,
    all relevant, as many as 16 bits count for each lane. One query of long codes: 32 threads, which take every 32nd
    item each.
    """
    shard, n_bits = 65_280 * lanes, 8 * n_bytes
    n_db, kernels = 1025 * 32 * 65_280, runs(order)
    queries, ids = np.full((n_query, n_bytes), 255, np.uint8), np.zeros(n_query, np.int64)
    last = np.full((3, n_bytes), 255, np.uint8), np.array([0, 2**40, 1])
    last[0][1, 0] = 254
    pairs = {
        "queries": queries,
        "database": Virtual(n_db * n_bytes, ((n_db * n_bytes - last[0].size, last[0]),)),
    }
    wide = {"query_wide_ids": ids, "database_wide_ids": Virtual(n_db * 8, ((n_db * 8 - 24, last[1]),))}
    sizes = {"n_query": n_query, "n_db": n_db, "n_bytes": n_bytes, "score": 0, "allowed_stride": 0}
    sizes["only_ends"] = blocks
    tables = {
        "items": Output((n_query, n_bits + 1), np.int64),
        "relevant": Output((n_query, n_bits + 1), np.int64),
    }
    items, relevant = kernels.run(
        "hamming_histogram", pairs | wide, tables, n_bits=n_bits, n_words=0, **sizes
    )
    assert items[:, [0, 1, n_bits]].tolist() == [[2, 1, 2 * shard - 3]] * n_query
    assert relevant[:, [0, 1, n_bits]].tolist() == [[1, 0, 2 * shard - 3]] * n_query
    assert items.sum() == 2 * shard * n_query and relevant.sum() == (2 * shard - 2) * n_query
    if n_query >= 4:  # tensor cores count, in equal parts; so many blocks that the ends are short
        sizes["multiprocessors"] = 40_000
    found = kernels.run(
        "hamming_radius_count", pairs, {"found": Output((n_query,), np.int64)}, radius=n_bits - 1, **sizes
    )[0]
    assert found.tolist() == [3] * n_query


def test_no_lane_counts_more_than_the_others() -> None:
    """A query has several lanes, and its shard ends in a part of a tile: all of its items are at one value."""
    n_query, n_db = (
        48,
        261_984,
    )  # on one multiprocessor: two lanes a query, two shards of 511 3/4 tiles a lane
    codes, ids = np.zeros((n_db, 32), np.uint8), np.zeros(n_db, np.int64)
    found = runs("ascending").run(
        "hamming_histogram",
        {"queries": codes[:n_query], "database": codes, "query_wide_ids": ids[:n_query], "database_wide_ids": ids},
        {"items": Output((n_query, 257), np.int64), "relevant": Output((n_query, 257), np.int64)},
        n_query=n_query, n_db=n_db, n_bytes=32, score=0, allowed_stride=0, n_words=0, n_bits=256, multiprocessors=1,
    )  # fmt: skip
    for counts in found:
        assert (counts[:, 0] == n_db).all() and not counts[:, 1:].any()
