"""Bits in the order that each kind of database has them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import dshc_fast
from dshc.exchange.layouts import bit_texts, n_words, words


def test_by_hand() -> None:
    """Bits 0, 9 and 66 of a code of 67 bits: of each byte the lowest bit comes first."""
    code = np.zeros((1, 9), np.uint8)
    code[0, 0], code[0, 1], code[0, 8] = 0b1, 0b10, 0b100
    assert bit_texts(code, 67) == ["1" + "0" * 8 + "1" + "0" * 56 + "1"]
    assert words(code).tolist() == [[1 + 2**9, 2**2]] and n_words(67) == 2
    high = np.array([[0, 0, 0, 0, 0, 0, 0, 128]], np.uint8)
    assert words(high).tolist() == [[2**63]] and bit_texts(high, 64) == ["0" * 63 + "1"]


@given(st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_each_bit(n_bits: int, seed: int) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (3, n_bits), dtype=np.uint8)
    codes = dshc_fast.pack_codes(bits.astype(np.float32) - 0.5)
    for row, text, numbers in zip(bits, bit_texts(codes, n_bits), words(codes).tolist(), strict=True):
        assert list(map(int, text)) == row.tolist()
        assert [numbers[j // 64] >> (j % 64) & 1 for j in range(n_bits)] == row.tolist()
        assert len(numbers) == n_words(n_bits)
