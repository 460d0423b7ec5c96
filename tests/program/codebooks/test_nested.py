"""Centers of several lengths at once: what their first bits keep, and the search over columns."""

import itertools

import numpy as np
import pytest
from effort import deep, examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.codebooks import bounds, nested_centers, search
from dshc.codebooks.separated import separated_centers


def least_distance(bits):
    apart = (bits[:, None] != bits[None]).sum(-1)
    return apart[~np.eye(len(bits), dtype=bool)].min()


@settings(deadline=None, max_examples=examples(60))
@given(st.data())
def test_distances_are_those_of_the_first_bits(data):
    shortest = data.draw(st.integers(1, 14))
    lengths = sorted({shortest, *data.draw(st.lists(st.integers(shortest, 40), max_size=3))})
    n_words = data.draw(st.integers(1, min(2**shortest, 40)))
    found = nested_centers(n_words, lengths, steps=5)
    assert found.bits.shape == (n_words, lengths[-1]) and found.bits.dtype == bool
    assert found.lengths == tuple(lengths)
    if n_words == 1:
        assert found.distances == (None,) * len(lengths)
        return
    for length, distance in zip(lengths, found.distances, strict=True):
        assert distance == least_distance(found.bits[:, :length])
        assert distance <= bounds.distance_bound(n_words, length)[0]
    again = nested_centers(n_words, lengths, steps=5)
    assert (again.bits == found.bits).all() and again.origin == found.origin


@pytest.mark.parametrize(
    ("n_words", "lengths", "distances"),
    [
        (10, (16, 32, 64), (8, 17, 35)),  # nothing is lost
        (50, (16, 32, 64), (6, 16, 32)),  # nor here, but only around the Reed-Muller code of 32 or 64 bits
        (100, (16, 32, 64), (6, 14, 30)),  # 32 in 64 bits would leave 13 in the first 32
        (21, (16, 32), (8, 16)),
        *deep((200, (16, 32, 64), (5, 13, 28)), (1000, (32, 64), (12, 25))),
    ],
)
def test_what_is_reached(n_words, lengths, distances):
    assert nested_centers(n_words, lengths).distances == distances


@pytest.mark.parametrize("n_words", [3, 10, 11, 33])
def test_no_table_is_better_that_was_there_before(n_words):
    lengths = (8, 16, 24)
    alone = [separated_centers(n_words, length) for length in lengths]
    shares = sum(
        d / a.distance for d, a in zip(nested_centers(n_words, lengths).distances, alone, strict=True)
    )
    beside = np.concatenate([alone[0].bits] * 3, axis=1)
    for bits in (alone[-1].bits, beside):
        other = sum(
            least_distance(bits[:, :length]) / a.distance for length, a in zip(lengths, alone, strict=True)
        )
        assert shares >= other


def test_one_length_is_the_separated_code():
    assert (nested_centers(20, [12]).bits == separated_centers(20, 12).bits).all()
    assert nested_centers(20, [12]).distances == (separated_centers(20, 12).distance,)


def test_more_words_than_are_searched_stand_side_by_side():
    found = nested_centers(1100, (12, 15), steps=0)
    assert found.distances[1] >= found.distances[0] >= 1


def test_refusals():
    for lengths in ((), (0, 4), (4, 4), (8, 4)):
        with pytest.raises(ValueError, match="lengths must be at least 1 and rise, got"):
            nested_centers(3, lengths)
    with pytest.raises(ValueError, match="n_words must be at most 16, all words of 4 bits, got 17"):
        nested_centers(17, (4, 8))


# The search over columns


def parts_of(n_words):
    """All columns of so many words, and which pairs of words they part."""
    columns = np.array(list(itertools.product((0, 1), repeat=n_words - 1)))[1:]
    columns = np.concatenate([np.zeros((len(columns), 1), int), columns], axis=1).T
    return np.array([columns[i] != columns[j] for i, j in itertools.combinations(range(n_words), 2)]).astype(
        float
    )


def test_columns_are_added_up_to_the_bound():
    parts = parts_of(6)  # 6 words are 3 n / 5 apart at best: a column parts 9 pairs of 15
    start = np.zeros(len(parts))
    columns, least = search.columns_to_add(parts, start, 10, 6, np.random.PCG64(0), 100)
    assert least == 6 == parts[:, columns].sum(axis=1).min() and len(columns) == 10
    first = parts[:, columns[:5]].sum(axis=1)
    more, least = search.columns_to_add(parts, first, 5, 6, np.random.PCG64(1), 200)
    assert least == 6 == (first + parts[:, more].sum(axis=1)).min()
    # What cannot be is not claimed.
    columns, least = search.columns_to_add(parts, start, 10, 7, np.random.PCG64(0), 30)
    assert least == parts[:, columns].sum(axis=1).min() == 6


def added(n_words, n, spare, distance, steps, seed):
    """A search among ``n + spare`` columns drawn by chance: what they part, how many there are, and what is found."""
    parts = parts_of(n_words)
    supply = np.random.default_rng(seed).multinomial(n + spare, np.full(parts.shape[1], 1 / parts.shape[1]))
    kept = supply.copy()
    columns, least = search.columns_to_add(
        parts, np.zeros(len(parts)), n, distance, np.random.PCG64(seed), steps, supply
    )
    assert (supply == kept).all() and len(columns) == n
    assert least == parts[:, columns].sum(axis=1).min()
    return parts, supply, columns, least


def test_no_more_columns_are_taken_than_there_are():
    for seed in range(100):
        _, supply, columns, _ = added(6, 10, 4, 6, 60, seed)
        assert (np.bincount(columns, minlength=len(supply)) <= supply).all()


def test_few_columns_are_chosen_as_well_as_can_be():
    optimal = 0
    for seed in range(100):
        parts, supply, _, least = added(4, 6, 3, 4, 15, seed)
        choices = itertools.combinations(np.repeat(np.arange(len(supply)), supply), 6)
        best = max(parts[:, list(chosen)].sum(axis=1).min() for chosen in choices)
        assert least <= best
        optimal += least == best
    assert optimal > 90


def test_of_all_states_the_best_is_returned():
    """More steps are never worse: a search goes through the same states and then on."""
    parts = parts_of(7)
    reached = [
        search.columns_to_add(parts, np.zeros(len(parts)), 9, 9, np.random.PCG64(3), steps)[1]
        for steps in (0, 1, 5, 25)
    ]
    assert reached == sorted(reached) and reached[-1] >= 4
