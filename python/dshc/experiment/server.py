"""The server of trials, a program: it forks a child for each folder that it is told, and says how each ended.

A line of stdin is ``{"folder": ..., "measure": ..., "jobs": ...}``; lines of stdout are ``{"folder": ..., "pid": ...}``
once the child runs and ``{"pid": ..., "code": ...}`` once it has ended. What a child prints goes into ``log.txt`` of
the trial's folder. The arguments are modules to import before: a child then has them.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import IO, Any

from ..training import Interrupted
from .perform import measure_trial, train_trial
from .trial import Trial

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_S = 0.05  # between two looks whether a child has ended
_STOPPED = 75  # a child's exit status where it was interrupted and nothing is wrong (EX_TEMPFAIL)


def _serve(source: int, answers: IO[str]) -> None:
    # A signal may go to the whole group: the child hears it itself, and this process must live to say how it ended.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    children: set[int] = set()
    asked, is_open = b"", True
    while is_open or children:
        heard, _, _ = select.select([source] if is_open else [], [], [], _LOOK_S if children else None)
        if heard:
            found = os.read(source, 1 << 16)
            is_open = bool(found)
            if not is_open:  # who asked has ended, perhaps killed: what still runs would go on unseen
                for pid in children:
                    os.kill(pid, signal.SIGTERM)
            *lines, asked = (asked + found).split(b"\n")
            for line in lines:
                children.add(_begin(json.loads(line), source, answers, before))
        for pid in sorted(children):
            if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                children.remove(pid)
                _write(answers, {"pid": pid, "code": os.waitstatus_to_exitcode(ended[1])})


def _begin(asked: dict[str, Any], source: int, answers: IO[str], signals: dict[int, Any]) -> int:
    # Held back until the child has its handlers: one that came before would be lost on it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    else:
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), source)
        answers.close()
        for number, handler in signals.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os._exit(_child(Path(asked["folder"]), bool(asked["measure"]), int(asked["jobs"])))
    _write(answers, {"folder": asked["folder"], "pid": pid})
    return pid


def _write(answers: IO[str], message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more; what runs may still end
        answers.write(json.dumps(message) + "\n")
        answers.flush()


def _child(folder: Path, measure: bool, jobs: int) -> int:
    with (folder / "log.txt").open("a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    trial = Trial.read(folder)
    try:
        run = None if trial.trained() is not None else train_trial(trial, jobs=jobs)
        if measure and trial.measured() is None:
            measure_trial(trial, run)
    except (Interrupted, KeyboardInterrupt):
        return _STOPPED
    except MemoryError:
        trial.keep_failure("out of memory")
    except Exception as error:
        traceback.print_exc()
        trial.keep_failure(f"{type(error).__name__}: {error}")
    else:
        return 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 1


if __name__ == "__main__":
    # What a library prints must not be taken for an answer.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    _serve(sys.stdin.fileno(), channel)
