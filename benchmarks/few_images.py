"""Methods against the number of training items per class, by `dshc compare`; into docs/results.

    python benchmarks/few_images.py NAME SOURCE --work FOLDER --tuned FOLDER [--counts 10,50,100,500,all] [--add]
        [--note TEXT] [any flags of dshc compare]

For every count a comparison in a folder of its own under WORK: `--train-per-class` cuts the training items, queries
and database stay. Rates and weights are those that the comparison in `--tuned` chose, so that no count is favoured by
a choice of its own, and ten validation items choose nothing but the epoch. Goes on where it was stopped. NAME: of the
files, docs/results/few-NAME.{md,json,png}. --add: counts that are not asked for stay in them as they were measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comparisons
from timing import RESULTS, made_on, write, write_page

from dshc.experiment.comparison_table import Group
from dshc.report.plots import LIGHT, dress, new_figure, png


def main() -> None:
    parser = comparisons.parser(__doc__)
    parser.add_argument("--tuned", type=Path, required=True)
    parser.add_argument("--counts", default="10,50,100,500,all")
    parser.add_argument("--add", action="store_true")
    given, flags = parser.parse_known_args()
    groups: list[tuple[str, Group]] = []
    name = f"few-{given.name}"
    others = earlier(name, set(given.counts.split(","))) if given.add else []
    for count in given.counts.split(","):
        folder = given.work / f"per-class-{count}"
        cut = [] if count == "all" else ["--train-per-class", count]
        comparisons.compare(given.source, folder, ["--tuned", str(given.tuned), *cut, *flags])
        groups += [(count, group) for group in comparisons.whole_table(folder).groups]
    command = comparisons.shown(given.source, ["--train-per-class", "N", "--tuned", str(given.tuned), *flags])
    made = f"`{command}`; {made_on()}"
    rows = [row(count, group) | {"made": made} for count, group in groups]
    rows = sorted(
        others + rows, key=lambda row: (row["count"] == "all", int(row["count"].replace("all", "0")))
    )
    bits = sorted({row["bits"] for row in rows})
    write(name, rows)
    (RESULTS / f"{name}.png").write_bytes(plot(rows, max(bits, key=[row["bits"] for row in rows].count)))
    conventions = groups[0][1].results[0].numbers["conventions"]  # type: ignore[index]
    lines = [f"Conventions: {conventions}. Validation items are among the training items of a class; ± is the "
             "deviation over seeds.", "", f"![mAP against training items per class]({name}.png)", ""]  # fmt: skip
    for length in bits:
        lines += [f"## mAP, {length} bits", "", *table(rows, length), ""]
    title = f"mAP against training items per class: {given.name}"
    write_page(name, title, ".\n\n".join(dict.fromkeys(row["made"] for row in rows)), given.note, lines)


def earlier(name: str, measured: set[str]) -> list[dict[str, Any]]:
    """The rows of other counts that the page has, and what each was made by: the page's line where rows do not say."""
    page = (RESULTS / f"{name}.md").read_text().splitlines()
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return [{"made": page[2].rstrip("."), **row} for row in rows if row["count"] not in measured]


def row(count: str, group: Group) -> dict[str, Any]:
    """Means over the seeds, and the deviation of mAP."""
    mean_ap = group.spread("mean_ap")
    assert mean_ap is not None
    cosine, accuracy = group.spread("cosine_map"), group.spread("accuracy")
    return {
        "count": count,
        "method": group.label,
        "bits": group.bits,
        "seeds": mean_ap.n,
        "mean_ap": mean_ap.mean,
        "stdev": mean_ap.stdev if mean_ap.n > 1 else None,
        "cosine_map": None if cosine is None else cosine.mean,
        "accuracy": None if accuracy is None else accuracy.mean,
        "train_seconds": comparisons.mean_of(group, "train_seconds"),
    }


def shown_map(row: dict[str, Any]) -> str:
    return f"{row['mean_ap']:.4f}" + ("" if row["stdev"] is None else f" ± {row['stdev']:.4f}")


def table(rows: list[dict[str, Any]], bits: int) -> list[str]:
    """Methods down, counts across."""
    of_length = [r for r in rows if r["bits"] == bits]
    counts = list(dict.fromkeys(r["count"] for r in of_length))
    lines = [f"| method | {' | '.join(counts)} |", "|" + " --- |" * (len(counts) + 1)]
    for method in dict.fromkeys(r["method"] for r in of_length):
        cells = [next((shown_map(r) for r in of_length if (r["method"], r["count"]) == (method, count)), "")
                 for count in counts]  # fmt: skip
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def plot(rows: list[dict[str, Any]], bits: int) -> bytes:
    """mAP against the count, a line per method, bars over seeds; counts evenly apart."""
    of_length = [r for r in rows if r["bits"] == bits]
    counts = list(dict.fromkeys(r["count"] for r in of_length))
    figure = new_figure((7.2, 4.4), LIGHT)
    axes = figure.subplots()
    dress(axes, LIGHT, "training items per class", f"mAP, {bits} bits")
    for method in dict.fromkeys(r["method"] for r in of_length):
        points = [r for r in of_length if r["method"] == method]
        places = [counts.index(r["count"]) for r in points]
        bars = [r["stdev"] or 0.0 for r in points]
        axes.errorbar(places, [r["mean_ap"] for r in points], yerr=bars if any(bars) else None, marker="o", ms=4,
                      lw=1.4, capsize=2.5, label=method)  # fmt: skip
    axes.set_xticks(range(len(counts)), counts)
    figure.legend(frameon=False, labelcolor=LIGHT.ink, fontsize=8, loc="outside right upper")
    return png(figure)


if __name__ == "__main__":
    main()
