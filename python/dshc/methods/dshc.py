"""DSHC for single-label data: a classifier over sub-classes, each of which owns a code.

Luo et al., *Deep Supervised Hashing by Classification*, section 3. The loss (equation 2) puts equal targets
on all sub-classes of the true class, so the network is free to spread a class over them; the code of an item
is looked up from the sub-classes it is most likely in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

import dshc_fast

from .. import codebooks
from ..codebooks import Codebook
from ..config import Config
from ..subclasses import Assigner, KMeansAssigner, SinkhornAssigner
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
    * ``assigner``: gives every training item a sub-class of its own class; that one then gets the share
      ``assigned_share`` of the target and the rest is equal as before, so that the class-level part of the
      loss stays what it is. None: the paper's loss.
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
        assigner: Assigner | None = None,
        assigned_share: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < assigned_share <= 1:
            raise ValueError(f"assigned_share: got {assigned_share}, expected more than 0 and at most 1")
        if assigner is not None and target != "normalized":
            raise ValueError(f"target: got {target}, taken with an assigner is 'normalized'")
        if not 0 <= topk <= codebook.n_subclasses:
            raise ValueError(
                f"topk: got {topk}, expected 0 to {codebook.n_subclasses} (the number of sub-classes)"
            )
        self._codebook = codebook
        self.n_bits = codebook.n_bits
        self.n_outputs = codebook.n_subclasses
        self.topk, self.weighting, self.target = topk, weighting, target
        self.assigner, self.assigned_share = assigner, assigned_share
        # Rebuilt from the codebook's own file, so they stay out of the weights.
        self.register_buffer("codes", torch.from_numpy(codebook.codes.copy()), persistent=False)
        self.register_buffer("centers", torch.from_numpy(codebook.centers.copy()), persistent=False)
        self.register_buffer("offsets", torch.from_numpy(codebook.class_offsets.copy()), persistent=False)
        ids = np.arange(codebook.n_classes, dtype="<i4").view(np.uint8).reshape(-1, 4)
        self.register_buffer("class_ids", torch.from_numpy(ids.copy()), persistent=False)
        single = torch.arange(codebook.n_subclasses + 1)
        self.register_buffer("single", single, persistent=False)

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
            if config.per_class is not None:
                codebook = codebook.thinned(config.per_class)
        if (codebook.n_classes, codebook.n_bits) != (n_classes, n_bits):
            raise ValueError(
                f"codebook: got {codebook.n_classes} classes of {codebook.n_bits} bits, "
                f"expected {n_classes} of {n_bits}"
            )
        target: Literal["normalized"] | float = "normalized"
        if config.target == "paper":
            if config.per_class is not None:
                raise ValueError("target: got 'paper', whose 1/H is for all codes of a class, not per_class")
            if codebook.construction != "cpbc":
                raise ValueError(
                    f"target: got 'paper', but 1/H is cpbc's; {codebook.construction} takes 'normalized'"
                )
            target = 1 / (n_bits // n_classes)
        return cls(
            codebook,
            topk=config.topk,
            weighting=config.weighting,
            target=target,
            assigner=_assigner(config, codebook),
            assigned_share=config.assigned_share,
        )

    def start_epoch(self, features: Callable[[], Tensor], labels: Tensor, generator: torch.Generator) -> None:
        if self.assigner is not None:
            self.assigner.start_epoch(features, labels, generator)

    def loss(self, outputs: Tensor, labels: Tensor, items: Tensor | None = None) -> Tensor:
        """Equation 2; with an assigner, which needs ``items``, the assigned sub-class's share of the target
        moved onto it.
        """
        uniform = dshc_fast.class_softmax_loss(outputs, labels, self.offsets, target=self.target)
        if self.assigner is None:
            return uniform
        if items is None:
            raise TypeError("items: got None, an assigner takes the rows' numbers among the training items")
        # A class of its own for every sub-class makes the same kernel plain cross-entropy.
        assigned = self.assigner(outputs, labels, items)
        tilted = dshc_fast.class_softmax_loss(outputs, assigned, self.single)
        return (1 - self.assigned_share) * uniform + self.assigned_share * tilted

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


def _assigner(config: Config, codebook: Codebook) -> Assigner | None:
    if config.subclass == "uniform":
        return None
    if config.target != "normalized":
        raise ValueError(f"target: got {config.target!r}, taken with subclass = 'learned' is 'normalized'")
    if codebook.n_subclasses == codebook.n_classes:
        raise ValueError(
            "per_class: every class has one sub-class, so that subclass = 'learned' has no choice"
        )
    offsets = torch.from_numpy(codebook.class_offsets.copy())
    if config.assignment == "sinkhorn":
        return SinkhornAssigner(offsets, queue=config.queue)
    if config.queue:
        raise ValueError(f"queue: got {config.queue}, taken with assignment = 'kmeans' is 0")
    return KMeansAssigner(offsets)
