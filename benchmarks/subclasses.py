"""Do near codes share the fine label? Training on coarse labels, measuring on the fine ones behind them.

    python benchmarks/subclasses.py fashion-pairs --root data/fashion-mnist --work runs/subclasses
    python benchmarks/subclasses.py cifar100 --root data --work runs/subclasses

Coarse classes: Fashion-MNIST's classes merged in pairs (0 and 1, 2 and 3, ...), or CIFAR-100's 20 super-classes. A part
of the official training images and of the official test images, the first so many of every fine class, is written to
WORK/<set>.npz; the fine labels are in it as names of the items, which no training reads. Every variant is then trained
by `dshc train` for every seed, and one that was interrupted goes on where it was. Measured with the selected weights:

* fine mAP: for each test image, the training images of its true coarse class are ranked, and those of its fine class
  are relevant (mAP@all, ties=expected). What mistakes in the coarse class do to it, they do to chance as well:
* chance: the same with a sub-code drawn at random in place of the one the network chose, in the class it predicted;
* pure: the same with a sub-code drawn from a part of the class's sub-codes that belongs to the item's fine class (fine
  class f of a super-class owns every sub-code whose number is f modulo the fine classes, or shares one where there are
  fewer sub-codes): what sub-classes of equal size that split along the fine labels would reach, no upper bound;
* prevalence: the mean share of relevant images, which is the mAP of a ranking that ties everything;
* coarse mAP, and accuracy of the coarse class, to see that nothing is bought at their expense;
* codes: how many codes the training images of a coarse class have, counted as exp(entropy), mean over the classes.

Writes docs/results/subclasses.json and, from all sets in it, docs/results/subclasses.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from timing import RESULTS, machine

import dshc_fast
from dshc.data import load
from dshc.runs import Run, load_run

SMALL = ["--flip", "--crop", "--threads", "1", "--validation", "0.05", "--device", "cpu"]
SETS = {
    "fashion-pairs": {
        "about": "Fashion-MNIST, classes merged in pairs: 5 coarse classes of 2 fine ones",
        "fine": "fashion-mnist",
        "flags": [*SMALL, "--width", "16", "--epochs", "8"],
        "n": (12_000, 2_000),
        "per_class": 4,
    },
    "cifar100": {
        "about": "CIFAR-100: 20 super-classes of 5 fine classes",
        "fine": "cifar100",
        "flags": [*SMALL, "--width", "24", "--epochs", "10"],
        "n": (15_000, 3_000),
        "per_class": 8,
    },
}
LEARNED = ["--subclass", "learned"]
VARIANTS = {
    "paper's loss, all sub-codes": [],
    "paper's loss": ["--per-class", "{m}"],
    "learned, k-means": [*LEARNED, "--per-class", "{m}", "--assignment", "kmeans"],
    "learned, Sinkhorn": [*LEARNED, "--per-class", "{m}", "--assignment", "sinkhorn"],
    "learned, Sinkhorn, queue 64": [
        *LEARNED,
        "--per-class",
        "{m}",
        "--assignment",
        "sinkhorn",
        "--queue",
        "64",
    ],
    "learned, k-means, all sub-codes": [*LEARNED, "--assignment", "kmeans"],
}
COLUMNS = ("fine_map", "chance", "pure", "prevalence", "coarse_map", "coarse_accuracy", "codes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--root", required=True, help="folder of the official files")
    parser.add_argument("--work", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", type=int, nargs="*", help="numbers of the variants, counted from 0")
    parser.add_argument(
        "--finished", action="store_true", help="train nothing, measure the runs that are done"
    )
    options = parser.parse_args()
    setting = SETS[options.set]
    data = options.work / f"{options.set}.npz"
    if not data.is_file():
        write_set(data, options.set, options.root)
    numbers = options.variants if options.variants is not None else range(len(VARIANTS))
    rows = []
    for seed in range(options.seeds):
        for number in numbers:
            name, flags = list(VARIANTS.items())[number]
            flags = [flag.format(m=setting["per_class"]) for flag in (*setting["flags"], *flags)]
            folder = options.work / f"{options.set}-{number}-{seed}"
            if options.finished and not (folder / "last.safetensors").is_file():
                continue
            train(data, folder, seed, flags)
            rows.append({"variant": name, "seed": seed, **measure(load_run(folder), seed)})
            print(json.dumps(rows[-1]), flush=True)
    report(options.set, rows)


def write_set(path: Path, name: str, root: str) -> None:
    """The first so many images of every fine class, with coarse labels; fine labels as ids."""
    fine = load(SETS[name]["fine"], root=root)
    coarse = fine.labels // 2 if name == "fashion-pairs" else load("cifar100-coarse", root=root).labels
    parts = []
    for part, n in zip((~fine.test_mask, fine.test_mask), SETS[name]["n"], strict=True):
        classes = [np.flatnonzero(part & (fine.labels == c)) for c in range(fine.n_classes)]
        parts.append(np.sort(np.concatenate([rows[: n // fine.n_classes] for rows in classes])))
    rows = np.concatenate(parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=fine.inputs[rows],
        labels=coarse[rows],
        ids=fine.labels[rows].astype(str),
        n_train=len(parts[0]),
    )


def train(data: Path, folder: Path, seed: int, flags: list[str]) -> None:
    """Bring the run in ``folder`` to its end, from where it was."""
    if (folder / "last.safetensors").is_file():
        return
    command = [sys.executable, "-m", "dshc", "train"]
    if (folder / "config.toml").is_file():
        command += ["--resume", "--out", str(folder), "--no-report"]
    else:
        command += [str(data), "--seed", str(seed), "--out", str(folder), "--no-report", *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def measure(run: Run, seed: int) -> dict[str, float | int]:
    split, coarse = run.split, run.dataset.labels
    fine = np.array([int(name) for name in run.dataset.ids])
    (codes, predicted), (database, database_predicted) = run.encode(split.query), run.encode(split.database)
    labels, database_labels = coarse[split.query], coarse[split.database]
    within = labels[:, None] == database_labels
    relevant = fine[split.query][:, None] == fine[split.database]
    rng = np.random.default_rng(seed)

    def fine_map(codes: np.ndarray, database: np.ndarray) -> float:
        precisions = dshc_fast.average_precision(
            codes, database, fine[split.query], fine[split.database], allowed=within, n_bits=run.hasher.n_bits
        )
        return float(np.mean(precisions))

    book = run.hasher.method.codebook()
    offsets = book.class_offsets
    # Place of a fine class among those of its super-class.
    classes, first = np.unique(fine, return_index=True)
    place = np.array([(coarse[first[:i]] == coarse[first[i]]).sum() for i in range(len(classes))])
    n_fine = np.bincount(coarse[first])

    def drawn(predicted: np.ndarray) -> np.ndarray:
        sizes = offsets[predicted + 1] - offsets[predicted]
        return book.codes[offsets[predicted] + (rng.random(len(predicted)) * sizes).astype(int)]

    def pure(predicted: np.ndarray, items: np.ndarray) -> np.ndarray:
        sizes = offsets[predicted + 1] - offsets[predicted]
        parts = n_fine[coarse[items]]
        start = place[fine[items]] % np.minimum(parts, sizes)
        owned = (sizes - start - 1) // parts + 1
        return book.codes[offsets[predicted] + start + parts * (rng.random(len(items)) * owned).astype(int)]

    coarse_precisions = dshc_fast.average_precision(
        codes, database, labels, database_labels, n_bits=run.hasher.n_bits
    )
    counts = [
        np.unique(database[database_labels == c], axis=0, return_counts=True)[1] for c in range(len(n_fine))
    ]
    shares = [count / count.sum() for count in counts]
    return {
        "fine_map": fine_map(codes, database),
        "chance": fine_map(drawn(predicted), drawn(database_predicted)),
        "pure": fine_map(pure(predicted, split.query), pure(database_predicted, split.database)),
        "prevalence": float((relevant.sum(1) / within.sum(1)).mean()),
        "coarse_map": float(np.mean(coarse_precisions)),
        "coarse_accuracy": float((predicted == labels).mean()),
        "codes": float(np.mean([np.exp(-(share * np.log(share)).sum()) for share in shares])),
        "epoch": run.epoch,
    }


def report(name: str, rows: list[dict[str, object]]) -> None:
    path = RESULTS / "subclasses.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    flags = " ".join(SETS[name]["flags"])
    content[name] = {"machine": machine(), "flags": flags, "rows": rows}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        "# Learned sub-classes: fine labels from coarse ones",
        "",
        *"\n\n".join(__doc__.split("\n\n")[2:4]).splitlines(),
        "",
    ]
    (RESULTS / "subclasses.md").write_text(
        "\n".join([*lines, *(table(name, content[name]) for name in content)])
    )


def table(name: str, part: dict) -> str:
    setting, about = SETS[name], part["machine"]
    seeds = sorted({row["seed"] for row in part["rows"]})
    n_train, n_test = setting["n"]
    lines = [
        f"## {setting['about']}",
        "",
        f"A reduced run: {n_train:,} training images (database and validation among them) and {n_test:,} queries, "
        f"{setting['per_class']} sub-codes a class where not all. `python benchmarks/subclasses.py {name}`, "
        f"`dshc train` with `{part['flags']}`, up to {max(seeds) + 1} seeds, mean ± standard deviation. "
        f"{about['processor']}, one thread, torch {about['torch']}, {about['date']}, commit {about['commit']}.",
        "",
        f"| variant | {' | '.join(column.replace('_', ' ') for column in COLUMNS)} | seeds |",
        "| --- |" + " --- |" * (len(COLUMNS) + 1),
    ]
    for variant in dict.fromkeys(row["variant"] for row in part["rows"]):
        rows = [row for row in part["rows"] if row["variant"] == variant]
        cells = []
        for column in COLUMNS:
            values = [row[column] for row in rows]
            if column == "codes":
                cells.append(f"{statistics.mean(values):.1f}")
                continue
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        lines.append(f"| {variant} | {' | '.join(cells)} | {len(rows)} |")
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    main()
