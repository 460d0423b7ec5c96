"""Another process that holds something until it is let go."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from training_runs import environment

__all__ = ["holder"]


@contextmanager
def holder(program: str, *arguments: str, says: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``program`` and has printed the line ``says``; closing its stdin lets it go.

    The program prints the line once it holds what the test is about, and then reads stdin to its end.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == f"{says}\n"
        yield process
    finally:
        process.kill()
        process.wait(timeout=20)
        process.stdin.close()
        process.stdout.close()
