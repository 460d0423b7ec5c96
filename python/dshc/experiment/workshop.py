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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..training import Interrupted
from ..training.stop_signals import Stop, stop_signals
from .trial import Trial

__all__ = ["Workshop", "workshop"]

_LOOK_S = 0.2  # between two looks whether a stop was asked for


class Workshop:
    """Runs trials, as many at a time as are started; made by :func:`workshop`."""

    def __init__(self, server: subprocess.Popen[bytes], stop: Stop) -> None:
        self._server, self._stop = server, stop
        self._started: dict[str, Trial] = {}  # by folder, until the server says which child it is
        self._running: dict[int, Trial] = {}  # by child
        self._told: set[int] = set()  # children that were asked to stop

    def run(self, trial: Trial, *, measure: bool) -> None:
        """Carry out a trial, and wait until it has ended."""
        self.start(trial, measure=measure)
        self.ended()

    def start(self, trial: Trial, *, measure: bool, jobs: int = 1) -> None:
        """Begin a trial: train, and ``measure`` where that is asked for; :meth:`ended` tells when it is done.

        ``jobs``: trials that may run at a time, which the trial keeps beside its seconds.
        """
        trial.write()
        trial.forget_failure()
        self._started[str(trial.folder)] = trial
        self._say({"folder": str(trial.folder), "measure": measure, "jobs": jobs})

    def ended(self) -> Trial:
        """Wait for one of the trials that were started; what went wrong is left in it (:meth:`Trial.failure`).

        Raises :class:`dshc.training.Interrupted` after Ctrl-C, SIGTERM or SIGHUP, once every child has written its
        checkpoint.
        """
        while True:
            trial, code = self._hear()
            if trial is not None and not self._stop.asked:
                if code and trial.failure() is None:
                    trial.keep_failure(_ended(code))
                return trial
            if trial is not None and not self._running and not self._started:
                raise Interrupted(f"stopped at {trial.name}", self._stop.signal_name or "SIGINT")
            if self._stop.asked:
                self._tell_children()

    def check_stop(self) -> None:
        """Raise :class:`dshc.training.Interrupted` where a stop was asked for while nothing ran."""
        if self._stop.asked:
            raise Interrupted("stopped between two trainings", self._stop.signal_name or "SIGINT")

    def close(self) -> None:
        """Ask what still runs to stop, and wait for it: nothing of it goes on behind a program that has failed."""
        while self._running or self._started:
            self._tell_children()
            try:
                self._hear()
            except (RuntimeError, Interrupted):
                return

    def _hear(self) -> tuple[Trial | None, int]:
        """Take in what the server says next, perhaps nothing: a trial that has ended, and its child's exit status."""
        answer = self._answer()
        if answer is not None and "folder" in answer:
            self._running[answer["pid"]] = self._started.pop(answer["folder"])
        elif answer is not None:
            return self._running.pop(answer["pid"]), answer["code"]
        return None, 0

    def _tell_children(self) -> None:
        for child in self._running.keys() - self._told:
            self._told.add(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    def _say(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        try:
            self._server.stdin.write((json.dumps(message) + "\n").encode())
        except BrokenPipeError:
            self._gone()

    def _answer(self) -> dict[str, Any] | None:
        """The server's next line; None where there is none yet."""
        assert self._server.stdout is not None
        ready, _, _ = select.select([self._server.stdout], [], [], _LOOK_S)
        if not ready:
            return None
        line = self._server.stdout.readline()
        if not line:
            self._gone()
        return json.loads(line)

    def _gone(self) -> NoReturn:
        """The server has ended: its children are told, for nobody waits for them any more."""
        self._tell_children()
        code = self._server.wait()
        self._running.clear()
        self._started.clear()
        if self._stop.asked:
            raise Interrupted("stopped", self._stop.signal_name or "SIGINT")
        raise RuntimeError(f"the process that runs trials has ended ({code})")


@contextlib.contextmanager
def workshop(*modules: str) -> Iterator[Workshop]:
    """Start the server, and end it with the block; ``modules`` are what trials will import, and it does once.

    Inside, Ctrl-C, SIGTERM and SIGHUP are noted, and end the next :meth:`Workshop.ended`.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # Unbuffered: a line that waited in a buffer of ours would be none to `select`, which sees the pipe alone.
    with subprocess.Popen(_command(modules), bufsize=0, env=_environment(), **pipes) as server:
        try:
            with stop_signals() as stop:
                shop = Workshop(server, stop)
                try:
                    yield shop
                finally:
                    shop.close()
        finally:
            server.stdin.close()  # type: ignore[union-attr]


def _command(modules: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", f"{__package__}.server", *modules]


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
