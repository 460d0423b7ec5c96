"""The construction `kbc`: how many codes it keeps, their distances, and how often it draws."""

import numpy as np
import pytest
from codebook_cases import bits_of

from dshc.codebooks import build
from dshc.codebooks import kbc as kbc_module


def test_kbc_keeps_about_as_many_codes_as_measured_for_the_paper():
    # This reading of the paper keeps 11 to 98 codes over 30 draws, 71.9 on average, draws that leave a class
    # without a code included.
    kept = []
    for seed in range(30):
        centers = kbc_module.draw(10, 10, np.random.PCG64(seed))
        flips = np.concatenate([[0], 1 << np.arange(10)])
        kept.append(sum(len(own) for own in kbc_module.filtered(centers, flips, 10, 3, [None] * 10)))
    assert 5 <= min(kept) and max(kept) <= 110
    assert 60 <= np.mean(kept) <= 85


@pytest.mark.parametrize("seed", range(5))
def test_kbc_codes_keep_their_distances(seed):
    book = build("kbc", 10, 10, seed=seed, threshold=3)
    bits, centers = bits_of(book.codes, 10).astype(int), bits_of(book.centers, 10).astype(int)
    apart = (bits[:, None] != centers).sum(-1)
    owner = np.repeat(np.arange(10), np.diff(book.class_offsets))
    own = apart[np.arange(len(bits)), owner]
    apart[np.arange(len(bits)), owner] = 10
    assert (own <= 1).all() and (apart >= 3).all()
    assert np.diff(book.class_offsets).min() >= 1 and book.collisions == 0
    values = book.codes.astype(int) @ [1, 256]
    for start, stop in zip(book.class_offsets[:-1], book.class_offsets[1:], strict=True):
        assert (np.diff(values[start:stop]) > 0).all()  # by code value
    again = build("kbc", 10, 10, seed=seed)
    assert np.array_equal(book.codes, again.codes)


def test_kbc_draws_again_from_the_same_generator(monkeypatch):
    real, generators = kbc_module.draw, []

    def first_is_no_use(n_classes, n_bits, rng):
        centers = real(n_classes, n_bits, rng)
        generators.append(rng)
        return np.zeros_like(centers) if len(generators) == 1 else centers  # equal centers leave no code

    monkeypatch.setattr(kbc_module, "draw", first_is_no_use)
    book = build("kbc", 2, 8, seed=1)
    assert len(generators) >= 2 and all(rng is generators[0] for rng in generators)
    assert np.diff(book.class_offsets).min() >= 1


def test_kbc_gives_up_after_1000_draws(monkeypatch):
    assert kbc_module.DRAWS == 1000
    monkeypatch.setattr(kbc_module, "DRAWS", 3)
    with pytest.raises(
        ValueError, match=r"n_bits must leave every class a code .*3 draws \(4 classes, 2 bits, threshold 3\)"
    ):
        build("kbc", 4, 2)
