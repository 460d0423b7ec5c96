"""The page of an experiment: tables, in which every figure of the paper stands beside ours, and how they were made."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import dshc_fast

from ..storage import write_whole

__all__ = ["Page", "Table", "against", "made_on"]


@dataclass(frozen=True)
class Table:
    """``columns`` and ``rows`` of text under a ``title``; ``about``: what a reader must know, before it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    about: str = ""

    def to_markdown(self) -> list[str]:
        lines = [f"## {self.title}", ""]
        if self.about:
            lines += [self.about, ""]
        lines += [f"| {' | '.join(self.columns)} |", "|" + " --- |" * len(self.columns)]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row must have {len(self.columns)} cells, got {len(row)}: {row}")
            lines.append(f"| {' | '.join(row)} |")
        return [*lines, ""]


@dataclass(frozen=True)
class Page:
    """``tables`` under a ``title``; ``about`` says what was done; ``numbers``: all that was measured, as plain JSON."""

    title: str
    about: str
    tables: Sequence[Table]
    numbers: Any = field(default_factory=dict)

    def write(self, folder: Path, name: str, *, command: str, seconds: float) -> Path:
        """Write ``NAME.md`` and ``NAME.json`` into a folder; returns the path of the first."""
        on = made_on()
        took = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
        machine = f"{on['processor']}, {on['cores']} cores, torch {on['torch']}, {on['date']}"
        commit = f", commit {on['commit']}" if on["commit"] else f", version {on['version']}"
        lines = [f"# {self.title}", "", f"`{command}`; {machine}{commit}; {took} in all.", "", self.about, ""]
        for table in self.tables:
            lines += table.to_markdown()
        path = folder / f"{name}.md"
        content = {"command": command, "seconds": seconds, "machine": on, "numbers": self.numbers}
        content["tables"] = [asdict(table) for table in self.tables]
        write_whole(folder / f"{name}.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
        return write_whole(path, "\n".join(lines).rstrip() + "\n")


def against(paper: float | None, ours: float | None) -> list[str]:
    """Three cells: the paper's figure, ours, and the difference; empty where there is none.

    >>> against(0.9431, 0.95)
    ['0.9431', '0.9500', '+0.0069']
    """
    cells = ["" if value is None else f"{value:.4f}" for value in (paper, ours)]
    return [*cells, "" if paper is None or ours is None else f"{ours - paper:+.4f}"]


def made_on() -> dict[str, Any]:
    """What figures depend on, and from which state of the program they are; ``commit`` is empty outside a checkout."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "version": dshc_fast.__version__,
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        fields = {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in first.splitlines())
        }
        return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _commit() -> str:
    """Of the checkout that this file is part of; an installed package is part of none."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
