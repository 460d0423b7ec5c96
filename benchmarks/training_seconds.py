"""Seconds of a pass over the training items against their number, by method; into docs/results/training-seconds.md.

    python benchmarks/training_seconds.py SOURCE --work FOLDER [--counts 100,500,2000,5000] [--note TEXT]
        [any flags of dshc compare]

Every method trains five epochs on so many items per class, with settings of its own defaults; the seconds are the mean
of the last four, with all that a method does between epochs (some look at all items in every second one) and with
validation. A method that is only fitted has no epochs and is left out. Run it with nothing beside it; it goes on where
it was stopped.
"""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean
from typing import Any

import comparisons
from timing import made_on, write, write_page

from dshc.experiment.comparison_table import Group
from dshc.runs import load_run

EPOCHS = 5


def main() -> None:
    parser = comparisons.parser(__doc__, named=False)
    parser.add_argument("--counts", default="100,500,2000,5000")
    given, flags = parser.parse_known_args()
    counts = given.counts.split(",")
    if len(counts) < 2 or any(flag.partition("=")[0] in ("--jobs", "--bits") for flag in flags):
        parser.error("counts must be at least two, and seconds are of one training at a time, of 32 bits")
    if any(flag.partition("=")[0] == "--epochs" for flag in flags):
        parser.error(f"epochs must be {EPOCHS}, as the page says")
    flags = ["--no-tune", "--no-run-reports", "--epochs", str(EPOCHS), *flags]
    rows: list[dict[str, Any]] = []
    for count in counts:
        folder = given.work / f"per-class-{count}"
        comparisons.compare(given.source, folder, ["--train-per-class", count, *flags])
        found = (measured(folder, group) for group in comparisons.whole_table(folder).groups)
        rows += [row for row in found if row is not None]
    write("training-seconds", rows, flags=comparisons.public(flags))
    about = (
        "Mean of the last four of five epochs, in seconds, with all that a method does between them and with "
        "validation. Growth: the exponent of n between the last two columns, 1 where seconds grow as the items do. "
        "Memory: peak of the process at the most items."
    )
    command = comparisons.shown(given.source, ["--train-per-class", "N", *flags])
    title = "Seconds of an epoch against the training items"
    write_page("training-seconds", title, f"`{command}`; {made_on()}", given.note, [about, "", *table(rows)])


def measured(folder: Path, group: Group) -> dict[str, Any] | None:
    """Items trained on, seconds of an epoch and peak memory; None for a method that is only fitted."""
    run = load_run(folder / group.results[0].run)
    if len(run.metrics) < 2:
        return None
    return {
        "method": group.label,
        "items": len(run.split.train),
        "seconds": fmean(row["seconds"] for row in run.metrics[1:]),
        "peak_mib": comparisons.mean_of(group, "train_peak_mib"),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Methods down, items across, the slowest at the most items last."""
    counts = sorted({row["items"] for row in rows})
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["method"], {})[row["items"]] = row
    head = ["method", *(f"{n:,}" for n in counts), "growth", "peak MiB"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    before, last = counts[-2:]
    for label, by_items in sorted(found.items(), key=lambda item: item[1][last]["seconds"]):
        ratio = by_items[last]["seconds"] / by_items[before]["seconds"]
        growth = math.log(ratio) / math.log(last / before)
        cells = [*(f"{by_items[n]['seconds']:.2f}" for n in counts), f"{growth:.2f}"]
        lines.append(f"| {' | '.join([label, *cells])} | {by_items[last]['peak_mib']:.0f} |")
    return lines


if __name__ == "__main__":
    main()
