"""The CUDA kernels of asymmetric_topk, run on the CPU by the interpreter (simt.py): the same floats as everywhere."""

from __future__ import annotations

import asymmetric_oracles as oracle
import numpy as np
import pytest
import torch
from comparisons import assert_same_array
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from simt_kernels import FEW, FLOATS, runs
from strategies import CODE_STYLES, allowed_masks, make_codes, seeds


def assert_same(found, expected, name: str = "") -> None:
    assert_same_array(
        found.distances.view(np.uint32), expected[0].view(np.uint32), np.uint32, f"{name} distances"
    )
    assert_same_array(found.indices, expected[1], np.int64, f"{name} indices")


def normal(rng: np.random.Generator, *shape: int, rounded: bool = False) -> np.ndarray:
    outputs = rng.standard_normal(shape).astype(np.float32)
    return np.round(outputs).astype(np.float32) if rounded else outputs


@given(data=st.data(), seed=seeds())
def test_random(data, seed: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    n_bits = data.draw(st.one_of(st.integers(1, 72), st.sampled_from((128, 255, 512))), label="n_bits")
    n_query, n_db = (
        data.draw(st.integers(0, 4), label="queries"),
        data.draw(st.integers(1, 600), label="items"),
    )
    outputs = normal(rng, n_query, n_bits, rounded=data.draw(st.booleans(), label="rounded"))
    style = data.draw(st.sampled_from(CODE_STYLES), label="style")
    database = make_codes(rng, n_db, (n_bits + 7) // 8, style)
    k = data.draw(st.one_of(st.integers(1, n_db), st.sampled_from((1, n_db))), label="k")
    allowed = data.draw(allowed_masks(n_query, n_db), label="allowed")
    stride = data.draw(st.sampled_from((None, database.shape[1] + 3)), label="stride")
    found = runs(order, data).asymmetric_topk(torch.from_numpy(outputs), database, k, allowed, stride)
    assert_same(found, oracle.topk(outputs, database, k, allowed))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_dtypes(dtype: torch.dtype, order: str) -> None:
    rng = np.random.default_rng(1)
    outputs = torch.from_numpy(rng.standard_normal((3, 21))).to(dtype)
    database = make_codes(rng, 70, 3)
    found = runs(order, seed=2).asymmetric_topk(outputs, database, 12)
    assert_same(found, oracle.topk(outputs.float().numpy(), database, 12))


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (1, 4, 5, 8, 16, 33, 256, 257, *deep(12, 64, 255, 264, 511, 512)))
def test_widths(n_bytes: int, order: str) -> None:
    """Codes read as words of 8, 4 and 1 bytes; tables of nibbles, and of two bits past 256 bytes."""
    rng = np.random.default_rng(n_bytes)
    outputs, database = normal(rng, 2, 8 * n_bytes - 2), make_codes(rng, 130, n_bytes)
    found = runs(order, seed=4 * n_bytes).asymmetric_topk(torch.from_numpy(outputs), database, 40)
    assert_same(found, oracle.topk(outputs, database, 40))


def test_values_that_are_no_usual_numbers(order: str) -> None:
    """Zeros of both signs, denormals, infinities, sums that overflow; a NaN weighs nothing."""
    rng = np.random.default_rng(3)
    values = np.array([0.0, -0.0, 1e-40, -1e-45, np.inf, -np.inf, 3e38, -3e38, np.nan, 1.0], np.float32)
    outputs = values[rng.integers(0, len(values), (6, 16))]
    outputs[0, :2], outputs[1], outputs[2] = 1e-42, 3e38, 1e-44
    database = make_codes(rng, 300, 2)
    allowed = rng.random((6, 300)) < 0.3
    for k, mask in ((5, None), (300, None), (150, allowed)):
        found = runs(order, seed=k).asymmetric_topk(torch.from_numpy(outputs), database, k, mask)
        assert_same(found, oracle.topk(outputs, database, k, mask), f"k={k}")


@pytest.mark.parametrize("style", ("ties", "random"))
def test_every_k(style: str, order: str) -> None:
    """Several shards and tiles, cuts through ties, sorts of one tile and of many."""
    rng = np.random.default_rng(4)
    outputs, database = normal(rng, 2, 32, rounded=True), make_codes(rng, 2003, 4, style)
    distances, indices = oracle.topk(outputs, database, 2003)
    for k in (1, 2, 33, 257, 1500, 2003):
        found = runs(order, seed=k).asymmetric_topk(torch.from_numpy(outputs), database, k)
        assert_same(found, (distances[:, :k], indices[:, :k]), f"k={k}")


@pytest.mark.parametrize("order", FEW)
def test_many_chunks_of_queries(order: str) -> None:
    """So many queries that the workspace is used again."""
    rng = np.random.default_rng(5)
    outputs, database = normal(rng, 150, 13), make_codes(rng, 40, 2)
    found = runs(order, seed=1).asymmetric_topk(torch.from_numpy(outputs), database, 9)
    assert_same(found, oracle.topk(outputs, database, 9))


def test_nothing_allowed(order: str) -> None:
    outputs, database = normal(np.random.default_rng(6), 2, 8), np.arange(30, dtype=np.uint8)[:, None]
    found = runs(order).asymmetric_topk(torch.from_numpy(outputs), database, 4, np.zeros(30, bool))
    assert (found.indices == -1).all() and np.isposinf(found.distances).all()
