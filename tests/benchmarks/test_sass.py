"""The reading of machine code (benchmarks/sass.py), on listings whose loops are known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import sass
import sass_waits


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


@pytest.mark.parametrize("jump", ["BRA.DIV UR4, `(.L_x_1)", "BRA.U UP0, `(.L_x_1)"])
def test_a_jump_with_its_condition_among_the_operands(jump: str) -> None:
    """What follows it is part of the loop too."""
    (loop,) = sass.main_loops(sass.parse(listing(
        ".L_x_0:", jump, "VOTE.ANY P1, P1", ".L_x_2:", "POPC R3, R3", "@P0 BRA `(.L_x_0)", "EXIT",
        ".L_x_1:", "MOV R4, R5", "BRA `(.L_x_2)",
    ))["kernel"])  # fmt: skip
    assert loop == {"BRA": 3, "SHFL/VOTE/MATCH": 1, "POPC": 1, "other": 1}


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


# ---- waits (benchmarks/sass_waits.py) ----


def instruction(text: str) -> sass.Instruction:
    return sass.parse(listing(text))["kernel"].instructions[0]


def waits_of(*lines: str) -> sass_waits.Waits:
    """Of the only loop."""
    kernel = sass.parse(listing(*lines, "EXIT"))["kernel"]
    (found,) = sass_waits.waits(kernel, sass.loops(kernel))
    return found


@pytest.mark.parametrize(
    "text, written, read",
    [
        ("LDG.E R3, desc[UR4][R4.64+0x10]", {3}, {4, 5}),
        ("@!P0 LDG.E.U8.CONSTANT R3, [R4.64]", {3}, {4, 5}),
        ("LDG.E.64 R2, desc[UR4][R4.64]", {2, 3}, {4, 5}),
        ("LDG.E.LTC128B.128 R8, desc[UR6][R2.64]", {8, 9, 10, 11}, {2, 3}),
        ("LDG.E.ENL2.256 R8, R4, desc[UR6][R2.64]", {4, 5, 6, 7, 8, 9, 10, 11}, {2, 3}),
        ("LDG.E RZ, desc[UR6][R2.64]", set(), {2, 3}),
        ("LDS.128 R4, [R0+UR4+0x20]", {4, 5, 6, 7}, {0}),
        ("LDS R4, [UR4]", {4}, set()),
        ("LDSM.16.M88.4 R4, [R8]", {4, 5, 6, 7}, {8}),
        ("LDSM.16.MT88.2 R4, [R8]", {4, 5}, {8}),
        ("LDSM.16.M88 R4, [R8]", {4}, {8}),
        ("STS.64 [R8+0x8], R2", set(), {2, 3, 8}),
        ("STG.E.128 desc[UR4][R2.64], R4", set(), {2, 3, 4, 5, 6, 7}),
        ("ATOMG.E.ADD.STRONG.GPU PT, R3, desc[UR4][R4.64], R7", {3}, {4, 5, 7}),
        ("ISETP.GE.AND P0, PT, R2.reuse, -R7, PT", set(), {2, 7}),
        ("LOP3.LUT P0, RZ, R3, R5, RZ, 0x3c, !PT", set(), {3, 5}),
        ("IADD3 R2, P0, PT, R3, ~R4, RZ", {2}, {3, 4}),
        ("IMAD.WIDE.U32 R4, P1, R2, 0x8, R6", {4, 5}, {2, 6, 7}),
        ("SHFL.BFLY PT, R5, R4, 0x10, 0x1f", {5}, {4}),
        ("R2UR UR4, R2", set(), {2}),
        ("VOTE.ANY R4, PT, P0", {4}, set()),
        ("DADD R2, R4, R6", {2, 3}, {4, 5, 6, 7}),
        ("BMMA.168256.XOR.POPC R0, R4.ROW, R8.COL, R12", {0, 1, 2, 3}, {*range(4, 10), *range(12, 16)}),
        ("BMMA.168128.XOR.POPC R0, R4.ROW, R8.COL, R12", {0, 1, 2, 3}, {4, 5, 8, *range(12, 16)}),
        ("BRA `(.L_x_1)", set(), set()),
    ],
)
def test_registers(text: str, written: set[int], read: set[int]) -> None:
    assert sass_waits.written(instruction(text)) == written
    assert sass_waits.read(instruction(text)) == read


def test_a_load_is_used_at_once() -> None:
    found = waits_of(".L_x_0:", "LDG.E R3, desc[UR4][R4.64]", "POPC R3, R3", "@P0 BRA `(.L_x_0)")
    assert found == ([0], [1]) and found.near() == 1 and not found.batched


def test_loads_in_a_batch() -> None:
    """The second load is issued before the first is read; NOPs take no place."""
    found = waits_of(
        ".L_x_0:", "LDS.64 R2, [R8]", "LDS.64 R4, [R8+0x100]", "MOV R9, R10", "NOP", "POPC R6, R3", "POPC R7, R4",
        "@P0 BRA `(.L_x_0)",
    )  # fmt: skip
    assert found == ([2, 2], [2, 1])
    assert (found.least, found.median, found.batched, found.most_in_flight) == (2, 2, True, 2)


def test_one_load_after_the_other() -> None:
    found = waits_of(
        ".L_x_0:", "LDS R2, [R8]", "POPC R2, R2", "LDS R3, [R8]", "MOV R9, R2", "POPC R3, R3", "@P0 BRA `(.L_x_0)"
    )  # fmt: skip
    assert found == ([0, 1], [1, 1]) and not found.batched


def test_a_load_for_the_next_round() -> None:
    """Past the jump back: two moves behind it and the jump, then the count."""
    found = waits_of(
        ".L_x_0:", "POPC R5, R3", "@P1 LDG.E R3, desc[UR4][R6.64]", "MOV R8, R5", "MOV R9, R5", "@P0 BRA `(.L_x_0)"
    )  # fmt: skip
    assert found == ([3], [1])


def test_a_pointer_that_loads_itself() -> None:
    """The load's own address waits for it, a round later."""
    assert waits_of(".L_x_0:", "LDG.E.64 R2, [R2.64]", "MOV R9, R8", "@P0 BRA `(.L_x_0)") == ([2], [1])


@pytest.mark.parametrize("guard, distance", [("", None), ("@P1 ", 1)])
def test_a_register_filled_anew(guard: str, distance: int | None) -> None:
    """What is read then is not what was loaded, unless a predicate guards the move."""
    found = waits_of(
        ".L_x_0:", "LDS R2, [R8]", f"{guard}MOV R2, R9", "POPC R3, R2", "@P0 BRA `(.L_x_0)"
    )  # fmt: skip
    assert found.distances == [distance]


def test_a_load_read_behind_the_loop() -> None:
    found = waits_of(".L_x_0:", "LDS R2, [R8]", "POPC R3, R4", "@P0 BRA `(.L_x_0)", "POPC R5, R2")
    assert found == ([None], [1])
    assert (found.least, found.median, found.near()) == (None, None, 0)


def test_the_shortest_way() -> None:
    """A branch that jumps over the moves comes to the reader sooner."""
    found = waits_of(
        ".L_x_0:", "LDS R2, [R8]", "@P1 BRA `(.L_x_1)", *["MOV R9, R8"] * 20, ".L_x_1:", "POPC R3, R2",
        "@P0 BRA `(.L_x_0)",
    )  # fmt: skip
    assert found.distances == [1]


def test_a_load_into_no_register_is_none() -> None:
    assert waits_of(
        ".L_x_0:", "LDS RZ, [RZ]", "LDGSTS.E.128 [R3], desc[UR6][R4.64]", "@P0 BRA `(.L_x_0)"
    ) == ([], [])


def test_near_and_median() -> None:
    far = sass_waits.Waits([0, 7, 8, None, 30], [1, 1, 3, 1, 2])
    assert (far.near(), far.near(9), far.median, far.most_in_flight) == (2, 3, 7.5, 3)
    assert (far + far).near() == 4


def test_loads_count_for_the_innermost_loop() -> None:
    """The reader of an outer load may lie in the inner loop."""
    kernel = sass.parse(listing(
        ".L_x_0:", "LDG.E R2, desc[UR4][R6.64]", "MOV R3, RZ",
        ".L_x_1:", "LDS R4, [R3]", "IADD3 R5, R4, R2, RZ", "@P0 BRA `(.L_x_1)",
        "@P1 BRA `(.L_x_0)", "EXIT",
    ))["kernel"]  # fmt: skip
    assert sorted(sass_waits.waits(kernel, sass.loops(kernel))) == [([0], [1]), ([2], [2])]
