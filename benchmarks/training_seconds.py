"""Seconds of a pass over the training items against their number, by method; into docs/results/training-seconds.md.

    python benchmarks/training_seconds.py SOURCE --work FOLDER [--counts 100,500,2000,5000] [--note TEXT]
        [any flags of dshc compare]

Every method trains five epochs on so many items per class, with settings of its own defaults; the seconds are the mean
of the last four, with all that a method does between epochs (some look at all items in every second one) and with
validation. A method that is only fitted has no epochs and is left out. Run it with nothing beside it; it goes on where
it was stopped.
"""

from __future__ import annotations

import json
import math
from statistics import fmean
from typing import Any

import comparisons
from timing import RESULTS, machine

from dshc.experiment import ComparisonTable
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
    flags = ["--no-tune", "--no-run-reports", "--epochs", str(EPOCHS), *flags]
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for count in counts:
        folder = given.work / f"per-class-{count}"
        comparisons.compare(given.source, folder, ["--train-per-class", count, *flags])
        for group in ComparisonTable.load(folder).groups:
            if (row := measured(folder, group)) is not None:
                found.setdefault(group.label, {})[row["items"]] = row
    command = comparisons.shown(given.source, ["--train-per-class", "N", *flags])
    document = {"machine": machine(), "flags": comparisons.public(flags), "methods": found}
    (RESULTS / "training-seconds.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Seconds of an epoch against the training items",
        "",
        f"`{command}`; {comparisons.made_on()}.",
        "",
    ]
    lines += [given.note, ""] if given.note else []
    about = (
        "Mean of the last four of five epochs, in seconds, with all that a method does between them and with "
        "validation. Growth: the exponent of n between the "
        "last two columns, 1 where seconds grow as the items do. Memory: peak of the process at the most items."
    )
    lines += [about, "", *table(found), ""]
    (RESULTS / "training-seconds.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print("docs/results/training-seconds.md")


def measured(folder: Any, group: Group) -> dict[str, Any] | None:
    """Items trained on, seconds of an epoch and peak memory; None for a method that is only fitted."""
    if group.failures:
        raise SystemExit(f"{group.label}: {group.failures[0]}")
    (result, *_) = group.results
    run = load_run(folder / result.run)
    if len(run.metrics) < 2:
        return None
    assert result.numbers is not None
    seconds = fmean(row["seconds"] for row in run.metrics[1:])
    return {"items": len(run.split.train), "seconds": seconds, "peak_mib": result.numbers["train_peak_mib"]}


def table(found: dict[str, dict[int, dict[str, Any]]]) -> list[str]:
    """Methods down, items across, the slowest at the most items last."""
    counts = sorted({n for rows in found.values() for n in rows})
    head = ["method", *(f"{n:,}" for n in counts), "growth", "peak MiB"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    before, last = counts[-2:]
    for label, rows in sorted(found.items(), key=lambda item: item[1][last]["seconds"]):
        growth = math.log(rows[last]["seconds"] / rows[before]["seconds"]) / math.log(last / before)
        cells = [
            *(f"{rows[n]['seconds']:.2f}" for n in counts),
            f"{growth:.2f}",
            f"{rows[last]['peak_mib']:.0f}",
        ]
        lines.append(f"| {' | '.join([label, *cells])} |")
    return lines


if __name__ == "__main__":
    main()
