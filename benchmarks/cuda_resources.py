"""What the compiler says each CUDA kernel takes, registers and spills, as a Markdown table. Needs nvcc, no GPU.

Usage: python benchmarks/cuda_resources.py [--nvcc nvcc] [--out docs/results/cuda-kernels.md]

Ends with an error if any kernel spills.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = ("80", "90a")
ENTRY = re.compile(
    r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes"
)
USED = re.compile(r"Used (\d+) registers")


def kernel_name(mangled: str) -> str:
    """`count_kernel<unsigned long, 8>` from a mangled name."""
    plain = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    plain = plain.removeprefix("void ").replace("dshc::cuda::(anonymous namespace)::", "")
    return re.sub(r">?\(.*", lambda rest: ">" if rest.group().startswith(">") else "", plain)


def resources(nvcc: str, source: Path, architecture: str) -> list[tuple[str, int, int]]:
    """(kernel, registers, bytes spilled) of every kernel of a file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-std=c++17", "-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
        command += ["-Xptxas=-v", "-c", str(source), "-o", f"{folder}/out.o"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = []
    for part in done.stderr.split("Compiling entry function")[1:]:
        mangled, _, stores, loads = ENTRY.search(part).groups()
        found.append((kernel_name(mangled), int(USED.search(part)[1]), int(stores) + int(loads)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    release = subprocess.run([arguments.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    rows, spilled = [], 0
    for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
        of_each = [resources(arguments.nvcc, source, architecture) for architecture in ARCHITECTURES]
        for (name, *first), second in zip(*(sorted(found) for found in of_each), strict=True):
            spilled += first[1] + second[2]
            rows.append((source.name, f"`{name}`", first[0], first[1], second[1], second[2]))
    version = re.search(r"V([0-9.]+)", release)[1]
    lines = [
        "# Registers and spills of the CUDA kernels",
        "",
        "`python benchmarks/cuda_resources.py --out docs/results/cuda-kernels.md`, "
        f"nvcc {version}, {datetime.date.today()}. No GPU is needed: this is what `ptxas -v` says. `spilled` is bytes",
        "stored and loaded. Kernels use dynamic shared memory only; each file's head comment says what for.",
        "",
        "| file | kernel | " + " | ".join(f"sm_{a} registers | spilled" for a in ARCHITECTURES) + " |",
        "| --- | --- | --: | --: | --: | --: |",
    ]
    lines += ["| " + " | ".join(str(field) for field in row) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)
    if spilled:
        sys.exit(f"{spilled} bytes spilled")


if __name__ == "__main__":
    main()
