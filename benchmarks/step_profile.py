"""Where the time of a training step goes: data, network, loss, update, metrics; into docs/results/step-profile.md.

    python benchmarks/step_profile.py --root FOLDER [--steps 40] [--threads 2]

Trains the headline's network (`dshc.paper.cifar10`) for some steps at each of its image sizes, with every part of the
step timed; the loss is taken apart from the network by its gradient with respect to the outputs. Codes are read off the
outputs at the end of each step, which a training does only when it encodes: they are no part of the step's time. Run it
with nothing beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timing import made_on, write, write_page
from torch import Tensor

from dshc.data.image_batches import ImageBatches
from dshc.experiment.comparison_table import markdown_table
from dshc.paper.cifar10 import ALL, RECIPES
from dshc.runs import RunSettings, train
from dshc.training.trainer import Trainer

PARTS = (
    "data",
    "network, forward",
    "loss and its gradient",
    "network, backward",
    "update",
    "metrics",
    "codes",
)
SMALL = ("data", "loss and its gradient", "metrics", "codes")
BESIDE = ("codes",)  # no part of a training step


class Clock:
    """Seconds of each part of each step; the first steps, which warm up, are left out."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.now[part] += time.perf_counter() - started

    def step(self) -> None:
        self.steps.append(dict(self.now))
        self.now.clear()

    def medians(self) -> dict[str, float]:
        kept = self.steps[len(self.steps) // 4 :]
        return {part: median(step.get(part, 0.0) for step in kept) for part in PARTS}


@contextmanager
def taken_apart(clock: Clock) -> Iterator[None]:
    """Inside, every trainer does its steps part by part, and the clock knows how long each takes."""
    backward, update, inputs = Trainer._backward, Trainer._update, ImageBatches._inputs

    def timed_backward(
        self: Trainer, inputs: Tensor, about: Any, n_added: int, *, more: bool
    ) -> tuple[Tensor, Tensor]:
        method = self.hasher.method
        with clock.time("network, forward"):
            outputs = self.hasher(inputs)
        with clock.time("loss and its gradient"):
            leaf = outputs.detach().requires_grad_()
            loss = method.loss(leaf, about)
            loss.backward()
        with clock.time("network, backward"):
            outputs.backward(leaf.grad)
        with clock.time("codes"), torch.no_grad():
            method.encode(outputs.detach())
        with clock.time("metrics"), torch.no_grad():
            method.tally(method.predict(outputs.detach()), about.labels)
            loss.item()
        return loss.detach(), outputs.detach()

    def timed_update(self: Trainer) -> None:
        with clock.time("update"):
            update(self)
        clock.step()

    def timed_inputs(self: ImageBatches, *arguments: Any, **options: Any) -> Tensor:
        with clock.time("data"):
            return inputs(self, *arguments, **options)

    Trainer._backward, Trainer._update, ImageBatches._inputs = timed_backward, timed_update, timed_inputs
    try:
        yield
    finally:
        Trainer._backward, Trainer._update, ImageBatches._inputs = backward, update, inputs


def profile(root: str, side: int, n_steps: int, threads: int | None) -> dict[str, Any]:
    """Median seconds of each part of a step at one image size."""
    recipe = {**ALL, **RECIPES["pretrained"][1]}
    for name in ("first_size", "first_epochs"):
        recipe.pop(name)
    per_class = -(-n_steps * recipe["batch_size"] // 10)
    recipe |= {"input_size": side, "epochs": 1, "train_per_class": per_class, "threads": threads}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, taken_apart(clock):
        train(RunSettings.of(source="cifar10", root=root, out=str(Path(folder) / "run"), **recipe))
    parts = clock.medians()
    return {"side": side, "batch": recipe["batch_size"], "steps": len(clock.steps), "seconds": parts}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    recipe = RECIPES["pretrained"][1]
    sides = (recipe["first_size"], recipe["input_size"])
    rows = [profile(given.root, side, given.steps, given.threads) for side in sides]
    write("step-profile", rows)
    totals = [sum(value for part, value in row["seconds"].items() if part not in BESIDE) for row in rows]
    table = []
    for part in PARTS:
        values = [row["seconds"][part] for row in rows]
        shares = [f"{value / total:.2%}" for value, total in zip(values, totals, strict=True)]
        table.append([part, *(f"{value * 1e3:.2f}" for value in values), *shares])
    small = [
        sum(row["seconds"][part] for part in SMALL) / total for row, total in zip(rows, totals, strict=True)
    ]
    blank = ["" for _ in rows]
    table.append(["data, loss, metrics and codes", *blank, *(f"{share:.2%}" for share in small)])
    speeds = [row["batch"] / total for row, total in zip(rows, totals, strict=True)]
    table.append(["images per second", *(f"{speed:.0f}" for speed in speeds), *blank])
    columns = [
        "part",
        *(f"{side} pixels, ms" for side in sides),
        *(f"{side} pixels, share" for side in sides),
    ]
    lines = markdown_table(columns, table)
    about = f"Medians of {rows[0]['steps']} steps of {rows[0]['batch']} images, the first quarter left out."
    threads = "" if given.threads is None else f" --threads {given.threads}"
    command = f"python benchmarks/step_profile.py --root FOLDER --steps {given.steps}{threads}"
    write_page(
        "step-profile", "The training step by its parts", f"`{command}`; {made_on()}", "", [about, "", *lines]
    )


if __name__ == "__main__":
    main()
