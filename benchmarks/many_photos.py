"""A folder of 100,000 photos: does memory stay bounded, and does training keep the pace of decoding?

    python benchmarks/many_photos.py --work runs/many-photos

Makes a folder of JPEG files (ten classes, 128 x 96 pixels, every file of other pixels), then runs, each in a process of
its own whose resident memory, that of its children included, is read every half second from /proc:

* decode: every image decoded and brought to 64 x 64 once, by all cores, and thrown away: the pace to be kept;
* train: `dshc train FOLDER --no-pretrained --epochs 1`, a small network, and its evaluation;
* encode: `dshc encode RUN FOLDER`.

Decoded, the images take N x 64 x 64 x 3 bytes, more than stays in memory by default (data.max_memory_mib). The pace of
training counts the images that an epoch decodes: the training items once, and those of its validation. Writes
docs/results/many-photos.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from timing import RESULTS, machine

N_CLASSES = 10
SIDE = 64
DECODE = """
import sys, time
from dshc.data import load
from dshc.progress import progress
started = time.perf_counter()
images = load(sys.argv[1], max_memory_mib=int(sys.argv[2])).inputs
loaded = time.perf_counter() - started
started = time.perf_counter()
for start in range(0, len(images), 1024):
    images[start : start + 1024]
print(len(images), loaded, time.perf_counter() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for photos and runs; kept")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RESULTS / "many-photos.md")
    given = parser.parse_args()
    photos = given.work / f"photos-{given.images}"
    if not photos.is_dir():
        make_photos(photos, given.images)
    run, codes = given.work / "run", given.work / "codes.safetensors"
    # The default, but for a trial with so few images that they would lie in memory.
    limit = "1024" if given.images * SIDE * SIDE * 3 > 1024 * 2**20 else "0"
    dshc = [sys.executable, "-m", "dshc"]
    steps = {
        "decode": [sys.executable, "-c", DECODE, str(photos), limit],
        "train": [
            *dshc, "train", str(photos), "--no-pretrained", "--epochs", "1", "--bits", "30", "--width", "8",
            "--lr", "0.05", "--validation", "0.01", "--no-report", "--max-memory-mib", limit,
            "--out", str(run), "--overwrite",
        ],
        "encode": [*dshc, "encode", str(run), str(photos), "--overwrite", "--out", str(codes)],
    }  # fmt: skip
    measured = {name: watch(command) for name, command in steps.items()}
    loaded, decoding = (float(number) for number in measured["decode"]["printed"].split()[1:])
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    split = re.search(r"(\d+) train, (\d+) validation", measured["train"]["printed"])
    if split is None:
        raise RuntimeError(f"no split in what the training printed: {measured['train']['printed']}")
    n_epoch = (
        int(split[1]) + int(split[2]) + 1000
    )  # and the sample of training items that validation searches in
    text = table(given.images, measured, loaded, decoding, row, n_epoch)
    given.out.write_text(text, encoding="utf-8")
    print(text)


def make_photos(folder: Path, n: int) -> None:
    """A class is a colour and the direction and pitch of stripes; noise makes every file its own."""
    draft = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    rows, columns = np.mgrid[:96, :128]
    for c in range(N_CLASSES):
        (draft / f"kind-{c}").mkdir(parents=True)

    def write(i: int) -> None:
        c, random = i % N_CLASSES, np.random.default_rng(i)
        turn = np.pi * c / N_CLASSES
        phase = random.uniform(0, 2 * np.pi)
        stripes = np.sin((rows * np.sin(turn) + columns * np.cos(turn)) / (3 + c % 3) + phase)
        colour = random.uniform(60, 196, 3)
        pixels = colour + 40 * stripes[..., None] + random.normal(0, 12, (96, 128, 3))
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(draft / f"kind-{c}" / f"{i:06}.jpg", quality=85)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(write, range(n), chunksize=256), start=1):
            if done % 10_000 == 0:
                print(f"{done} of {n} photos written", file=sys.stderr, flush=True)
    draft.rename(folder)


def watch(command: list[str]) -> dict:
    """Run a command to its end; its seconds, and its resident memory (MiB) over them."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    memory: list[float] = []
    with ThreadPoolExecutor(1) as reader:
        printed = reader.submit(process.stdout.read)
        while process.poll() is None:
            memory.append(sum(map(resident, [process.pid, *children(process.pid)])))
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ...: ended with {process.returncode}")
    return {"seconds": time.perf_counter() - started, "memory": memory, "printed": printed.result()}


def resident(pid: int) -> float:
    """MiB of a process that are in memory, files mapped into it aside."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return sum(int(n) for n in re.findall(r"^(?:RssAnon|RssShmem):\s+(\d+) kB", status, re.MULTILINE)) / 1024


def children(pid: int) -> list[int]:
    try:
        found = [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [below for child in found for below in children(child)]


def table(n: int, measured: dict, loaded: float, decoding: float, row: dict, n_epoch: int) -> str:
    decoded_mib = n * SIDE * SIDE * 3 / 2**20
    pace = {
        "decode": n / decoding,
        "train": n_epoch / row["seconds"],
        "encode": n / measured["encode"]["seconds"],
    }
    what = {
        "decode": f"{decoding:.0f} s for {n:,} images, behind {loaded:.0f} s of reading the folder",
        "train": f"the epoch: {row['seconds']:.0f} s for {n_epoch:,} images",
        "encode": f"the whole command: {measured['encode']['seconds']:.0f} s for {n:,} images",
    }
    about = machine()
    lines = [
        "# Many photos",
        "",
        f"`python benchmarks/many_photos.py --work FOLDER --images {n}`; {about['processor']}, {about['cores']} cores, "
        f"torch {about['torch']}, commit {about['commit']}, {about['date']}.",
        "",
        f"{n:,} JPEG files of 128 x 96 pixels, read at 64 x 64: {decoded_mib:,.0f} MiB once decoded. Images/s against "
        "decoding alone, by all cores in the same run:",
        "",
        "| step | images/s | of decoding alone | what was timed | peak memory (MiB) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, value in pace.items():
        peak = max(measured[name]["memory"])
        lines.append(f"| {name} | {value:,.0f} | {value / pace['decode']:.2f} | {what[name]} | {peak:,.0f} |")
    lines += [
        "",
        "Memory over time (MiB, of the process and its children without mapped files), at tenths of each step's run:",
        "",
        "| step | " + " | ".join(f"{tenth}/10" for tenth in range(1, 11)) + " |",
        "| --- |" + " --- |" * 10,
    ]
    for name in pace:
        memory = measured[name]["memory"]
        at = [memory[min(len(memory) - 1, len(memory) * tenth // 10)] for tenth in range(1, 11)]
        lines.append(f"| {name} | " + " | ".join(f"{value:,.0f}" for value in at) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
