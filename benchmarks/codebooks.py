"""What each construction of codebooks reaches: docs/results/codebooks.md and .json.

    python benchmarks/codebooks.py [--quick | --distances]

One row for each number of classes C, length L and construction that exists there, at the paper's radius 1 (a center and
its single flips), and the distances of `separated` over a grid of C and L, beside those of other methods' centers, and
for several lengths at once. `--quick` keeps the row that takes more than a minute (kbc at 20 bits) as the result that
is there has it, `--distances` all that is measured in seconds and the grid. Seconds are of the processor, one thread,
so that other work counts little.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from math import comb

import numpy as np
import torch
from timing import RESULTS, machine

import dshc_fast
from dshc.codebooks import Codebook, build, constructions, nested_centers
from dshc.codebooks.bounds import distance_bound
from dshc.codebooks.geometry import smallest
from dshc.codebooks.separated import separated_centers
from dshc.codebooks.usual import hadamard_centers, random_centers, rejected_centers

SIZES = (
    (10, 10), (10, 20), (10, 30), (10, 60), (21, 21), (100, 32), (100, 64), (1000, 64), (40_000, 64),
)  # fmt: skip
SLOW = {("kbc", 10, 20)}
GRID_CLASSES = (5, 10, 20, 50, 100, 200, 500, 1000, 5000, 40_000)
GRID_BITS = (8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
# Least distances of the published centers of SHC, "Deep Hashing with Semantic Hash Centers", TOIS 2025, by classes and
# bits: github.com/cc752424640/Deep-Hashing-with-Semantic-Hash-Centers-for-Image-Retrieval.
PUBLISHED = {
    (10, 8): 4, (10, 16): 8, (10, 32): 16, (10, 64): 32, (100, 16): 4, (100, 32): 10, (100, 64): 32,
}  # fmt: skip
NESTED_CLASSES, NESTED_LENGTHS = (10, 20, 50, 100, 200, 1000), (16, 32, 64)
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
    parser.add_argument("--distances", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UserWarning)
    path = RESULTS / "codebooks.json"
    before = json.loads(path.read_text()) if options.quick or options.distances else {}
    result = dict(before) if options.distances else measured_all(before.get("rows", []))
    result |= {"others": others(), "nested": nested()}
    path.write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "codebooks.md").write_text(page(result))
    print("wrote", RESULTS / "codebooks.md")


def measured_all(before: list[dict[str, object]]) -> dict[str, object]:
    """Machine, grid and rows; those that are slow as they were before."""
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
    return {"machine": machine(), "grid": grid, "rows": rows}


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


def others() -> list[dict[str, int]]:
    """Least distances of `separated` and of the centers of other methods."""
    rows = []
    for (n_classes, n_bits), published in PUBLISHED.items():
        row = {
            "n_classes": n_classes,
            "n_bits": n_bits,
            "separated": separated_centers(n_classes, n_bits).distance,
            "bound": distance_bound(n_classes, n_bits)[0],
            "shc": published,
            "mdsh": gilbert_varshamov(n_classes, n_bits),
            "hadamard": least(hadamard_centers(n_classes, n_bits)),
            "rejected": least(rejected_centers(n_classes, n_bits)),
            "random": least(random_centers(n_classes, n_bits)),
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def least(bits: np.ndarray) -> int | None:
    return smallest(dshc_fast.pack_codes(np.ascontiguousarray(bits)))


def gilbert_varshamov(n_classes: int, n_bits: int) -> int:
    """The distance that MDSH (Wang et al., CVPR 2023) asks of its centers: the largest d with the sum of comb(L, i),
    i < d - 1, below 2^L / C.
    """
    distance, ball = 1, 0
    while ball * n_classes < 2**n_bits:
        ball += comb(n_bits, distance - 1)
        distance += 1
    return distance - 1


def nested() -> list[dict[str, object]]:
    """Least distances where the first bits have to be a code too."""
    rows = []
    for n_classes in NESTED_CLASSES:
        found = nested_centers(n_classes, NESTED_LENGTHS)
        alone = [separated_centers(n_classes, length).distance for length in NESTED_LENGTHS]
        row = {"n_classes": n_classes, "nested": found.distances, "alone": alone, "origin": found.origin}
        rows.append(row)
        print(rows[-1], flush=True)
    return rows


def page(result: dict[str, object]) -> str:
    about, rows, grid = (result[name] for name in ("machine", "rows", "grid"))
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
    lines += [
        "",
        "## Beside the centers of other methods",
        "",
        "Least distance between two centers. *SHC*: the published files of Deep Hashing with Semantic Hash Centers "
        "(TOIS 2025). *MDSH*: what the centers of Minimal-Distance-Separated Hash Centers (CVPR 2023) are asked to "
        "keep, by the bound of Gilbert and Varshamov. *hadamard*: CSQ's (CVPR 2020), *rejected*: RelaHash's (IEEE "
        "Access 2023), *random*: fair coins, as in DPN (IJCAI 2020) and OrthoHash (NeurIPS 2021); the last three by "
        "our code, seed 0. **Bold**: the upper bound is reached, so that nothing is further apart.",
        "",
        "| classes | bits | separated | upper bound | SHC | MDSH | hadamard | rejected | random |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["others"]:
        names = ("separated", "shc", "mdsh", "hadamard", "rejected", "random")
        cells = {name: f"**{row[name]}**" if row[name] == row["bound"] else str(row[name]) for name in names}
        lines.append(
            f"| {row['n_classes']} | {row['n_bits']} | {cells['separated']} | {row['bound']} | "
            + " | ".join(cells[name] for name in names[1:])
            + " |"
        )
    lines += [
        "",
        "## Several lengths at once",
        "",
        "`nested_centers`: one table whose first 16 and 32 bits are a code too. Least distance, and behind a slash "
        "that of `separated` for this length alone where it is more.",
        "",
        "| classes | " + " | ".join(f"{length} bits" for length in NESTED_LENGTHS) + " | made |",
        "| --- |" + " --- |" * (len(NESTED_LENGTHS) + 1),
    ]
    for row in result["nested"]:
        pairs = zip(row["nested"], row["alone"], strict=True)
        texts = [str(got) if got == most else f"{got} / {most}" for got, most in pairs]
        lines.append(f"| {row['n_classes']:,} | {' | '.join(texts)} | {row['origin']} |")
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
