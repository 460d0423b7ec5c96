"""How far a load in a loop lies from the instruction that waits for it.

A GPU issues instructions in order: the first that reads a register which a load has not filled yet holds its warp. The
distance of a load is how many instructions lie between it and that one, on the shortest way through the loop, which may
pass the jump back. Loads on that way are in flight together with it. A short distance and few loads in flight say that
the warp waits for memory, unless there are enough other warps.
"""

from __future__ import annotations

import re
import statistics
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from sass import Instruction, Kernel, successors, whole_loops

LOADS = ("LDG", "LDS", "LDSM")
NEAR = 8  # used by one of so many instructions that follow the load
_ZERO = -1  # RZ
_PREDICATE = re.compile(r"!?U?P(?:T|R|\d+)")
_REGISTER = re.compile(r"(?<![A-Z0-9_])R(\d+|Z)(?![A-Z0-9_])(\.64)?")
_PLAIN = re.compile(r"R(?:\d+|Z)(?:\.reuse)?")
# What writes no register, though the first operand that is no predicate may be one.
_WRITE_NONE = ("ISETP", "FSETP", "DSETP", "HSETP2", "PLOP3", "FCHK", "R2P", "BAR", "WARPSYNC", "NANOSLEEP", "BRA",
               "BRX", "CALL", "RET")  # fmt: skip
# Registers of each operand (result, a, b, c) that the listing names by the first of them only.
_PRODUCTS = {
    ("HMMA", "1688"): (4, 2, 1, 4),
    ("IMMA", "16816"): (4, 2, 1, 4),
    ("IMMA", "8816"): (2, 1, 1, 2),
    ("BMMA", "168128"): (4, 2, 1, 4),
    ("BMMA", "88128"): (2, 1, 1, 2),
}
_LARGEST_PRODUCT = (4, 4, 2, 4)


class Waits(NamedTuple):
    """Of the loads of a loop, in program order."""

    distances: list[int | None]  # None: not read in the loop
    in_flight: list[int]  # with the load itself

    def __add__(self, other: Waits) -> Waits:
        return Waits(self.distances + other.distances, self.in_flight + other.in_flight)

    @property
    def read(self) -> list[int]:
        return [distance for distance in self.distances if distance is not None]

    @property
    def least(self) -> int | None:
        return min(self.read, default=None)

    @property
    def median(self) -> float | None:
        return statistics.median(self.read) if self.read else None

    def near(self, within: int = NEAR) -> int:
        """How many are read by one of the next so many instructions."""
        return sum(distance < within for distance in self.read)

    @property
    def batched(self) -> bool:
        """Whether any is issued while another one is in flight."""
        return self.most_in_flight > 1

    @property
    def most_in_flight(self) -> int:
        return max(self.in_flight, default=0)


def waits(kernel: Kernel, loops: Iterable[set[int]]) -> list[Waits]:
    """Of each of the loops, given as the instructions that lie in no loop inside it (sass.loops)."""
    after, whole = successors(kernel), whole_loops(kernel)
    found = []
    for own in loops:
        body = min((body for body in whole.values() if body.issuperset(own)), key=len)
        uses = [_first_use(kernel, after, body, i) for i in sorted(own) if _is_load(kernel.instructions[i])]
        found.append(Waits([distance for distance, _ in uses], [in_flight for _, in_flight in uses]))
    return found


def _first_use(kernel: Kernel, after: list[list[int]], body: set[int], load: int) -> tuple[int | None, int]:
    """(instructions between, loads in flight) on the shortest way to the first reader of the load's registers."""
    seen: set[int] = set()
    todo = deque((way, 0, 1, written(kernel.instructions[load])) for way in after[load])
    most = 1
    while todo:
        at, between, in_flight, waiting = todo.popleft()
        if at in seen or at not in body:
            continue
        seen.add(at)
        instruction = kernel.instructions[at]
        if not waiting.isdisjoint(read(instruction)):
            return between, in_flight
        most = max(most, in_flight)
        if not instruction.guarded:
            waiting = waiting - written(instruction)
        if waiting and at != load:
            between += instruction.opcode != "NOP"
            in_flight += _is_load(instruction)
            todo.extend((way, between, in_flight, waiting) for way in after[at])
    return None, most


def _is_load(instruction: Instruction) -> bool:
    """Into a register: a load into RZ, which the assembler puts before copies to shared memory, is none, nor are those
    copies, which a barrier of their own waits for."""
    return instruction.opcode in LOADS and bool(written(instruction))


def written(instruction: Instruction) -> frozenset[int]:
    """The registers that an instruction fills."""
    places = _results(instruction)
    widths = _widths(instruction)
    return _spread((operand, widths[0]) for operand in instruction.operands[places[0] : places[1]])


def read(instruction: Instruction) -> frozenset[int]:
    """The registers that an instruction reads, those of addresses too."""
    sources = [operand for operand in instruction.operands[_results(instruction)[1] :]
               if not _PREDICATE.fullmatch(operand)]  # fmt: skip
    widths = [*_widths(instruction)[1:], *[1] * len(sources)]
    return _spread(zip(sources, widths, strict=False))


def _results(instruction: Instruction) -> tuple[int, int]:
    """Which operands are filled: registers that come first, behind predicates. Only a load fills more than one."""
    place = 0
    for operand in instruction.operands:
        if not _PREDICATE.fullmatch(operand):
            break
        place += 1
    end = place
    if instruction.opcode in _WRITE_NONE:
        return 0, 0
    for operand in instruction.operands[place:]:
        if not _PLAIN.fullmatch(operand) or end > place and instruction.opcode not in LOADS:
            break
        end += 1
    return place, end


def _spread(operands: Iterable[tuple[str, int]]) -> frozenset[int]:
    registers: set[int] = set()
    for operand, width in operands:
        for name, pair in _REGISTER.findall(operand):
            # Inside brackets a register is an address, whose width is written beside it.
            taken = 2 if pair else 1 if "[" in operand else width
            first = _ZERO if name == "Z" else int(name)
            registers.update(range(first, first + taken) if first != _ZERO else ())
    return frozenset(registers)


def _widths(instruction: Instruction) -> list[int]:
    """Registers of the result, and of each source: 1 behind the end of the list."""
    opcode, modifiers = instruction.opcode, instruction.modifiers
    data = 8 if "256" in modifiers else 4 if "128" in modifiers else 2 if "64" in modifiers else 1
    if opcode == "LDSM":
        return [int(modifiers[-1]) if modifiers and modifiers[-1] in "124" else 1]
    if opcode in LOADS or opcode == "LD":
        begin, end = _results(instruction)
        return [data // max(1, end - begin)]
    if opcode.endswith("MMA") and modifiers:
        return list(_PRODUCTS.get((opcode, modifiers[0]), _LARGEST_PRODUCT) if "TF32" not in modifiers
                    else _LARGEST_PRODUCT)  # fmt: skip
    if opcode.startswith(("ST", "ATOM", "RED")) and opcode != "REDUX":
        return [data] * 4
    if "WIDE" in modifiers:
        return [2, 1, 1, 2]
    if opcode in ("DADD", "DMUL", "DFMA", "DSETP", "DMNMX") or "64" in modifiers:
        return [2] * 4
    return [2] if opcode == "CS2R" and "32" not in modifiers else [1]
