"""Variants of an uploaded image: an item is as near as it is to the nearest of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..data import ImageFit
from ..data.image_fit import decode
from ..errors import InputError
from .pictures import FORMATS

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["Variant", "decoded", "n_variants_of"]

Variant = Literal["flip", "rotations", "crops"]
_CROPPED = 3 / 4  # of the sides


def n_variants_of(variants: Sequence[Variant]) -> int:
    """How many images become of one."""
    n = 1 + 3 * ("rotations" in variants) + 5 * ("crops" in variants)
    return 2 * n if "flip" in variants else n


def decoded(
    content: bytes, row: int, hasher: Hasher, max_pixels: int, variants: Sequence[Variant] = ()
) -> np.ndarray:
    """An image file and its variants as the hasher sees them, uint8 ``(v, h, w, c)``, the image itself first.

    ``variants``: ``"rotations"``, turned by 90, 180 and 270 degrees; ``"crops"``, the corners and the middle, of three
    quarters of its sides; ``"flip"``, mirror images of all these. Its size is looked at before it is decoded. Raises
    :class:`InputError` for what is no image, is damaged or has more pixels.
    """
    fit = hasher.image_fit
    assert fit is not None

    def fitted(fit: ImageFit) -> np.ndarray:
        try:
            pixels, _ = decode(
                io.BytesIO(content), fit, f"image {row}", most_pixels=max_pixels, formats=FORMATS
            )
        except ValueError as error:
            raise InputError(str(error)) from None
        assert pixels is not None
        return pixels

    image = fitted(fit)
    found = [image]
    if "rotations" in variants:
        # What is as high as it is wide is turned as it is; else another part of the image is seen.
        lying = image if fit.height == fit.width else fitted(replace(fit, height=fit.width, width=fit.height))
        found += [np.rot90(lying), np.rot90(image, 2), np.rot90(lying, 3)]
    if "crops" in variants:
        found += _crops(fitted(_enlarged(fit)), fit)
    if "flip" in variants:
        found += [part[:, ::-1] for part in found]
    return np.stack(found)


def _enlarged(fit: ImageFit) -> ImageFit:
    height, width = (min(4096, math.ceil(side / _CROPPED)) for side in (fit.height, fit.width))
    return replace(fit, height=height, width=width)


def _crops(image: np.ndarray, fit: ImageFit) -> list[np.ndarray]:
    bottom, right = image.shape[0] - fit.height, image.shape[1] - fit.width
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    return [image[top : top + fit.height, left : left + fit.width] for top, left in places]
