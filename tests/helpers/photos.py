"""Folders of small pictures whose kinds differ by colour and texture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("brick", "dots", "leaves", "sea", "stripes")


def picture(kind: str, number: int, side: int) -> Image.Image:
    """One of them: the kind's texture at a scale, place and brightness of its own, with noise."""
    rng = np.random.default_rng([KINDS.index(kind), number])
    y, x = np.mgrid[:side, :side] / side
    scale, (left, top) = rng.uniform(0.8, 1.25), rng.uniform(0, 1, 2)
    y, x = y * scale + top, x * scale + left
    waves = {
        "brick": ((y * 8 % 1 < 0.15) | ((x * 4 + (y * 8 // 1 % 2) / 2) % 1 < 0.08)).astype(float),
        "dots": ((x * 5 % 1 - 0.5) ** 2 + (y * 5 % 1 - 0.5) ** 2 < 0.09).astype(float),
        "leaves": np.abs(np.sin(9 * x + 5 * np.sin(7 * y)) * np.cos(11 * y)),
        "sea": 0.5 + 0.5 * np.sin(25 * y + 2 * np.sin(5 * x)),
        "stripes": (x * 9 % 1 < 0.5).astype(float),
    }[kind]
    dark, light = {
        "brick": ((150, 60, 40), (210, 200, 190)),
        "dots": ((240, 220, 60), (40, 30, 120)),
        "leaves": ((20, 60, 20), (120, 190, 70)),
        "sea": ((10, 40, 90), (150, 200, 230)),
        "stripes": ((20, 20, 20), (230, 230, 230)),
    }[kind]
    pixels = np.array(dark) + waves[..., None] * (np.array(light) - np.array(dark))
    pixels = pixels * rng.uniform(0.8, 1.1) + rng.normal(0, 8, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(
    folder: Path,
    *,
    per_kind: int = 12,
    side: int = 64,
    suffix: str = ".jpg",
    kinds: tuple[str, ...] = KINDS,
) -> Path:
    """A folder with a folder of pictures per kind."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
        for number in range(per_kind):
            picture(kind, number, side).save(folder / kind / f"{number:02}{suffix}")
    return folder
