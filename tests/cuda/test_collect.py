"""Top-k in one pass (csrc/cuda/collect.h), run on the CPU by the interpreter (simt.py) in several orders of threads and
blocks: by population counts and by single-bit matrix products.

The thresholds are made small so that a few thousand items meet falling bounds, chunks and groups of queries, buffers
that overflow, and ties that do not fit the sort.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from comparisons import assert_same_radius, assert_same_topk
from effort import deep
from hypothesis import assume, given
from hypothesis import strategies as st
from simt import Output, SimtError, Virtual
from simt_kernels import FEW, SCORES, runs
from strategies import CODE_STYLES, allowed_masks, make_codes, seeds

KERNELS = ("popc", "mma")
WIDTHS = (1, 2, 3, 4, 5, 6, 8, 9, 15, 16, 17, 24, 31, 32)
LONG_WIDTHS = (33, 36, 47, 48, 63, 64, 65, 80, 96, 97, 112, 127, 128)  # on tensor cores alone
FEW_WIDTHS = (1, 3, 4, 9, 16, 17, 31, 32, 33, 64, 97, 128)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return request.param


@st.composite
def collecting(draw) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """(queries, database, tuning)."""
    rng = np.random.default_rng(draw(seeds()))
    n_bytes, n_query = draw(st.sampled_from((*WIDTHS, *LONG_WIDTHS))), draw(st.integers(1, 20))
    n_db = draw(st.one_of(st.integers(1, 90), st.sampled_from((255, 256, 511, 513, 2047, 2048, 2049, 4100))))
    database = make_codes(rng, n_db, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    queries = make_codes(rng, n_query, n_bytes, draw(st.sampled_from(CODE_STYLES)))
    if draw(st.booleans()):
        queries = database[rng.integers(0, n_db, n_query)]
    tuning = {
        "capacity": draw(st.sampled_from((1, 7, 60, 500, 5000))),
        "sample_items": draw(st.sampled_from((1, 5, 40, 300, 10_000))),
        "chunk": draw(st.sampled_from((0, 1, 5, 8, 11))),
        "group": draw(st.sampled_from((8, 16, 256))),
        "count_every": draw(st.sampled_from((1, 2, 32))),
        "prefix_tiles": draw(st.sampled_from((-1, 0, 1))),
    }
    return queries, database, tuning


@pytest.mark.parametrize("score", SCORES)
@given(data=st.data(), problem=collecting())
def test_collect_topk(data, problem, score: str, kernel: str, order: str) -> None:
    queries, database, tuning = problem
    assume(kernel == "mma" or queries.shape[1] <= WIDTHS[-1])
    n_db = len(database)
    k = data.draw(st.one_of(st.integers(1, min(n_db, 2048)), st.just(1)), label="k")
    allowed = data.draw(allowed_masks(len(queries), n_db), label="allowed")
    found = runs(order, data).collect_topk(queries, database, k, score, allowed, kernel, **tuning)
    assert_same_topk(found, *oracles.topk(queries, database, k, score, allowed))


@pytest.mark.parametrize("style", CODE_STYLES)
def test_every_k(style: str, kernel: str, order: str) -> None:
    """Over several tiles, with the sizes that a call chooses by itself."""
    rng = np.random.default_rng(11)
    n_db = 7003
    queries, database = make_codes(rng, 2, 8, "near"), make_codes(rng, n_db, 8, style)
    queries[0] = database[17]
    distances, indices = oracles.topk(queries, database, 2048)
    for k in (1, 2, 33, 1024, 2047, 2048):
        found = runs(order, seed=k).hamming_topk(queries, database, k, kernel=kernel)
        assert_same_topk(found, distances[:, :k], indices[:, :k], f"k={k}")


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("style", CODE_STYLES)
def test_many_answers(style: str, kernel: str, order: str) -> None:
    """More than 2,048: they are sorted in shared memory that is granted on request."""
    rng = np.random.default_rng(12)
    n_db = 12_345
    queries, database = make_codes(rng, 2, 8, "near"), make_codes(rng, n_db, 8, style)
    distances, indices = oracles.topk(queries, database, 10_240)
    for k in (2049, 5000, 10_240):
        found = runs(order, seed=k).hamming_topk(queries, database, k, kernel=kernel)
        assert_same_topk(found, distances[:, :k], indices[:, :k], f"k={k}")


def test_sorted_databases(kernel: str, order: str) -> None:
    """Best items last (every bound is beaten again and again) and best items first."""
    n_db = 9001
    steps = np.minimum(np.arange(n_db) // 141, 64)
    database = np.packbits(np.arange(64)[None] < steps[:, None], axis=1, bitorder="little")
    queries = np.vstack([database[-1:], database[:1], database[n_db // 2 : n_db // 2 + 1]])
    for codes in (database, database[::-1].copy()):
        for k, tuning in (
            (1, {}),
            (100, {"capacity": 150, "sample_items": 64}),
            (1500, {"sample_items": 2000}),
        ):
            found = runs(order, seed=k).collect_topk(queries, codes, k, "hamming", None, kernel, **tuning)
            assert_same_topk(found, *oracles.topk(queries, codes, k), f"k={k}")


@pytest.mark.parametrize("order", FEW)
def test_ties_that_do_not_fit_the_sort(kernel: str, order: str) -> None:
    """All 12,000 items tied, none of which the bound shuts out: the lowest indices are found digit by digit."""
    database, queries = np.zeros((12_000, 4), np.uint8), np.full((1, 4), 255, np.uint8)
    kernels = runs(order, seed=1)
    options = {"capacity": 20_000, "sample_items": 100, "count_every": 1 << 30, "prefix_tiles": 0}
    for k in (1, 300, 2048):
        found = kernels.collect_topk(queries, database, k, "hamming", None, kernel, **options)
        assert_same_topk(found, np.full((1, k), 32), np.arange(k)[None], f"k={k}")
    database[[5, 11_990]] = 1
    found = kernels.collect_topk(queries, database, 5, "hamming", None, kernel, **options)
    assert_same_topk(found, [[28, 28, 32, 32, 32]], [[5, 11_990, 0, 1, 2]])


def test_a_tie_is_not_collected_as_often_as_it_occurs(kernel: str, order: str) -> None:
    """Blocks take the database in the order of the index, so that k items of a value shut out the others of it. Without
    a prefix, what is collected is k and what the blocks held in hand when the bound fell; with one, no more than is in
    it. Here all 81,920 items are tied.
    """
    database, queries = np.zeros((81_920, 8), np.uint8), np.zeros((3, 8), np.uint8)
    options = {"sample_items": 100, "count_every": 1}
    n_blocks = 2 * (3 if kernel == "popc" else 2)
    for tiles, most in ((0, 10 + n_blocks * 2048), (1, 2048)):
        found = runs(order, seed=2).collected(queries, database, 10, kernel, prefix_tiles=tiles, **options)
        assert (found >= 10).all() and (found <= most).all()


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize(("style", "capacity"), [("by class", 0), *deep(("random", 6000), ("classes", 6000))])
def test_what_a_large_gpu_has_in_hand_fits(style: str, capacity: int, kernel: str, order: str) -> None:
    """On 132 multiprocessors all of this database is in hand before anything is counted. Every query's buffer holds
    what it collects all the same: the answer does not come from the two passes.
    """
    rng = np.random.default_rng(8)
    n_db, n_query, k = 150_000, 4, 50
    if style == "random":
        database = make_codes(rng, n_db, 8)
    else:  # ten classes of one code each
        classes = np.arange(n_db) * 10 // n_db if style == "by class" else rng.integers(0, 10, n_db)
        database = make_codes(rng, 10, 8)[classes]
    queries = database[rng.integers(0, n_db, n_query)]
    options = {"capacity": capacity, "multiprocessors": 132}
    found = runs(order, seed=3).collected(queries, database, k, kernel, **options)
    assert (found >= k).all() and (found <= (capacity or 65_536)).all()
    assert_same_topk(
        runs(order, seed=3).hamming_topk(queries, database, k, kernel=kernel),
        *oracles.topk(queries, database, k),
    )


@pytest.mark.deep
def test_a_bound_is_not_newer_than_the_piece_it_is_held_against(kernel: str) -> None:
    """The best item of two tiles lies at the end of the first, an equal one at the beginning of the second. Were bounds
    read after a piece is drawn, the second's could be counted by then and shut out the first's.
    """
    database = np.full((4096, 4), 255, np.uint8)
    database[0], database[[2047, 2048]] = (255, 3, 0, 0), (31, 0, 0, 0)
    query = np.zeros((1, 4), np.uint8)
    tuning = {"sample_items": 1, "prefix_tiles": 0, "count_every": 1}
    for seed in range(150):
        found = runs("random", seed=seed).collect_topk(query, database, 1, "hamming", None, kernel, **tuning)
        assert_same_topk(found, [[5]], [[2047]], f"seed {seed}")


def test_radius_of_small_and_of_large_balls(order: str) -> None:
    """One query finds more than can be sorted in shared memory, the others little: both ways in one call."""
    rng = np.random.default_rng(6)
    database = make_codes(rng, 9000, 8)
    database[rng.permutation(9000)[:6000]] = 0
    queries = np.vstack([np.zeros((1, 8), np.uint8), make_codes(rng, 5, 8), database[17:18]])
    for score, radius in (("hamming", 12), ("hamming", 0), ("overlap", 25)):
        found = runs(order, seed=radius).hamming_radius(queries, database, radius, score)
        assert_same_radius(found, oracles.radius(queries, database, radius, score))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (*FEW_WIDTHS, *deep(*sorted({*WIDTHS, *LONG_WIDTHS} - {*FEW_WIDTHS}))))
def test_radius_by_products(n_bytes: int, order: str) -> None:
    """From 4 queries on tensor cores count and collect. Items end inside a tile, and behind them lie zeros, which are
    near a query of few bits and far from one of many."""
    rng = np.random.default_rng(n_bytes)
    database = make_codes(rng, 2048 + 77, n_bytes)
    queries = np.vstack([make_codes(rng, 7, n_bytes), np.zeros((1, n_bytes), np.uint8), database[5:14],
                         np.full((1, n_bytes), 255, np.uint8)])  # fmt: skip
    for score, radius in (
        ("hamming", 2 * n_bytes),
        ("hamming", 0),
        ("hamming", 8 * n_bytes),
        ("overlap", 3 * n_bytes),
    ):
        found = runs(order, seed=radius).hamming_radius(queries, database, radius, score)
        assert_same_radius(found, oracles.radius(queries, database, radius, score))


@pytest.mark.parametrize("order", FEW)
def test_radius_with_balls_of_thousands(order: str) -> None:
    rng = np.random.default_rng(13)
    database, queries = make_codes(rng, 7000, 8), make_codes(rng, 9, 8)
    database[rng.permutation(7000)[:5000]] = queries[rng.integers(0, 9, 5000)]
    for radius in (0, 30, 34):
        found = runs(order, seed=radius).hamming_radius(queries, database, radius)
        assert_same_radius(found, oracles.radius(queries, database, radius))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_query", (1, 8, 33, 257, *deep(7, 9, 130, 300)))
def test_many_queries(n_query: int, kernel: str, order: str) -> None:
    rng = np.random.default_rng(n_query)
    queries, database = make_codes(rng, n_query, 8), make_codes(rng, 2500, 8)
    found = runs(order, seed=n_query).hamming_topk(queries, database, 20, kernel=kernel)
    assert_same_topk(found, *oracles.topk(queries, database, 20))


@pytest.mark.parametrize("offset", range(16))
def test_wherever_the_database_begins(offset: int, kernel: str) -> None:
    """Vectors, words or single bytes are read by the address of the codes and their length."""
    rng = np.random.default_rng(offset)
    for n_bytes in (4, 8, 12, 16, 32):
        queries, database = make_codes(rng, 3, n_bytes), make_codes(rng, 2055, n_bytes)
        kernels = runs("ascending", seed=0)
        kernels.offset = offset
        found = kernels.hamming_topk(queries, database, 9, kernel=kernel)
        assert_same_topk(found, *oracles.topk(queries, database, 9))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", range(1, 33))
def test_widths(n_bytes: int, kernel: str, order: str) -> None:
    rng = np.random.default_rng(n_bytes)
    queries, database = make_codes(rng, 9, n_bytes), make_codes(rng, 700, n_bytes)
    for score in SCORES:
        found = runs(order, seed=n_bytes).hamming_topk(queries, database, 40, score, kernel=kernel)
        assert_same_topk(found, *oracles.topk(queries, database, 40, score))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (33, 64, 97, 128, *deep(*sorted({*LONG_WIDTHS} - {33, 64, 97, 128}))))
def test_long_codes(n_bytes: int, order: str) -> None:
    """In chunks of 256 bits, the last of which may end anywhere; of few queries and of more than a group."""
    rng = np.random.default_rng(n_bytes)
    for n_query, n_db in ((1, 700), (33, 300), (140, 270)):
        queries, database = make_codes(rng, n_query, n_bytes), make_codes(rng, n_db, n_bytes)
        for score in SCORES:
            found = runs(order, seed=n_bytes).hamming_topk(queries, database, 40, score, kernel="mma")
            assert_same_topk(found, *oracles.topk(queries, database, 40, score))


@pytest.mark.parametrize("offset", (0, 1, 2, 4, 8))
def test_wherever_long_codes_begin(offset: int) -> None:
    rng = np.random.default_rng(offset)
    for n_bytes in (48, 64, 68, 128):
        queries, database = make_codes(rng, 3, n_bytes), make_codes(rng, 2055, n_bytes)
        kernels = runs("ascending", seed=0)
        kernels.offset = offset
        found = kernels.hamming_topk(queries, database, 9, kernel="mma")
        assert_same_topk(found, *oracles.topk(queries, database, 9))


def test_masks_that_let_few_through(kernel: str, order: str) -> None:
    rng = np.random.default_rng(3)
    queries, database = make_codes(rng, 3, 8), make_codes(rng, 5000, 8)
    for shape in ((5000,), (3, 5000)):
        allowed = rng.random(shape) < 0.004
        found = runs(order, seed=4).hamming_topk(queries, database, 50, "hamming", allowed, kernel)
        assert_same_topk(found, *oracles.topk(queries, database, 50, "hamming", allowed))


@pytest.mark.parametrize("order", FEW)
def test_past_31_bits(kernel: str, order: str) -> None:
    """Items beyond 2^31 of a database that lies in virtual memory; the walk begins shortly before its end."""
    n, codes = 2**31 + 5000, np.array([[255, 255], [0, 0], [255, 254], [0, 0], [255, 255]], dtype=np.uint8)
    inputs = {"queries": codes[:1].copy(), "database": Virtual(n * 2, ((n * 2 - 10, codes),))}
    answers = {"counts": Output((1, 4), np.int32), "indices": Output((1, 4), np.int64)}
    counts, indices = runs(order).run(
        "collect_topk", inputs, answers, k=4, kernel=("popc", "mma").index(kernel) + 2, n_query=1, n_db=n, n_bytes=2,
        score=0, allowed_stride=0, capacity=0, sample_items=1, chunk=0, group=8, count_every=1, prefix_tiles=0,
        first_item=n - 4103,
    )  # fmt: skip
    assert indices.tolist() == [[n - 5, n - 1, n - 3, n - 4103]]
    assert counts.tolist() == [[0, 0, 1, 16]]


def test_longer_codes_and_more_answers_take_two_passes(order: str) -> None:
    rng = np.random.default_rng(5)
    for kernel, n_bytes in (("popc", 33), ("mma", 129)):
        queries, database = make_codes(rng, 2, n_bytes), make_codes(rng, 600, n_bytes)
        found = runs(order).hamming_topk(queries, database, 10, kernel=kernel)
        assert_same_topk(found, *oracles.topk(queries, database, 10))
    queries, database = make_codes(rng, 2, 4), make_codes(rng, 10_300, 4)
    found = runs(order).hamming_topk(queries, database, 10_241, kernel="popc")
    assert_same_topk(found, *oracles.topk(queries, database, 10_241))


@pytest.mark.parametrize("n_words", (1, 2))
def test_products_of_bits(n_words: int) -> None:
    """The stand-in for the tensor cores, against the fragment layouts of the PTX ISA (mma.m16n8k128 and m16n8k256)."""
    rng = np.random.default_rng(n_words)
    rows = rng.integers(0, 2, (16, 128 * n_words), dtype=np.uint8)
    columns = rng.integers(0, 2, (8, 128 * n_words), dtype=np.uint8)
    words = [np.packbits(x, axis=1, bitorder="little").view(np.uint32) for x in (rows, columns)]
    group, place = np.arange(32) // 4, np.arange(32) % 4
    a = np.stack([words[0][group + 8 * (i % 2), place + 4 * (i // 2)] for i in range(2 * n_words)], axis=1)
    b = np.stack([words[1][group, place + 4 * i] for i in range(n_words)], axis=1)
    at = [(group + 8 * (i // 2), 2 * place + i % 2) for i in range(4)]
    inputs = {"a": a, "b": b}
    kernels = runs("random", seed=1)
    sums = kernels.run("product", inputs, {"sums": Output((32, 4), np.int32)}, n_words=n_words, lanes=32)[0]
    expected = rows.astype(np.int32) @ columns.T.astype(np.int32)
    start = sums[0, 0] - expected[0, 0]  # the outputs come in filled with one pattern
    for i, (row, column) in enumerate(at):
        np.testing.assert_array_equal(sums[:, i] - start, expected[row, column])
    with pytest.raises(SimtError, match="__shfl_sync"):  # a lane that is missing, as on a GPU, is an error
        kernels.run("product", inputs, {"sums": Output((32, 4), np.int32)}, n_words=n_words, lanes=31)
