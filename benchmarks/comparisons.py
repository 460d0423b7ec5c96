"""What benchmarks that call `dshc compare` share: their arguments, the call, and how a page shows it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dshc.experiment import ComparisonTable
from dshc.experiment.comparison_table import Group


def parser(doc: str | None, *, named: bool = True) -> argparse.ArgumentParser:
    """Arguments NAME (of the files of results), SOURCE, --work and --note; other flags are those of compare."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if named:
        made.add_argument("name")
    made.add_argument("source")
    made.add_argument("--work", type=Path, required=True)
    made.add_argument("--note", default="", help="what else a reader must know, for the head of the page")
    return made


def compare(source: str, folder: Path, flags: Sequence[str]) -> None:
    """Run it in a process of its own; ends this one where it fails."""
    command = ["compare", source, "--out", str(folder), *flags]
    subprocess.run([sys.executable, "-m", "dshc", *command], check=True)


def whole_table(folder: Path) -> ComparisonTable:
    """The table of a comparison; ends this process where a training of it failed, for a page has no holes."""
    table = ComparisonTable.load(folder)
    for group in table.groups:
        if group.failures:
            raise SystemExit(f"{folder}: {group.label}, {group.bits} bits: {group.failures[0]}")
    return table


def mean_of(group: Group, name: str) -> float:
    """Mean over the seeds of a number that every method has."""
    spread = group.spread(name)
    assert spread is not None
    return spread.mean


def public(flags: Sequence[str]) -> list[str]:
    """Flags with folders by their names: where they lay is nobody else's."""
    return [Path(flag).name if "/" in flag and Path(flag).exists() else flag for flag in flags]


def shown(source: str, flags: Sequence[str]) -> str:
    """The command as a page has it."""
    return shlex.join(["dshc", "compare", Path(source).name, *public(flags)])
