"""Signals that ask a training to stop: a half done step leaves no state to save, so that they are noted only."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["Interrupted", "Stop", "stop_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal (Ctrl-C, SIGTERM, SIGHUP) during a training, after its checkpoint was written.

    ``signal_name`` says which; the message says where it stopped, and how to continue.
    """

    def __init__(self, message: str, signal_name: str = "SIGINT") -> None:
        super().__init__(message)
        self.signal_name = signal_name


class Stop:
    """Whether a stop was asked for, and by the name of which signal first, such as ``"SIGTERM"``."""

    asked: bool = False
    signal_name: str | None = None


@contextlib.contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C, SIGTERM and SIGHUP set ``asked``; a second one of the same kind does what it did before the block.

    On leaving the block every signal does again what it did before. A signal that is ignored stays so (``nohup``,
    jobs in the background of a shell script). A forked child leaves Ctrl-C and SIGHUP, which go to the whole group,
    to its parent, who still needs it, and ends by SIGTERM as it would without the block. Outside of the main thread,
    which alone may take signals, nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    # None: set by other than Python, which could not be put back.
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)}
    process = os.getpid()

    def ask(number: int, frame: Any) -> None:
        if os.getpid() != process:
            if number == signal.SIGTERM:
                signal.signal(number, before[number])
                signal.raise_signal(number)
            return
        if not stop.asked:
            # The name first: who sees `asked` finds it.
            stop.signal_name, stop.asked = signal.Signals(number).name, True
        signal.signal(number, before[number])

    try:
        for number in before:
            signal.signal(number, ask)
        yield stop
    finally:
        for number, found in before.items():
            signal.signal(number, found)
