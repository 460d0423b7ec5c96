"""CUDA kernels of center codes, run on the CPU by the interpreter (simt.py) in several orders of threads and blocks."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import (
    assert_same_array,
)
from hypothesis import given
from hypothesis import strategies as st
from simt_kernels import FLOATS, runs
from strategies import (
    make_codes,
    seeds,
)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    n=st.integers(0, 6),
    scale=st.sampled_from((0.1, 1.0, 30.0, 1e3)),
    n_bytes=st.sampled_from((1, 4, 8, 11)),
)
def test_center_codes_from_logits(
    dtype, data, seed: int, sizes: list[int], n: int, scale: float, n_bytes: int, order: str
) -> None:
    """The class chosen has the largest score, up to the rounding of the working precision."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    centers = make_codes(rng, len(sizes), n_bytes)
    centers[:, 0] = np.arange(len(sizes))  # codes tell the classes apart
    logits = torch.from_numpy(rng.standard_normal((n, offsets[-1])) * scale).to(dtype)
    codes = runs(order, data).center_codes_from_logits(logits, offsets, centers)
    assert_same_array(codes, centers[codes[:, 0]].reshape(n, n_bytes), np.uint8)
    unit = 1e-14 if dtype == torch.float64 else 1e-6
    for row, choice in zip(logits.double().numpy(), codes[:, 0], strict=True):
        scores = [oracles.log_sum_exp(row[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        assert scores[choice] >= max(scores) - unit * (abs(float(max(scores))) + 4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "sizes",
    (
        [31] * 10,
        [32, 33, 1, 2, 32, 32, 32, 32, 31, 33],
        [128, 129, 3, 384, 385, 1000],
        [1] * 30 + [5] * 33,
        [2] * 31 + [40] + [2] * 31,
        [1200],
        [300, 2, 2, 2, 2, 2, 300, 5] * 8,
    ),
    ids=str,
)
def test_center_codes_sizes(dtype, sizes: list[int], order: str) -> None:
    """Classes around what a warp holds and takes together, rows by one warp and by several."""
    rng = np.random.default_rng(len(sizes))
    offsets = np.cumsum([0, *sizes]).tolist()
    values = rng.standard_normal((9, offsets[-1])) * 3
    for row in range(9):  # the chosen class is clear, and any
        values[row, offsets[row * len(sizes) // 9] : offsets[row * len(sizes) // 9 + 1]] += 12
    values[8, offsets[-2] :] = math.nan
    logits = torch.from_numpy(values).to(dtype)
    centers = np.arange(2 * len(sizes), dtype=np.uint8).reshape(-1, 2)
    codes = runs(order, seed=1).center_codes_from_logits(logits, offsets, centers)
    for row, code in zip(logits.double().numpy(), codes, strict=True):
        scores = [oracles.log_sum_exp(row[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        wanted = 0 if np.isnan(scores).all() else int(np.nanargmax(scores))
        assert code.tolist() == centers[wanted].tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_center_codes_of_equal_classes(dtype, order: str) -> None:
    run = torch.linspace(-2, 2, 7, dtype=torch.float64).to(dtype)
    logits = torch.cat([run - 1, run, run, run])[None].repeat(4, 1)
    logits[1, :7] = run
    logits[2, 27] = 90
    logits[3, :] = -math.inf
    centers = np.array([[1], [2], [4], [8]], np.uint8)
    codes = runs(order).center_codes_from_logits(logits, [0, 7, 14, 21, 28], centers)
    assert codes.tolist() == [[2], [1], [8], [1]]
    logits[0, 7], logits[1, 0] = math.nan, math.inf
    codes = runs(order).center_codes_from_logits(logits[:2], [0, 7, 14, 21, 28], centers)
    assert codes.tolist() == [[4], [1]]  # a class with a NaN ranks last


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_center_codes_of_classes_with_nans_and_infinities(dtype, order: str) -> None:
    inf, nan = math.inf, math.nan
    rows = {
        (inf, nan, 1.0, 0.0): 2,
        (nan, 0.0, -inf, -inf): 2,
        (nan, nan, -inf, -inf): 2,
        (-inf, -inf, nan, inf): 1,
        (-inf, -inf, -inf, -inf): 1,
        (0.0, 1.0, inf, 0.0): 2,
        (nan, nan, nan, nan): 1,
    }
    centers = np.array([[1], [2]], np.uint8)
    codes = runs(order).center_codes_from_logits(torch.tensor([*rows], dtype=dtype), [0, 2, 4], centers)
    assert codes.flatten().tolist() == [*rows.values()]
