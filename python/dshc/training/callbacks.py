"""What listens to a training: each is told what happened, and none changes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..progress import progress
from .checkpoint import Position

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Callback", "EpochLines", "Event", "Events", "ProgressBar"]

Event = Callable[[str, dict[str, Any]], None]


class Callback:
    """Hooks of :class:`dshc.training.Trainer`; a subclass overrides what it needs. Called on the first process only."""

    def start(self, trainer: Trainer, position: Position) -> None:
        """Before the first step, or the first after a checkpoint."""

    def step(self, trainer: Trainer, done: int) -> None:
        """After step number ``done`` of ``trainer.plan.n_total``."""

    def checkpoint(self, trainer: Trainer, position: Position) -> None:
        """The training can be continued from here."""

    def epoch(self, trainer: Trainer, position: Position, row: dict[str, Any]) -> None:
        """An epoch is measured, behind its checkpoint."""

    def weights(
        self, trainer: Trainer, position: Position, state: dict[str, Tensor], *, selected: bool, last: bool
    ) -> None:
        """The weights that an epoch leaves, averaged and finished: selected, or the last. May be told again.

        Where the epoch has no checkpoint (``checkpoint_seconds``), who keeps them must keep them behind the next one.
        """

    def end(self, trainer: Trainer, position: Position) -> None:
        """The training is done, interrupted or failed: let go of what is held."""


class ProgressBar(Callback):
    """A bar over all steps on a terminal; silent elsewhere."""

    def start(self, trainer: Trainer, position: Position) -> None:
        self._stack = ExitStack()
        self._update = self._stack.enter_context(progress("training"))
        self._update(position.epoch * trainer.plan.n_steps + position.step, trainer.plan.n_total)

    def step(self, trainer: Trainer, done: int) -> None:
        self._update(done, trainer.plan.n_total)

    def end(self, trainer: Trainer, position: Position) -> None:
        self._stack.close()


class EpochLines(Callback):
    """A line an epoch on stderr where no bar can be seen, so that a log shows that something happens."""

    def epoch(self, trainer: Trainer, position: Position, row: dict[str, Any]) -> None:
        if not sys.stderr.isatty():
            selected = position.selected_epoch == position.epoch
            print(epoch_line(row, trainer.plan.n_epochs, selected=selected), file=sys.stderr, flush=True)


def epoch_line(row: dict[str, Any], n_epochs: int, *, selected: bool) -> str:
    """``epoch 3/30: loss 0.1234, train accuracy 0.9876, validation mAP 0.9500 (selected), 1.2 s``."""
    parts = [f"loss {row['loss']:.4f}"] if row.get("loss") is not None else []
    for name, value in row.items():
        if name.startswith("train_"):
            parts.append(f"train {name.removeprefix('train_').replace('_', ' ')} {value:.4f}")
    if row.get("validation_map") is not None:
        parts.append(f"validation mAP {row['validation_map']:.4f}{' (selected)' if selected else ''}")
    parts.append(f"{row['seconds']:.1f} s")
    head = f"epoch {row['epoch']}/{n_epochs}" if n_epochs else "fitted"
    return f"{head}: {', '.join(parts)}"


class Events(Callback):
    """Hands every event on to one function: ``on_event(name, values)``."""

    def __init__(self, on_event: Event) -> None:
        self.on_event = on_event

    def start(self, trainer: Trainer, position: Position) -> None:
        name = "resume" if position.epoch or position.step else "start"
        values = {"epoch": position.epoch, "step": position.step, "steps": trainer.plan.n_total}
        self.on_event(name, {**values, "split": trainer.plan.split.summary()})

    def checkpoint(self, trainer: Trainer, position: Position) -> None:
        self.on_event("checkpoint", {"epoch": position.epoch, "step": position.step})

    def epoch(self, trainer: Trainer, position: Position, row: dict[str, Any]) -> None:
        self.on_event("epoch", row)
