"""Groups of near-duplicates from pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dshc_fast
from dshc.index.near_duplicates import groups_of


def by_hand(n: int, pairs: dshc_fast.HammingRadius) -> list[list[int]]:
    """Groups that swallow each other, pair by pair."""
    groups = [{item} for item in range(n)]
    for item in range(n):
        for other in pairs.indices[pairs.offsets[item] : pairs.offsets[item + 1]]:
            mine, theirs = (next(g for g in groups if i in g) for i in (item, other))
            if mine is not theirs:
                mine |= theirs
                groups.remove(theirs)
    found = [sorted(group) for group in groups if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), group[0]))


def test_a_chain() -> None:
    """Neighbours in a chain are one group, however far its ends lie apart."""
    codes = np.array([[0b1], [0b11], [0xF0], [0b111], [0x0F], [0xF0], [0xAA]], np.uint8)
    pairs = dshc_fast.hamming_pairs(codes, 1)
    groups = groups_of(pairs)
    assert [group.tolist() for group in groups] == [[0, 1, 3, 4], [2, 5]]
    assert all(group.dtype == np.int64 for group in groups)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 60), radius=st.integers(0, 6))
def test_random(seed: int, n: int, radius: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 256, (n, 2), dtype=np.uint8)
    pairs = dshc_fast.hamming_pairs(codes, radius)
    assert [group.tolist() for group in groups_of(pairs)] == by_hand(n, pairs)


@pytest.mark.parametrize("n", (0, 1, 5))
def test_nothing_is_near(n: int) -> None:
    codes = (1 << np.arange(n)).astype(np.uint8).reshape(n, 1)
    assert groups_of(dshc_fast.hamming_pairs(codes, 1)) == []
    same = groups_of(dshc_fast.hamming_pairs(codes * 0, 0))
    assert [group.tolist() for group in same] == ([list(range(n))] if n > 1 else [])
