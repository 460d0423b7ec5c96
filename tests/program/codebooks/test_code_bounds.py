"""Upper bounds on codes: never below a code that exists, and where they are known to be tight."""

from math import comb

import pytest

from dshc.codebooks import bounds
from dshc.codebooks.bounds import BROUWER, distance_bound, size_bound


def largest_code(n, d):
    """A(n, d) by looking at all codes that hold 0."""
    far = [sum(1 << w for w in range(2**n) if (v ^ w).bit_count() >= d) for v in range(2**n)]

    def grow(size, allowed):
        best = size
        while allowed and size + allowed.bit_count() > best:
            word = allowed & -allowed
            best = max(best, grow(size + 1, allowed & far[word.bit_length() - 1]))
            allowed ^= word
        return best

    return grow(1, far[0])


@pytest.mark.parametrize(
    ("n", "d"), [(n, d) for n in range(1, 6) for d in range(1, n + 1)] + [(6, 3), (6, 4), (7, 5)]
)
def test_no_bound_is_below_the_largest_code(n, d):
    exact = largest_code(n, d)
    assert size_bound(n, d)[0] >= exact and size_bound(n, d, program=False)[0] >= exact
    if d % 2 == 0:
        for bound in (bounds.plotkin, bounds.singleton, bounds.linear_program):
            assert bound(n, d) >= exact, bound
    assert bounds.hamming(n, d) >= exact


@pytest.mark.parametrize(("d", "n"), [(d, n) for d, row in BROUWER.items() for n in row])
def test_the_table_and_the_other_bounds_agree(d, n):
    known, at_most = BROUWER[d][n]
    assert known <= at_most
    for bound in (bounds.plotkin, bounds.singleton, bounds.linear_program):
        assert bound(n, d) >= known, bound
    assert bounds.hamming(n - 1, d - 1) >= known
    assert size_bound(n, d) == size_bound(n - 1, d - 1)
    if n + 1 in BROUWER[d]:
        assert known <= BROUWER[d][n + 1][0] and BROUWER[d][n + 1][1] <= 2 * at_most
    if d + 2 in BROUWER and n in BROUWER[d + 2]:
        assert BROUWER[d + 2][n][0] <= known and BROUWER[d + 2][n][1] <= at_most


@pytest.mark.parametrize(
    ("n", "d", "value"),
    # Codes that the program is known to be tight for: Golay, Nordstrom-Robinson, Hamming, Reed-Muller, simplex.
    [(24, 8, 4096), (16, 6, 256), (8, 4, 16), (16, 4, 2048), (32, 16, 64), (64, 32, 128), (32, 4, 2**26)],
)
def test_the_linear_program_where_codes_meet_it(n, d, value):
    assert bounds.linear_program(n, d) == value


def test_a_wrong_answer_of_the_solver_is_lowered_or_refused(monkeypatch):
    import scipy.optimize

    solve = scipy.optimize.linprog

    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, *arguments, **keywords):
            answer = solve(*arguments, **keywords)
            answer.x = answer.x * self.factor
            return answer

    for factor, holds in ((0.999, True), (1.01, True), (0.0, False)):
        monkeypatch.setattr(scipy.optimize, "linprog", Scaled(factor))
        value = bounds.linear_program.__wrapped__(16, 6)
        assert value is not None and value >= 256 if holds else value is None


def test_krawtchouk_numbers():
    for n in (1, 5, 12):
        for x in range(n + 1):
            for k, value in enumerate(bounds._krawtchouk(n, x)):
                assert value == sum((-1) ** j * comb(x, j) * comb(n - x, k - j) for j in range(k + 1))


@pytest.mark.parametrize(
    ("n_words", "n_bits", "distance"),
    [
        (10, 10, 5),
        (12, 10, 5),
        (13, 10, 4),
        (40, 10, 4),
        (41, 10, 3),
        (10, 20, 10),
        (10, 30, 16),
        (10, 60, 32),
        (21, 21, 10),
        (100, 32, 14),
        (128, 64, 32),
        (1000, 64, 28),
        (256, 16, 6),
        (4096, 24, 8),
        (2, 7, 7),
        (1024, 10, 1),
        (512, 10, 2),
        (513, 10, 1),
    ],
)
def test_distances_that_are_known(n_words, n_bits, distance):
    assert distance_bound(n_words, n_bits)[0] == distance


def test_names_and_ends():
    assert distance_bound(10, 10) == (5, "Plotkin")
    assert distance_bound(21, 9) == (3, "Brouwer's table")
    assert distance_bound(40_000, 64) == (25, "Delsarte's linear program")
    assert distance_bound(1, 5) == (None, "one word")
    assert distance_bound(2, 5) == (5, "length")
    assert size_bound(5, 6) == (1, "length") and size_bound(5, 1) == (32, "all words")
    with pytest.raises(ValueError, match="n_words must be at most 8, all words of 3 bits, got 9"):
        distance_bound(9, 3)
    with pytest.raises(ValueError, match="d must be at least 1, got 0"):
        size_bound(3, 0)


def test_longer_codes_are_bounded_too():
    assert distance_bound(1000, 4096)[0] == 2050  # Plotkin
    assert distance_bound(2**200, 300)[1] == "Hamming"  # beyond the linear program


def test_the_hamming_bound():
    assert bounds.hamming(7, 3) == 16 and bounds.hamming(23, 7) == 4096  # perfect codes
    for n in range(1, 20):
        for d in range(1, n + 1):
            assert bounds.hamming(n, d) == 2**n // sum(comb(n, i) for i in range((d - 1) // 2 + 1))
