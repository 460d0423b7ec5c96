"""What every hashing method offers to the training loop and to encoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

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

    @abstractmethod
    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch, 0-d, differentiable in ``outputs``."""

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
