"""The centers of other methods: Hadamard rows, balanced and random words."""

from math import comb

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from dshc.codebooks.bounds import distance_bound
from dshc.codebooks.separated import separated_centers
from dshc.codebooks.usual import hadamard_centers, random_centers, rejected_centers


def distances(bits):
    apart = (bits[:, None] != bits[None]).sum(-1)
    return apart[np.triu_indices(len(bits), 1)]


@pytest.mark.parametrize("n_bits", [1, 2, 4, 16, 64])
def test_rows_of_sylvesters_matrix_then_their_complements(n_bits):
    matrix = hadamard(n_bits)
    both = np.concatenate([matrix, -matrix]) > 0
    for n_words in {1, n_bits, n_bits + 1, 2 * n_bits}:
        assert (hadamard_centers(n_words, n_bits) == both[:n_words]).all()


@pytest.mark.parametrize("n_bits", [12, 20, 48])
def test_other_orders_have_a_matrix_too(n_bits):
    apart = distances(hadamard_centers(2 * n_bits, n_bits))
    assert set(apart.tolist()) == {n_bits // 2, n_bits}


@settings(deadline=None, max_examples=examples(30))
@given(st.data())
def test_else_words_are_balanced_and_differ(data):
    n_bits = data.draw(st.sampled_from([3, 5, 6, 7, 8, 10, 13, 16]))
    n_words = data.draw(st.integers(1, min(comb(n_bits, n_bits // 2), 60)))
    bits = hadamard_centers(n_words, n_bits)
    assert bits.shape == (n_words, n_bits) and bits.dtype == bool
    if n_words > 2 * n_bits or n_bits in (3, 5, 6, 7, 10, 13):
        assert (bits.sum(axis=1) == n_bits // 2).all()
    assert n_words == 1 or distances(bits).min() >= 1


def test_balanced_words_are_as_far_apart_as_the_paper_asks():
    # 100 classes in 32 bits: between a quarter and a third of the bits.
    assert 8 <= distances(hadamard_centers(100, 32)).min() <= 10
    assert (hadamard_centers(100, 32) == hadamard_centers(100, 32, seed=0)).all()
    assert (hadamard_centers(100, 32) != hadamard_centers(100, 32, seed=1)).any()


@settings(deadline=None, max_examples=examples(40))
@given(st.data())
def test_random_words_differ(data):
    n_bits = data.draw(st.integers(1, 70))
    n_words = data.draw(st.integers(1, min(2**n_bits, 100)))
    seed = data.draw(st.integers(0, 2**63 - 1))
    for make in (random_centers, rejected_centers):
        bits = make(n_words, n_bits, seed=seed)
        assert bits.shape == (n_words, n_bits) and bits.dtype == bool
        assert len(np.unique(bits, axis=0)) == n_words


def test_random_words_are_fair_coins():
    bits = random_centers(2000, 40, seed=3)
    assert abs(bits.mean() - 0.5) < 0.01 and (abs(bits.mean(axis=0) - 0.5) < 0.06).all()
    # Bits do not go together: the mean distance is half of them, its deviation that of coins.
    apart = distances(bits[:300])
    assert apart.mean() == pytest.approx(20, abs=0.1) and apart.std() == pytest.approx(10**0.5, rel=0.03)


def test_rejection_leaves_words_further_apart():
    for n_words, n_bits, least in ((10, 16, 7), (10, 64, 30), (100, 32, 11)):
        assert distances(rejected_centers(n_words, n_bits)).min() >= least
    assert distances(random_centers(100, 32)).min() < 11
    two = rejected_centers(2, 100)
    assert distances(two).min() >= 61  # the first share: nothing was lowered


# The published centers of SHC (TOIS 2025): least distances.
PUBLISHED = {(10, 8): 4, (10, 16): 8, (10, 32): 16, (10, 64): 32, (100, 16): 4, (100, 32): 10, (100, 64): 32}


@pytest.mark.parametrize(("n_classes", "n_bits"), PUBLISHED)
def test_separated_beats_published_centers_wherever_more_is_possible(n_classes, n_bits):
    published, bound = PUBLISHED[n_classes, n_bits], distance_bound(n_classes, n_bits)[0]
    own = distances(separated_centers(n_classes, n_bits).bits).min()
    assert own > published or own == published == bound
    for make in (hadamard_centers, random_centers, rejected_centers):
        other = distances(make(n_classes, n_bits)).min()
        assert own > other or own == other == bound


def test_the_same_words_on_every_machine():
    def number(bits):
        return [int("".join(map(str, row.astype(int))), 2) for row in bits]

    assert number(random_centers(3, 12, seed=5)) == [346, 2809, 59]
    assert number(rejected_centers(3, 12, seed=5)) == [346, 2726, 2017]
    assert number(hadamard_centers(3, 10, seed=5)) == [206, 339, 666]


def test_refusals():
    with pytest.raises(ValueError, match="n_words must be at most 8, all words of 3 bits, got 9"):
        random_centers(9, 3)
    with pytest.raises(ValueError, match="n_words must be at most 8, all words of 3 bits, got 9"):
        rejected_centers(9, 3)
    with pytest.raises(ValueError, match="at most 20, all words of 6 bits with 3 ones, got 21"):
        hadamard_centers(21, 6)
    # All there are can be had.
    assert len(np.unique(hadamard_centers(20, 6), axis=0)) == 20
    assert (
        len(np.unique(random_centers(64, 6), axis=0)) == len(np.unique(rejected_centers(64, 6), axis=0)) == 64
    )
