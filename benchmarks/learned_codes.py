"""The learned codes of the benchmarks: those that a trained model emits, with their labels, from a run folder.

    dshc train fashion-mnist --root FOLDER --out runs/fashion-mnist
    python benchmarks/learned_codes.py runs/fashion-mnist

writes docs/results/fashion-mnist-30.safetensors (query_codes, database_codes, query_labels and database_labels, all
uint8) and the run's evaluation beside it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from timing import RESULTS

from dshc.storage import CodeFile


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--name", default="fashion-mnist-30")
    options = parser.parse_args()
    arrays = {}
    for part in ("query", "database"):
        file = CodeFile.load(options.run / "codes" / f"{part}.safetensors")
        arrays[f"{part}_codes"] = np.ascontiguousarray(file.codes)
        arrays[f"{part}_labels"] = file.labels.astype(np.uint8)
    save_file(
        arrays, RESULTS / f"{options.name}.safetensors", {"n_bits": str(file.n_bits), "bit_order": "little"}
    )
    shutil.copy(options.run / "evaluation.json", RESULTS / f"{options.name}.json")
    print("wrote", RESULTS / f"{options.name}.safetensors")


if __name__ == "__main__":
    main()
