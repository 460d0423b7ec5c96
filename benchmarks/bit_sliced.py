"""Hamming filters and histograms of distances on bit planes against the same by VPOPCNT: an experiment
(bit_sliced.h).

    python benchmarks/bit_sliced.py

Compiles the two programs, runs them (both check every answer before they print a time), prints the tables of
docs/results/bit_sliced.md and writes docs/results/bit_sliced.json.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from timing import write

FILTERS = ("popcount_compare", "popcount_min4", "popcount_min8", "sliced", "sliced_planes_kept")
HISTOGRAMS = ("plain", "in_pairs", "sliced")


def run(compiler: str, source: Path, folder: Path) -> list[dict[str, object]]:
    target = folder / source.stem
    command = [compiler, "-std=c++17", "-O3", "-march=native", "-pthread", str(source), "-o", str(target)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise SystemExit(built.stderr)
    lines = subprocess.run([target], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def table(rows: list[dict[str, object]], axes: tuple[str, ...], columns: tuple[str, ...]) -> None:
    """G pairs/s, and the planes' pace as a multiple of the fastest way by popcount or increments."""
    print("\n| " + " | ".join((*axes, *columns, "ratio")) + " |")
    print("|" + " --: |" * (len(axes) + len(columns) + 1))
    for row in rows:
        others = max(row[name] for name in columns if not name.startswith("sliced"))
        cells = [str(row[axis]) for axis in axes] + [f"{row[name] / 1e9:.1f}" for name in columns]
        print("| " + " | ".join((*cells, f"{row['sliced'] / others:.2f}")) + " |")


def main() -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise SystemExit("bit_sliced: no C++ compiler found")
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        filters = run(compiler, here / "bit_sliced.cpp", Path(folder))
        histograms = run(compiler, here / "bit_sliced_histogram.cpp", Path(folder))
    filters.sort(key=lambda row: (row["bits"], row["threads"], row["radius"], row["n_query"]))
    table(filters, ("bits", "threads", "n_query", "survivors_per_pair"), FILTERS)
    table(histograms, ("bits", "codes"), HISTOGRAMS)
    print("\nwrote", write("bit_sliced", filters + histograms))


if __name__ == "__main__":
    main()
