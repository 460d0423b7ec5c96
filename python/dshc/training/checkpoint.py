"""Checkpoints: from one a training continues to the final bytes it would have had.

A checkpoint is one file, so that it is there whole or not at all: the hasher, what the method needs only for
training, the averaged weights, the optimizers and, as JSON in the header, the position in the training with everything
counted so far. No generator state is among it: all randomness of a step comes from (seed, epoch, step).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..hasher import Hasher
from ..storage import load_arrays, save_arrays
from .validation import Validation

__all__ = ["Checkpoint", "MisfitError", "Position", "read_checkpoint", "restore", "write_checkpoint"]

_KIND = "dshc.checkpoint/2"
_OLD_KIND = "dshc.checkpoint/1"
_PARTS = ("hasher", "method", "average", "optimizer")


class MisfitError(ValueError):
    """A checkpoint that is whole but does not fit the training that is to go on from it."""


@dataclass
class Position:
    """Where a training stands, and what it has counted.

    ``epoch`` and ``step`` are the next to run, both from 0. ``loss`` (summed over items), ``items`` and ``tally`` (see
    :meth:`dshc.methods.Method.tally`) belong to the epoch under way, ``seconds`` is its time so far. ``history`` holds
    one row of metrics an epoch, ``best_map`` the highest validation mAP among them and ``selected_epoch`` (counted
    from 1) the one whose weights are kept. ``threads`` is the number of CPU threads and ``processes`` that of
    processes, on which the last bits of a sum depend; ``counted`` is loss, items and tally of each process.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    items: int = 0
    tally: list[int] = field(default_factory=lambda: [0, 0])
    seconds: float = 0.0
    selected_epoch: int | None = None
    best_map: float | None = None
    threads: int | None = None
    processes: int = 1
    counted: list[list[float]] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def after(self, row: dict[str, Any]) -> Position:
        """The position behind an epoch that was measured as ``row``: nothing of the next one is counted yet."""
        selected = Validation.selects(row, self.best_map)
        measured = [value for value in (self.best_map, row.get("validation_map")) if value is not None]
        return Position(
            epoch=row["epoch"],
            selected_epoch=row["epoch"] if selected else self.selected_epoch,
            best_map=max(measured, default=None),
            threads=self.threads,
            processes=self.processes,
            history=[*self.history, row],
        )


@dataclass(frozen=True)
class Checkpoint:
    """The content of a file: tensors by part, the position, and of which run and settings it is."""

    tensors: dict[str, dict[str, Tensor]]
    position: Position
    run: str
    settings: str


def write_checkpoint(
    path: str | os.PathLike[str],
    hasher: Hasher,
    optimizers: list[Optimizer],
    average: Mapping[str, Tensor],
    position: Position,
    *,
    run: str,
    settings: str,
) -> Path:
    """Write a checkpoint in place of the one before; ``run`` and ``settings`` say whose it is."""
    arrays = {f"hasher.{name}": _array(tensor) for name, tensor in hasher.state_dict().items()}
    arrays |= {f"method.{name}": _array(t) for name, t in hasher.method.training_state().items()}
    arrays |= {f"average.{name}": _array(tensor) for name, tensor in average.items()}
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    arrays[f"optimizer.{number}.{index}.{name}"] = _array(value)
    metadata = {
        "position": json.dumps(dataclasses.asdict(position)),
        "run": run,
        "settings": settings,
        "torch": torch.__version__,
    }
    return save_arrays(path, _KIND, arrays, metadata)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The content of a checkpoint.

    Raises ``FileNotFoundError`` where there is none and ``ValueError`` where it is damaged or of an earlier version,
    both naming the file.
    """
    arrays, metadata = load_arrays(path, _KIND, earlier=_OLD_KIND)
    tensors: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    try:
        for key, array in arrays.items():
            part, name = key.split(".", 1)
            tensors[part][name] = torch.from_numpy(array)
        position = Position(**json.loads(metadata["position"]))
        return Checkpoint(tensors, position, metadata["run"], metadata["settings"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged, no checkpoint ({error})") from None


def restore(checkpoint: Checkpoint, hasher: Hasher, optimizers: list[Optimizer]) -> None:
    """Bring hasher, method and optimizers to a checkpoint (the averaged weights are the caller's).

    Raises :class:`MisfitError` where it is of another network.
    """
    states: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimizers]
    try:
        for key, tensor in checkpoint.tensors["optimizer"].items():
            number, index, name = key.split(".", 2)
            states[int(number)].setdefault(int(index), {})[name] = tensor
        hasher.load_state_dict(checkpoint.tensors["hasher"])
        hasher.method.load_training_state(checkpoint.tensors["method"])
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (IndexError, KeyError, RuntimeError, ValueError) as error:
        raise MisfitError(f"checkpoint must be of this network, got another ({error})") from None
    # Strides decide which vector code runs, and with it the last bits: momenta lie as their weights do.
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                state = optimizer.state.get(weight, {})
                for name, value in state.items():
                    if isinstance(value, Tensor) and value.shape == weight.shape:
                        state[name] = torch.empty_like(weight).copy_(value)


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy()
