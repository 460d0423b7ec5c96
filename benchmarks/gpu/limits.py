"""What the GPU at hand can do at most: gpu_limits.cu, compiled with nvcc and run as a program of its own, so that a
loop that fails leaves this process alone."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

SOURCE = Path(__file__).with_name("gpu_limits.cu")
DEPTH = {
    "m16n8k128": 128,
    "m16n8k256": 256,
    "m64n128k256": 256,
    "m16n8k32": 32,
}  # bits, or values, of one instruction
SECONDS = 90  # for the compiler, and again for the run


def find_nvcc() -> str | None:
    """As the build looks for it: CUDACXX, CUDA_HOME, CUDA_PATH, the path, /usr/local/cuda."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    named = [os.environ.get("CUDACXX"), *(f"{home}/bin/nvcc" for home in homes if home)]
    return next(
        filter(None, map(shutil.which, [*filter(None, named), "nvcc", "/usr/local/cuda/bin/nvcc"])), None
    )


def compile_command(nvcc: str, capability: tuple[int, int], program: str) -> list[str]:
    architecture = "sm_90a" if capability == (9, 0) else f"sm_{capability[0]}{capability[1]}"
    return [nvcc, "-O3", "-std=c++17", f"-arch={architecture}", str(SOURCE), "-o", program]


def measure(capability: tuple[int, int], add: Callable[[dict], None]) -> str:
    """Hands each limit to `add`; why not all were measured, empty where they were."""
    nvcc = find_nvcc()
    if nvcc is None:
        return "nvcc was not found"
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/gpu_limits"
        try:
            made = subprocess.run(compile_command(nvcc, capability, program), capture_output=True, text=True,
                                  check=False, timeout=SECONDS)  # fmt: skip
            if made.returncode:
                return f"nvcc failed: {(made.stderr or made.stdout).strip()[:300]}"
            done = subprocess.run([program], capture_output=True, text=True, check=False, timeout=SECONDS)
            found, why = done.stdout, done.stderr.strip()[:300] if done.returncode else ""
        except subprocess.TimeoutExpired as expired:
            found, why = expired.stdout or b"", f"stopped after {SECONDS} s"
            found = found.decode() if isinstance(found, bytes) else found
    for line in found.splitlines():
        if line.startswith("{"):
            add(json.loads(line))
    return why


class Limits:
    """The best checked pace of each kind; None where it was not measured."""

    def __init__(self, rows: Iterable[dict] = ()) -> None:
        self.rows = list(rows)

    def pace(self, what: str) -> float | None:
        return max((row["pace"] for row in self.rows if row["what"] == what and row["checked"]), default=None)

    def seconds(self, what: str, amount: float) -> float | None:
        """The least time for so many bytes ("read", "copy") or operations ("popc", "logic")."""
        pace = self.pace(what)
        return amount / pace if pace else None

    def pairs(self, what: str, n_pairs: float, n_bits: int) -> float | None:
        """The least seconds for so many pairs of codes by one means ("popc", "logic", "b1", "int8"), where there are
        several loops by the one that suits the length best."""
        paces = (pairs_a_second(row, n_bits) for row in self.rows if row["what"] == what)
        best = max(filter(None, paces), default=None)
        return n_pairs / best if best else None


def pairs_a_second(row: dict, n_bits: int) -> float | None:
    """What a limit allows: of population counts of 32 bits, of one operation a pair, of matrix instructions of a depth,
    of a database that is read for each query. None where the limit is no such thing, or its result was wrong."""
    if not row["checked"]:
        return None
    if row["what"] in ("b1", "int8"):
        depth = next(depth for shape, depth in DEPTH.items() if shape in row["loop"])
        return row["pace"] / -(-n_bits // depth)
    taken = {"popc": -(-n_bits // 32), "logic": 1, "read": n_bits / 8}.get(row["what"])
    return row["pace"] / taken if taken else None


def main(arguments: list[str] | None = None) -> int:
    import torch

    from gpu.records import Records

    parser = argparse.ArgumentParser(description="measures what the GPU at hand can do at most")
    parser.add_argument("--out", type=Path, required=True)
    records = Records(parser.parse_args(arguments).out)

    def add(row: dict) -> None:
        records.add("limit", **row)
        print(f"  {row['what']}: {row['pace'] / 1e9:,.1f} G {row['unit']}/s ({row['loop']})", flush=True)

    why = measure(torch.cuda.get_device_capability(), add)
    if why:
        print(f"not all limits were measured: {why}")
    return int(bool(why))


if __name__ == "__main__":
    raise SystemExit(main())
