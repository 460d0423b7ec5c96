"""Passes over items with the weights as they are: shared by processes, equal however many there are."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..data.batches import Batches
from ..hasher import Hasher
from ..hasher.hasher import encoding_batch
from ..methods import Pass
from .processes import Processes

__all__ = ["make_pass", "outputs_of"]


def outputs_of(hasher: Hasher, batches: Batches, items: np.ndarray | Tensor, processes: Processes) -> Tensor:
    """Outputs of some items of a set, in evaluation mode, unaugmented: float32 ``(n, n_outputs)``, on every process."""
    return _run(hasher, hasher.forward, hasher.method.n_outputs, batches, items, processes)


def make_pass(
    hasher: Hasher,
    batches: Batches,
    items: np.ndarray,
    labels: Tensor | None,
    generator: torch.Generator,
    processes: Processes,
    *,
    epoch: int = 0,
    stage: str = "train",
) -> Pass:
    """A pass over training items (see :class:`dshc.methods.Pass`); ``labels`` are theirs."""
    width = hasher.method.spec.n_features
    return Pass(
        features=functools.cache(lambda: _run(hasher, hasher.features, width, batches, items, processes)),
        outputs=functools.cache(lambda: outputs_of(hasher, batches, items, processes)),
        labels=labels,
        generator=generator,
        epoch=epoch,
        stage=stage,
    )


@torch.no_grad()
def _run(
    hasher: Hasher,
    network: Callable[[Tensor], Tensor],
    width: int,
    batches: Batches,
    items: np.ndarray | Tensor,
    processes: Processes,
) -> Tensor:
    training = hasher.training
    hasher.eval()
    indices, size = torch.as_tensor(items), encoding_batch(hasher.seen_shape)
    picks = [indices[start : start + size] for start in processes.own_batches(len(indices), size)]
    rows = [network(batches.inputs(fetched)) for fetched in batches.fetch(picks)]
    hasher.train(training)
    own = torch.cat(rows) if rows else torch.zeros(0, width, device=processes.device)
    return processes.gather_batches(own, len(indices), size)
