"""Many lengths from one training against a training per length, by `dshc compare`; into docs/results.

    python benchmarks/nested.py NAME SOURCE --work FOLDER --single FOLDER --methods NAMES --bits LENGTHS [--note TEXT]
        [any flags of dshc compare]

`--single` holds a comparison of the same data with a training per length: its choices of rates and weights are taken
over, and its rows stand beside those of the nested trainings, which go to `--work`. Goes on where it was stopped.
NAME: of the files, docs/results/nested-NAME.{md,json}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comparisons
from timing import made_on, write, write_page

from dshc.experiment import ComparisonTable

NESTED = ", nested"


def main() -> None:
    parser = comparisons.parser(__doc__)
    parser.add_argument("--single", type=Path, required=True)
    parser.add_argument("--methods", required=True)
    parser.add_argument("--bits", required=True)
    given, flags = parser.parse_known_args()
    check_there(given.single, given.methods.split(","), [int(bits) for bits in given.bits.split(",")])
    flags = ["--methods", given.methods, "--bits", given.bits, *flags]
    flags = ["--nested", "--tuned", str(given.single), *flags]
    comparisons.compare(given.source, given.work, flags)
    data, of_single = ((folder / "comparison.json").read_text() for folder in (given.work, given.single))
    if data != of_single:
        raise SystemExit(f"both comparisons must be of the same data, got {data} and {of_single}")
    nested, single = comparisons.whole_table(given.work), comparisons.whole_table(given.single)
    if nested.conventions != single.conventions:
        raise SystemExit(f"conventions must be those of {given.single}, got {nested.conventions}")
    rows = paired(nested, single)
    if not rows:
        raise SystemExit(f"{given.work} must hold a nested training, got none")
    name = f"nested-{given.name}"
    write(name, rows, flags=comparisons.public(flags))
    about = (
        f"Conventions: {'; '.join(nested.conventions)}. In a cell: mAP of the nested training, and in brackets how far "
        "it is from a training of that length alone, both as means over their seeds. Seconds: of the one nested "
        "training, and of one training per length together."
    )
    line = f"`{comparisons.shown(given.source, flags)}`; {made_on()}"
    title = f"Many lengths from one training: {given.name}"
    write_page(name, title, line, given.note, [about, "", *as_table(rows)])


def check_there(single: Path, methods: list[str], lengths: list[int]) -> None:
    """Refuse a comparison that lacks what the nested trainings will be set against."""
    there = {(group.label, group.bits) for group in ComparisonTable.load(single).groups}
    missing = [
        f"{method}, {bits} bits" for method in methods for bits in lengths if (method, bits) not in there
    ]
    if missing:
        raise SystemExit(f"{single} must hold every method at every length, lacks {'; '.join(missing)}")


def paired(nested: ComparisonTable, single: ComparisonTable) -> list[dict[str, Any]]:
    """A row per method: by length, mAP nested and alone; seconds of the one training and of all the others."""
    alone = {(group.label, group.bits): group for group in single.groups}
    labels = [label for label in dict.fromkeys(g.label for g in nested.groups) if label.endswith(NESTED)]
    rows = []
    for label in labels:
        method = label.removesuffix(NESTED)
        row: dict[str, Any] = {"method": method, "lengths": {}, "nested_seconds": 0.0, "single_seconds": 0.0}
        for group in (g for g in nested.groups if g.label == label):
            other = alone[method, group.bits]
            row["lengths"][group.bits] = {
                "nested": comparisons.mean_of(group, "mean_ap"),
                "single": comparisons.mean_of(other, "mean_ap"),
                "nested_seeds": len(group.results),
                "single_seeds": len(other.results),
            }
            row["nested_seconds"] = comparisons.mean_of(group, "train_seconds")
            row["single_seconds"] += comparisons.mean_of(other, "train_seconds")
        rows.append(row)
    return rows


def as_table(rows: list[dict[str, Any]]) -> list[str]:
    """Methods down, lengths across; the last row holds the means."""
    lengths = list(rows[0]["lengths"])
    head = ["method", *(f"{bits} bits" for bits in lengths), "nested s", "one by one s"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in rows:
        cells = [
            f"{pair['nested']:.4f} ({pair['nested'] - pair['single']:+.4f})"
            for pair in row["lengths"].values()
        ]
        seconds = [f"{row['nested_seconds']:.1f}", f"{row['single_seconds']:.1f}"]
        lines.append(f"| {' | '.join([row['method'], *cells, *seconds])} |")

    def mean(value: Any) -> float:
        return sum(value(row) for row in rows) / len(rows)

    cells = [f"{mean(lambda r, b=b: r['lengths'][b]['nested']):.4f} "
             f"({mean(lambda r, b=b: r['lengths'][b]['nested'] - r['lengths'][b]['single']):+.4f})"
             for b in lengths]  # fmt: skip
    seconds = [f"{mean(lambda r: r['nested_seconds']):.1f}", f"{mean(lambda r: r['single_seconds']):.1f}"]
    lines.append(f"| *mean* | {' | '.join([*cells, *seconds])} |")
    return lines


if __name__ == "__main__":
    main()
