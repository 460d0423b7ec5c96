"""How much memory a process takes, by what the kernel says."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["peak", "resident"]


def resident(process: int | str = "self") -> int:
    """Bytes in memory now."""
    return _read(process, "VmRSS")


def peak(process: int | str = "self") -> int:
    """The most there ever were."""
    return _read(process, "VmHWM")


def _read(process: int | str, name: str) -> int:
    text = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None, name
    return int(found[1]) << 10
