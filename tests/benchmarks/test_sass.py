"""The reading of machine code (benchmarks/sass.py), on listings whose loops are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import sass  # noqa: E402


def listing(*lines: str) -> str:
    """As nvdisasm writes it: labels as they are, instructions with an address."""
    text = [".text.kernel:"]
    for i, line in enumerate(lines):
        text.append(line if line.startswith(".L") else f"        /*{16 * i:04x}*/                   {line} ;")
    return "\n".join(text)


NESTED = listing(
    "S2R R0, SR_TID.X",
    ".L_x_0:",
    "MOV R2, RZ",
    ".L_x_1:",
    "LDG.E R3, desc[UR4][R4.64]",
    "LOP3.LUT R3, R3, R5, RZ, 0x3c, !PT",
    "POPC R3, R3",
    "IMAD.IADD R2, R2, 0x1, R3",
    "ISETP.GE.AND P0, PT, R2, R7, PT",
    "@!P0 BRA `(.L_x_1)",
    "STS [R8], R2",
    "@P1 BRA `(.L_x_0)",
    "EXIT",
    ".L_x_2:",
    "BRA `(.L_x_2)",
    "NOP",
)

# A rare part that the compiler put behind the end, and lanes that meet again.
MOVED = listing(
    "MOV R2, RZ",
    ".L_x_0:",
    "BSSY B0, `(.L_x_1)",
    "POPC R3, R3",
    "@P0 BRA `(.L_x_2)",
    "BSYNC B0",
    ".L_x_1:",
    "NOP",
    "@P1 BRA `(.L_x_0)",
    "EXIT",
    ".L_x_2:",
    "ATOMS.ADD R4, [R5], R6",
    "BSYNC B0",
)

STRAIGHT = listing("MOV R1, R2", "@P0 BRA `(.L_x_0)", "MOV R2, R3", ".L_x_0:", "EXIT")


def test_nested_loops() -> None:
    kernel = sass.parse(NESTED)["kernel"]
    (loop,) = sass.main_loops(kernel)
    assert loop == {"LDG": 1, "LOP3": 1, "POPC": 1, "IADD/IMAD/LEA": 1, "ISETP": 1, "BRA": 1}


def test_a_loop_around_a_loop() -> None:
    """Each instruction counts for the innermost loop around it."""
    mixes = [
        sass.mix(kernel, body) for kernel in [sass.parse(NESTED)["kernel"]] for body in sass.loops(kernel)
    ]
    assert sorted(m.total() for m in mixes) == [3, 6]  # MOV, STS and the jump of the outer one


def test_code_moved_behind_the_loop() -> None:
    (loop,) = sass.main_loops(sass.parse(MOVED)["kernel"])
    assert loop == {"BRA": 5, "POPC": 1, "ATOM/RED": 1}


def test_no_loop() -> None:
    assert sass.main_loops(sass.parse(STRAIGHT)["kernel"]) == []
    assert sass.parse("") == {} and sass.loops(sass.Kernel([], {})) == []


def test_which_loops_are_main() -> None:
    """Two loops one after the other: the one that works, however short; without one the longest."""

    def loop(number: int, *body: str) -> tuple[str, ...]:
        return f".L_x_{number}:", *body, f"@P0 BRA `(.L_x_{number})"

    long, working = (
        loop(0, "MOV R1, R2", "MOV R1, R2", "MOV R1, R2"),
        loop(1, "BMMA.168128.AND.POPC R0, R1, R2, R0"),
    )
    assert sass.main_loops(sass.parse(listing(*long, *working, "EXIT"))["kernel"]) == [
        {"BMMA/IMMA": 1, "BRA": 1}
    ]
    other = loop(1, "MOV R1, R2")
    assert sass.main_loops(sass.parse(listing(*long, *other, "EXIT"))["kernel"]) == [{"other": 3, "BRA": 1}]


def test_a_kernel_compiled_here(tmp_path: Path) -> None:
    """What the compiler makes of one loop of population counts, as the real tools write it."""
    tools = [sass.find_tool(name) for name in ("nvcc", "nvdisasm")]
    if None in tools:
        pytest.skip("nvcc or nvdisasm is not here")
    source = tmp_path / "kernel.cu"
    source.write_text("""extern "C" __global__ void count(const unsigned* codes, int n, int* sum) {
  int found = 0;
#pragma unroll 1
  for (int i = threadIdx.x; i < n; i += 32) found += __popc(codes[i] ^ 5u);
  atomicAdd(sum, found);
}
""")
    cubin = tmp_path / "kernel.cubin"
    subprocess.run([tools[0], "-arch=sm_90", "-cubin", str(source), "-o", str(cubin)], check=True)
    (loop,) = sass.main_loops(sass.disassemble(tools[1], cubin)["count"])
    assert loop["POPC"] == loop["LDG"] == 1 and loop["BRA"] >= 1 and loop["ATOM/RED"] == 0
