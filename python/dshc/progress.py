"""The progress bar of everything that takes long, and how text from outside is shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["progress", "visible"]

# What moves the cursor, ends a line, starts an escape sequence, turns the reading direction or cannot be encoded:
# C0, DEL and C1; the marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX #9,
# section 2); the line and paragraph separators; the byte order mark; lone surrogates, which Python makes of file
# names that are not UTF-8 (PEP 383).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]")
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: object, encoding: str | None = None) -> str:
    r"""``str(text)`` on one line: what would steer the terminal or break the line stands there as an escape.

    Names of files, ids, labels and classes come from outside, and may hold anything. With ``encoding`` also the
    letters that a stream of that encoding lacks are escaped. Backslashes stay as they are: this is to be read,
    JSON is to be parsed.

    >>> print(visible("a\x1b[31mb\nc"))
    a\x1b[31mb\nc
    >>> print(visible("Zürich", "ascii"))
    Z\xfcrich
    """
    text = _UNSAFE.sub(_escape, str(text))
    if encoding is None:
        return text
    try:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    except (
        LookupError,
        UnicodeError,
    ):  # an encoding that Python does not know: the stream's own errors decide
        return text


def _escape(match: re.Match[str]) -> str:
    letter = match.group()
    return _SHORT.get(letter) or (f"\\x{ord(letter):02x}" if letter < "\x80" else ascii(letter)[1:-1])


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A passing progress bar on stderr; yields ``update(done, total)``, which is silent off a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(visible(text, console.encoding), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
