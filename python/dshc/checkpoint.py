"""What a run keeps on disk: its weights, and checkpoints from which it continues to the same final bytes.

A checkpoint is one file, so that it is there whole or not at all: the network, what the method has
found, the optimizer and, as JSON in the header, the position in the training with everything counted so far.
No generator state is among it: all randomness of a step comes from (seed, epoch, step).
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .arrays import load_arrays, save_arrays

__all__ = ["CHECKPOINT", "Position", "load_checkpoint", "load_weights", "save_checkpoint", "save_weights"]

CHECKPOINT = Path("checkpoint") / "state.safetensors"
_CHECKPOINT_KIND = "dshc.checkpoint/1"
_WEIGHTS_KIND = "dshc.weights/1"


@dataclass
class Position:
    """Where a training stands, and what it has counted.

    ``epoch`` and ``step`` are the next to run, both from 0. ``loss`` (summed over items), ``items`` and
    ``tally`` (see :meth:`dshc.methods.Method.tally`) belong to the epoch under way, ``seconds`` is its time
    so far. ``history`` holds one row of metrics an epoch, ``best_map`` the highest validation mAP among them
    and ``selected_epoch`` (counted from 1) the one whose weights are kept. ``threads`` is the number of CPU
    threads, on which the last bits of a sum depend.
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
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path, network: nn.Module, method: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> Path:
    """Write the checkpoint of a run folder in place of the one before."""
    arrays = {f"network.{name}": _array(tensor) for name, tensor in network.state_dict().items()}
    arrays |= {f"method.{name}": _array(tensor) for name, tensor in method.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                arrays[f"optimizer.{index}.{name}"] = _array(value)
    metadata = {"position": json.dumps(dataclasses.asdict(position)), "torch": torch.__version__}
    return save_arrays(folder / CHECKPOINT, _CHECKPOINT_KIND, arrays, metadata)


def load_checkpoint(
    folder: Path, network: nn.Module, method: nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Bring network, method and optimizer to the checkpoint of a run folder; returns its position.

    Raises ``FileNotFoundError`` where there is none and ``ValueError`` where it is damaged or of another
    network, both naming the file.
    """
    path = folder / CHECKPOINT
    arrays, metadata = load_arrays(path, _CHECKPOINT_KIND)
    weights: dict[str, dict[str, Tensor]] = {"network": {}, "method": {}}
    states: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        part, name = key.split(".", 1)
        if part in weights:
            weights[part][name] = torch.from_numpy(array)
        else:
            index, name = name.split(".", 1)
            states.setdefault(int(index), {})[name] = torch.from_numpy(array)
    try:
        network.load_state_dict(weights["network"])
        method.load_state_dict(weights["method"])
        optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
        position = Position(**json.loads(metadata["position"]))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not a checkpoint of this network ({error})") from None
    # Strides decide which vector code runs, and with it the last bits: momenta lie as their weights do.
    for group in optimizer.param_groups:
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            for name, value in state.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    state[name] = torch.empty_like(weight).copy_(value)
    return position


def save_weights(
    path: str | os.PathLike[str], network: nn.Module, inputs: dict[str, Tensor], about: dict
) -> Path:
    """Write a network's weights, mean and deviation of its ``inputs`` and what it is ``about`` (JSON)."""
    arrays = {f"network.{name}": _array(tensor) for name, tensor in network.state_dict().items()}
    arrays |= {f"input.{name}": _array(tensor) for name, tensor in inputs.items()}
    return save_arrays(path, _WEIGHTS_KIND, arrays, {"about": json.dumps(about, sort_keys=True)})


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The network's weights, its ``inputs`` and ``about`` as :func:`save_weights` took them."""
    arrays, metadata = load_arrays(path, _WEIGHTS_KIND)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "input": {}}
    try:
        for key, array in arrays.items():
            part, name = key.split(".", 1)
            parts[part][name] = torch.from_numpy(array)
        return parts["network"], parts["input"], json.loads(metadata["about"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a file of weights ({error})") from None


def _array(tensor: Tensor):
    return tensor.detach().cpu().contiguous().numpy()
