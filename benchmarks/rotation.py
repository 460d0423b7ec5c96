"""How long the rotation by mAP takes: 800 steps of 2,000 queries and 16,000 database items, as SDSH's authors have it.

    python benchmarks/rotation.py [--steps 800] [--n-classes 10]

Outputs are points of the unit sphere around a random direction per class, so far from it that codes are far from
perfect. For every length: seconds with one thread and with all, and the mAP of codes before and after, of the items
that the search draws. Writes docs/results/rotation.md. Run it with nothing beside it.
"""

from __future__ import annotations

import argparse
import time

import torch
from timing import made_on, write, write_page
from torch import Tensor
from torch.nn.functional import normalize

import dshc_fast
from dshc.methods.postprocessing import map_rotation

N_QUERIES, N_DATABASE = 2000, 16_000
LENGTHS = (16, 32, 48, 64, 128)
SPREAD = 1.6  # length of the noise, where that of a class's direction is 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--n-classes", type=int, default=10)
    given = parser.parse_args()
    n_threads = torch.get_num_threads()
    rows = [measured(bits, given.steps, given.n_classes, n_threads) for bits in LENGTHS]
    write("rotation", rows)
    about = (
        f"{given.steps} steps, each an exact mAP of {N_QUERIES:,} queries by {N_DATABASE:,} database items, "
        f"{given.n_classes} classes. mAP: of the codes of these items. Torch's own threads spin for a while behind "
        "each of its operations, so that more threads gain little here; with `OMP_WAIT_POLICY=passive` they gain more."
    )
    lines = [
        about,
        "",
        f"| bits | 1 thread, s | {n_threads} threads, s | mAP before | mAP after |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['bits']} | {row['seconds_1']:.1f} | {row['seconds_all']:.1f} | {row['before']:.4f} | "
            f"{row['after']:.4f} |"
        )
    command = f"python benchmarks/rotation.py --steps {given.steps} --n-classes {given.n_classes}"
    write_page("rotation", "The rotation by mAP", f"`{command}`; {made_on()}", "", lines)


def measured(bits: int, steps: int, n_classes: int, n_threads: int) -> dict[str, float]:
    random = torch.Generator().manual_seed(bits)
    labels = torch.arange(N_QUERIES + N_DATABASE) % n_classes
    directions = normalize(torch.randn(n_classes, bits, generator=random), dim=1)
    noise = normalize(torch.randn(len(labels), bits, generator=random), dim=1)
    outputs = normalize(directions[labels] + SPREAD * noise, dim=1)
    row: dict[str, float] = {"bits": bits}
    for name, threads in (("seconds_1", 1), ("seconds_all", n_threads)):
        torch.set_num_threads(threads)
        started = time.perf_counter()
        rotation = map_rotation(
            outputs,
            labels,
            torch.Generator().manual_seed(0),
            steps=steps,
            n_queries=N_QUERIES,
            n_database=N_DATABASE,
        )
        row[name] = time.perf_counter() - started
    return row | {
        "before": drawn_map(outputs, labels),
        "after": drawn_map(outputs @ rotation.float(), labels),
    }


def drawn_map(outputs: Tensor, labels: Tensor) -> float:
    """Of the items in the roles that the search gives them."""
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    codes, labels = dshc_fast.pack_codes(outputs[drawn]), labels[drawn]
    of_queries = dshc_fast.average_precision(
        codes[:N_QUERIES], codes[N_QUERIES:], labels[:N_QUERIES], labels[N_QUERIES:]
    )
    return float(of_queries.mean())


if __name__ == "__main__":
    main()
