"""What each construction of codebooks reaches: docs/results/codebooks.md and .json.

    python benchmarks/codebooks.py [--quick]

One row for each number of classes C, length L and construction that exists there, at the paper's radius 1 (a center and
its single flips), and the distances of `separated` over a grid of C and L. `--quick` keeps the row that takes more than
a minute (kbc at 20 bits) as the result that is there has it. Seconds are of the processor, one thread, so that other
work counts little.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import torch
from timing import RESULTS, machine, write

from dshc.codebooks import Codebook, build, constructions

SIZES = (
    (10, 10), (10, 20), (10, 30), (10, 60), (21, 21), (100, 32), (100, 64), (1000, 64), (40_000, 64),
)  # fmt: skip
SLOW = {("kbc", 10, 20)}
GRID_CLASSES = (5, 10, 20, 50, 100, 200, 500, 1000, 5000, 40_000)
GRID_BITS = (8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
COLUMNS = {
    "n_subclasses": "sub-classes",
    "n_distinct": "distinct",
    "collisions": "collisions",
    "min_within": "min within",
    "min_between": "min between",
    "mean_between": "mean between",
    "center_distance": "centers apart",
    "bound": "upper bound",
    "objective": "objective (1)",
    "build_seconds": "s to build",
    "measure_seconds": "s to measure",
    "origin": "centers",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    before = json.loads((RESULTS / "codebooks.json").read_text())["rows"] if options.quick else []
    kept = {
        key: row for row in before if (key := (row["construction"], row["n_classes"], row["n_bits"])) in SLOW
    }
    rows = []
    for n_classes, n_bits in SIZES:
        for construction in constructions():
            row = kept.get((construction, n_classes, n_bits)) or measured(construction, n_classes, n_bits)
            if row is not None:
                rows.append(row)
                print(row, flush=True)
    grid = [
        {
            "n_classes": n_classes,
            "n_bits": n_bits,
            "reached": book.center_distance,
            "bound": book.distance_bound[0],
        }
        for n_classes in GRID_CLASSES
        for n_bits in GRID_BITS
        if n_classes <= 2**n_bits and (book := build("separated", n_classes, n_bits, radius=0))
    ]
    write("codebooks", rows, grid=grid)
    (RESULTS / "codebooks.md").write_text(page(rows, grid))
    print("wrote", RESULTS / "codebooks.md")


def measured(construction: str, n_classes: int, n_bits: int) -> dict[str, object] | None:
    """One row; None where the construction does not exist."""
    if construction == "cpbc" and n_bits < n_classes or construction == "kbc" and n_bits > 20:
        return None
    begin = time.process_time()
    book = build(construction, n_classes, n_bits)
    built = time.process_time()
    row = {"n_classes": n_classes, "n_bits": n_bits, "construction": construction, **facts(book)}
    return {**row, "build_seconds": built - begin, "measure_seconds": time.process_time() - built}


def facts(book: Codebook) -> dict[str, object]:
    names = ("n_subclasses", "n_distinct", "collisions", "min_within", "min_between", "mean_between",
             "center_distance", "objective", "origin")  # fmt: skip
    bound, bound_by = book.distance_bound
    return {**{name: getattr(book, name) for name in names}, "bound": bound, "bound_by": bound_by}


def page(rows: list[dict[str, object]], grid: list[dict[str, int]]) -> str:
    about = machine()
    lines = [
        "# Codebooks",
        "",
        f"`python benchmarks/codebooks.py`, {about['processor']}, one thread, {about['date']}, "
        f"commit {about['commit']}.",
        "",
        "Sub-codes: the center and its single flips (radius 1). *centers apart*: the least distance between two "
        "centers; *upper bound*: what so many words cannot exceed, and by whom; **bold** where it is reached. "
        "A code that meets the bound is the best there is; where none does, at (40,000, 64), we know of none better. "
        "*objective (1)*: D_intra - D_inter of Luo et al., over ordered pairs; the less the better. A construction "
        "that is missing does not exist there (cpbc needs a bit a class, kbc looks at all 2^L codes, up to 20 bits). "
        "Seconds of one processor; *to measure*: all figures of the row.",
        "",
        "| classes | bits | construction | " + " | ".join(COLUMNS.values()) + " |",
        "| --- | --- | --- |" + " --- |" * len(COLUMNS),
    ]
    for row in rows:
        cells = [f"{row['n_classes']:,}", str(row["n_bits"]), str(row["construction"])]
        lines.append("| " + " | ".join(cells + [shown(row, name) for name in COLUMNS]) + " |")
    lengths = sorted({cell["n_bits"] for cell in grid})
    lines += [
        "",
        "## Least distance between centers, `separated`",
        "",
        "Reached, and where that is less the upper bound behind a slash (by Plotkin, Hamming, Singleton, Delsarte's "
        "linear program or Brouwer's table); seed 0, default search.",
        "",
        "| classes | " + " | ".join(f"{n_bits} bits" for n_bits in lengths) + " |",
        "| --- |" + " --- |" * len(lengths),
    ]
    found = {(cell["n_classes"], cell["n_bits"]): (cell["reached"], cell["bound"]) for cell in grid}
    for n_classes in sorted({cell["n_classes"] for cell in grid}):
        cells = [found.get((n_classes, n_bits)) for n_bits in lengths]
        texts = ["" if c is None else str(c[0]) if c[0] == c[1] else f"{c[0]} / {c[1]}" for c in cells]
        lines.append(f"| {n_classes:,} | " + " | ".join(texts) + " |")
    return "\n".join(lines) + "\n"


def shown(row: dict[str, object], name: str) -> str:
    value = row[name]
    if name == "bound":
        return f"{value}, {row['bound_by']}"
    if name == "center_distance" and value == row["bound"]:
        return f"**{value}**"
    if name.endswith("seconds"):
        return f"{value:.2f}" if value >= 0.01 else "< 0.01"
    return (
        f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


if __name__ == "__main__":
    main()
