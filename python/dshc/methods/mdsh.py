"""MDSH: a likelihood over all centers, and pairs with what the network said of other items before.

Wang, Pan, Liu, Lai, Yin and Liu, *Deep Hashing with Minimal-Distance-Separated Hash Centers*, CVPR 2023, stage 2. With
h = tanh(u), the cosines of h with the centers (:mod:`.centers`), p = softmax(sqrt(L) cosines) and s in {0, 1}^C which
labels an item has, the loss is

    - mean over items and classes of  s log p + (1 - s) log(1 - p)
    + beta  mean over pairs that share a label of  log(1 + exp((1 - cos(h_i, v_j)) / 2))
    + lambda  mean over items and bits of  (|h| - 1)^2

where v_j is the latest output of item j in a bank of all training items, from a slowly moving network in the paper.
beta is called ``pair_weight`` here and lambda ``eta``. Stage 1 of the paper searches centers as far apart as the
bound of Gilbert and Varshamov promises; those of ``separated`` are further apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..settings import setting
from .bank import OutputBank
from .base import Spec, Step, Training, in_full
from .centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    cosines,
    directions,
    labelled_mean,
)
from .likelihood import softplus
from .orthohash import normalized_head
from .pairs import own_rows
from .similarity import similar

__all__ = ["MDSH", "MDSHLoss"]

_CHUNK = 1 << 21  # pairs at a time


class MDSHSettings(CenterSettings):
    """Settings of MDSH."""

    name: Literal["mdsh"] = "mdsh"
    pair_weight: float = setting(1.0, "weight of the pairs of a batch with earlier outputs", ge=0)
    pairs_after: int = setting(1, "epochs before pairs count", ge=0)
    eta: float = setting(1e-4, "weight of the distance of outputs from their signs", ge=0)


class MDSHLoss(nn.Module):
    """The loss of some outputs against centers and a bank, as a module of its own.

    All three terms are means. ``pair_weight`` beta = 1 and ``eta`` lambda = 1e-4 are those of a reproduction
    (SZU-AdvTech-2023 315; DSH_Analysis weighs the first term by 10 beside them). The authors' code was not at hand.
    """

    def __init__(self, pair_weight: float = 1.0, eta: float = 1e-4) -> None:
        super().__init__()
        for name, value in (("pair_weight", pair_weight), ("eta", eta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")
        self.pair_weight, self.eta = pair_weight, eta

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        centers: Tensor,
        *,
        bank: Tensor | None = None,
        bank_labels: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
    ) -> Tensor:
        """The loss, 0-d, differentiable once where there is a bank.

        Args:
            outputs: u, before the tanh, float ``(b, L)``.
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``. Rows without labels are left out, and are in no
                pair.
            centers: -1 and 1, ``(C, L)``.
            bank: h of other items, float ``(n, L)``, constant; rows of 0 are of items not seen yet. Every row meets
                every row of the bank, its own copy too. None: no pairs.
            bank_labels: of these, as ``labels``.
            gather: the rows of all processes; counts rows with labels, and pairs.

        Time O(b (n + C) L); memory O(b (L + C)) and some chunks of pairs. float16 and bfloat16 are computed in float32.
        Raises ``ValueError`` where shapes do not fit.
        """
        check_batch(outputs, labels, centers)
        if bank is not None:
            _check_bank(outputs, labels, bank, bank_labels)
        with torch.autocast(outputs.device.type, enabled=False):
            h = torch.tanh(in_full(outputs))
            n_classes, n_bits = centers.shape
            logits = n_bits**0.5 * cosines(h, centers.to(h.dtype))
            hot = nn.functional.one_hot(labels, n_classes) if labels.ndim == 1 else labels
            losses = self.eta * (h.abs() - 1).square().mean(dim=1) - class_likelihood(logits, hot > 0)
            loss = labelled_mean(losses, labels, gather)
            if bank is None:
                return loss
            seen = bank.any(dim=1)
            pairs = pair_mean(h, labels, bank[seen].detach().to(h.dtype), bank_labels[seen], gather)
            return loss + self.pair_weight * pairs


class MDSH(CenterMethod):
    """MDSH. The head is linear, batch normalisation behind it; ``outputs`` are u, before the tanh.

    The bank holds the outputs by the averaged weights where a training keeps these (``ema``; the paper's momentum is
    0.9), else those of the network as it was. Outputs of all processes are written before the loss is computed.
    """

    name: ClassVar[str] = "mdsh"
    title: ClassVar[str] = "Deep Hashing with Minimal-Distance-Separated Hash Centers"
    source: ClassVar[str] = (
        "Wang et al., Deep Hashing with Minimal-Distance-Separated Hash Centers, CVPR 2023, section 3"
    )
    Settings = MDSHSettings
    main_weight: ClassVar[str | None] = "pair_weight"

    def __init__(self, settings: MDSHSettings, spec: Spec, centers: Tensor | None = None) -> None:
        super().__init__(settings, spec, centers)
        self.head = normalized_head(spec.n_features, self.n_bits, bias=True)
        self.center_loss = MDSHLoss(settings.pair_weight, settings.eta)
        self._bank = OutputBank(self.name, self.n_outputs)

    def begin(self, training: Training) -> None:
        self._bank.begin(training)

    def observe(self, outputs: Tensor, step: Step) -> None:
        averaged = step.averaged_outputs()
        self._bank.write(torch.tanh(in_full(outputs if averaged is None else averaged)), step)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`MDSHLoss` against the first bits of centers and bank."""
        n_bits = outputs.shape[1]
        bank, labels = self._bank.outputs[:, :n_bits], self._bank.labels
        if step.epoch < self.settings.pairs_after:
            bank = labels = None
        return self.center_loss(
            outputs, step.labels, self.centers[:, :n_bits], bank=bank, bank_labels=labels, gather=step.gather
        )

    def relaxed(self, outputs: Tensor) -> Tensor:
        """tanh(u)."""
        return torch.tanh(self.transformed(outputs))

    def training_state(self) -> dict[str, Tensor]:
        return self._bank.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self._bank.load_training_state(state)


def class_likelihood(logits: Tensor, hot: Tensor) -> Tensor:
    """The mean over classes of s log p + (1 - s) log(1 - p), ``(b,)``, with p = softmax(logits).

    ``logits`` float ``(b, C)``; ``hot`` s, bool ``(b, C)``. Exact where p is 1 to the last bit: of the likeliest class
    1 - p is the sum of the others' p, and every other p is at most 1/2.
    """
    total = torch.logsumexp(logits, dim=1, keepdim=True)
    likeliest = torch.zeros_like(hot).scatter_(1, logits.argmax(dim=1, keepdim=True), True)
    # A finite number for "none": of a single class nothing is left.
    none = torch.finfo(logits.dtype).min / 4
    others = torch.logsumexp(logits.masked_fill(likeliest, none), dim=1, keepdim=True)
    log_p = logits - total
    log_rest = torch.where(likeliest, others - total, torch.log1p(-log_p.exp().masked_fill(likeliest, 0)))
    return torch.where(hot, log_p, log_rest).mean(dim=1)


def pair_mean(
    h: Tensor,
    labels: Tensor,
    bank: Tensor,
    bank_labels: Tensor,
    gather: Callable[[Tensor], Tensor] = own_rows,
) -> Tensor:
    """The mean of log(1 + exp((1 - cos) / 2)) over all pairs of a row and a row of the bank that share a label, 0-d.

    ``h`` float ``(b, L)``; ``bank`` ``(n, L)``, constant, of the same dtype. Pairs are counted over all processes. 0
    where there is none.
    """
    return _Pairs.apply(directions(h), labels, directions(bank), bank_labels, gather)


class _Pairs(torch.autograd.Function):
    """The mean over pairs; its gradient is known in closed form, so that no pair is kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        labels: Tensor,
        bank: Tensor,
        bank_labels: Tensor,
        gather: Callable[[Tensor], Tensor],
    ) -> Tensor:
        total = rows.new_zeros((), dtype=torch.float64)
        n_pairs = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        gradient = torch.zeros_like(rows)
        size = max(1, _CHUNK // max(len(rows), 1))
        for others, their_labels in zip(bank.split(size), bank_labels.split(size), strict=True):
            alike = similar(labels, their_labels)
            n_pairs += alike.sum(dim=1)
            apart = (rows @ others.T).neg_().add_(1).mul_(0.5)  # (1 - cos) / 2, at most 1
            total += softplus(apart).mul_(alike).sum(dtype=torch.float64)
            gradient.addmm_(apart.sigmoid_().mul_(alike), others)
        everyone = gather(n_pairs)
        scale = (len(everyone) / max(len(rows), 1)) / everyone.sum().clamp(min=1).double()
        ctx.save_for_backward(gradient.mul_((-0.5 * scale).to(rows.dtype)))
        return (total * scale).to(rows.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None


def _check_bank(outputs: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor | None) -> None:
    if bank.ndim != 2 or bank.shape[1] != outputs.shape[1]:
        raise ValueError(f"bank must have shape (n, {outputs.shape[1]}), got {tuple(bank.shape)}")
    wanted = (len(bank), *labels.shape[1:])
    if bank_labels is None or tuple(bank_labels.shape) != wanted:
        came = "none" if bank_labels is None else str(tuple(bank_labels.shape))
        raise ValueError(f"bank_labels must have shape {wanted}, got {came}")
