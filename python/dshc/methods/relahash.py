"""RelaHash: OrthoHash's soft-max, over positions relative to the batch.

Minh et al., *RelaHash: Deep Hashing with Relative Position*, IEEE Access 2023; equations as in the authors' released
code (thaiminhpv/RelaHash). For the outputs Z ``(b, L)`` of a whole batch let

    Z* = gamma (Z - mean of all entries of Z) / ||Z - mean||_F

and let logits be the inner products of its rows with the centers, c / sqrt(L) (:mod:`.centers`). The loss is

    - log softmax_y( s (logits_c - m [c = y]) )

An item can thus not lower its loss by its own direction alone: what it gains in length the others lose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .base import Spec, Step, in_full
from .centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    labelled_mean,
)
from .orthohash import check_softmax, margin_losses, normalized_head
from .pairs import own_rows

__all__ = ["RelaHash", "RelaHashLoss"]

RelativeLength = Literal["one", "batch", "paper"]
_LEAST_NORM = 1e-6


class RelaHashSettings(CenterSettings):
    """Settings of RelaHash."""

    name: Literal["relahash"] = "relahash"
    scale: float = setting(8.0, "factor of the cosines in the soft-max", gt=0)
    margin: float = setting(0.5, "what is subtracted from the cosine of the true class", ge=0)
    relative_length: RelativeLength = setting(
        "batch",
        "length of all outputs of a batch together: 1, sqrt(batch), or the paper's sqrt(bits x batch)",
    )


class RelaHashLoss(nn.Module):
    """The loss of some outputs against centers, as a module of its own.

    The mean over items; ``scale`` s = 8 and ``margin`` m = 0.5 are the released code's. ``relative_length`` is gamma:

    * ``"one"``: 1, which that code takes ("ignore constant"), in batches of 16. Rows have lengths of about 1 / sqrt(b),
      so that logits become smaller with the batch, and the margin larger beside them.
    * ``"batch"``: sqrt(b). Rows have lengths of about 1 whatever the batch, and logits are about OrthoHash's cosines.
    * ``"paper"``: sqrt(L b), the paper's formula, by which entries have variance 1. Logits are sqrt(L) times those.
    """

    def __init__(
        self, scale: float = 8.0, margin: float = 0.5, relative_length: RelativeLength = "batch"
    ) -> None:
        super().__init__()
        check_softmax(scale, margin)
        if relative_length not in ("one", "batch", "paper"):
            raise ValueError(f"relative_length must be one of one, batch, paper, got {relative_length!r}")
        self.scale, self.margin, self.relative_length = scale, margin, relative_length

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        centers: Tensor,
        *,
        gather: Callable[[Tensor], Tensor] = own_rows,
        own: slice = slice(None),
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            outputs: Z, float ``(b, L)``; where all entries are equal, Z* is 0 and there is no gradient.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``. Rows without labels are left out of the mean, but
                are a part of Z*.
            centers: -1 and 1, ``(C, L)``.
            gather, own: as a :class:`~dshc.methods.Step` has them. Mean and norm are those of all processes' rows:
                every process computes the whole loss, and the mean of their gradients is that of one process.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = in_full(outputs)
            rows, all_labels = gather(outputs), gather(labels)
            if len(rows[own]) != len(outputs):
                raise ValueError(
                    f"own must say which of the {len(rows)} gathered rows are this process's {len(outputs)}, got {own}"
                )
            start, stop, _ = own.indices(len(rows))
            rows = torch.cat([rows[:start], outputs, rows[stop:]])
            directions = centers.to(rows.dtype) / rows.shape[1] ** 0.5
            losses = margin_losses(self._relative(rows) @ directions.T, all_labels, self.scale, self.margin)
            loss = labelled_mean(losses, all_labels)
            # A process has the gradient of its own rows alone: a mean over processes would make it too small.
            processes = len(rows) / max(len(outputs), 1)
            return processes * loss - (processes - 1) * loss.detach()

    def _relative(self, rows: Tensor) -> Tensor:
        centered = rows - rows.sum() / max(rows.numel(), 1)
        norm = torch.linalg.vector_norm(centered)
        gamma = {"one": 1, "batch": len(rows) ** 0.5, "paper": rows.numel() ** 0.5}[self.relative_length]
        none = norm < _LEAST_NORM
        return (gamma * centered / norm.masked_fill(none, 1)).masked_fill(none, 0)


class RelaHash(CenterMethod):
    """RelaHash. The head is that of OrthoHash: linear without a bias, and batch normalisation.

    The released code's centers are "rejected", and its ``relative_length`` is "one".
    """

    name: ClassVar[str] = "relahash"
    title: ClassVar[str] = "RelaHash: Deep Hashing with Relative Position"
    source: ClassVar[str] = "Minh et al., RelaHash, IEEE Access 2023"
    Settings = RelaHashSettings
    main_weight: ClassVar[str | None] = "scale"

    def __init__(self, settings: RelaHashSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec, centers)
        self.head = normalized_head(spec.n_features, self.n_bits)
        self.center_loss = RelaHashLoss(settings.scale, settings.margin, settings.relative_length)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`RelaHashLoss` against the first bits of the centers."""
        centers = self.centers[:, : outputs.shape[1]]
        return self.center_loss(outputs, step.labels, centers, gather=step.gather, own=step.own)
