"""Where tests find real data sets; without them they skip and say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("DSHC_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))


def real(name: str) -> Path:
    """The file or folder ``name`` below DSHC_DATA; skips the calling test where there is none."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the real set {name} is not in DSHC_DATA ({DATA})")
    return path
