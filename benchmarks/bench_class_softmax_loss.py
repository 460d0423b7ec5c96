"""The class soft-max loss and its gradients on the CPU: ours against torch's cross entropy, eager and compiled.

    python benchmarks/bench_class_softmax_loss.py [--quick] [--dry] [--threads N] [--only time | memory]

Two sections. "loss": logits are given, loss and gradient of the logits are wanted. "head": features are given,
loss and gradients of features, weight and bias of the linear layer are wanted; ours with the whole logits, and
fused (a chunk of them at a time), beside torch's chunked linear_cross_entropy where this torch has it. torch gets
the soft targets as the dense matrix it wants, made beforehand. All candidates of a row take turns in one process;
their losses and gradients are compared first. Errors are of the head's gradients, against float64. Peak memory is
the growth of the largest resident set over one run, each candidate in a process of its own. With --only, what is
not measured stays as the result file has it. Results: docs/results/loss.json and loss.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from timing import RESULTS, interleave, machine, write

import dshc_fast

SIZES = (
    (256, 310, 10),
    (1024, 310, 10),
    (512, 30_100, 100),
    (256, 65_000, 1000),
)  # rows, sub-classes, classes
FEATURES = 256
TORCH, COMPILED = "torch cross_entropy", "torch.compile of it"
LINEAR = "torch linear_cross_entropy, chunked"
OURS, INPLACE, FUSED = "ours", "ours, in place", "ours, linear fused"
HAS_LINEAR = hasattr(
    torch.nn, "LinearCrossEntropyOptions"
)  # torch 2.14; without options it is the whole logits


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
        self.targets = torch.full((n, m), 0.0) if dense else None
        for row, label in enumerate(self.labels.tolist() if dense else []):
            self.targets[row, label * width : (label + 1) * width] = 1 / width

    def step(self, loss: Callable[..., torch.Tensor], **fixed: object) -> list[torch.Tensor]:
        value = loss(*self.leaves, **fixed)
        return [value.detach(), *torch.autograd.grad(value, self.leaves)]


def torch_loss(*layer: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = layer[0] if len(layer) == 1 else torch.nn.functional.linear(*layer)
    return torch.nn.functional.cross_entropy(logits, targets)


def torch_linear_loss(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, targets: torch.Tensor
) -> torch.Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return torch.nn.functional.linear_cross_entropy(
        features, weight, targets, linear_bias=bias, options=options
    )


def candidates(batch: Batch, compiled: Callable | None = None) -> dict[str, Callable[[], list[torch.Tensor]]]:
    ours = {"labels": batch.labels, "offsets": batch.offsets}

    def whole(
        *layer: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor, inplace: bool = False
    ) -> torch.Tensor:
        logits = layer[0] if len(layer) == 1 else torch.nn.functional.linear(*layer)
        return dshc_fast.class_softmax_loss(logits, labels, offsets, inplace=inplace)

    def fused(*layer: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return dshc_fast.class_softmax_linear_loss(*layer, labels, offsets)

    found = {OURS: lambda: batch.step(whole, **ours)}
    if len(batch.leaves) > 1:
        found[INPLACE] = lambda: batch.step(whole, **ours, inplace=True)
        found[FUSED] = lambda: batch.step(fused, **ours)
    found[TORCH] = lambda: batch.step(torch_loss, targets=batch.targets)
    if len(batch.leaves) > 1 and HAS_LINEAR:
        found[LINEAR] = lambda: batch.step(torch_linear_loss, targets=batch.targets)
    if compiled is not None:
        found[COMPILED] = lambda: batch.step(compiled, targets=batch.targets)
    return found


def errors() -> list[dict]:
    """The largest error of each gradient of the head over its largest entry, of the float32 candidates."""
    rows = []
    for n, m, n_classes in SIZES[:3]:
        batch = Batch("head", n, m, n_classes)
        found = {name: run() for name, run in candidates(batch).items()}
        batch.leaves = [leaf.detach().double().requires_grad_() for leaf in batch.leaves]
        exact = batch.step(torch_loss, targets=batch.targets.double())
        of = {
            name: max(
                float((mine.double() - right).abs().max() / right.abs().max())
                for mine, right in zip(answer[1:], exact[1:], strict=True)
            )
            for name, answer in found.items()
        }
        rows.append({"n": n, "m": m, "error": of})
        print(json.dumps(rows[-1]), flush=True)
    return rows


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


def resident(what: str) -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields[what].split()[0])


def memory_of(section: str, n: str, m: str, n_classes: str, name: str) -> None:
    torch.set_num_threads(1)
    compiled = torch.compile(torch_loss, dynamic=False) if name == COMPILED else None
    candidates(Batch(section, 4, int(m), int(n_classes)), compiled)[name]()
    run = candidates(Batch(section, int(n), int(m), int(n_classes)), compiled)[name]
    Path("/proc/self/clear_refs").write_text("5")  # the largest resident set begins anew (Linux)
    before = resident("VmRSS")
    run()
    print(resident("VmHWM") - before)


def milliseconds(row: dict, name: str) -> str:
    return f"{1e3 * row['seconds'][name]:.3g}"


def table(rows: list[dict], memory: list[dict], wrong: list[dict], note: str | None) -> str:
    about = machine()
    lines = [
        "# Class soft-max loss on the CPU",
        "",
        f"`python benchmarks/bench_class_softmax_loss.py`, {about['processor']}, {about['simd_level']}, "
        f"{rows[0]['threads']} thread, torch {about['torch']}, {about['date']}, commit {about['commit']}. Forward and "
        f"backward, float32 (median, candidates in turn); the head has {FEATURES} features. torch's cross entropy "
        "takes its soft targets as a dense matrix, which is made beforehand and counted nowhere. The ratios are to "
        "our fastest.",
        "",
    ]
    lines += [note, ""] if note else []
    for section in ("loss", "head"):
        of_section = [row for row in rows if row["section"] == section]
        names = list(of_section[0]["seconds"])
        peers = [name for name in (TORCH, LINEAR, COMPILED) if name in names]
        head = ["rows × sub-classes", *names, *(f"× {peer}" for peer in peers)]
        lines += [f"## {section.capitalize()}, milliseconds", "", f"| {' | '.join(head)} |"]
        lines.append("| --- |" + " --: |" * (len(head) - 1))
        for row in of_section:
            best = min(row["seconds"][name] for name in names if name not in peers)
            cells = [f"{row['n']} × {row['m']}", *(milliseconds(row, name) for name in names)]
            cells += [f"{row['seconds'][peer] / best:.2f}" for peer in peers]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    if memory:
        names = list(memory[-1]["peak_bytes"])
        lines += ["## Peak memory, MiB", "", "Growth of the process over one run, gradients included.", ""]
        lines += [
            f"| | rows × sub-classes | logits | {' | '.join(names)} |",
            "| --- | --- |" + " --: |" * (len(names) + 1),
        ]
        for row in memory:
            cells = [row["section"], f"{row['n']} × {row['m']}", f"{row['n'] * row['m'] / 2**18:.0f}"]
            cells += [f"{row['peak_bytes'][n] / 2**20:.0f}" if n in row["peak_bytes"] else "" for n in names]
            lines.append(f"| {' | '.join(cells)} |")
    if wrong:
        names = list(wrong[-1]["error"])
        about = "The largest error of a gradient over its largest entry, against float64; float32, head."
        lines += ["", "## Error", "", about, "", f"| rows × sub-classes | {' | '.join(names)} |"]
        lines.append("| --- |" + " --: |" * len(names))
        for row in wrong:
            cells = [f"{row['n']} × {row['m']}", *(f"{row['error'][name]:.1e}" for name in names)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).rstrip() + "\n"


def measure_time(compiled: Callable | None, effort: argparse.Namespace) -> list[dict]:
    rows = []
    for section in ("loss", "head"):
        for n, m, n_classes in SIZES:
            torch.compiler.reset()
            runs = candidates(Batch(section, n, m, n_classes), compiled)
            check(runs)
            limits = {"rounds": 3, "seconds": 2.0} if effort.quick else {"rounds": 7, "seconds": 5.0}
            seconds = interleave(runs, **limits, least=0.01)
            rows.append({"section": section, "n": n, "m": m, "n_classes": n_classes, "threads": effort.threads,
                         "seconds": seconds})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    return rows


def measure_memory(compiled: Callable | None) -> list[dict]:
    rows = []
    for section in ("loss", "head"):
        for n, m, n_classes in SIZES:
            if n * m < 2**22:  # a few MiB disappear in what the allocator holds
                continue
            names = candidates(Batch(section, 1, m, n_classes), compiled)
            peak = {name: peak_memory(section, (n, m, n_classes), name) for name in names}
            rows.append({"section": section, "n": n, "m": m, "peak_bytes": peak})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of each")
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", help="a sentence for the result, such as what else ran on the machine")
    parser.add_argument("--only", choices=("time", "memory"))
    parser.add_argument("--memory-of", nargs=5, help=argparse.SUPPRESS)
    effort = parser.parse_args()
    if effort.memory_of:
        return memory_of(*effort.memory_of)
    torch.set_num_threads(effort.threads)
    compiled, note = compiled_loss()
    before = (
        json.loads((RESULTS / "loss.json").read_text())
        if effort.only and (RESULTS / "loss.json").exists()
        else {}
    )
    rows = before.get("rows", []) if effort.only == "memory" else measure_time(compiled, effort)
    memory = before.get("memory", []) if effort.only == "time" else measure_memory(compiled)
    wrong = before.get("errors", []) if effort.only else errors()
    note = " ".join(text for text in (note, effort.note) if text) or None
    text = table(rows, memory, wrong, note) if rows else ""
    print(text)
    if not effort.dry:
        print("wrote", write("loss", rows, memory=memory, errors=wrong, note=note))
        (RESULTS / "loss.md").write_text(text)


if __name__ == "__main__":
    main()
