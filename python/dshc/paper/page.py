"""The page of an experiment: tables, in which every figure of the paper stands beside ours, and how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..experiment.comparison_table import markdown_table
from ..storage import write_whole

__all__ = ["Page", "Table", "against"]


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
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row must have {len(self.columns)} cells, got {len(row)}: {row}")
        return [*lines, *markdown_table(self.columns, self.rows), ""]


@dataclass(frozen=True)
class Page:
    """``tables`` under a ``title``; ``about`` says what was done; ``numbers``: all that was measured, as plain JSON.

    ``figures``, by name: what each shows, and its PNG.
    """

    title: str
    about: str
    tables: Sequence[Table]
    numbers: Any = field(default_factory=dict)
    figures: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)

    def write(
        self, folder: Path, name: str, *, command: str, seconds: float, machines: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Write ``NAME.md``, ``NAME.json`` and its figures into a folder; returns the path of the first.

        ``machines``: on which the steps were done, as :func:`dshc.machine.made_on` says it.
        """
        took = f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
        on = "; ".join(dict.fromkeys(_in_words(machine) for machine in machines))
        lines = [f"# {self.title}", "", f"`{command}`; {on}; {took} in all.", "", self.about, ""]
        for table in self.tables:
            lines += table.to_markdown()
        for figure, (shows, picture) in self.figures.items():
            write_whole(folder / f"{name}-{figure}.png", picture)
            lines += [f"![{shows}]({name}-{figure}.png)", "", shows, ""]
        path = folder / f"{name}.md"
        content = {
            "command": command,
            "seconds": seconds,
            "machines": list(machines),
            "numbers": self.numbers,
        }
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


def _in_words(machine: Mapping[str, Any]) -> str:
    device = f"{machine['gpu']}, " if machine["gpu"] else ""
    state = f"commit {machine['commit']}" if machine["commit"] else f"version {machine['version']}"
    where = f"{device}{machine['processor']}, {machine['cores']} cores"
    return f"{where}, torch {machine['torch']}, {machine['date']}, {state}"
