"""A bank: the latest outputs of every training item, for losses that set a batch against all of them.

A bank is memory of a training, n x L float32 numbers; no code depends on it. It is in checkpoints and not in a
hasher, and for that reason no buffer of a method.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Step, Training

__all__ = ["OutputBank", "put_back"]


class OutputBank:
    """Outputs and labels of all training items of ``method``, whose name is for messages.

    It is empty until :meth:`begin`. Outputs start as zeros, which is what items that were in no batch yet stand for: in
    a likelihood of inner products they add a constant and no gradient.
    """

    def __init__(self, method: str, n_outputs: int) -> None:
        self.method, self.n_outputs = method, n_outputs
        self._rows: tuple[Tensor, Tensor | None] | None = None

    def begin(self, training: Training) -> None:
        """Make room for all items; raises ``ValueError`` where they have neither labels nor pairs."""
        if training.labels is None and training.pairs is None:
            raise ValueError(f"{self.method} must be given labels of the training items, got none")
        outputs = torch.zeros(training.n_items, self.n_outputs, device=training.device)
        self._rows = outputs, None if training.labels is None else training.labels.to(training.device)

    @property
    def outputs(self) -> Tensor:
        """Float32 ``(n_items, n_outputs)``; the bank itself, no copy."""
        return self._begun()[0]

    @property
    def labels(self) -> Tensor:
        """Of all items, as the training has them; raises ``ValueError`` where it knows pairs instead."""
        if (labels := self._begun()[1]) is None:
            raise ValueError(f"{self.method} must have labels of its items to be asked for, got pairs")
        return labels

    def write(self, outputs: Tensor, step: Step) -> None:
        """Put the outputs of a step, of all processes, in the place of what their items had.

        Every process writes the same. Of an item that is there twice the last row counts, on every device: plain
        indexed writing leaves it open.
        """
        bank = self.outputs
        rows, items = step.gather(outputs.detach()), step.gather(step.items)
        order = torch.arange(len(items), device=items.device)
        last = items.new_full((len(bank),), -1).scatter_reduce_(0, items, order, "amax")
        bank[items] = rows[last[items]].to(bank.dtype)

    def training_state(self) -> dict[str, Tensor]:
        """For :meth:`Method.training_state`: ``bank``, the outputs; nothing before :meth:`begin`."""
        return {} if self._rows is None else {"bank": self.outputs}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`training_state` gave; raises ``ValueError`` before :meth:`begin`, or on a misfit."""
        put_back(self.method, {"bank": self.outputs}, state)

    def _begun(self) -> tuple[Tensor, Tensor | None]:
        if self._rows is None:
            raise ValueError(f"{self.method} must know its training items; call begin first")
        return self._rows


def put_back(method: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Copy the tensors of a training state into a method's own, which must be the same by name and shape.

    Raises ``ValueError`` naming what is not; then nothing is changed.
    """
    if set(state) != set(own):
        came = ", ".join(sorted(state)) or "nothing"
        raise ValueError(f"the training state of {method} must be {', '.join(sorted(own))}, got {came}")
    for name, tensor in own.items():
        if state[name].shape != tensor.shape:
            raise ValueError(f"{name} must have shape {tuple(tensor.shape)}, got {tuple(state[name].shape)}")
    for name, tensor in own.items():
        tensor.copy_(state[name])
