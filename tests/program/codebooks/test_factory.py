"""Building a codebook by name: what cannot exist is refused, and the lengths by default."""

import doctest
import importlib

import numpy as np
import pytest

from dshc.codebooks import build, default_bits, nested_centers, planner


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("cpbc", 10, 9), {}, r"n_bits must be at least one per class for cpbc, got 9 bits for 10 classes"),
        (("kbc", 10, 21), {}, r"n_bits must be between 1 and 20 for kbc .*, got 21"),
        (("kbc", 5, 2), {}, r"n_bits must be at least 3 for 5 classes, one code each, got 2"),
        (("hadamard", 10, 30), {}, r"construction must be one of cpbc, kbc, separated, got 'hadamard'"),
        (("cpbc", 0, 30), {}, r"n_classes must be at least 1, got 0"),
        (("cpbc", 10, 0), {}, r"n_bits must be at least 1, got 0"),
        (("cpbc", 10, 5000), {}, r"n_bits must be between 1 and 4096, got 5000"),
        (("kbc", 10, 10), {"seed": -1}, r"seed must be at least 0, got -1"),
        (("kbc", 10, 10), {"threshold": -1}, r"threshold must be at least 0, got -1"),
    ],
)
def test_what_cannot_exist_is_refused(arguments, keywords, message):
    with pytest.raises(ValueError, match=message):
        build(*arguments, **keywords)


@pytest.mark.parametrize("value", ["30", 30.0, True, None])
def test_a_length_is_a_whole_number(value):
    with pytest.raises(TypeError, match="n_bits"):
        build("cpbc", 10, value)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10, 100, 1000])
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_the_shortest_separated_code_by_default(n_classes, radius):
    n_bits, wanted = default_bits(n_classes, "separated", radius), 4 * max(radius, 1) + 1
    if n_classes == 1:
        assert n_bits == 1
    else:
        assert planner.plan(n_classes, n_bits).distance >= wanted
        assert 2 ** (n_bits - 1) < n_classes or planner.plan(n_classes, n_bits - 1).distance < wanted


def test_three_bits_a_class_by_default_elsewhere():
    assert default_bits(10) == default_bits(10, "cpbc", 2) == default_bits(10, "kbc") == 30
    with pytest.raises(ValueError, match="--construction separated"):
        default_bits(183)


@pytest.mark.parametrize("module", ["factory", "bounds", "planner"])
def test_examples_print_what_they_say(module):
    result = doctest.testmod(importlib.import_module(f"dshc.codebooks.{module}"))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("sub_codes", ["3", 2.5, [1, 2.0], object()])
def test_a_number_of_sub_codes_is_a_whole_number(sub_codes):
    with pytest.raises(TypeError, match="sub_codes must be a whole number"):
        build("cpbc", 2, 6, sub_codes=sub_codes)


def test_numbers_of_numpy_are_whole_numbers():
    expected = build("cpbc", 2, 6, sub_codes=2).codes
    for sub_codes in (np.int64(2), np.array([2, 2]), [np.int32(2), 2]):
        assert np.array_equal(build("cpbc", np.int64(2), np.int16(6), sub_codes=sub_codes).codes, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: build("separated", 4, 16, lengths=8), TypeError, "lengths must be whole numbers, got 8"),
        (
            lambda: build("separated", 4, 16, lengths=(8.5,)),
            TypeError,
            "lengths must be a whole number, got 8.5",
        ),
        (lambda: nested_centers(0, (16,)), ValueError, "n_words must be at least 1, got 0"),
        (lambda: nested_centers(10, (8.5, 16)), TypeError, "lengths must be a whole number, got 8.5"),
        (lambda: nested_centers(10, 16), TypeError, "lengths must be whole numbers, got 16"),
        (lambda: default_bits(5, "foo"), ValueError, "construction must be one of .*, got 'foo'"),
        (lambda: default_bits(0), ValueError, "n_classes must be at least 1, got 0"),
    ],
)
def test_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
