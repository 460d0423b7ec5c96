"""Fair timings: candidates take turns in one process, the median counts, and the machine is named beside the
figures."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import dshc_fast
from dshc.machine import commit, processor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"


def median_seconds(run: Callable[[], object], rounds: int) -> float:
    """Median wall seconds of so many runs, after one that does not count."""
    run()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def interleave(
    candidates: dict[str, Callable[[], object]],
    *,
    rounds: int = 7,
    seconds: float = 60.0,
    warm: float = 0.0,
    least: float = 0.0,
) -> dict[str, float]:
    """Median wall seconds of each candidate over up to `rounds` rounds (at least 3), or as many as fit into
    `seconds`.

    Each round runs every candidate once, so that a slow phase of the machine meets all of them. One round to
    warm up. `warm`: untimed runs for so many seconds before each timed one, for candidates of several threads:
    those of the candidate before may still spin, its own sleep, and the system places them anew. `least`: a
    shorter run is timed as so many in a row as take this long, after one untimed, so that its data lies in the
    cache as it does in a loop of its own and not as the candidate before left it.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    in_a_row: dict[str, int] = {}
    started = time.perf_counter()
    for round_number in range(rounds + 1):
        for name, run in candidates.items():
            if not round_number:
                run()
                begin = time.perf_counter()
                run()
                in_a_row[name] = max(1, min(10_000, round(least / (time.perf_counter() - begin))))
                continue
            until = time.perf_counter() + warm
            if in_a_row[name] > 1:
                run()
            while time.perf_counter() < until:
                run()
            begin = time.perf_counter()
            for _ in range(in_a_row[name]):
                run()
            times[name].append((time.perf_counter() - begin) / in_a_row[name])
        if round_number >= 3 and time.perf_counter() - started > seconds:
            break
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, object]:
    """What the figures depend on."""
    info = dshc_fast.build_info()
    return {"processor": processor(), "cores": os.cpu_count(), "simd_level": info["simd_level"],
            "compiler": info["compiler"], "dshc_fast": info["version"], "commit": commit(ROOT),
            "torch": torch.__version__, "python": platform.python_version(),
            "date": datetime.date.today().isoformat()}  # fmt: skip


def made_on() -> str:
    """Machine, date and commit, in words."""
    on = machine()
    return f"{on['processor']}, {on['cores']} cores, {on['date']}, commit {on['commit']}"


def write(name: str, rows: list[dict[str, object]], **extra: object) -> Path:
    """The result file docs/results/<name>.json: machine, and one row a measurement."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"machine": machine(), **extra, "rows": rows}, indent=1, allow_nan=False) + "\n"
    )
    return path


def write_page(name: str, title: str, line: str, note: str, lines: Sequence[str]) -> None:
    """The page docs/results/<name>.md: title, a line that says how it was made, what else a reader must know."""
    head = [f"# {title}", "", f"{line}.", "", *([note, ""] if note else [])]
    (RESULTS / f"{name}.md").write_text("\n".join([*head, *lines]).rstrip() + "\n", encoding="utf-8")
    print(f"docs/results/{name}.md")
