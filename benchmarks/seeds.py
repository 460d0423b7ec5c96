"""Mean and spread over seeds of a training command: mAP of the held-out queries and class accuracy.

    python benchmarks/seeds.py digits [--seeds 5] [--name digits-seeds] [-- further dshc train flags]

Runs `dshc train SOURCE --seed S` for S = 0, 1, ... (the seed draws the split, the weights and the order), reads each
run's evaluation.json and writes docs/results/<name>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import RESULTS, machine, write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name")
    parser.add_argument("flags", nargs="*", help="further flags of dshc train, after --")
    options = parser.parse_intermixed_args()
    name = options.name or f"{Path(options.source).stem}-seeds"
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = [sys.executable, "-m", "dshc", "train", options.source, "--seed", str(seed)]
            started = time.perf_counter()
            subprocess.run([*command, "--out", str(out), "--no-report", *options.flags], check=True)
            seconds = time.perf_counter() - started
            result = json.loads((out / "evaluation.json").read_text())
        counts, conventions = result["counts"], result["conventions"]
        quality = result["class_accuracy"]["queries"]
        rows.append(
            {
                "seed": seed,
                "map": result["mean_average_precision"]["value"],
                "accuracy": quality.get("top_1", quality.get("micro_f1")),
                "seconds": seconds,
                "conventions": ", ".join(f"{key}={value}" for key, value in conventions.items())
                + f", {counts['n_query']} queries, {counts['n_database']} database, {counts['n_bits']} bits",
            }
        )
    summary = {
        key: {"mean": statistics.mean(values), "stdev": statistics.stdev(values) if len(values) > 1 else 0.0}
        for key in ("map", "accuracy")
        if (values := [row[key] for row in rows])
    }
    flags = " ".join(options.flags)
    about = machine()
    path = write(name, rows, summary=summary, source=options.source, flags=flags)
    lines = [
        f"# {name}",
        "",
        f"`python benchmarks/seeds.py {options.source} --seeds {options.seeds}{' -- ' + flags if flags else ''}`, "
        f"{about['processor']}, {about['cores']} cores, {about['date']}, commit {about['commit']}.",
        "",
        "| seed | mAP | class accuracy (multi-label: micro F1) | seconds | conventions |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {r['seed']} | {r['map']:.4f} | {r['accuracy']:.4f} | {r['seconds']:.0f} | {r['conventions']} |"
            for r in rows
        ),
        f"| mean ± standard deviation | {summary['map']['mean']:.4f} ± {summary['map']['stdev']:.4f} | "
        f"{summary['accuracy']['mean']:.4f} ± {summary['accuracy']['stdev']:.4f} | | |",
    ]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[4:]), "wrote", path, sep="\n")


if __name__ == "__main__":
    main()
