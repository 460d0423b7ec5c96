"""What is measured of a codebook: distances within and between classes, by brute force over all pairs."""

import numpy as np
import pytest
from codebook_cases import bits_of
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.codebooks import Codebook, build, geometry


def test_a_single_class_has_nothing_between():
    book = build("cpbc", 1, 8)
    assert (book.min_between, book.mean_between, book.collisions, book.min_within) == (None, None, 0, 1)


def test_a_class_with_one_code_has_nothing_within():
    codes = np.array([[1], [2]], dtype=np.uint8)
    book = Codebook("cpbc", 2, codes, np.array([0, 1, 2]), codes)
    assert (book.min_within, book.mean_within, book.min_between, book.mean_between) == (None, None, 2, 2.0)


def test_large_books_are_measured_without_all_pairs():
    book = build("cpbc", 100, 1000)
    assert book.n_subclasses == 100_100  # 10^10 pairs
    assert (book.min_within, book.min_between, book.collisions, book.n_distinct) == (1, 18, 0, 100_100)


def brute_force(book):
    bits = bits_of(book.codes, book.n_bits).astype(int)
    apart = (bits[:, None] != bits[None]).sum(-1)
    owner = np.repeat(np.arange(book.n_classes), np.diff(book.class_offsets))
    same = owner[:, None] == owner
    within, between = apart[same & ~np.eye(len(bits), dtype=bool)], apart[~same]
    owners = {}
    for code, c in zip(map(bytes, book.codes), owner, strict=True):
        owners.setdefault(code, set()).add(c)
    return {
        "min_within": within.min() if within.size else None,
        "mean_within": pytest.approx(within.mean()) if within.size else None,
        "min_between": between.min() if between.size else None,
        "mean_between": pytest.approx(between.mean()) if between.size else None,
        "objective": within.sum() - between.sum(),
        "n_distinct": len(owners),
        "collisions": sum(len(classes) > 1 for classes in owners.values()),
    }


@settings(deadline=None, max_examples=examples(60))
@given(
    st.integers(1, 70),
    st.lists(st.integers(1, 6), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.1, 0.5]),
)
def test_any_book_is_measured_as_by_brute_force(n_bits, sizes, seed, density):
    rng = np.random.default_rng(seed)

    def codes(n):
        return np.packbits(rng.random((n, n_bits)) < density, axis=1, bitorder="little")

    offsets = np.concatenate([[0], np.cumsum(sizes)])
    book = Codebook("other", n_bits, codes(sum(sizes)), offsets, codes(len(sizes)))
    assert {name: getattr(book, name) for name in brute_force(book)} == brute_force(book)


@settings(deadline=None, max_examples=examples(40))
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 6), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 5]),
)
def test_every_way_of_measuring_a_book_agrees(n_bits, sizes, seed, looks):
    """Small chunks, and the search over all codes after so many pairs of classes."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    codes = np.packbits(rng.random((sum(sizes), n_bits)) < 0.5, axis=1, bitorder="little")
    book = Codebook("other", n_bits, codes, offsets, codes[offsets[:-1]])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "_MAX_LOOKS", looks)
        patch.setattr(geometry, "_CHUNK", 4 * n_bits)
        assert {name: getattr(book, name) for name in brute_force(book)} == brute_force(book)


def test_the_distance_of_centers_and_its_bound():
    book = build("cpbc", 10, 30)
    assert (book.center_distance, book.distance_bound) == (6, (16, "Plotkin"))
    alone = build("cpbc", 1, 8)
    assert (alone.center_distance, alone.distance_bound) == (None, (None, "one word"))
    codes = np.array([[1], [1], [2]], dtype=np.uint8)
    assert Codebook("other", 2, codes, np.arange(4), codes).center_distance == 0
