"""Which sub-codes a class gets: those within a radius, or so many of the nearest."""

import warnings

import numpy as np
import pytest
from codebook_cases import bits_of, quiet

from dshc.codebooks import build


@pytest.mark.parametrize("construction", ["cpbc", "separated"])
@pytest.mark.parametrize(("radius", "per_class"), [(0, 1), (1, 13), (2, 13 + 66)])
def test_a_radius_is_all_codes_within_it(construction, radius, per_class):
    book = quiet(construction, 3, 12, radius=radius)
    assert np.diff(book.class_offsets).tolist() == [per_class] * 3 and book.radius == radius
    bits, centers = bits_of(book.codes, 12), np.repeat(bits_of(book.centers, 12), per_class, axis=0)
    apart = (bits != centers).sum(axis=1).reshape(3, -1)
    assert (np.diff(apart, axis=1) >= 0).all() and apart.max() == radius
    assert book.n_distinct == 3 * per_class or book.collisions > 0
    assert book.min_within == (None if radius == 0 else 1)


def test_pairs_of_flips_come_in_the_order_of_their_bits():
    book = quiet("separated", 1, 3, radius=3)
    assert bits_of(book.codes, 3).tolist() == [
        [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]
    ]  # fmt: skip


@pytest.mark.parametrize("construction", ["cpbc", "kbc", "separated"])
def test_so_many_sub_codes_are_the_nearest(construction):
    whole = quiet(construction, 4, 12, radius=2)
    cut = quiet(construction, 4, 12, radius=2, sub_codes=[1, 5, 3, 10_000])
    sizes = np.minimum(np.diff(whole.class_offsets), [1, 5, 3, 10_000])
    assert np.diff(cut.class_offsets).tolist() == sizes.tolist()
    for c in range(4):
        own = whole.codes[whole.class_offsets[c] : whole.class_offsets[c + 1]]
        apart = (bits_of(own, 12) != bits_of(whole.centers[c : c + 1], 12)).sum(axis=1)
        kept = cut.codes[cut.class_offsets[c] : cut.class_offsets[c + 1]]
        kept_apart = (bits_of(kept, 12) != bits_of(whole.centers[c : c + 1], 12)).sum(axis=1)
        assert {bytes(code) for code in kept} <= {bytes(code) for code in own}
        assert sorted(kept_apart) == sorted(apart)[: len(kept)]
    assert np.diff(quiet(construction, 4, 12, sub_codes=2).class_offsets).max() == 2


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"radius": -1}, ValueError, "radius must be at least 0, got -1"),
        ({"radius": 13}, ValueError, r"radius must be between 0 and 12 \(n_bits\), got 13"),
        ({"radius": 1.0}, TypeError, "radius"),
        ({"sub_codes": 0}, ValueError, "sub_codes must be at least 1, got 0"),
        ({"sub_codes": True}, TypeError, "sub_codes must be a whole number, got True"),
        (
            {"sub_codes": [1, 2]},
            ValueError,
            "sub_codes must be one number or one per class, got 2 numbers for 3 classes",
        ),
        ({"sub_codes": [1, 2, 0]}, ValueError, "sub_codes must be at least 1, got 0"),
        ({"sub_codes": [1, 2, 2.5]}, TypeError, "sub_codes must be a whole number, got 2.5"),
        ({"sub_codes": "many"}, TypeError, "sub_codes must be a whole number, or one per class, got .many."),
        ({"search_steps": -1}, ValueError, "search_steps must be at least 0, got -1"),
    ],
)
def test_sub_codes_that_cannot_be_are_refused(keywords, error, message):
    for construction in ("cpbc", "kbc", "separated"):
        with pytest.raises(error, match=message):
            quiet(construction, 3, 12, **keywords)


def test_too_many_sub_codes_are_refused_before_they_are_made():
    with pytest.raises(ValueError, match=r"sub-codes per class, got 8,987,138,113 of 256 bits at radius 5"):
        quiet("separated", 3, 256, radius=5)
    with pytest.raises(
        ValueError, match=r"sub-codes in all classes, got 164,\d{3},\d{3} in 5,000 classes at radius 2"
    ):
        quiet("separated", 5000, 256, radius=2)
    with pytest.raises(ValueError, match="n_classes must be at most .*, got 268,435,456"):
        build("separated", 2**28, 64)


@pytest.mark.parametrize(
    ("construction", "n_classes", "n_bits", "sub_codes", "n_shared"),
    [("cpbc", 10, 10, 10, 37), ("separated", 50, 7, 7, 64), ("cpbc", 3, 3, 3, 2)],
)
def test_limited_sub_codes_that_several_classes_own(
    construction: str, n_classes: int, n_bits: int, sub_codes: int, n_shared: int
) -> None:
    with pytest.warns(UserWarning, match=f"has {n_shared} codes that several classes own"):
        assert build(construction, n_classes, n_bits, sub_codes=sub_codes).collisions == n_shared
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build("cpbc", 10, 30, sub_codes=10).collisions == 0
