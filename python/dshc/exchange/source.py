"""What comes in: what a file of another program holds, before it becomes a code file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .beside import Beside, read_beside

__all__ = ["Found", "found_with_beside"]


@dataclass(frozen=True)
class Found:
    """Packed codes uint8 ``(n, bytes)``, ids or None, and what the file tells of them; None: nothing."""

    codes: np.ndarray
    ids: tuple[str, ...] | None
    told: Beside | None


def found_with_beside(path: Path, codes: np.ndarray, ids: tuple[str, ...] | None) -> Found:
    """With what the JSON file beside ``path`` tells, whose ids win: a file that holds numbers only has names there."""
    told = read_beside(path, len(codes))
    if told is not None and told.ids is not None:
        ids = told.ids
    return Found(codes, ids, told)
