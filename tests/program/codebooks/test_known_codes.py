"""The codes that `separated` is made of: sizes and distances, by enumeration of the words."""

import numpy as np
import pytest

import dshc_fast
from dshc.codebooks import blocks, linear, nonlinear, search


def least_weight(generator):
    """The smallest weight of a word other than 0, 2^16 words at a time."""
    low, high = linear.words(generator[:16]), linear.words(generator[16:])
    weights = [(low ^ shift).sum(axis=1) for shift in high]
    weights[0][0] = generator.shape[1]
    return min(int(part.min()) for part in weights)


def distances(words):
    packed = dshc_fast.pack_codes(words)
    found = dshc_fast.hamming_distance(packed, packed)
    return found[~np.eye(len(words), dtype=bool)]


@pytest.mark.parametrize(
    ("m", "taken", "dimension", "distance"),
    [
        (3, 1, 4, 4),
        (3, 2, 7, 2),
        (4, 2, 7, 6),
        (4, 3, 11, 4),
        (5, 1, 6, 16),
        (5, 2, 11, 12),
        (5, 3, 16, 8),
        (6, 1, 7, 32),
        (6, 2, 10, 28),
        (6, 3, 16, 24),
        (7, 1, 8, 64),
        (7, 2, 15, 56),
        (8, 2, 13, 120),
    ],
)
def test_extended_bch_codes(m, taken, dimension, distance):
    generator = linear.extended_bch(m, taken)
    assert generator.shape == (dimension, 2**m)
    assert (dimension, distance, taken) in linear.bch_chain(m)
    assert least_weight(generator) == distance
    assert (linear.extended_bch(m, taken + 1)[:dimension] == generator).all()


def test_the_chain_ends_with_the_even_words():
    for m in range(3, 9):
        chain = linear.bch_chain(m)
        assert chain[0][:2] == (m + 1, 2 ** (m - 1)) and chain[-1][:2] == (2**m - 1, 2)
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in zip(chain, chain[1:], strict=False))


@pytest.mark.parametrize("m", range(2, 13))
def test_the_least_primitive_polynomial(m):
    assert len(set(linear.field(m).tolist())) == 2**m - 1
    assert linear.primitive(m) >> m == 1
    assert {2: 0b111, 3: 0b1011, 4: 0b10011, 5: 0b100101, 6: 0b1000011, 8: 0b100011101}.get(
        m, linear.primitive(m)
    ) == (linear.primitive(m))


@pytest.mark.parametrize("p", [17, 23, 31, 41])
def test_extended_quadratic_residue_codes(p):
    generator = linear.extended_qr(p)
    assert generator.shape == ((p + 1) // 2, p + 1)
    assert least_weight(generator) == linear.QR_DISTANCES[p]
    with pytest.raises(ValueError, match="p must be one of 17, 23.*, got 11"):
        linear.extended_qr(11)


@pytest.mark.deep
def test_the_quadratic_residue_code_of_48_bits():
    assert least_weight(linear.extended_qr(47)) == linear.QR_DISTANCES[47]


@pytest.mark.parametrize(
    ("m", "dimension", "n_symbols"), [(3, 1, 4), (3, 4, 7), (4, 2, 9), (4, 3, 16), (5, 2, 6)]
)
def test_concatenated_codes(m, dimension, n_symbols):
    for inner, distance in ((blocks._simplex(m), 2 ** (m - 1)), (blocks._biorthogonal(m), 2 ** (m - 2))):
        assert least_weight(inner) == distance
        generator = linear.concatenated(m, dimension, n_symbols, inner)
        assert generator.shape == (m * dimension, n_symbols * inner.shape[1])
        assert least_weight(generator) >= (n_symbols - dimension + 1) * distance
        assert len(np.unique(linear.words(generator), axis=0)) == 2 ** (m * dimension)


@pytest.mark.parametrize("cut", [0, 1, 3, 8])
def test_a_shortened_code_is_the_words_that_are_0_there(cut):
    generator = linear.extended_bch(5, 2)
    shorter = linear.shortened(generator, cut)
    assert shorter.shape == (11 - cut, 32 - cut)
    assert len(np.unique(linear.words(shorter), axis=0)) == 2 ** (11 - cut)
    assert least_weight(shorter) >= 12
    _, pivots = linear.reduced(generator[::-1], cut)
    all_words = linear.words(generator)
    expected = np.delete(all_words[~all_words[:, pivots].any(axis=1)], pivots, axis=1)
    assert {bytes(w) for w in linear.words(shorter)} == {bytes(w) for w in expected}


def test_words_are_the_sums_by_the_ones_of_their_number():
    generator = np.array([[1, 0, 0], [0, 1, 1]], dtype=bool)
    assert linear.words(generator).astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1]]
    for count in (1, 2, 3):
        assert (linear.words(generator, count) == linear.words(generator)[:count]).all()


@pytest.mark.parametrize("order", [order for order in range(1, 130) if nonlinear.has_hadamard(order)])
def test_hadamard_matrices(order):
    matrix = nonlinear.hadamard(order).astype(int)
    assert (matrix @ matrix.T == order * np.eye(order)).all()
    assert (matrix[0] == 1).all() and (matrix[:, 0] == 1).all()


def test_orders_of_hadamard_matrices():
    made = [order for order in range(1, 130) if nonlinear.has_hadamard(order)]
    assert made == [1, 2, *(order for order in range(4, 130, 4) if order not in (92, 116))]
    with pytest.raises(ValueError, match="order must be .*got 92"):
        nonlinear.hadamard(92)


@pytest.mark.parametrize("order", [4, 12, 20, 28, 36, 52])
def test_hadamard_codes(order):
    for deleted, size in ((0, 2 * order), (1, order), (2, order // 2)):
        words = nonlinear.hadamard_words(order, deleted)
        assert words.shape == (size, order - deleted)
        found = distances(words)
        assert found.min() == order // 2
        assert deleted == 0 or found.max() == order // 2


@pytest.mark.parametrize(("m", "distance"), [(3, 6), (5, 28)])
def test_kerdock_codes(m, distance):
    words = nonlinear.kerdock(m)
    assert words.shape == (4 ** (m + 1), 2 ** (m + 1))
    assert distances(words).min() == distance
    assert distances(words[: 2 ** (m + 1)]).min() == 2**m
    with pytest.raises(ValueError, match="m must be 3, 5 or 7, got 4"):
        nonlinear.kerdock(4)


def test_the_kerdock_code_of_256_bits():
    packed = dshc_fast.pack_codes(nonlinear.kerdock(7))
    # Distances from any word are those from 0: the Gray image of a linear code over Z_4 is distance invariant.
    assert dshc_fast.hamming_topk(packed[[0, 1, 40_000]], packed, k=2).distances[:, 1].tolist() == [120] * 3


def test_bests_code():
    words = nonlinear.best_code()
    assert words.shape == (40, 10) and distances(words).min() == 4


@pytest.mark.parametrize("n_words", [2, 3, 10, 33, 60, 129, 700])
def test_blocks_hold_what_they_promise(n_words):
    catalogue = blocks.catalogue(n_words, 72)
    assert all(
        a.length < b.length and a.distance < b.distance
        for a, b in zip(catalogue, catalogue[1:], strict=False)
    )
    for block in catalogue:
        words = block.make(n_words)
        assert words.shape == (n_words, block.length) and words.dtype == bool, block.name
        assert distances(words).min() >= block.distance, block.name


@pytest.mark.parametrize(
    ("n", "k", "distance"),
    [(32, 7, 14), (24, 7, 10), (36, 8, 16), (19, 6, 7), (8, 1, 8), (3, 2, 2), (27, 7, 12)],
)
def test_linear_codes_by_search(n, k, distance):
    generator = search.linear_code(n, k, distance, seed=0, steps=500)
    assert generator.shape == (k, n)
    assert least_weight(generator) >= distance
    assert (search.linear_code(n, k, distance, seed=0, steps=5000) == generator).all()


def test_a_search_that_finds_nothing_says_so():
    assert search.linear_code(32, 7, 15, seed=0, steps=20) is None  # there is none
    assert search.linear_code(5, 3, 3, seed=0, steps=20) is None
    assert search.linear_code(1, 1, 2, seed=0, steps=20) is None


@pytest.mark.parametrize(
    ("n", "k", "more_than", "found"), [(96, 13, 34, 36), (40, 12, 10, 12), (24, 11, 6, 8)]
)
def test_circulant_codes_by_search(n, k, more_than, found):
    generator, distance = search.circulant_code(n, k, more_than, seed=0, steps=500)
    assert generator.shape == (k, n) and distance >= found
    assert least_weight(generator) == distance
    more = search.circulant_code(n, k, more_than, seed=0, steps=600)
    assert more[1] >= distance
    assert search.circulant_code(n, k, n, seed=0, steps=5) is None
    assert search.circulant_code(n, k, more_than, seed=0, steps=0) is None


def test_a_few_columns_a_step_do(monkeypatch):
    monkeypatch.setattr(search, "_STEP_SIZE", 1 << 16)
    assert least_weight(search.linear_code(32, 7, 14, seed=0, steps=2000)) >= 14
