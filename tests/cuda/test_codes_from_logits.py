"""CUDA kernels of codes from logits, run on the CPU by the interpreter (simt.py) in several orders of threads and
blocks. Codes are exact, but for sums of weights about 0."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import (
    assert_same_array,
)
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from simt_kernels import EDGES, FEW, FLOATS, runs
from strategies import (
    make_codes,
    seeds,
)


def draw_logits(rng: np.random.Generator, shape: tuple[int, int], ties: bool, dtype) -> torch.Tensor:
    values = rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)
    return torch.from_numpy(values.astype(np.float64)).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.one_of(st.integers(1, 80), st.sampled_from(EDGES)),
    n_bytes=st.sampled_from((1, 3, 4, 8, 9, 16, 33)),
    ties=st.booleans(),
)
def test_codes_from_logits(
    dtype, data, seed: int, n: int, n_subclasses: int, n_bytes: int, ties: bool, order: str
) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.one_of(st.integers(1, n_subclasses), st.sampled_from((1, n_subclasses))), label="k")
    codebook = make_codes(
        rng, n_subclasses, n_bytes, data.draw(st.sampled_from(("random", "near", "sparse")))
    )
    logits = draw_logits(rng, (n, n_subclasses), ties, dtype)
    codes = runs(order, data).codes_from_logits(logits, codebook, k)
    assert_same_array(codes, oracles.codes_from_logits(logits.double().numpy(), codebook, k), np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.sampled_from((1, 2, 9)),
    n_subclasses=st.sampled_from((1, 7, 300, 383, 384, 385, 767, 768, 769, 1000, 1537, 5000, 9001)),
    k=st.integers(1, 8),
    kind=st.sampled_from(("normal", "ties", "rising", "falling", "equal", "masked", "nan")),
)
def test_few_best(dtype, data, seed, n, n_subclasses, k, kind, order: str) -> None:
    """k up to 8, by one warp a row and by several: the stable order of the values, NaN last."""
    rng = np.random.default_rng(seed)
    k = min(k, n_subclasses)
    values = rng.standard_normal((n, n_subclasses)) * 50
    if kind in ("rising", "falling"):
        values = np.sort(values, axis=1)[:, :: 1 if kind == "rising" else -1]
    elif kind == "ties":
        values = np.round(values / 40)
    elif kind == "equal":
        values[:] = seed % 3 - 1
    elif kind != "normal":
        values[rng.random(values.shape) < 0.9] = -math.inf if kind == "masked" else math.nan
        values[0] = -math.inf if kind == "masked" else math.nan
    logits = torch.from_numpy(values.copy()).to(dtype)
    rows = logits.double().numpy()
    columns = np.broadcast_to(np.arange(n_subclasses), rows.shape)
    rank = np.lexsort((columns, -np.where(np.isnan(rows), 0.0, rows), np.isnan(rows)), axis=1)
    kernels = runs(order, data)
    assert_same_array(kernels.top_subclasses(logits, k), rank[:, :k], np.int64)
    codebook = make_codes(rng, n_subclasses, 9)
    votes = (2 * oracles.bits(codebook)[rank[:, :k]].astype(int) - 1).sum(1)
    first = oracles.bits(codebook)[rank[:, 0]]
    wanted = np.packbits(np.where(votes == 0, first, votes > 0).astype(bool), axis=1, bitorder="little")
    assert_same_array(kernels.codes_from_logits(logits, codebook, k), wanted, np.uint8)
    # Columns that stand for other sub-classes.
    shuffled = rng.permuted(np.tile(np.arange(n_subclasses), (n, 1)), axis=1)
    rows_of_code = np.take_along_axis(shuffled, rank[:, :k], 1)
    votes = (2 * oracles.bits(codebook)[rows_of_code].astype(int) - 1).sum(1)
    first = oracles.bits(codebook)[rows_of_code[:, 0]]
    wanted = np.packbits(np.where(votes == 0, first, votes > 0).astype(bool), axis=1, bitorder="little")
    codes = kernels.codes_from_logits(logits, codebook, k, subclasses=shuffled)
    assert_same_array(codes, wanted, np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("k", (9, 129, *deep(40, 600)))
def test_many_best(dtype, k: int, order: str) -> None:
    """Columns of the k largest, in any order that keeps equal logits in the order of their columns."""
    rng = np.random.default_rng(k)
    logits = torch.from_numpy(np.round(rng.standard_normal((3, 600)) * 3)).to(dtype)
    values = logits.double().numpy()
    kernels = runs(order, seed=k)
    top = kernels.top_subclasses(logits, k)
    for row, found in enumerate(top):
        order_of_row = np.argsort(-values[row], kind="stable")[:k]
        assert (found[np.argsort(-values[row][found], kind="stable")] == order_of_row).all()
    codebook = make_codes(rng, 600, 4)
    shuffled = rng.permuted(np.tile(np.arange(600), (3, 1)), axis=1)
    for weighting in ("mean", "probability"):
        mapped = kernels.codes_from_logits(logits, codebook, k, weighting, subclasses=shuffled)
        for row in range(3):
            plain = kernels.codes_from_logits(logits[row : row + 1], codebook[shuffled[row]], k, weighting)
            assert_same_array(mapped[row : row + 1], plain, np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.integers(1, 80),
    n_bytes=st.sampled_from((1, 4, 9)),
    ties=st.booleans(),
)
def test_codes_from_logits_weighted(
    dtype, data, seed: int, n: int, n_subclasses: int, n_bytes: int, ties: bool, order: str
) -> None:
    """As the exact sum says, where it is farther from 0 than rounding; elsewhere either is right."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = make_codes(rng, n_subclasses, n_bytes)
    logits = draw_logits(rng, (n, n_subclasses), ties, dtype)
    codes = runs(order, data).codes_from_logits(logits, codebook, k, "probability")
    book, found = 2 * oracles.bits(codebook) - 1, oracles.bits(codes)
    values = logits.double().numpy().astype(np.longdouble)
    for row, top in zip(range(n), oracles.top_order(values), strict=True):
        weights = np.exp(values[row][top[:k]] - values[row].max())
        votes = (weights[:, None] * book[top[:k]]).sum(0) / weights.sum()
        clear = np.abs(votes) > (1e-13 if dtype == torch.float64 else 1e-5)
        assert (found[row] == (votes > 0))[clear].all()


def check_weighted(codes: np.ndarray, logits: torch.Tensor, codebook: np.ndarray, k: int) -> None:
    """As the exact sum says, where it is farther from 0 than rounding."""
    book, found = 2 * oracles.bits(codebook) - 1, oracles.bits(codes)
    values = logits.double().numpy().astype(np.longdouble)
    for row, top in zip(range(len(values)), oracles.top_order(values), strict=True):
        weights = np.exp(values[row][top[:k]] - values[row].max())
        votes = (weights[:, None] * book[top[:k]]).sum(0) / weights.sum()
        clear = np.abs(votes) > (1e-12 if logits.dtype == torch.float64 else 1e-5)
        assert (found[row] == (votes > 0))[clear].all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.sampled_from((1, 3, 7, 8, 15, 16, 17, 33)),
    n_subclasses=st.sampled_from((9, 31, 32, 33, 36, 255, 256, 257, 300, 310, 1025)),
    n_bytes=st.sampled_from((1, 3, 4, 7, 8, 9, 10, 12, 16, 33)),
    scale=st.sampled_from((0.01, 1.0, 30.0)),
    rounded=st.booleans(),
)
def test_codes_by_probability_sizes(
    dtype, data, seed, n, n_subclasses, n_bytes, scale, rounded, order: str
) -> None:
    """Around the tiles of the product and its blocks, by one warp a row and by all; some and all sub-classes."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.one_of(st.integers(9, n_subclasses), st.just(n_subclasses)), label="k")
    values = rng.standard_normal((n, n_subclasses)) * scale
    values = np.round(values * 2) if rounded else values
    values[rng.random(values.shape) < 0.1] = -math.inf if seed % 2 else 0.0
    values[:, seed % n_subclasses] = 1.0
    logits = torch.from_numpy(values).to(dtype)
    codebook = make_codes(rng, n_subclasses, n_bytes)
    codes = runs(order, data).codes_from_logits(logits, codebook, k, "probability")
    check_weighted(codes, logits, codebook, k)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("n", "n_pairs", "n_bytes"), ((2, 155, 8), (17, 50, 5), (1, 1500, 8), *deep((9, 2500, 10), (3, 40, 512)))
)
def test_codes_by_probability_cancel(dtype, n: int, n_pairs: int, n_bytes: int, order: str) -> None:
    """Every logit comes twice, with a code and its complement: all bits tie, and are those of the first."""
    rng = np.random.default_rng(n)
    codes = make_codes(rng, n_pairs, n_bytes)
    codebook, values = np.concatenate([codes, ~codes]), rng.standard_normal((n, n_pairs)) * 3
    shuffle = rng.permutation(2 * n_pairs)
    codebook = np.ascontiguousarray(codebook[shuffle])
    logits = torch.from_numpy(np.concatenate([values, values], 1)[:, shuffle]).to(dtype)
    found = runs(order, seed=n).codes_from_logits(logits, codebook, 2 * n_pairs, "probability")
    first = logits.double().numpy().argmax(1)
    assert_same_array(found, codebook[first], np.uint8)
    # The same where columns stand for other sub-classes, which is another kernel.
    columns = np.tile(np.arange(2 * n_pairs), (n, 1))
    found = runs(order, seed=n).codes_from_logits(
        logits, codebook, 2 * n_pairs, "probability", subclasses=columns
    )
    assert_same_array(found, codebook[first], np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("n_subclasses", "k", "mapped"), ((600, 301, False), (600, 301, True), (4200, 2101, False))
)
def test_codes_by_probability_of_ties_at_the_end(
    dtype, n_subclasses: int, k: int, mapped: bool, order: str
) -> None:
    """Of equal logits at the end of the k largest the lower columns count; -inf alone weighs as much as anything."""
    rng = np.random.default_rng(5)
    values = np.full((4, n_subclasses), 1.0)
    values[1:3, rng.permutation(n_subclasses)[:100]] = 2.0
    values[2, :50] = 0.0
    values[3] = -math.inf
    logits, codebook = torch.from_numpy(values).to(dtype), make_codes(rng, n_subclasses, 9)
    columns = np.tile(np.arange(n_subclasses), (4, 1)) if mapped else None
    codes = runs(order, seed=1).codes_from_logits(logits, codebook, k, "probability", subclasses=columns)
    check_weighted(codes[:3], logits[:3], codebook, k)
    votes = 2 * oracles.bits(codebook[:k]).astype(int).sum(0) - k  # odd: no tie
    for row in (0, 3):
        assert (oracles.bits(codes[row : row + 1])[0] == (votes > 0)).all()


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (1, 31, 32, 33, 64, 127, 256, 512))
def test_codes_from_logits_widths(n_bytes: int, order: str) -> None:
    rng = np.random.default_rng(n_bytes)
    codebook, logits = make_codes(rng, 60, n_bytes), torch.from_numpy(rng.standard_normal((3, 60))).float()
    for k in (1, 5, 60):
        codes = runs(order, seed=k).codes_from_logits(logits, codebook, k)
        assert_same_array(codes, oracles.codes_from_logits(logits.numpy(), codebook, k), np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_codes_from_logits_infinities(dtype, order: str) -> None:
    """-inf and +inf rank by value, NaN last; equal ones by index."""
    inf, nan = math.inf, math.nan
    codebook = np.array([[1], [2], [4], [8]], np.uint8)
    rows = [[-inf, 0, inf, 1], [inf, inf, 0, 1], [-inf] * 4, [nan, -inf, nan, 0], [0.0, -0.0, 0.0, -0.0]]
    logits = torch.tensor(rows, dtype=dtype)
    kernels = runs(order)
    assert kernels.codes_from_logits(logits, codebook, 1).tolist() == [[4], [1], [1], [8], [1]]
    together = kernels.codes_from_logits(logits, codebook, 3)
    assert together.tolist() == [[0]] * 5  # no bit has two votes of three
    kernels.codes_from_logits(logits, codebook, 4, "probability")  # no answer is promised, only no harm
