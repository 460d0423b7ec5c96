"""Codes of queries, from what a request gives: codes as text, features, images."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.image_fit import decode
from ..errors import InputError
from ..index import Layout
from ..storage import describe_label
from .pictures import FORMATS

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["decoded", "encoded", "features_of", "read_codes"]


def read_codes(written: Sequence[Any], code_format: str, layout: Layout) -> np.ndarray:
    """Packed codes uint8 ``(n, bytes)``. Raises :class:`InputError` naming the first that does not fit."""
    codes = np.empty((len(written), layout.n_bytes), np.uint8)
    for row, one in enumerate(written):
        if isinstance(one, str) == (code_format == "bytes"):
            wanted = "lists of integers" if code_format == "bytes" else "texts"
            raise InputError(f"codes must be {wanted} with code_format {code_format!r}, got another type")
        content = _bytes(row, one, code_format)
        if len(content) != layout.n_bytes:
            raise InputError(
                f"codes[{row}] must have {layout.n_bytes} bytes ({layout.n_bits} bits), got {len(content)}"
            )
        codes[row] = np.frombuffer(content, np.uint8)
        if layout.n_bits % 8 and int(codes[row, -1]) >> (layout.n_bits % 8):
            raise InputError(f"codes[{row}] must have padding bits of 0 (from bit {layout.n_bits} on)")
    return codes


def _bytes(row: int, one: Any, code_format: str) -> bytes:
    try:
        if code_format == "hex":
            return binascii.unhexlify(one)
        if code_format == "base64":
            return base64.b64decode(one, validate=True)
        return bytes(one)
    except ValueError:
        wanted = {"hex": "two hexadecimal digits per byte", "base64": "base64 (RFC 4648)"}
        raise InputError(
            f"codes[{row}] must be {wanted.get(code_format, 'integers from 0 to 255')}, got something else"
        ) from None


def features_of(vectors: Sequence[Sequence[float]], hasher: Hasher) -> np.ndarray:
    """Vectors as the hasher takes them, float32 ``(n, d)``. Raises :class:`InputError` where they do not fit."""
    if hasher.kind != "features":
        raise InputError(
            "vectors must go with a hasher of features, the one of this index is of images; send images"
        )
    n = hasher.item_shape[0]
    for row, vector in enumerate(vectors):
        if len(vector) != n:
            raise InputError(f"vectors[{row}] must have {n} numbers, got {len(vector)}")
    with np.errstate(over="ignore"):
        features = np.array(vectors, np.float32)
    if not np.isfinite(features).all():
        raise InputError("vectors must hold finite numbers that float32 can hold, got others")
    return features


def decoded(content: bytes, row: int, hasher: Hasher, max_pixels: int) -> np.ndarray:
    """An image file as the hasher sees it, uint8 ``(h, w, c)``; its size is looked at before it is decoded.

    Raises :class:`InputError` for what is no image, is damaged or has more pixels.
    """
    try:
        pixels, _ = decode(
            io.BytesIO(content), hasher.image_fit, f"image {row}", most_pixels=max_pixels, formats=FORMATS
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    assert pixels is not None
    return pixels


def encoded(hasher: Hasher, items: np.ndarray) -> tuple[np.ndarray, list[str | None]]:
    """Packed codes of arrays, and the classes that the hasher predicts for them, None where it does not."""
    codes, predicted = hasher.encode_and_predict(items)
    if predicted is None:
        return codes, [None] * len(codes)
    names = hasher.class_names
    return codes, [describe_label(label, names) or None for label in np.asarray(predicted)]
