"""Rankings of a database whose codes repeat, which compare each distinct code once and put in order what is near alone:
parts of very different sizes, items in any order, ties that are cut, distances with gaps between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from backends import LEVEL, SIMD_LEVELS
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import dshc_fast
from dshc_fast import HammingDatabase, reference


class Grouped(NamedTuple):
    queries: np.ndarray
    codes: np.ndarray


@st.composite
def grouped(draw: st.DrawFn) -> Grouped:
    """Centers and codes a bit or a few from them; every code eight times or more on average, some once."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bytes = draw(st.sampled_from((1, 3, 4, 8, 13, 32)))
    n_centers, flips = draw(st.integers(1, 12)), draw(st.integers(0, 3))
    centers = rng.integers(0, 256, (n_centers, n_bytes), dtype=np.uint8)
    distinct = np.repeat(centers, draw(st.integers(1, 12)), axis=0)
    for _ in range(flips):
        bits = rng.integers(0, 8 * n_bytes, len(distinct))
        distinct[np.arange(len(distinct)), bits // 8] ^= (1 << bits % 8).astype(np.uint8)
    weights = rng.dirichlet(np.full(len(distinct), draw(st.sampled_from((0.05, 1.0, 50.0)))))
    chosen = rng.choice(len(distinct), draw(st.integers(8, 20)) * len(distinct), p=weights)
    if draw(st.booleans()):
        chosen = np.sort(chosen)
    queries = np.concatenate(
        [distinct[:3], ~distinct[:1], rng.integers(0, 256, (2, n_bytes), dtype=np.uint8)]
    )
    return Grouped(queries, distinct[chosen])


@st.composite
def around_centers(draw: st.DrawFn) -> Grouped:
    """Each center and all codes one bit from it, some centers close to each other, and some codes far from all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_bytes = draw(st.sampled_from((4, 8, 13)))
    centers = rng.integers(
        0, 256, (1100 // (8 * n_bytes) + draw(st.integers(2, 30)), n_bytes), dtype=np.uint8
    )
    centers[1] = centers[0]
    centers[1, 0] ^= draw(st.sampled_from((0b1, 0b11, 0b111, 0b11111)))
    flips = np.packbits(np.eye(8 * n_bytes + 1, 8 * n_bytes, dtype=np.uint8), axis=1)
    distinct = (centers[:, None] ^ flips).reshape(-1, n_bytes)
    distinct = np.concatenate(
        [distinct, rng.integers(0, 256, (draw(st.integers(0, 20)), n_bytes), dtype=np.uint8)]
    )
    chosen = np.concatenate([np.arange(len(distinct)), rng.integers(0, len(distinct), 9 * len(distinct))])
    if draw(st.booleans()):
        rng.shuffle(chosen)
    queries = np.concatenate(
        [centers[:2], distinct[5:7], ~centers[:1], rng.integers(0, 256, (2, n_bytes), dtype=np.uint8)]
    )
    return Grouped(queries, distinct[chosen])


def assert_as_the_reference(level: str, problem: Grouped, k: int, radius: int, score: str) -> None:
    queries, codes = problem
    database = HammingDatabase(codes)
    assert database.n_distinct
    plain = torch.from_numpy(queries), torch.from_numpy(codes)
    dshc_fast.set_simd_level(level)
    try:
        nearest = dshc_fast.hamming_topk(queries, database, k, score=score)
        inside = dshc_fast.hamming_radius(queries, database, radius, score=score)
    finally:
        dshc_fast.set_simd_level(LEVEL)
    for got, wanted in zip(nearest, reference.hamming_topk(*plain, k, score=score), strict=True):
        np.testing.assert_array_equal(got, wanted.numpy())
    for got, wanted in zip(inside, reference.hamming_radius(*plain, radius, score=score), strict=True):
        np.testing.assert_array_equal(got, wanted.numpy())


@pytest.mark.parametrize("level", SIMD_LEVELS)
@settings(max_examples=examples(60))
@given(problem=grouped(), score=st.sampled_from(("hamming", "overlap")), data=st.data())
def test_as_the_reference(level: str, problem: Grouped, score: str, data: st.DataObject) -> None:
    n = len(problem.codes)
    k = data.draw(st.one_of(st.integers(1, n), st.integers(1, 12).map(lambda k: min(k, n))))
    radius = data.draw(st.integers(0, 8 * problem.codes.shape[1] + 1))
    assert_as_the_reference(level, problem, k, radius, score)


@pytest.mark.parametrize("level", SIMD_LEVELS)
@settings(max_examples=examples(12))
@given(problem=around_centers(), score=st.sampled_from(("hamming", "overlap")), data=st.data())
def test_centers_first(level: str, problem: Grouped, score: str, data: st.DataObject) -> None:
    """Of codes around centers only those are compared that a bound from their center leaves."""
    assert HammingDatabase(problem.codes)._prepared.distinct.n_centers > 0
    k = data.draw(st.sampled_from((1, 2, 10, 50, 400, 3000, len(problem.codes))))
    radius = data.draw(st.integers(0, 8 * problem.codes.shape[1] + 1))
    assert_as_the_reference(level, problem, k, radius, score)


def test_no_centers() -> None:
    """Codes that lie around nothing, or are few, have none."""
    rng = np.random.default_rng(0)
    for n in (100, 3000):
        codes = np.repeat(rng.integers(0, 256, (n, 8), dtype=np.uint8), 8, axis=0)
        assert HammingDatabase(codes)._prepared.distinct.n_centers == 0


def test_memory_is_counted() -> None:
    """The distinct codes lie beside the others once more."""
    codes = np.repeat(np.arange(16, dtype=np.uint64).view(np.uint8).reshape(16, 8), 100, axis=0)
    assert (
        HammingDatabase(codes).nbytes == 8 * 1600 + 8 * 1600 + 8 * 17 + 8 * 16
    )  # codes, members, offsets, distinct
