"""The plot of docs/results/cpu.md: pairs a second against the size of the database; ours, the peers and the limits."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

STYLES = {
    "ours": ("#0b5394", "o-", 2.2),
    "faiss counting": ("#b45f06", "s-", 1.4),
    "faiss heap": ("#e69138", "s--", 1.4),
    "numpy": ("#6a8d3a", "^-", 1.2),
    "torch": ("#8e5bb0", "v-", 1.2),
    "usearch": ("#777777", "d-", 1.2),
}
SHOWN = {"codes": "random", "bits": 64, "k": 10, "threads": 1, "level": "best", "allowed": None}
MEMORY = (("l3", "-.", "limit: third-level cache read"), ("dram", "--", "limit: DRAM read"))


def series(rows: list[dict], one_query: bool) -> dict[str, dict[int, float]]:
    """Pace of each candidate by n: random codes of 64 bits, k = 10, one thread. Where several rows have one n, that
    nearest to 100 queries counts."""
    found: dict[str, dict[int, tuple[float, float]]] = {}
    for row in rows:
        if any(row.get(key) != value for key, value in SHOWN.items()) or row["unit"] == "calls":
            continue
        if (row["n_query"] == 1) != one_query:
            continue
        for name, pace in row["pace"].items():
            pairs = pace * row["n_db"] * row["n_query"] / row["amount"]
            best = found.setdefault(name, {})
            far = abs(math.log(row["n_query"] / 100))
            if row["n_db"] not in best or far < best[row["n_db"]][0]:
                best[row["n_db"]] = (far, pairs)
    return {name: {n: pace for n, (_, pace) in sorted(by_n.items())} for name, by_n in found.items()}


def limits(rows: list[dict]) -> dict[str, float]:
    """G pairs/s of 64-bit codes, one thread, the median of what the rows measured."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get("limit") and (row["bits"], row["threads"], row["level"]) == (64, 1, "best"):
            what = row["limit"]["what"]
            found.setdefault(what, []).append(row["limit"]["pace"] / (1 if what == "filter" else 8))
    return {what: statistics.median(paces) for what, paces in found.items()}


def plot(rows: list[dict], path: Path) -> Path:
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.2), sharey=True)
    bounds = limits(rows)
    titles = ("batch (100 queries; 32 at n = 10M, 10 for the slow peers at 1M)", "one query")
    for axis, one_query, title in zip(axes, (False, True), titles, strict=True):
        for name, by_n in series(rows, one_query).items():
            if name in STYLES:
                color, style, width = STYLES[name]
                axis.plot(
                    list(by_n), list(by_n.values()), style, color=color, linewidth=width, ms=4, label=name
                )
        if "filter" in bounds:
            axis.axhline(bounds["filter"], color="black", linestyle=":", label="limit: compare filter")
        if one_query:
            for what, dashes, label in MEMORY:
                if what in bounds:
                    axis.axhline(bounds[what], color="black", linestyle=dashes, linewidth=1, label=label)
        axis.set(xscale="log", yscale="log", xlabel="database codes", title=title)
        axis.title.set_fontsize(9)
        axis.grid(True, which="major", alpha=0.3)
        axis.legend(fontsize=7, loc="lower right")
    axes[0].set_ylabel("pairs a second (64 bits, k = 10, random, one thread)", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=140, metadata={"Software": None})
    plt.close(figure)
    return path
