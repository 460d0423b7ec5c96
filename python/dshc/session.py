"""What surrounds a training loop: CPU threads, Ctrl-C and a progress bar."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["cpu_threads", "ctrl_c", "progress_bar"]


@contextlib.contextmanager
def cpu_threads(n_threads: int | None) -> Iterator[None]:
    """That many threads inside, as many as before afterwards; None leaves them as they are."""
    before = torch.get_num_threads()
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stop:
    asked = False


@contextlib.contextmanager
def ctrl_c() -> Iterator[_Stop]:
    """Ctrl-C sets ``asked``, for a half done step leaves no state to save; a second one stops at once."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may take signals
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: Any) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def progress_bar(n_steps: int, done: int) -> Iterator[Callable[[], None]]:
    """A progress bar over all steps, silent where the error output is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=n_steps, completed=done)
        yield lambda: progress.advance(task)
