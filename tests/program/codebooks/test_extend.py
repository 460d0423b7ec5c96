"""Classes added to a codebook: old codes stay, new ones lie apart."""

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import dshc_fast
from dshc.codebooks import build, extended
from dshc.codebooks.geometry import far_apart


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data())
def test_old_classes_keep_their_codes_and_new_ones_are_apart(data):
    n_old, n_bits = data.draw(st.integers(1, 12)), data.draw(st.integers(7, 40))
    book = build("separated", n_old, n_bits, radius=data.draw(st.integers(0, 1)), search_steps=10)
    places = data.draw(st.permutations([*range(n_old), *[None] * data.draw(st.integers(0, 6))]))
    more = extended(book, places, seed=3)
    assert more.n_classes == len(places) and more.n_bits == n_bits
    for c, place in enumerate(places):
        own = more.codes[more.class_offsets[c] : more.class_offsets[c + 1]]
        if place is None:
            distances = dshc_fast.hamming_distance(own, more.centers[c : c + 1])
            assert distances.max() <= book.radius and (own == more.centers[c]).all(1).any()
        else:
            old = book.codes[book.class_offsets[place] : book.class_offsets[place + 1]]
            assert np.array_equal(own, old) and np.array_equal(more.centers[c], book.centers[place])
    assert len(np.unique(more.centers, axis=0)) == len(places)


def test_a_new_center_is_the_farthest_word():
    book = build("separated", 3, 8)
    more = extended(book, [0, 1, 2, None])
    words = dshc_fast.pack_codes(((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(bool))
    nearest = dshc_fast.hamming_distance(words, book.centers).min(1)
    new = dshc_fast.hamming_distance(more.centers[3:], book.centers).min()
    assert new == nearest.max()


@pytest.mark.parametrize("places", [[0, 0], [0, 7], [-1]])
def test_places_that_are_none(places):
    with pytest.raises(ValueError, match="places must name classes 0 to 1"):
        extended(build("separated", 2, 8), places)


def test_words_come_to_an_end():
    with pytest.raises(
        ValueError, match="2 bits must leave a word for each of 3 new classes, got none after 2"
    ):
        extended(build("separated", 2, 2, radius=0), [0, 1, None, None, None])


def test_a_new_class_gets_as_many_sub_codes_as_the_others():
    limited = build("separated", 10, 33, sub_codes=2)
    assert np.diff(extended(limited, [*range(10), None], sub_codes=2).class_offsets).tolist() == [2] * 11
    thinned = build("separated", 10, 33).thinned(3)
    more = extended(thinned, [None, *range(10)], per_class=3)
    assert np.diff(more.class_offsets).tolist() == [3] * 11
    whole = extended(build("separated", 10, 33), [*range(10), None])
    last = whole.codes[whole.class_offsets[10] :]
    assert {bytes(code) for code in more.codes[:3]} == {bytes(code) for code in last[far_apart(last, 3)]}


@pytest.mark.parametrize(
    ("places", "error", "message"),
    [
        ([], ValueError, "places must name at least one class, got none"),
        ([0, "a"], TypeError, "places must be"),
    ],
)
def test_places_are_named(places, error, message):
    with pytest.raises(error, match=message):
        extended(build("separated", 2, 10), places)
