"""The class soft-max loss and its gradients on the CPU: ours against torch's cross entropy, eager and compiled.

    python benchmarks/bench_class_softmax_loss.py [--quick] [--dry] [--threads N]

Two sections. "loss": logits are given, loss and gradient of the logits are wanted. "head": features are given, loss and
gradients of features, weight and bias of the linear layer are wanted; ours with the whole logits, and fused (a chunk of
sub-classes at a time). torch gets the soft targets as the dense matrix it wants, made beforehand. All candidates of a row
take turns in one process; their losses and gradients are compared first. Peak memory is the growth of the largest resident
set over one run, each candidate in a process of its own. Results: docs/results/loss.json and loss.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable

import torch
from timing import RESULTS, interleave, machine, write

import dshc_fast

SIZES = ((256, 310, 10), (1024, 310, 10), (512, 30_100, 100), (256, 65_000, 1000))  # rows, sub-classes, classes
FEATURES = 256
TORCH, COMPILED = "torch cross_entropy", "torch.compile of it"
OURS, INPLACE, FUSED = "ours", "ours, in place", "ours, linear fused"


class Batch:
    """One row's inputs: leaves for the section's gradients, labels, offsets and torch's dense targets."""

    def __init__(self, section: str, n: int, m: int, n_classes: int, dense: bool = True) -> None:
        torch.manual_seed(0)
        self.offsets = torch.arange(n_classes + 1) * (m // n_classes)
        self.labels = torch.arange(n) % n_classes
        if section == "loss":
            self.leaves = [torch.randn(n, m, requires_grad=True)]
        else:
            layer = torch.nn.Linear(FEATURES, m)
            self.leaves = [torch.randn(n, FEATURES, requires_grad=True), layer.weight, layer.bias]
        width = m // n_classes
        self.targets = torch.zeros(n, m) if dense else None
        for row, label in enumerate(self.labels.tolist() if dense else []):
            self.targets[row, label * width : (label + 1) * width] = 1 / width

    def step(self, loss: Callable[..., torch.Tensor], **fixed: object) -> list[torch.Tensor]:
        value = loss(*self.leaves, **fixed)
        return [value.detach(), *torch.autograd.grad(value, self.leaves)]


def torch_loss(*layer: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = layer[0] if len(layer) == 1 else torch.nn.functional.linear(*layer)
    return torch.nn.functional.cross_entropy(logits, targets)


def candidates(batch: Batch, compiled: Callable | None = None) -> dict[str, Callable[[], list[torch.Tensor]]]:
    ours = {"labels": batch.labels, "offsets": batch.offsets}

    def whole(*layer: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor, inplace: bool = False) -> torch.Tensor:
        logits = layer[0] if len(layer) == 1 else torch.nn.functional.linear(*layer)
        return dshc_fast.class_softmax_loss(logits, labels, offsets, inplace=inplace)

    def fused(*layer: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return dshc_fast.class_softmax_linear_loss(*layer, labels, offsets)

    found = {OURS: lambda: batch.step(whole, **ours)}
    if len(batch.leaves) > 1:
        found[INPLACE] = lambda: batch.step(whole, **ours, inplace=True)
        found[FUSED] = lambda: batch.step(fused, **ours)
    found[TORCH] = lambda: batch.step(torch_loss, targets=batch.targets)
    if compiled is not None:
        found[COMPILED] = lambda: batch.step(compiled, targets=batch.targets)
    return found


def check(runs: dict[str, Callable[[], list[torch.Tensor]]]) -> None:
    wanted = runs[OURS]()
    for name, run in runs.items():
        for mine, theirs in zip(wanted, run(), strict=True):
            scale = float(mine.abs().max())
            if not float((mine - theirs).abs().max()) <= 1e-4 * scale:
                raise SystemExit(f"{name}: loss or gradient differs from ours; nothing was timed")


def compiled_loss() -> tuple[Callable | None, str | None]:
    """torch.compile of the loss, if it works here; else why not."""
    function = torch.compile(torch_loss, dynamic=False)
    try:
        logits = torch.randn(4, 6, requires_grad=True)
        function(logits, targets=torch.full((4, 6), 1 / 6)).backward()
    except Exception as error:  # noqa: BLE001 - whatever the compiler says
        return None, f"torch.compile does not work here: {type(error).__name__}"
    return function, None


def peak_memory(section: str, size: tuple[int, int, int], name: str) -> int:
    """Bytes by which a process of its own grows over one run; inputs, targets among them, were there before."""
    arguments = [sys.executable, __file__, "--memory-of", section, *map(str, size), name]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def memory_of(section: str, n: str, m: str, n_classes: str, name: str) -> None:
    torch.set_num_threads(1)
    compiled = torch.compile(torch_loss, dynamic=False) if name == COMPILED else None
    candidates(Batch(section, 4, int(m), int(n_classes)), compiled)[name]()
    run = candidates(Batch(section, int(n), int(m), int(n_classes)), compiled)[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def table(rows: list[dict], note: str | None) -> str:
    about = machine()
    lines = [
        "# Class soft-max loss on the CPU",
        "",
        f"`python benchmarks/bench_class_softmax_loss.py`, {about['processor']}, {about['simd_level']}, "
        f"{rows[0]['threads']} thread, torch {about['torch']}, {about['date']}, commit {about['commit']}. Forward and "
        f"backward, float32, milliseconds (median, candidates in turn); the head has {FEATURES} features. torch's cross "
        "entropy takes its soft targets as a dense matrix, which is made beforehand and not counted. Peak memory: growth of "
        "the process over one run, gradients included.",
        "",
    ]
    if note:
        lines += [note, ""]
    for section in ("loss", "head"):
        of_section = [row for row in rows if row["section"] == section]
        names = list(dict.fromkeys(name for row in of_section for name in row["seconds"]))
        measured = any("peak_bytes" in row for row in of_section)
        head = ["rows × sub-classes", *names, "× " + TORCH]
        head += ["× " + COMPILED] if COMPILED in names else []
        head += [f"MiB: {name}" for name in names] if measured else []
        lines += [f"## {section.capitalize()}", "", "| " + " | ".join(head) + " |", "| --- |" + " --: |" * (len(head) - 1)]
        for row in of_section:
            best = min((n for n in names if n.startswith("ours")), key=lambda n: row["seconds"][n])
            cells = [f"{row['n']} × {row['m']}", *(f"{1e3 * row['seconds'][name]:.3g}" for name in names)]
            peers = [TORCH] + ([COMPILED] if COMPILED in names else [])
            cells += [f"{row['seconds'][peer] / row['seconds'][best]:.2f}" for peer in peers]
            if measured:
                cells += [f"{row['peak_bytes'][n] / 2**20:.0f}" if "peak_bytes" in row else "" for n in names]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", f"The ratios are those of our fastest to {' and '.join(['torch', 'compiled torch'][: len(peers)])}.", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds of each, no memory")
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", nargs=5, help=argparse.SUPPRESS)
    effort = parser.parse_args()
    if effort.memory_of:
        return memory_of(*effort.memory_of)
    torch.set_num_threads(effort.threads)
    compiled, note = compiled_loss()
    rows = []
    for section in ("loss", "head"):
        for n, m, n_classes in SIZES:
            torch.compiler.reset()
            runs = candidates(Batch(section, n, m, n_classes), compiled)
            check(runs)
            seconds = interleave(runs, rounds=3 if effort.quick else 7, seconds=2 if effort.quick else 6, least=0.01)
            row = {"section": section, "n": n, "m": m, "n_classes": n_classes, "threads": effort.threads,
                   "seconds": seconds}  # fmt: skip
            if not effort.quick and n * m > 2**22:
                row["peak_bytes"] = {name: peak_memory(section, (n, m, n_classes), name) for name in runs}
            rows.append(row)
            print(json.dumps(row), flush=True)
    text = table(rows, note)
    print(text)
    if not effort.dry:
        print("wrote", write("loss", rows, note=note))
        (RESULTS / "loss.md").write_text(text)


if __name__ == "__main__":
    main()
