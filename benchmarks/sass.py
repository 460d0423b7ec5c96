"""The machine code of CUDA kernels: what instructions their loops are made of.

Loops are natural loops of the control flow: a branch back to an instruction that every way to the branch passes. So
code that the compiler moved behind the loop counts as part of it, and a jump back into it from elsewhere makes no loop.
An instruction counts for the innermost loop that holds it: a loop whose rare cases have a loop of their own is not
hidden by it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

# Column: the opcodes, up to the first dot, that it counts.
CLASSES = {
    "POPC": ("POPC",),
    "BMMA/IMMA": ("BMMA", "IMMA", "HMMA", "BGMMA", "IGMMA", "HGMMA"),
    "LOP3": ("LOP3", "PLOP3"),
    "IADD/IMAD/LEA": ("IADD", "IADD3", "VIADD", "IMAD", "LEA"),
    "ISETP": ("ISETP",),
    "VIMNMX": ("VIMNMX", "VIMNMX3", "IMNMX"),
    "LDS": ("LDS", "LDSM"),
    "STS": ("STS",),
    "LDG": ("LDG",),
    "ATOM/RED": ("ATOM", "ATOMS", "ATOMG", "RED", "REDG"),
    "SHFL/VOTE/MATCH": ("SHFL", "VOTE", "VOTEU", "MATCH", "REDUX"),
    "BRA": ("BRA", "BSSY", "BSYNC", "BREAK", "WARPSYNC"),
}
OTHER = "other"
WORKING = ("POPC", "BMMA/IMMA", "ATOM/RED")
_CLASS_OF = {opcode: name for name, opcodes in CLASSES.items() for opcode in opcodes}
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(@!?\w+\s+)?([A-Z][A-Z0-9_]*)([^;]*);")
_LABEL = re.compile(r"^(\.L\w+):")
_TARGET = re.compile(r"`\((\.L\w+)\)")
_ENDS = ("EXIT", "RET", "BRX", "JMX", "KILL", "TRAP")  # nothing follows, where no predicate guards them


class Instruction(NamedTuple):
    opcode: str
    guarded: bool
    barrier: str  # of BSSY and BSYNC
    target: str  # a label, or empty
    modifiers: tuple[str, ...] = ()
    operands: tuple[str, ...] = ()


class Kernel(NamedTuple):
    instructions: list[Instruction]
    labels: dict[str, int]  # the index of the instruction that a label stands before


def find_tool(name: str) -> str | None:
    """On the path, beside nvcc, or in the triton that torch brings."""
    nvcc, triton = shutil.which("nvcc"), importlib.util.find_spec("triton")
    beside = [str(Path(nvcc).resolve().parent / name)] if nvcc else []
    if triton and triton.origin:
        beside.append(str(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / name))
    return next(filter(None, map(shutil.which, [name, *beside])), None)


def disassemble(nvdisasm: str, cubin: Path) -> dict[str, Kernel]:
    """Kernels by mangled name."""
    done = subprocess.run([nvdisasm, "-c", str(cubin)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{nvdisasm}: {done.stderr.strip()[:300]}")
    return parse(done.stdout)


def parse(text: str) -> dict[str, Kernel]:
    kernels: dict[str, Kernel] = {}
    kernel = Kernel([], {})
    for line in text.splitlines():
        if line.startswith(".text."):
            kernel = kernels.setdefault(line.removeprefix(".text.").rstrip(":"), Kernel([], {}))
        elif label := _LABEL.match(line):
            kernel.labels[label[1]] = len(kernel.instructions)
        elif found := _INSTRUCTION.match(line):
            guard, opcode, rest = found.groups()
            target = _TARGET.search(rest)
            barrier = re.search(r"\bB\d+\b", rest) if opcode in ("BSSY", "BSYNC") else None
            modifiers, _, operands = rest.strip().partition(" ") if rest.startswith(".") else ("", "", rest)
            kernel.instructions.append(
                Instruction(opcode, bool(guard), barrier[0] if barrier else "", target[1] if target else "",
                            tuple(modifiers.split(".")[1:]),
                            tuple(filter(None, map(str.strip, operands.split(",")))))
            )  # fmt: skip
    return kernels


def successors(kernel: Kernel) -> list[list[int]]:
    """Where control may go after each instruction."""
    after: list[list[int]] = []
    meets: dict[str, int] = {}  # where the lanes of a barrier meet again
    last = len(kernel.instructions) - 1
    for i, (opcode, guarded, barrier, target, _, operands) in enumerate(kernel.instructions):
        to = kernel.labels.get(target)
        ways = [i + 1] if i < last else []
        if opcode == "BSSY" and to is not None:
            meets[barrier] = to
        elif opcode == "BSYNC" and barrier in meets:
            ways = [meets[barrier]]
        elif opcode == "BRA" and to is not None:
            # BRA.DIV and BRA.U have their condition among the operands.
            conditional = guarded or len(operands) > 1 or i < last and to == i + 1
            ways = [*ways, to] if conditional else [to]
        elif opcode in _ENDS and not guarded:
            ways = []
        after.append([way for way in dict.fromkeys(ways) if way <= last])
    return after


def loops(kernel: Kernel) -> list[set[int]]:
    """The instructions of each loop that lie in no loop inside it; loops of a single jump are left out."""
    bodies = whole_loops(kernel)
    own = []
    for head, body in bodies.items():
        inside = (other for second, other in bodies.items() if second != head and second in body)
        own.append(body.difference(*inside))
    return [body for body in own if len(body) > 1]


def whole_loops(kernel: Kernel) -> dict[int, set[int]]:
    """The instructions of each loop, those of loops inside it too, by the one it begins with."""
    after = successors(kernel)
    if not after:
        return {}
    order = _order(after)
    before = _predecessors(after, order)
    dominator = _dominators(before, order)
    bodies: dict[int, set[int]] = {}
    for i in order:
        for head in after[i]:
            if _dominates(dominator, head, i):
                body = bodies.setdefault(head, {head})
                todo = [i]
                while todo:
                    if (at := todo.pop()) not in body:
                        body.add(at)
                        todo += before[at]
    return bodies


def _order(after: list[list[int]]) -> list[int]:
    """Reachable instructions in reverse postorder."""
    order, seen, stack = [], {0}, [(0, iter(after[0]))]
    while stack:
        at, ways = stack[-1]
        way = next((way for way in ways if way not in seen), None)
        if way is None:
            order.append(at)
            stack.pop()
        else:
            seen.add(way)
            stack.append((way, iter(after[way])))
    return order[::-1]


def _predecessors(after: list[list[int]], order: list[int]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {at: [] for at in order}
    for at in order:
        for way in after[at]:
            before[way].append(at)
    return before


def _dominators(before: dict[int, list[int]], order: list[int]) -> dict[int, int]:
    """Immediate dominators (Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm")."""
    place = {at: i for i, at in enumerate(order)}
    dominator = {order[0]: order[0]}
    changed = True
    while changed:
        changed = False
        for at in order[1:]:
            known = [i for i in before[at] if i in dominator]
            best = known[0]
            for other in known[1:]:
                while best != other:
                    if place[best] > place[other]:
                        best = dominator[best]
                    else:
                        other = dominator[other]
            if dominator.get(at) != best:
                dominator[at], changed = best, True
    return dominator


def _dominates(dominator: dict[int, int], head: int, at: int) -> bool:
    while at != head and dominator[at] != at:
        at = dominator[at]
    return at == head


def mix(kernel: Kernel, body: set[int]) -> Counter[str]:
    """Instructions of a loop by class; those of none are `other`, NOPs do not count."""
    opcodes = (kernel.instructions[i].opcode for i in body)
    return Counter(_CLASS_OF.get(opcode, OTHER) for opcode in opcodes if opcode != "NOP")


def main_loops(kernel: Kernel) -> list[Counter[str]]:
    """What the main loops are made of."""
    return [mix(kernel, body) for body in main_bodies(kernel)]


def main_bodies(kernel: Kernel) -> list[set[int]]:
    """The loops that count bits, multiply matrices or add atomically; where none does, the longest. Those with the
    largest part of counts and products come first."""

    def rank(loop: tuple[set[int], Counter[str]]) -> tuple[float, int]:
        return (loop[1]["POPC"] + loop[1]["BMMA/IMMA"]) / loop[1].total(), loop[1].total()

    mixed = sorted(((body, mix(kernel, body)) for body in loops(kernel)), key=rank, reverse=True)
    working = [body for body, of in mixed if any(of[name] for name in WORKING)]
    return working or [body for body, _ in mixed[:1]]
