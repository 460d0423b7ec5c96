"""Codes of queries, from what a request gives: codes as text, features, images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..index import Layout
from ..index.sources import backbone_features
from ..methods import SignCoding
from ..storage import describe_label
from .ranking import Ranking

if TYPE_CHECKING:
    from torch import Tensor

    from ..hasher import Hasher

__all__ = ["Queries", "encoded", "features_of", "read_codes", "read_vectors"]


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
    return read_vectors(vectors, hasher.item_shape[0], "vectors")


def read_vectors(vectors: Sequence[Sequence[float]], n: int, name: str) -> np.ndarray:
    """float32 ``(len(vectors), n)``; ``name`` is what they are called in an :class:`InputError`."""
    for row, vector in enumerate(vectors):
        if len(vector) != n:
            raise InputError(f"{name}[{row}] must have {n} numbers, got {len(vector)}")
    with np.errstate(over="ignore"):
        found = np.array(vectors, np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"{name} must hold finite numbers that float32 can hold, got others")
    return found


@dataclass(frozen=True)
class Queries:
    """Of a request: packed codes ``(n, v, bytes)`` of n queries with v variants each, and of the first variants the
    classes that the hasher predicts (None where it does not), the vectors ``(n, d)`` to rescore by and the outputs
    ``(n, bits)`` whose signs the codes are, where these were asked for."""

    codes: np.ndarray
    predicted: list[str | None]
    vectors: np.ndarray | None = None
    outputs: np.ndarray | None = None


def encoded(hasher: Hasher, items: np.ndarray, ranking: Ranking) -> Queries:
    """Queries of arrays, of which ``ranking.n_variants`` in a row are variants of one."""
    v, real = ranking.n_variants, None
    outputs = hasher.outputs(items)
    _check_numbers(outputs, v)
    if ranking.asymmetric:
        assert isinstance(hasher.method, SignCoding)
        real = hasher.method.transformed(outputs).float().cpu().numpy()
        _check_outputs(real)
    codes = hasher.method.encode(outputs).cpu().numpy()
    predictions = hasher.method.predict(outputs)
    predicted = None if predictions is None else predictions.cpu().numpy()
    vectors = None
    if ranking.rescore is not None:
        vectors = items[::v] if hasher.kind == "features" else backbone_features(hasher, [items[::v]])
    codes = codes.reshape(-1, v, codes.shape[1])
    names = hasher.class_names
    told = (
        [None] * len(codes) if predicted is None else [describe_label(one, names) for one in predicted[::v]]
    )
    return Queries(codes, [one or None for one in told], vectors, real)


def _check_numbers(outputs: Tensor, n_variants: int) -> None:
    """Numbers near the end of float32 overflow on their way through a network."""
    lacking = (~outputs.isfinite()).any(dim=1).nonzero()
    if len(lacking):
        raise InputError(
            f"the network must give finite numbers, gave others for query {int(lacking[0]) // n_variants}"
        )


def _check_outputs(outputs: np.ndarray) -> None:
    """Their sizes must add up to a distance that float32 can hold."""
    largest = np.abs(outputs, dtype=np.float64).sum(axis=1).max(initial=0.0)
    if not largest < np.finfo(np.float32).max:  # not a number, too
        raise InputError("the outputs of the queries must be finite numbers, got others")
