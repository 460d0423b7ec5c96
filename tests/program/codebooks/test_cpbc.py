"""The construction `cpbc`: the paper's check values, the order of its codes, and what it warns of."""

import warnings

import numpy as np
import pytest
from codebook_cases import bits_of, quiet

from dshc.codebooks import build


@pytest.mark.parametrize(
    ("per_class", "distinct", "collisions", "objective", "min_between", "mean_between"),
    [
        (1, 56, 46, -30_580, 0, 2.99),
        (2, 210, 0, -193_960, 2, 5.09),
        (3, 310, 0, -598_140, 4, 7.12),
        (6, 610, 0, -4_335_480, 10, 13.16),
    ],
)
def test_cpbc_check_values(per_class, distinct, collisions, objective, min_between, mean_between):
    book = quiet("cpbc", 10, 10 * per_class)
    assert (book.n_classes, book.n_bits, book.n_subclasses) == (10, 10 * per_class, 10 * (10 * per_class + 1))
    assert (book.n_distinct, book.collisions, book.objective) == (distinct, collisions, objective)
    assert (book.min_within, book.min_between) == (1, min_between)
    assert book.mean_between == pytest.approx(mean_between, abs=0.005)


def test_cpbc_order_is_the_center_then_the_flips_of_bits_0_1():
    book = build("cpbc", 2, 6)
    bits = bits_of(book.codes, 6)
    assert book.class_offsets.tolist() == [0, 7, 14]
    assert bits[:3].tolist() == [[1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0]]
    assert bits[7].tolist() == [0, 0, 0, 1, 1, 1]
    assert bits[13].tolist() == [0, 0, 0, 1, 1, 0]
    assert np.array_equal(book.centers, book.codes[book.class_offsets[:-1]])


@pytest.mark.parametrize("n_bits", [30, 32, 37])
def test_cpbc_leaves_bits_beyond_whole_blocks_at_0(n_bits):
    book = build("cpbc", 10, n_bits)
    assert book.n_subclasses == 310 and book.n_bits == n_bits
    assert book.codes.shape[1] == -(-n_bits // 8)
    assert not bits_of(book.codes, n_bits)[:, 30:].any()
    assert (book.min_between, book.objective) == (4, -598_140)


def test_cpbc_flips_no_constant_bit_at_any_radius():
    book = quiet("cpbc", 4, 15, radius=2)
    assert not bits_of(book.codes, 15)[:, 12:].any() and np.diff(book.class_offsets)[0] == 1 + 12 + 66


def test_cpbc_warns_by_name_where_codes_collide():
    with pytest.warns(UserWarning, match=r"cpbc with H = 1.*collide.*46 codes"):
        build("cpbc", 10, 10)
    with pytest.warns(UserWarning, match=r"cpbc with H = 2.*cannot separate"):
        build("cpbc", 10, 29)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_collisions_warned_of_are_those_counted(n_classes):
    with pytest.warns(UserWarning, match=f" {quiet('cpbc', n_classes, n_classes).collisions} codes"):
        build("cpbc", n_classes, n_classes)


def test_cpbc_is_silent_from_three_bits_a_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("cpbc", 10, 30)
        build("cpbc", 1, 1)


@pytest.mark.parametrize(
    ("n_bits", "radius", "message"),
    [
        (20, 2, r"cpbc with H = 2 .* at radius 2 collide; H >= 5 \(50 bits\) separates"),
        (30, 2, r"H = 3 .* at radius 2 come as near \(2\) as those of one \(4\)"),
        (40, 2, r"H = 4 .* come as near \(4\)"),
    ],
)
def test_cpbc_warns_at_larger_radii(n_bits, radius, message):
    with pytest.warns(UserWarning, match=message):
        book = build("cpbc", 10, n_bits, radius=radius)
    assert book.min_between == max(0, 2 * (n_bits // 10) - 2 * radius)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build("cpbc", 10, 50, radius=2).min_between == 6


def test_a_number_of_sub_codes_that_leaves_none_out_changes_no_warning():
    with pytest.warns(UserWarning, match="46 codes"):
        assert build("cpbc", 10, 10, sub_codes=11).collisions == 46
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build("cpbc", 10, 10, sub_codes=1)
        build("cpbc", 10, 10, radius=0)
