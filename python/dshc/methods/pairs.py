"""What losses over the pairs of a batch share: which pairs there are, and means over them on several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import in_full
from .similarity import similar

__all__ = ["BatchPairs", "batch_pairs", "own_rows"]


def own_rows(rows: Tensor) -> Tensor:
    """The rows of this process as those of all: what ``gather`` is where there is one process."""
    return rows.detach()


@dataclass(frozen=True)
class BatchPairs:
    """The pairs (i, j) of this process's b rows i with the n rows j of all processes.

    ``rows`` float ``(b, L)`` and their ``labels`` and ``items``; ``others`` ``(n, L)``, constant, and theirs. A pair of
    an item with itself is none.
    """

    rows: Tensor
    labels: Tensor
    items: Tensor
    others: Tensor
    other_labels: Tensor
    other_items: Tensor

    @property
    def counted(self) -> Tensor:
        """Which pairs there are, bool ``(b, n)``."""
        return self.items[:, None] != self.other_items

    @property
    def similar(self) -> Tensor:
        """Which items share a class or a label, bool ``(b, n)``."""
        return similar(self.labels, self.other_labels)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the pairs of all processes of ``values`` ``(b, n)``, which are symmetric in i and j; 0-d.

        The mean over processes of what this gives, and of its gradients, is the sum and its gradient. ``others`` are
        constant and a pair counts from both of its sides, so that the gradient through one is half of it: it is
        doubled, the value is not.
        """
        total = torch.where(self.counted, values, 0).sum() * (len(self.others) / max(len(self.rows), 1))
        return 2 * total - total.detach()

    def mean(self, values: Tensor) -> Tensor:
        """As :meth:`sum`, over the number of pairs; 0 where there is none."""
        n_pairs = (self.other_items[:, None] != self.other_items).sum()
        return self.sum(values) / n_pairs.clamp(min=1)


def batch_pairs(
    outputs: Tensor, labels: Tensor, items: Tensor | None, gather: Callable[[Tensor], Tensor]
) -> BatchPairs:
    """The pairs of a batch; float16 and bfloat16 become float32.

    Args:
        outputs: float ``(b, L)``.
        labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``.
        items: int64 ``(b,)``, numbers by which an item is known. None: every row is another item; must be given with
            a ``gather`` over several processes.
        gather: the rows of all processes, without gradients. All have batches of one size.

    Raises ``ValueError`` where shapes do not fit.
    """
    if outputs.ndim != 2:
        raise ValueError(f"outputs must have shape (b, L), got {tuple(outputs.shape)}")
    b = len(outputs)
    if labels.ndim not in (1, 2) or len(labels) != b:
        raise ValueError(f"labels must have shape ({b},) or ({b}, C), got {tuple(labels.shape)}")
    if items is None:
        items = torch.arange(b, device=outputs.device)
    if items.shape != (b,):
        raise ValueError(f"items must have shape ({b},), got {tuple(items.shape)}")
    outputs = in_full(outputs)
    return BatchPairs(outputs, labels, items, gather(outputs.detach()), gather(labels), gather(items))
