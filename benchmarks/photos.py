"""One's own photos: a folder by class, from the folder to the report, over several splits.

    python benchmarks/photos.py FOLDER --work runs/photos-bench [--bits 32] [--splits 5] [--finetuned 2] [--epochs 3]
        [--name photos]

For the seeds 0, 1, ...: `dshc train FOLDER --bits 32` with the defaults, which keep features of a frozen network in a
cache of WORK's own, empty at first; then, for the first few of them, `--start-from` that run with `--finetune last`.
Each is a process of its own, timed from its start to its report. Writes docs/results/<name>.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from timing import RESULTS, machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and cache; emptied first")
    parser.add_argument("--bits", type=int, default=32)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--finetuned", type=int, default=2, help="how many of them are fine-tuned too")
    parser.add_argument("--epochs", type=int, default=3, help="of a fine-tuning")
    parser.add_argument("--name", default="photos")
    given = parser.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    rows = []
    for seed in range(given.splits):
        run = given.work / f"frozen-{seed}"
        rows.append(train(given, run, seed, "frozen"))
        if seed < given.finetuned:
            options = ("--start-from", str(run), "--finetune", "last", "--epochs", str(given.epochs))
            rows.append(train(given, given.work / f"last-{seed}", seed, "last blocks, from it", *options))
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = machine()
    (RESULTS / f"{given.name}.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
    text = table(given, about, rows)
    (RESULTS / f"{given.name}.md").write_text(text, encoding="utf-8")
    print(text)


def train(given: argparse.Namespace, run: Path, seed: int, what: str, *options: str) -> dict[str, object]:
    arguments = [
        str(given.folder),
        "--bits",
        str(given.bits),
        "--seed",
        str(seed),
        "--out",
        str(run),
        *options,
    ]
    environment = {**os.environ, "DSHC_CACHE": str(given.work / "cache")}
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "dshc", "train", *arguments], env=environment, check=True)
    seconds = time.perf_counter() - started
    found = json.loads((run / "evaluation.json").read_text())
    return {
        "seed": seed,
        "trained": what,
        "command": shlex.join(["dshc", "train", *arguments]),
        "mean_ap": found["mean_average_precision"]["value"],
        "accuracy": found["class_accuracy"]["queries"]["top_1"],
        "seconds": seconds,
        "counts": found["counts"],
    }


def table(given: argparse.Namespace, about: dict, rows: list[dict]) -> str:
    counts = rows[0]["counts"]
    lines = [
        f"# Photos: {given.folder.name}",
        "",
        f"`python benchmarks/photos.py {given.folder.name} --work FOLDER --bits {given.bits} --splits {given.splits} "
        f"--finetuned {given.finetuned} --epochs {given.epochs}`; {about['processor']}, {about['cores']} cores, "
        f"{about['date']}, commit {about['commit']}.",
        "",
        f"{given.bits} bits, {counts['n_query']} queries, {counts['n_database']} database, mAP@all (ties=expected, "
        "denominator=retrieved, score=hamming, empty=zero). Seconds are of the whole command, from the folder to the "
        "report; the first of all computes the features that the others find in the cache.",
        "",
        "| what is trained | seed | mAP@all | class accuracy of the queries | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        figures = f"{row['mean_ap']:.4f} | {row['accuracy']:.4f} | {row['seconds']:.0f}"
        lines.append(f"| {row['trained']} | {row['seed']} | {figures} |")
    for what in dict.fromkeys(row["trained"] for row in rows):
        known = [row for row in rows if row["trained"] == what]
        spread = [spread_of([row[name] for row in known]) for name in ("mean_ap", "accuracy")]
        lines.append(
            f"| {what}: mean ± standard deviation | {len(known)} splits | {spread[0]} | {spread[1]} | |"
        )
    return "\n".join(lines) + "\n"


def spread_of(values: list[float]) -> str:
    stdev = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} ± {stdev:.4f}"


if __name__ == "__main__":
    main()
