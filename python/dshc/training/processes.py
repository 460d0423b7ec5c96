"""One process or several: who does which batches, and what they tell each other.

Several are started from outside (``torchrun``); :class:`Processes` finds them in the environment by Fabric. Work is
shared in whole batches, so that what a network makes of an item does not depend on how many processes there are.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..hasher.device import resolve_device

__all__ = ["Processes"]

# Fabric tells on every start which precision it was asked for.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def _leave_group() -> None:
    """Ends the group's threads while the interpreter is whole: one that asked for it later would abort the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Processes:
    """The processes of a training, this one being number ``rank`` of ``size``."""

    def __init__(self, device: str = "auto") -> None:
        size = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
        self.device: torch.device = resolve_device(device)
        self.size, self.rank = 1, 0
        self._fabric: Any = None
        if size == 1:
            return
        # Seconds to import, and nothing that one process needs.
        from lightning_fabric import Fabric

        self._fabric = Fabric(
            accelerator=self.device.type, devices=local, num_nodes=max(1, size // local), strategy="ddp"
        )
        ours = not dist.is_initialized()
        self._fabric.launch()
        if ours:
            atexit.register(_leave_group)
        self.size, self.rank = self._fabric.world_size, self._fabric.global_rank
        self.device = self._fabric.device

    @staticmethod
    def is_first() -> bool:
        """Whether this process, whatever it does, is the first of those that were started together."""
        return os.environ.get("RANK", "0") == "0"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def setup(self, module: nn.Module) -> nn.Module:
        """The module on this process's device, its gradients averaged over processes."""
        return module.to(self.device) if self._fabric is None else self._fabric.setup_module(module)

    def adding_up(self, module: nn.Module, *, more: bool) -> AbstractContextManager[Any]:
        """Around a forward and a backward: with ``more`` to come, gradients stay with their process for now."""
        if self._fabric is None:
            return contextlib.nullcontext()
        return self._fabric.no_backward_sync(module, enabled=more)

    def backward(self, loss: Tensor) -> None:
        """Gradients of a loss, averaged over processes."""
        if self._fabric is None:
            loss.backward()
        else:
            self._fabric.backward(loss)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, equally many of each, in their order; without gradients."""
        if self.size == 1:
            return rows.detach()
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.detach().contiguous())
        return torch.cat(parts)

    def own_batches(self, n_items: int, batch_size: int) -> range:
        """Where this process's batches of a pass over ``n_items`` start: every ``size``-th batch."""
        return range(self.rank * batch_size, n_items, self.size * batch_size)

    def gather_batches(self, own: Tensor, n_items: int, batch_size: int) -> Tensor:
        """All rows of a pass in item order, ``own`` being those of :meth:`own_batches`."""
        if self.size == 1:
            return own
        places = [
            torch.cat(
                [torch.arange(s, min(s + batch_size, n_items)) for s in starts] or [torch.zeros(0).long()]
            )
            for starts in (range(r * batch_size, n_items, self.size * batch_size) for r in range(self.size))
        ]
        longest = max(map(len, places))
        padded = own.new_zeros(longest, *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        rows = own.new_empty(n_items, *own.shape[1:])
        for part, place in zip(parts, places, strict=True):
            rows[place.to(rows.device)] = part[: len(place)]
        return rows

    def all(self, value: Any) -> list[Any]:
        """The values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share_buffers(self, module: nn.Module) -> None:
        """The first process's buffers for all: running statistics of batch norm are of each one's own batches."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over processes."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def any(self, wish: bool) -> bool:
        """Whether any process wishes so: all get the same answer."""
        if self.size == 1:
            return wish
        flag = torch.tensor(int(wish), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def agreed(self, value: Any) -> Any:
        """The first process's value, for all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            self._fabric.barrier()
