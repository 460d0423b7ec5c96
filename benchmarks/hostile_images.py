"""Files that somebody sends to a service that decodes images, and wishes it ill."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

__all__ = ["bomb", "hostile"]

_FORMATS = ("png", "jpeg", "gif", "bmp", "tiff", "webp")


def bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """A PNG of a few hundred bytes that says it has 2.5 billion pixels, and whose data go on accordingly."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 200_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def hostile(rng: np.random.Generator) -> bytes:
    """A file of an image: whole, cut off, with flipped bytes, enormous, or none at all."""
    buffer = io.BytesIO()
    side = int(rng.integers(1, 400))
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(
        buffer, format=str(rng.choice(_FORMATS))
    )
    whole = np.frombuffer(buffer.getvalue(), np.uint8).copy()
    match rng.integers(0, 6):
        case 0:
            return whole.tobytes()
        case 1:
            return whole[: rng.integers(0, len(whole))].tobytes()
        case 2:
            places = rng.integers(0, min(len(whole), 400), 5)
            whole[places] = rng.integers(0, 256, 5)
            return whole.tobytes()
        case 3:
            return bomb(int(rng.integers(7000, 60_000)), int(rng.integers(7000, 60_000)))
        case 4:  # within the limit, and cut off: decoded as far as it goes
            return bomb(6000, 6000)
        case _:
            return rng.bytes(int(rng.integers(0, 5000)))
