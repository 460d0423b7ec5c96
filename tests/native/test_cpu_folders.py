"""The law of csrc/cpu: which folder may include which, and that no file grows long."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
CPU = CSRC / "cpu"
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
OUTSIDE = {"core", "common"}
# What each folder may include beside itself; the ops ("") may include all of them.
BELOW = {
    "kernels": set(),
    "call": {"kernels"},
    "repeats": {"kernels", "call"},
    "search": {"kernels", "call", "repeats"},
    "pairs": {"kernels", "call", "repeats", "search"},
    "counts": {"kernels", "call", "repeats"},
    "logits": {"kernels", "call"},
}
MAX_LINES = 400


def folder_of(path: Path) -> str:
    """The folder of csrc/cpu that a file is in; "" for an op."""
    parts = path.relative_to(CPU).parts
    return parts[0] if len(parts) > 1 else ""


def files(folder: str) -> list[Path]:
    found = [
        path for path in sorted(CPU.rglob("*")) if path.suffix in (".h", ".cpp") and folder_of(path) == folder
    ]
    assert found, folder
    return found


def test_every_folder_is_known() -> None:
    assert {path.name for path in CPU.iterdir() if path.is_dir()} == set(BELOW)


@pytest.mark.parametrize("folder", ["", *BELOW])
def test_a_folder_includes_those_below_it(folder: str) -> None:
    allowed = {folder, *BELOW.get(folder, BELOW)}
    bad = []
    for path in files(folder):
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            target = (path.parent / name).resolve()
            assert target.is_file(), f"{path.relative_to(CSRC)} includes {name}"
            if CPU in target.parents:
                fits = folder_of(target) in allowed
            else:
                fits = target.relative_to(CSRC).parts[0] in OUTSIDE
            if not fits:
                bad.append(f"{path.relative_to(CSRC)} includes {target.relative_to(CSRC)}")
    assert not bad, "\n".join(bad)


def test_levels_are_named_in_one_place() -> None:
    """What differs between instruction sets is data: only kernels/level.cpp knows which levels there are."""
    for path in CPU.rglob("*.cpp"):
        if "kernels" not in path.parts:
            assert "DSHC_HAVE_" not in path.read_text(encoding="utf-8"), path.relative_to(CSRC)


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in CPU.rglob("*.*")}
    long = {str(path.relative_to(CPU)): n for path, n in lengths.items() if n > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines: {long}"
