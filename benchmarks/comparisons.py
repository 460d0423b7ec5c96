"""What benchmarks that call `dshc compare` share: their arguments, the call, and how a page shows it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from timing import machine


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


def public(flags: Sequence[str]) -> list[str]:
    """Flags with folders by their names: where they lay is nobody else's."""
    return [Path(flag).name if "/" in flag and Path(flag).exists() else flag for flag in flags]


def shown(source: str, flags: Sequence[str]) -> str:
    """The command as a page has it."""
    return shlex.join(["dshc", "compare", Path(source).name, *public(flags)])


def made_on() -> str:
    """Machine, date and commit, in words."""
    on = machine()
    return f"{on['processor']}, {on['cores']} cores, {on['date']}, commit {on['commit']}"
