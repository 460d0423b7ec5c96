"""DPSH: the likelihood of pairs of a batch's items with all training items.

Li, Wang and Kang, *Feature Learning based Deep Supervised Hashing with Pairwise Labels*, IJCAI 2016, section 3.
With theta_ij = <u_i, u_j> / 2 the loss is

    sum_ij [ log(1 + exp(theta_ij)) - s_ij theta_ij ]  +  eta sum_i || sign(u_i) - u_i ||^2

where s_ij is 1 for items that share a class or a label. The outputs of the items outside the batch come from a bank,
in which every item's outputs are overwritten when it is in a batch. Where pairs are known instead of labels, the sum is
over these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..settings import setting
from .bank import OutputBank
from .base import Spec, Step, Training, in_full
from .itq import signs
from .likelihood import softplus
from .pairs import own_rows
from .signs import SignMethod, SignSettings
from .similarity import similar

if TYPE_CHECKING:
    from ..data.pairs import Pairs

__all__ = ["DPSH", "DPSHLoss", "bank_likelihood", "known_likelihood", "small_head"]

_CHUNK = 1 << 21  # pairs at a time: a handful of float32 of that size live together, 8 MiB each


class DPSHSettings(SignSettings):
    """Settings of DPSH."""

    name: Literal["dpsh"] = "dpsh"
    eta: float = setting(10.0, "weight of the distance of outputs from their signs", ge=0)


class DPSHLoss(nn.Module):
    """The loss of some outputs against a bank of outputs, as a module of its own.

    Scale: both sums are divided by b n, for b outputs and n rows of the bank, as the authors' released code does
    (DPSH-pytorch). The likelihood is thus a mean over pairs, and a row's distance from its signs counts ``eta`` / n.
    ``eta`` is 10, which that code takes for CIFAR-10 with 5,000 training items; for 12 bits on NUS-WIDE it takes 50.
    """

    def __init__(self, eta: float = 10.0) -> None:
        super().__init__()
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta must be at least 0 and finite, got {eta}")
        self.eta = eta

    def forward(self, outputs: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor) -> Tensor:
        """The loss, 0-d, differentiable once, in ``outputs`` alone: what the bank holds counts as constant.

        ``outputs`` float ``(b, L)``, ``bank`` float ``(n, L)``; ``labels`` and ``bank_labels`` both int64 ``(b,)``,
        ``(n,)`` or both multi-hot ``(b, C)``, ``(n, C)``. Every row meets every row of the bank, its own copy too.
        Time O(b n L); memory O(b L) and some chunks of pairs. float16 and bfloat16 are computed in float32.
        Raises ``ValueError`` where shapes do not fit or there is no pair.
        """
        return self._with_distance(bank_likelihood(outputs, labels, bank, bank_labels), outputs, len(bank))

    def of_pairs(
        self, outputs: Tensor, known: Tensor, bank: Tensor, gather: Callable[[Tensor], Tensor] = own_rows
    ) -> Tensor:
        """The loss where not labels but pairs are known: ``known`` int8 ``(b, n)``, 1 similar, -1 not, 0 not known.

        The likelihood is the mean over the known pairs, 0 where there is none; they are counted over all processes by
        ``gather``, so that the mean over processes is the one-process value. Otherwise as :meth:`forward`.
        """
        return self._with_distance(known_likelihood(outputs, known, bank, gather), outputs, len(bank))

    def _with_distance(self, likelihood: Tensor, outputs: Tensor, n_bank: int) -> Tensor:
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = outputs.to(likelihood.dtype)
            # A bit is 1 where an output is more than 0, as in encoding.
            distance = (signs(outputs.detach()) - outputs).square().sum()
            return likelihood + self.eta * distance / (len(outputs) * n_bank)


def bank_likelihood(outputs: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor) -> Tensor:
    """The mean of log(1 + exp(theta_ij)) - s_ij theta_ij over some rows i and all rows j of a bank, 0-d.

    Arguments, precision, cost and errors are those of :meth:`DPSHLoss.forward`.
    """
    _check(outputs, labels, bank, bank_labels)

    def sign(part: slice) -> Tensor:
        return 1 - 2 * similar(labels, bank_labels[part]).to(outputs.dtype)

    return _likelihood(outputs, bank, sign, len(outputs) * len(bank))


def known_likelihood(
    outputs: Tensor, known: Tensor, bank: Tensor, gather: Callable[[Tensor], Tensor] = own_rows
) -> Tensor:
    """The same mean over the known pairs alone, 0-d: ``known`` int8 ``(b, n)``, 1 similar, -1 not, 0 not known.

    The others are as in :meth:`DPSHLoss.of_pairs`. Raises ``ValueError`` where shapes do not fit.
    """
    _check_shapes(outputs, bank)
    if known.shape != (len(outputs), len(bank)):
        raise ValueError(f"known must have shape ({len(outputs)}, {len(bank)}), got {tuple(known.shape)}")

    def sign(part: slice) -> Tensor:
        return -known[:, part].to(outputs.dtype)

    everyone = gather(known.count_nonzero(1))
    of_all = int(everyone.sum()) * len(outputs) / len(everyone)  # the processes' mean
    return _likelihood(outputs, bank, sign, int(known.count_nonzero()), of_all)


def _likelihood(
    outputs: Tensor,
    bank: Tensor,
    sign: Callable[[slice], Tensor],
    n_pairs: int,
    divisor: float | None = None,
) -> Tensor:
    """Of ``n_pairs`` pairs, those of a sign that is not 0, by ``divisor`` (None: their mean).

    ``sign`` gives 1 - 2 s for some rows of the bank.
    """
    with torch.autocast(outputs.device.type, enabled=False):
        outputs = in_full(outputs)
        divisor = n_pairs if divisor is None else divisor
        return _Likelihood.apply(outputs, bank.detach().to(outputs.dtype), sign, n_pairs, divisor)


class _Likelihood(torch.autograd.Function):
    """The mean over pairs; its gradient is known in closed form, so that no pair is kept for the way back."""

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        bank: Tensor,
        sign_of: Callable[[slice], Tensor],
        n_pairs: int,
        divisor: float,
    ) -> Tensor:
        n_unknown = len(outputs) * len(bank) - n_pairs
        total = outputs.new_zeros((), dtype=torch.float64)
        gradient = torch.zeros_like(outputs)
        size = max(1, _CHUNK // len(outputs))
        for start in range(0, len(bank), size):
            part = slice(start, start + size)
            rows = bank[part]
            # For s in {0, 1}, softplus(theta) - s theta is softplus(sign theta) with sign = 1 - 2 s.
            sign = sign_of(part).to(outputs.dtype)
            signed = (outputs @ rows.T).mul_(sign).mul_(0.5)
            total += softplus(signed).sum(dtype=torch.float64)
            gradient.addmm_(signed.sigmoid_().mul_(sign), rows)  # (sigmoid(theta) - s) u_j
        total -= math.log(2) * n_unknown  # what a pair of sign 0 has added
        divisor = divisor or 1
        ctx.save_for_backward(gradient.mul_(0.5 / divisor))
        return (total / divisor).to(outputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream, None, None, None, None


class DPSH(SignMethod):
    """DPSH. The head is linear, its weights drawn with deviation 0.01 (for 4,096 features), and outputs have no tanh.

    The bank starts as zeros, as in the authors' code. The batches of all processes are written before the loss is
    computed, so that an item meets itself as it is. Each process takes the loss of its own rows against the whole
    bank; a shorter length is set against the first columns of it.
    """

    name: ClassVar[str] = "dpsh"
    title: ClassVar[str] = "Deep Pairwise-Supervised Hashing"
    source: ClassVar[str] = (
        "Li, Wang and Kang, Deep Supervised Hashing with Pairwise Labels, IJCAI 2016, section 3"
    )
    Settings = DPSHSettings
    label_kinds = ("ids", "multi-hot", "pairs")
    # Outputs begin near 0, where the likelihood hardly pulls: steps of one size, as adamw takes them, would follow the
    # distance from signs and fix those that chance gave.
    recipe: ClassVar[Mapping[str, Any]] = {
        "optim.optimizer": "sgd",
        "optim.lr": 0.1,
        "optim.clip_norm": 0.5,  # without it, networks from scratch make one large step and stay near 0
    }
    main_weight: ClassVar[str | None] = "eta"

    def __init__(self, settings: DPSHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = small_head(spec.n_features, self.n_bits)
        self.pair_loss = DPSHLoss(settings.eta)
        self._bank = OutputBank(self.name, self.n_outputs)
        self._pairs: Pairs | None = None

    def begin(self, training: Training) -> None:
        self._bank.begin(training)
        self._pairs = training.pairs

    def observe(self, outputs: Tensor, step: Step) -> None:
        self._bank.write(outputs, step)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DPSHLoss` against the bank."""
        bank = self._bank.outputs[:, : outputs.shape[1]]
        if self._pairs is not None:
            known = torch.from_numpy(self._pairs.rows(step.items.cpu().numpy())).to(outputs.device)
            return self.pair_loss.of_pairs(outputs, known, bank, step.gather)
        return self.pair_loss(outputs, step.labels, bank, self._bank.labels)

    def training_state(self) -> dict[str, Tensor]:
        return self._bank.training_state()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        self._bank.load_training_state(state)


def small_head(n_features: int, n_bits: int) -> nn.Linear:
    """A linear layer whose outputs begin near 0: weights have deviation 0.01 for 4,096 features, biases are 0.

    The papers' 0.01 stands behind 4,096 features; outputs of narrower ones start as large.
    """
    head = nn.Linear(n_features, n_bits)
    nn.init.normal_(head.weight, std=0.01 * (4096 / n_features) ** 0.5)
    nn.init.zeros_(head.bias)
    return head


def _check_shapes(outputs: Tensor, bank: Tensor) -> None:
    if outputs.ndim != 2 or bank.ndim != 2 or outputs.shape[1] != bank.shape[1]:
        raise ValueError(
            "outputs and bank must have shapes (b, L) and (n, L), got "
            f"{tuple(outputs.shape)} and {tuple(bank.shape)}"
        )
    if not (len(outputs) and len(bank)):
        raise ValueError(
            f"there must be at least one pair, got {len(outputs)} outputs and a bank of {len(bank)}"
        )


def _check(outputs: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor) -> None:
    _check_shapes(outputs, bank)
    if (
        labels.ndim not in (1, 2)
        or labels.shape[1:] != bank_labels.shape[1:]
        or (len(labels), len(bank_labels)) != (len(outputs), len(bank))
    ):
        b, n = len(outputs), len(bank)
        raise ValueError(
            f"labels and bank_labels must have shapes ({b},) and ({n},), or ({b}, C) and ({n}, C), got "
            f"{tuple(labels.shape)} and {tuple(bank_labels.shape)}"
        )
