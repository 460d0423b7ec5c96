"""What the commands print: rich on a terminal, plain lines and tab-separated tables into a pipe.

Results go to stdout, remarks and progress to stderr; progress and spinners exist on a terminal only. Whatever is
printed may hold names from outside: none is taken for markup, and none steers the terminal or breaks a line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..progress import visible

__all__ = ["prepare_streams", "remark", "say", "shown", "stopped", "table", "working"]


def prepare_streams() -> None:
    """Let stdout and stderr escape the letters that their encoding lacks, where they would fail.

    One that the caller closed goes nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - for as long as we run
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a stream that a caller put there may be no file
            stream.reconfigure(errors="backslashreplace")


def shown(text: object, stream: TextIO | None = None) -> str:
    """``text`` as it can be printed to a stream (by default stdout): on one line, in the stream's letters."""
    return visible(text, getattr(stream or sys.stdout, "encoding", None))


def say(text: str = "", *, style: str = "") -> None:
    """Print one line of results to stdout, never wrapped; ``style`` colours it on a terminal."""
    _print_line(sys.stdout, text, style)


def remark(text: str, *, style: str = "dim") -> None:
    """Print one line to stderr that is not a result."""
    _print_line(sys.stderr, text, style)


def stopped(text: object, signal_name: str) -> SystemExit:
    """To be raised where work was stopped by a signal: says ``text``, and ends with 128 and the signal's number."""
    remark(f"dshc: {text}")
    return SystemExit(128 + signal.Signals[signal_name].value)


def _print_line(stream: TextIO, text: str, style: str) -> None:
    line = shown(text, stream)
    if stream.isatty():  # as Text: in a str rich would look for markup and emoji
        Console(file=stream).print(Text(line), style=style, soft_wrap=True)
    else:
        print(line, file=stream)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: str = "") -> None:
    """A table on a terminal; elsewhere its rows as tab-separated text under a line of column names.

    ``numeric`` has one character a column, ``r`` to align it to the right.
    """
    cells = [[shown(cell) for cell in row] for row in (columns, *rows)]
    if not sys.stdout.isatty():
        for row in cells:
            print("\t".join(row))
        return
    grid = Table(
        title=Text(shown(title), style="bold") if title else None,
        title_justify="left",
        header_style="dim",
        box=None,
        pad_edge=False,
    )
    for i, column in enumerate(cells[0]):
        grid.add_column(
            Text(column), justify="right" if numeric[i : i + 1] == "r" else "left", overflow="fold"
        )
    for row in cells[1:]:
        grid.add_row(*map(Text, row))
    Console().print(grid, highlight=False)
    print()


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner on stderr while something of unknown length runs; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    console = Console(stderr=True)
    spinner = "line" if console.options.ascii_only else "dots"
    with console.status(Text(shown(text, sys.stderr)), spinner=spinner):
        yield
