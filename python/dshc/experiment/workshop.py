"""Processes of their own for trials: one that fails, is killed or runs out of memory takes nothing with it.

A server (``server.py``) is started once, imports what a trial needs, and forks a child for each trial: so that a trial
waits for no imports, and its peak memory is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..training import Interrupted
from ..training.stop_signals import stop_signals
from .trial import Trial

__all__ = ["Workshop", "workshop"]

_LOOK_S = 0.2  # between two looks whether a stop was asked for


class Workshop:
    """Runs trials one after another; made by :func:`workshop`."""

    def __init__(self, server: subprocess.Popen[bytes]) -> None:
        self._server = server

    def run(self, trial: Trial, *, measure: bool) -> None:
        """Carry out a trial: train, and ``measure`` where that is asked for.

        What went wrong is left in the trial (:meth:`Trial.failure`). Raises :class:`dshc.training.Interrupted` after
        Ctrl-C, SIGTERM or SIGHUP, once the child has written its checkpoint.
        """
        trial.write()
        trial.forget_failure()
        with stop_signals() as stop:
            self._say({"folder": str(trial.folder), "measure": measure})
            child, told = 0, False
            while True:
                answer = self._answer()
                if answer is not None and "pid" in answer:
                    child = answer["pid"]
                elif answer is not None:
                    code = answer["code"]
                    break
                if stop.asked and child and not told:
                    told = True
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGTERM)
        if stop.asked:
            raise Interrupted(f"stopped at {trial.name}", stop.signal_name or "SIGINT")
        if code and trial.failure() is None:
            trial.keep_failure(_ended(code))

    def _say(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write((json.dumps(message) + "\n").encode())

    def _answer(self) -> dict[str, Any] | None:
        """The server's next line; None where there is none yet."""
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], _LOOK_S)
        if not ready:
            return None
        line = self._server.stdout.readline()
        if not line:
            raise RuntimeError(f"the process that runs trials has ended ({self._server.wait()})")
        return json.loads(line)


@contextlib.contextmanager
def workshop(*modules: str) -> Iterator[Workshop]:
    """Start the server, and end it with the block; ``modules`` are what trials will import, and it does once."""
    command = [sys.executable, "-m", f"{__package__}.server", *modules]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # Unbuffered: a line that waited in a buffer of ours would be none to `select`, which sees the pipe alone.
    with subprocess.Popen(command, bufsize=0, env=_environment(), **pipes) as server:
        try:
            yield Workshop(server)
        finally:
            server.stdin.close()  # type: ignore[union-attr]


def _environment() -> dict[str, str]:
    """This process's, with the same packages to be found."""
    places = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in places if place)}


def _ended(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": the system may have run out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with status {code}; log.txt says more"
