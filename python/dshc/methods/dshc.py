"""DSHC for single-label data: a classifier over sub-classes, each of which owns a code.

Luo et al., *Deep Supervised Hashing by Classification*, section 3. The loss (equation 2) puts equal targets
on all sub-classes of the true class, so the network is free to spread a class over them; the code of an item
is looked up from the sub-classes it is most likely in.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from .. import codebooks
from ..codebooks import Codebook
from ..config import Config
from .base import Method

__all__ = ["DSHC"]


class DSHC(Method):
    """DSHC over ``codebook``.

    * ``topk``: an item's code is the sign of the mean code of its ``topk`` likeliest sub-classes, a tied bit
      taking the first one's. 1 reproduces the paper's figures. 0: the center of the likeliest class, which is
      better where classes are closer than sub-classes (fewer than 3 bits a class). From 3 on a CPBC vote
      returns the center too wherever the sub-classes agree on the class.
    * ``weighting``: ``"mean"`` or ``"probability"``, the weights of that mean.
    * ``target``: weight of each sub-class of the true class in the loss. ``"normalized"``: 1/m_c, so that
      weights sum to one; or a number, the paper's 1/H for H bits a class, which multiplies the loss by about
      the number of classes.
    """

    name: ClassVar[str] = "dshc"
    multilabel: ClassVar[bool] = False
    score: ClassVar[str] = "hamming"
    quality: ClassVar[str] = "accuracy"

    def __init__(
        self,
        codebook: Codebook,
        *,
        topk: int = 1,
        weighting: Literal["mean", "probability"] = "mean",
        target: Literal["normalized"] | float = "normalized",
    ) -> None:
        super().__init__()
        if not 0 <= topk <= codebook.n_subclasses:
            raise ValueError(
                f"topk: got {topk}, taken is 0 to {codebook.n_subclasses} (the number of sub-classes)"
            )
        self._codebook = codebook
        self.n_bits = codebook.n_bits
        self.n_outputs = codebook.n_subclasses
        self.topk, self.weighting, self.target = topk, weighting, target
        # Rebuilt from the codebook's own file, so they stay out of the weights.
        self.register_buffer("codes", torch.from_numpy(codebook.codes.copy()), persistent=False)
        self.register_buffer("centers", torch.from_numpy(codebook.centers.copy()), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(codebook.class_offsets.copy()), persistent=False)
        ids = np.arange(codebook.n_classes, dtype="<i4").view(np.uint8).reshape(-1, 4)
        self.register_buffer("class_ids", torch.from_numpy(ids.copy()), persistent=False)

    @classmethod
    def build(cls, config: Config, n_classes: int, *, codebook: Codebook | None = None) -> Self:
        n_bits = config.bits
        if n_bits is None:
            n_bits = codebooks.default_bits(n_classes, config.construction, config.radius)
        if codebook is None:
            codebook = codebooks.build(
                config.construction,
                n_classes,
                n_bits,
                seed=config.seed,
                threshold=config.threshold,
                radius=config.radius,
                sub_codes=config.sub_codes,
                search_steps=config.search_steps,
            )
        if (codebook.n_classes, codebook.n_bits) != (n_classes, n_bits):
            raise ValueError(
                f"codebook: got {codebook.n_classes} classes of {codebook.n_bits} bits, "
                f"taken is {n_classes} of {n_bits}"
            )
        target: Literal["normalized"] | float = "normalized"
        if config.target == "paper":
            if codebook.construction != "cpbc":
                raise ValueError(
                    f"target: got 'paper', but 1/H is cpbc's; {codebook.construction} takes 'normalized'"
                )
            target = 1 / (n_bits // n_classes)
        return cls(codebook, topk=config.topk, weighting=config.weighting, target=target)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return dshc_fast.class_softmax_loss(outputs, labels, self.offsets, target=self.target)

    def encode(self, outputs: Tensor) -> Tensor:
        if self.topk == 0:
            return dshc_fast.center_codes_from_logits(outputs, self.offsets, self.centers)
        return dshc_fast.codes_from_logits(outputs, self.codes, self.topk, weighting=self.weighting)

    def predict(self, outputs: Tensor) -> Tensor:
        """The likeliest class, its probability being the sum over its sub-classes."""
        # With its own number as its "center", the likeliest class comes out of one kernel.
        ids = dshc_fast.center_codes_from_logits(outputs, self.offsets, self.class_ids)
        return ids.view(torch.int32).reshape(-1).long()

    def tally(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Right items and all items."""
        right = (predictions == labels).sum()
        return torch.stack([right, torch.full_like(right, len(labels))])

    def codebook(self) -> Codebook:
        return self._codebook
