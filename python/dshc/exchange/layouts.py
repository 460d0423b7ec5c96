"""Codes as databases hold them. Ours put bit ``j`` into byte ``j // 8`` at position ``j % 8``."""

from __future__ import annotations

import numpy as np

__all__ = ["bit_texts", "n_words", "words"]


def bit_texts(codes: np.ndarray, n_bits: int) -> list[str]:
    """Packed codes as the text of SQL's ``bit(n)``: bit ``j`` is the ``j``-th character from the left.

    PostgreSQL writes the left-most bit as the most significant one; ``get_bit(code, j)`` is bit ``j`` of ours.

    Args:
        codes: uint8 ``(n, ceil(n_bits / 8))``.
        n_bits: code length.

    >>> bit_texts(np.array([[0b0011, 0b1]], np.uint8), 10)
    ['1100000010']
    """
    bits = np.unpackbits(codes, axis=1, count=n_bits, bitorder="little")
    letters = np.ascontiguousarray(bits + ord("0"))
    return [text.decode() for text in letters.view(f"S{n_bits}")[:, 0].tolist()]


def n_words(n_bits: int) -> int:
    """How many words of 64 bits a code fills.

    >>> n_words(64), n_words(65)
    (1, 2)
    """
    return (n_bits + 63) // 64


def words(codes: np.ndarray) -> np.ndarray:
    """Packed codes as unsigned words: bit ``j`` is worth ``2 ** (j % 64)`` in word ``j // 64``.

    Args:
        codes: uint8 ``(n, bytes)``.

    Returns:
        uint64 ``(n, ceil(bytes / 8))``; what a code does not fill is 0.

    >>> words(np.array([[3, 1]], np.uint8))
    array([[259]], dtype=uint64)
    """
    n, width = codes.shape
    whole = np.zeros((n, -(-width // 8) * 8), np.uint8)
    whole[:, :width] = codes
    return whole.view("<u8").astype(np.uint64)
