"""What the compiler says each CUDA kernel takes, registers and spills, and what its loops are made of, as
Markdown tables. Needs nvcc, no GPU; for the loops also nvdisasm, of the CUDA toolkit or of triton.

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

import sass
from sass_waits import NEAR, Waits, waits

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURES = ("80", "90a")
ENTRY = re.compile(
    r"Function properties for (\S+)\s+(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes"
)
MOST_LOOPS = 3
NO_DISASSEMBLER = "Not known: nvdisasm was found neither on the path nor in triton."
ABOUT_LOOPS = f"""From the disassembly: instructions of one round, as unrolled by the compiler, without those of loops
inside the loop. Of each kernel the loops that count bits, multiply matrices or add atomically, at most {MOST_LOOPS},
those with the largest part of population counts and matrix instructions first; where there is none, the longest.
`n times`: so many loops of the same mix."""
ABOUT_WAITS = f"""Of the same loops, those with loads from global or shared memory. A distance is how many instructions
lie between a load and the first that reads what it loads, on the shortest way through the loop, past the jump back too.
`near`: loads that one of the next {NEAR} instructions reads. `not read`: loads whose result is read only outside the
loop. `in flight`: the most loads that are issued, with the load itself, before its result is read; 1: they wait one by
one."""
WAITS = ("loads", "least distance", "median", "near", "not read", "in flight")
USED = re.compile(r"Used (\d+) registers")


def kernel_name(mangled: str) -> str:
    """`count_kernel<unsigned long, 8>` from a mangled name."""
    return shorter(
        subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    )


def shorter(plain: str) -> str:
    """A kernel's name without namespaces, the type of an enumerator and the list of arguments."""
    plain = plain.removeprefix("void ").replace("dshc::cuda::", "").replace("(anonymous namespace)::", "")
    depth = 0
    for at in range(len(plain) - 1, -1, -1):  # template arguments may have brackets of their own
        depth += (plain[at] == ")") - (plain[at] == "(")
        if plain[at] == "(" and depth == 0:
            plain = plain[:at]
            break
    return re.sub(r"\([A-Za-z_:]+\)(?=\d)", "", plain)


def compile_to(cubin: Path, nvcc: str, source: Path, architecture: str) -> list[tuple[str, int, int]]:
    """(kernel, registers, bytes spilled) of every kernel of a file, in the order of their names."""
    command = [nvcc, "-std=c++17", "-O3", f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    command += ["-Xptxas=-v", "-cubin", str(source), "-o", str(cubin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found = []
    for part in done.stderr.split("Compiling entry function")[1:]:
        mangled, _, stores, loads = ENTRY.search(part).groups()
        found.append((kernel_name(mangled), int(USED.search(part)[1]), int(stores) + int(loads)))
    return sorted(found)


def loop_rows(nvdisasm: str, cubin: Path, source: str) -> list[tuple[tuple[object, ...], Waits]]:
    """((file, kernel, loop, instructions, count of each class), waits) of the main loops of every kernel of a file."""
    rows = []
    for mangled, kernel in sass.disassemble(nvdisasm, cubin).items():
        loops: dict[tuple[int, ...], list[Waits]] = {}
        bodies = sass.main_bodies(kernel)
        for body, of_body in zip(bodies, waits(kernel, bodies), strict=True):
            mix = sass.mix(kernel, body)
            counts = (mix.total(), *(mix[name] for name in (*sass.CLASSES, sass.OTHER)))
            loops.setdefault(counts, []).append(of_body)
        for place, (counts, of_each) in enumerate(list(loops.items())[:MOST_LOOPS], 1):
            name, times = f"`{kernel_name(mangled)}`", len(of_each)
            row = (source, name, f"{place}, {times} times" if times > 1 else place, *counts)
            rows.append((row, sum(of_each, Waits([], []))))
    return sorted(rows, key=lambda row: row[0][:2])


def wait_rows(loops: list[tuple[tuple[object, ...], Waits]]) -> list[tuple[object, ...]]:
    """(file, kernel, loop, WAITS) of loops with loads."""
    rows = []
    for row, found in loops:
        if n_loads := len(found.distances):
            far = ("", "") if found.least is None else (found.least, f"{found.median:g}")
            rows.append(
                (*row[:3], n_loads, *far, found.near(), n_loads - len(found.read), found.most_in_flight)
            )
    return rows


def table(header: list[str], rows: list[tuple[object, ...]], n_texts: int) -> list[str]:
    """Markdown; the columns after the first `n_texts` hold numbers."""
    lines = [header, [*["---"] * n_texts, *["--:"] * (len(header) - n_texts)]]
    lines += [[str(field) for field in row] for row in rows]
    return ["| " + " | ".join(fields) + " |" for fields in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    release = subprocess.run([arguments.nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    nvdisasm = sass.find_tool("nvdisasm")
    rows, loops, spilled = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu")):
            of_each = [compile_to(cubin, arguments.nvcc, source, each) for each in ARCHITECTURES]
            for (name, *first), second in zip(*of_each, strict=True):
                spilled += first[1] + second[2]
                rows.append((source.name, f"`{name}`", *first, *second[1:]))
            if nvdisasm:  # of the last architecture
                loops += loop_rows(nvdisasm, cubin, source.name)
    version = re.search(r"V([0-9.]+)", release)[1]
    lines = [
        "# What the compiler makes of the CUDA kernels",
        "",
        "`python benchmarks/cuda_resources.py --out docs/results/cuda-kernels.md`, "
        f"nvcc {version}, {datetime.date.today()}. No GPU is needed.",
        "",
        "## Registers and spills",
        "",
        "As `ptxas -v` says. `spilled` is bytes stored and loaded. Kernels use dynamic shared memory only; each file's",
        "head comment says what for.",
        "",
        *table(["file", "kernel", *(word for a in ARCHITECTURES for word in (f"sm_{a} registers", "spilled"))],
               rows, 2),
        "",
        f"## Instructions of the loops, sm_{ARCHITECTURES[-1]}",
        "",
        *(ABOUT_LOOPS.splitlines() if nvdisasm else [NO_DISASSEMBLER]),
        "",
        *(table(["file", "kernel", "loop", "all", *sass.CLASSES, sass.OTHER], [row for row, _ in loops], 3)
          if nvdisasm else []),
        "",
        f"## Waits for loads, sm_{ARCHITECTURES[-1]}",
        "",
        *(ABOUT_WAITS.splitlines() if nvdisasm else [NO_DISASSEMBLER]),
        "",
        *(table(["file", "kernel", "loop", *WAITS], wait_rows(loops), 3) if nvdisasm else []),
    ]  # fmt: skip
    text = "\n".join(lines).rstrip() + "\n"
    if arguments.out:
        arguments.out.write_text(text)
    else:
        print(text)
    if spilled:
        sys.exit(f"{spilled} bytes spilled")


if __name__ == "__main__":
    main()
