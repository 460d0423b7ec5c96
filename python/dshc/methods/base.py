"""What every hashing method offers to the training loop and to encoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from ..codebooks import Codebook
from ..config import Config

__all__ = ["Method"]


class Method(nn.Module, ABC):
    """A loss over a network's outputs, and the rule that turns outputs into codes and predictions.

    The network (backbone and :meth:`head`) lives outside; what the method needs beside it, such as the codes
    of sub-classes, lies in buffers and moves with :meth:`to`. ``outputs`` is everywhere float ``(b,
    n_outputs)``; ``labels`` are class ids int64 ``(b,)``, or multi-hot ``(b, n_labels)`` where ``multilabel``
    is true.

    Attributes: ``name``, ``multilabel``; ``score``, by which its codes are ranked (``"hamming"`` or
    ``"overlap"``); ``quality``, the name of what :meth:`tally` counts; ``n_bits``, ``n_outputs``.
    """

    name: ClassVar[str]
    multilabel: ClassVar[bool]
    score: ClassVar[str]
    quality: ClassVar[str]
    n_bits: int
    n_outputs: int

    @classmethod
    @abstractmethod
    def build(cls, config: Config, n_classes: int, *, codebook: Codebook | None = None) -> Self:
        """The method as ``config`` asks for it; ``codebook`` is taken instead of building one."""

    def head(self, n_features: int) -> nn.Module:
        """A new layer from features ``(b, n_features)`` to outputs."""
        return nn.Linear(n_features, self.n_outputs)

    def start_epoch(self, features: Callable[[], Tensor], labels: Tensor, generator: torch.Generator) -> None:
        """Called before the first step of every epoch.

        ``features()`` gives the backbone's features of all training items, unaugmented, float32 ``(n,
        n_features)``; ``labels`` are theirs. Random is only what is drawn from ``generator`` (CPU). What is
        found here has to be in the method's ``state_dict``, which checkpoints hold.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor, items: Tensor | None = None) -> Tensor:
        """The loss of a batch, 0-d, differentiable in ``outputs``.

        ``items`` int64 ``(b,)`` are the rows' numbers among the training items, in the order of
        :meth:`start_epoch`; methods that tell no item from another do without.
        """

    @abstractmethod
    def encode(self, outputs: Tensor) -> Tensor:
        """Packed codes, uint8 ``(b, ceil(n_bits / 8))``."""

    @abstractmethod
    def predict(self, outputs: Tensor) -> Tensor:
        """Class ids int64 ``(b,)``, or multi-hot bool ``(b, n_labels)``."""

    @abstractmethod
    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Numerator and denominator of ``quality``, int64 ``(2,)``; they add up over batches."""

    def codebook(self) -> Codebook | None:
        """The codes of its sub-classes; None where the method has none."""
        return None
