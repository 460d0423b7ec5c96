"""One row of a benchmark: candidates and the limit take turns, then pace, ratio, share and targets."""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy

import argparse
from collections.abc import Callable

import numpy as np
from limits import Limit, Limits
from peers import versions
from timing import interleave, machine, write

import dshc_fast

OURS = "ours"


class Table:
    """Collects rows, prints each as it comes, writes docs/results/<name>.json."""

    def __init__(self, name: str, title: str, limits: Limits, effort: argparse.Namespace) -> None:
        self.name, self.limits, self.effort, self.rows = name, limits, effort, []
        about = machine()
        print(f"{title}\n{about['processor']}, {about['simd_level']}, {about['date']}, commit {about['commit']}; "
              f"limits for {', '.join(limits.levels) or 'no level: no C++ compiler'}")  # fmt: skip

    def limit_loops(self, what: str, bits: int, level: str, threads: int) -> list[Limit]:
        level = dshc_fast.get_simd_level() if level == "best" else level
        return self.limits.loops(what, 32 if bits <= 32 else bits, level, threads)

    def measure(self, section: str, setting: dict[str, object], candidates: dict[str, Callable[[], object]], *,
                amount: float, unit: str = "pairs", limit: list[Limit] = (), limit_name: str = "filter",
                scales: dict[str, float] | None = None, targets: dict[str, float] | None = None,
                note: str | None = None, rounds: int = 5) -> dict[str, object]:  # fmt: skip
        """`amount`: pairs, bytes or calls that one run does; `scales`: how much of it a candidate does (1).

        `targets`: {"share": at least, "<candidate>": at least so many times its pace, "faiss": the better mode's}.
        """
        loops = {f"limit {loop.loop}": loop.run for loop in limit}
        seconds = interleave({**candidates, **loops}, rounds=min(rounds, self.effort.rounds),
                             seconds=self.effort.seconds, least=0.01,
                             warm=0.1 if setting.get("threads", 1) > 1 else 0.0)  # fmt: skip
        scales = scales or {}
        pace = {name: amount * scales.get(name, 1.0) / seconds[name] for name in candidates}
        row = {"section": section, **setting, "unit": unit, "amount": amount, "pace": pace,
               "seconds": {name: seconds[name] / scales.get(name, 1.0) for name in candidates}}  # fmt: skip
        if scales:
            row["measured_part"] = scales
        if note:
            row["note"] = note
        ratios = {name: pace[OURS] / pace[name] for name in pace if name != OURS}
        faiss = [value for name, value in ratios.items() if name.startswith("faiss")]
        if faiss:
            ratios["faiss"] = min(faiss)
        row["ratios"] = ratios
        if limit:
            paces = {loop.loop: loop.amount / seconds[f"limit {loop.loop}"] for loop in limit}
            row["limit"] = {"what": limit_name, "pace": max(paces.values()), "loops": paces}
            row["share"] = pace[OURS] / max(paces.values())
        row["targets"] = []
        for name, wanted in (targets or {}).items():
            reached = row.get("share") if name == "share" else ratios.get(name)
            if reached is not None:
                row["targets"].append(
                    {"what": name, "at_least": wanted, "reached": reached, "met": reached >= wanted}
                )
        self.rows.append(row)
        self._print(row, setting)
        return row

    def _print(self, row: dict[str, object], setting: dict[str, object]) -> None:
        parts = [f"{key} {value}" for key, value in setting.items() if value not in (None, "best")]
        line = f"{row['section']}: {', '.join(parts)}:"
        for name, pace in row["pace"].items():
            line += f" {name} {pace / 1e9:.3g} G/s ({row['seconds'][name]:.3g} s);"
        if "share" in row:
            line += f" share of {row['limit']['what']} {row['share']:.2f};"
        for target in row["targets"]:
            line += (
                f" {target['what']} {target['reached']:.3g} of {target['at_least']:g} "
                + "NY"[target["met"]]
                + ";"
            )
        print(line, flush=True)

    def save(self) -> None:
        if self.effort.dry or self.effort.only:  # some rows are no table, and would take the place of one
            return print(f"not written (--{'dry' if self.effort.dry else 'only'})")
        effort = "quick" if self.effort.quick else "full" if self.effort.full else "default"
        print("wrote", write(self.name, self.rows, versions=versions(), effort=effort))


def parse(description: str | None, *, seconds: float = 8.0) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the small rows only, three rounds of each")
    parser.add_argument("--full", action="store_true", help="every row, seven rounds of each")
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    parser.add_argument("--only", default="", help="rows whose section contains this; writes no result file")
    effort = parser.parse_args()
    effort.rounds = 3 if effort.quick else 7 if effort.full else 5
    effort.seconds = seconds * (0.25 if effort.quick else 4 if effort.full else 1)
    return effort


def same(wanted: np.ndarray, got: np.ndarray, what: str) -> None:
    """Ends the benchmark where two candidates disagree."""
    wanted, got = np.asarray(wanted), np.asarray(got)
    if wanted.shape != got.shape or not np.array_equal(wanted, got):
        raise SystemExit(f"{what}: the answers differ; nothing was timed")


def set_level(level: str) -> None:
    dshc_fast.set_simd_level(None if level == "best" else level)
