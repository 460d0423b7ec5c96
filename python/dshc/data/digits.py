"""The handwritten digits that scikit-learn ships: 1,797 grey images of 8 x 8 pixels, 10 classes."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset

__all__ = ["load_digits"]


def load_digits() -> Dataset:
    """The 1,797 digit images, uint8 ``(1797, 8, 8, 1)``; the 17 grey levels 0..16 are spread over 0..255.

    Source: UCI ML "Optical Recognition of Handwritten Digits" (its test part), as in
    ``sklearn.datasets.load_digits``. There is no official split; the protocol ``digits`` makes one.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    labels = bunch.target.astype(np.int64)
    return Dataset("digits", "images", images, labels, tuple(str(digit) for digit in range(10)))
