"""``dshc experiment``: the experiments of the paper, and their list."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, did_you_mean
from ..paper import Bench, available, get
from ..storage import folder_lock
from ..training import Interrupted
from .console import remark, say, stopped, table

__all__ = ["list_experiments", "run_experiment"]


def list_experiments() -> None:
    """A row per experiment."""
    found = [get(name) for name in available()]
    rows = [(e.name, e.title, e.paper, ", ".join(e.data), e.cost) for e in found]
    table("", ("experiment", "what", "of the paper", "data", "takes"), rows)


def run_experiment(name: str, *, out: Path, places: Sequence[str], threads: int | None) -> None:
    """Run an experiment, or what is left of it, and write its page into its folder."""
    experiment = get(name)
    known = _places(places, (*experiment.data, *experiment.optional))
    bench = Bench(out, known, threads=threads, tell=remark)
    for needed in experiment.data:
        bench.settings(needed)  # what nobody said is found before hours of work
    given = [f"--data {shlex.quote(f'{data}={place}')}" for data, place in known.items()]
    given += [f"--out {shlex.quote(str(out))}", *([] if threads is None else [f"--threads {threads}"])]
    started = time.perf_counter()
    try:
        with folder_lock(out):
            page = experiment.run(bench)
    except (Interrupted, KeyboardInterrupt) as stop:
        text = f"stopped; nothing is lost: the same command goes on ({shlex.quote(str(out))})"
        raise stopped(text, getattr(stop, "signal_name", "SIGINT")) from None
    # Folders are nobody else's: the page has the command with the names alone.
    command = " ".join(["dshc experiment", name, *(f"--data {data}=FOLDER" for data in known)])
    path = page.write(out, f"paper-{name}", command=command, seconds=bench.seconds, machines=bench.machines)
    for line in path.read_text(encoding="utf-8").rstrip().splitlines():
        say(line)
    again = " ".join([f"dshc experiment {name}", *given])
    remark(f"this call took {time.perf_counter() - started:.0f} s; the same again: {again}")
    say(f"page:    {path}")


def _places(texts: Sequence[str], needed: Sequence[str]) -> dict[str, str]:
    """``cifar10=/data/cifar`` and the like."""
    found: dict[str, str] = {}
    for text in texts:
        name, mark, place = text.partition("=")
        if not (mark and place):
            raise InputError(f"data must be NAME=FOLDER, got {text!r}")
        if name not in needed:
            raise InputError(f"data must be of {', '.join(needed)}, got {name!r}{did_you_mean(name, needed)}")
        found[name] = place
    return found
