"""The base of the methods that are fitted to features in one pass: no labels are asked for, nothing is trained."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .base import MethodSettings, Pass, Spec, Stage, Training
from .signs import SignCoding

__all__ = ["FittedMethod"]


class FittedMethod(SignCoding):
    """A method whose code is the sign of a linear layer's outputs, which one look at all features finds.

    A method of its own states :meth:`fit`, ``least_items`` where one item is too few, and ``Head`` where more follows
    on the layer. The head is zero until :meth:`finish`, and no gradient reaches it. It is fitted in float64 on the
    CPU, so that it is the same wherever the features come from; outputs have the precision of the head.
    """

    Head: ClassVar[type[nn.Linear]] = nn.Linear
    label_kinds = ("none", "ids", "multi-hot")
    recipe: ClassVar[Mapping[str, Any]] = {
        "encoder.backbone": "identity",
        "encoder.width": None,  # a fit needs features as they are, no layer that would have to be trained
        "data.standardize": False,  # distances are those of the features as they are
    }

    def __init__(self, settings: MethodSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head: nn.Linear = self.Head(spec.n_features, self.n_bits).requires_grad_(False)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def least_items(self) -> int:
        """How many training items there must be."""
        return 1

    @abstractmethod
    def fit(self, features: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Weight ``(n_bits, d)`` and bias ``(n_bits,)``, float64, from ``features`` float ``(n, d)`` on the CPU."""

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """None: it is only fitted."""
        return ()

    def begin(self, training: Training) -> None:
        self._check_number(training.n_items)

    def finish(self, everything: Pass) -> None:
        """Fit the head. Raises ``ValueError`` where items are too few or features are not finite."""
        features = everything.features().detach().cpu()
        self._check_number(len(features))
        weight, bias = self.fit(features, everything.generator)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def _check_number(self, n_items: int) -> None:
        least = self.least_items
        if n_items < least:
            raise ValueError(
                f"{self.name} must have at least {least} training items for {self.n_bits} bits, got {n_items}"
            )
