"""What the commands print: rich on a terminal, plain lines and tab-separated tables into a pipe.

Results go to stdout, remarks and progress to stderr; progress and spinners exist on a terminal only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["remark", "say", "table", "working"]


def say(text: str = "", *, style: str = "") -> None:
    """Print one line of results to stdout, never wrapped; ``style`` colours it on a terminal."""
    if sys.stdout.isatty():
        Console().print(escape(text), style=style, highlight=False, soft_wrap=True)
    else:
        print(text)


def remark(text: str) -> None:
    """Print one line to stderr that is not a result."""
    if sys.stderr.isatty():
        Console(stderr=True).print(escape(text), style="dim", highlight=False, soft_wrap=True)
    else:
        print(text, file=sys.stderr)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, numeric: str = "") -> None:
    """A table on a terminal; elsewhere its rows as tab-separated text under a line of column names.

    ``numeric`` has one character a column, ``r`` to align it to the right.
    """
    if not sys.stdout.isatty():
        for row in (columns, *rows):
            print("\t".join(" ".join(str(cell).split()) for cell in row))
        return
    grid = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for i, column in enumerate(columns):
        grid.add_column(column, justify="right" if numeric[i : i + 1] == "r" else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(cell if isinstance(cell, str) else escape(str(cell)) for cell in row))
    Console().print(grid, highlight=False)
    print()


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner on stderr while something of unknown length runs; nothing off a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(text):
        yield
