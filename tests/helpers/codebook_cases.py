"""Codebooks with their codes as bits, and without the warnings that a test does not ask about."""

import warnings

import numpy as np

from dshc.codebooks import build

__all__ = ["bits_of", "quiet"]


def bits_of(codes, n_bits):
    """Packed codes as 0 and 1, ``(n, n_bits)``."""
    return np.unpackbits(codes, axis=1, count=n_bits, bitorder="little")


def quiet(*arguments, **keywords):
    """``build`` of a codebook that may collide."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return build(*arguments, **keywords)
