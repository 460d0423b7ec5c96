"""Sets that lie on the device as one tensor, of images or of features; and where their mean and deviation come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["TensorBatches", "check_statistics"]


class TensorBatches(ABC):
    """Items that lie on the device as one tensor: nothing is fetched, the numbers of a pick are made a batch there."""

    @abstractmethod
    def batch(
        self,
        indices: np.ndarray | Tensor,
        *,
        train: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Items ``indices`` as the network takes them."""

    def fetch(
        self, picks: Sequence[np.ndarray | Tensor], numbers: tuple[int, ...] | None = None
    ) -> Iterator[np.ndarray | Tensor]:
        """The picks themselves: there is nothing to fetch."""
        return iter(picks)

    def inputs(
        self,
        fetched: np.ndarray | Tensor,
        *,
        train: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """:meth:`batch` of what :meth:`fetch` gave."""
        return self.batch(fetched, train=train, generator=generator)


def check_statistics(train_indices: Any, mean: Any, std: Any) -> None:
    """Refuse all but these: training items, whose mean and deviation are computed; or both, computed before."""
    given = {"train_indices": train_indices, "mean": mean, "std": std}
    names = [name for name, value in given.items() if value is not None]
    if names not in (["train_indices"], ["mean", "std"]):
        raise ValueError(
            f"either train_indices or both mean and std must be given, got {' and '.join(names) or 'neither'}"
        )
