"""DSDH: the likelihood of pairs, towards codes that stay discrete and from which labels can be read linearly.

Li, Sun, He and Tan, *Deep Supervised Discrete Hashing*, NIPS 2017. With theta_ij = <u_i, u_j> / 2 and codes b_i in
{-1, 1}^L it minimises, in turn over outputs u, a linear classifier W and codes b,

    sum_ij [ log(1 + exp(theta_ij)) - s_ij theta_ij ]
        + mu sum_i || y_i - W^T b_i ||^2  +  nu ||W||^2  +  eta sum_i || b_i - u_i ||^2

where s_ij is 1 for items that share a class or a label, and y_i is the item's row of labels, 0 and 1. The network is
trained by the terms with u; W and b have the rest, in :func:`ridge_weights` and :func:`discrete_codes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..settings import setting
from .bank import OutputBank, put_back
from .base import Pass, Spec, Step, Training
from .dpsh import DPSH, bank_likelihood, small_head
from .signs import SignMethod, SignSettings

__all__ = ["DSDH", "DSDHLoss", "discrete_codes", "ridge_weights"]

_CHUNK = 1 << 19  # numbers of a float64 copy at a time, 4 MiB, which caches hold
_SWEEPS = 10


class DSDHSettings(SignSettings):
    """Settings of DSDH; their defaults are the authors' code's, for CIFAR-10."""

    name: Literal["dsdh"] = "dsdh"
    eta: float = setting(55.0, "weight of the distance of outputs from their codes", ge=0)
    mu: float = setting(1.0, "weight of the error of labels read from codes", gt=0)
    nu: float = setting(0.1, "weight of the squared norm of what reads them", gt=0)


class DSDHLoss(nn.Module):
    """The terms with outputs, of some outputs against a bank of outputs, as a module of its own.

    Scale: sums over the batch, divided by b n for b outputs and n rows of the bank, as in
    :class:`~dshc.methods.dpsh.DPSHLoss`. The likelihood counts twice: the formula has a pair in both orders, and the
    gradient in a batch's outputs is to be that of the formula, though the bank is constant. ``eta`` 55 is the authors'
    code's (liqi-casia/DSDH-HashingCode, CIFAR-10 with 5,000 training items), which has the same gradient: a row's
    distance from its code counts 55 / n.
    """

    def __init__(self, eta: float = 55.0) -> None:
        super().__init__()
        if not 0 <= eta < float("inf"):
            raise ValueError(f"eta must be at least 0 and finite, got {eta}")
        self.eta = eta

    def forward(
        self, outputs: Tensor, labels: Tensor, codes: Tensor, bank: Tensor, bank_labels: Tensor
    ) -> Tensor:
        """The loss, 0-d, differentiable once, in ``outputs`` alone.

        ``codes`` ``(b, L)`` of any dtype: -1 and 1. The others, precision, cost and errors are as in
        :meth:`DPSHLoss.forward <dshc.methods.dpsh.DPSHLoss.forward>`.
        """
        if codes.shape != outputs.shape:
            raise ValueError(
                f"codes must have the shape of outputs, {tuple(outputs.shape)}, got {tuple(codes.shape)}"
            )
        likelihood = bank_likelihood(outputs, labels, bank, bank_labels)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = outputs.to(likelihood.dtype)
            distance = (codes.to(outputs.dtype) - outputs).square().sum()
            return 2 * likelihood + self.eta * distance / (len(outputs) * len(bank))


@torch.no_grad()
def ridge_weights(codes: Tensor, labels: Tensor, n_classes: int, *, ratio: float) -> Tensor:
    """The W that minimises sum_i ||y_i - W^T b_i||^2 + ``ratio`` ||W||^2: (B B^T + ratio I)^-1 B Y^T.

    ``codes`` ``(n, L)`` of -1 and 1; ``labels`` class ids int64 ``(n,)`` or multi-hot ``(n, C)``. Returns float64
    ``(L, C)``. Raises ``ValueError`` where ``ratio`` is not more than 0.
    """
    if not ratio > 0:
        raise ValueError(f"ratio must be more than 0, got {ratio}")
    n_bits = codes.shape[1]
    gram = torch.zeros(n_bits, n_bits, dtype=torch.float64, device=codes.device)
    of_class = torch.zeros(n_classes, n_bits, dtype=torch.float64, device=codes.device)
    # Sums of whole numbers: exact, whatever their order.
    for rows, row_labels in _chunks(codes, labels):
        bits = rows.double()
        gram.addmm_(bits.T, bits)
        if labels.ndim == 1:
            of_class.index_add_(0, row_labels, bits)
        else:
            of_class.addmm_(row_labels.double().T, bits)
    gram.diagonal().add_(ratio)
    return torch.linalg.solve(gram, of_class.T)


@torch.no_grad()
def discrete_codes(
    codes: Tensor,
    outputs: Tensor,
    labels: Tensor,
    weights: Tensor,
    *,
    mu: float,
    eta: float,
    sweeps: int = _SWEEPS,
) -> Tensor:
    """Codes after sweeps of discrete cyclic coordinate descent: int8 ``(n, L)`` of -1 and 1.

    They lower mu ||y - W^T b||^2 + eta ||b - u||^2 of every item, bit after bit. With the other bits held, bit k is
    the sign of mu (W y)_k + eta u_k - mu sum_(l != k) <w_k, w_l> b_l, w_k being row k of W; where that is 0 the bit
    stays. An item ends when a sweep changes nothing, at the latest after ``sweeps``. No sweep raises the objective.

    ``codes`` to begin with ``(n, L)`` of -1 and 1; ``outputs`` u float ``(n, L)``; ``labels`` as in
    :func:`ridge_weights`; ``weights`` W float64 ``(L, C)``. Time O(n L (C + L sweeps)) with multi-hot labels, without
    C for ids; computed in float64. Raises ``ValueError`` where shapes do not fit.
    """
    if outputs.shape != codes.shape or weights.shape[0] != codes.shape[1] or len(labels) != len(codes):
        raise ValueError(
            "codes, outputs, weights and labels must have shapes (n, L), (n, L), (L, C) and (n,) or (n, C), got "
            f"{tuple(codes.shape)}, {tuple(outputs.shape)}, {tuple(weights.shape)} and {tuple(labels.shape)}"
        )
    between = mu * (weights @ weights.T)
    between.fill_diagonal_(0)
    return torch.cat(
        [
            _descend(
                rows.to(torch.float64, copy=True),
                mu * _read_back(row_labels, weights) + eta * row_outputs.double(),
                between,
                sweeps,
            ).to(torch.int8)
            for rows, row_outputs, row_labels in _chunks(codes, outputs, labels)
        ]
    )


class DSDH(SignMethod):
    """DSDH. The head is DPSH's, and outputs have no tanh.

    Codes of all items are kept, for every length its own. Before every epoch W is found from them, then they from W
    and the outputs in the bank, which are those of the epoch before; the authors' code does this within every
    batch. Codes begin as random signs and outputs as zeros, so that the first codes follow from labels alone: one
    random code per class, or per set of labels. Then ``eta`` against ``mu`` decides how far codes follow outputs.

    W and codes are needed for training alone: the code of an item is the sign of its outputs, as everywhere.
    """

    name: ClassVar[str] = "dsdh"
    title: ClassVar[str] = "Deep Supervised Discrete Hashing"
    source: ClassVar[str] = "Li, Sun, He and Tan, Deep Supervised Discrete Hashing, NIPS 2017"
    Settings = DSDHSettings
    label_kinds = ("ids", "multi-hot")
    recipe: ClassVar[Mapping[str, Any]] = DPSH.recipe
    main_weight: ClassVar[str | None] = "eta"

    def __init__(self, settings: DSDHSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = small_head(spec.n_features, self.n_bits)
        self.pair_loss = DSDHLoss(settings.eta)
        self._bank = OutputBank(self.name, self.n_outputs)
        self._codes: dict[int, Tensor] = {}

    def begin(self, training: Training) -> None:
        self._bank.begin(training)
        shape = (training.n_items, self.n_bits)
        bits = torch.randint(2, shape, generator=training.generator, dtype=torch.int8)
        drawn = (2 * bits - 1).to(training.device)
        # Lengths begin alike, for they share outputs.
        self._codes = {length: drawn[:, :length].clone() for length in self.lengths}

    def begin_epoch(self, everything: Pass) -> None:
        """The discrete step: W, then the codes, of every length."""
        outputs, labels = self._bank.outputs, self._bank.labels
        mu, nu, eta = self.settings.mu, self.settings.nu, self.settings.eta
        for length, codes in self._codes.items():
            weights = ridge_weights(codes, labels, self.spec.n_classes, ratio=nu / mu)
            self._codes[length] = discrete_codes(codes, outputs[:, :length], labels, weights, mu=mu, eta=eta)

    def observe(self, outputs: Tensor, step: Step) -> None:
        self._bank.write(outputs, step)

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`DSDHLoss` against the bank, into which the outputs of all processes are written first."""
        length = outputs.shape[1]
        bank, bank_labels = self._bank.outputs[:, :length], self._bank.labels
        return self.pair_loss(outputs, step.labels, self._codes[length][step.items], bank, bank_labels)

    def training_state(self) -> dict[str, Tensor]:
        return self._bank.training_state() | self._named_codes()

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        put_back(self.name, {"bank": self._bank.outputs} | self._named_codes(), state)

    def _named_codes(self) -> dict[str, Tensor]:
        return {f"codes_{length}": codes for length, codes in self._codes.items()}


def _descend(codes: Tensor, target: Tensor, between: Tensor, sweeps: int) -> Tensor:
    """Sweeps over the bits of some items: each becomes the sign of its target less what the others stand for."""
    for _ in range(sweeps):
        before = codes.clone()
        for k in range(codes.shape[1]):
            pull = target[:, k] - codes @ between[:, k]
            codes[:, k] = torch.where(pull == 0, codes[:, k], pull.sign())
        if torch.equal(codes, before):
            break
    return codes


def _read_back(labels: Tensor, weights: Tensor) -> Tensor:
    """W y of some items, ``(m, L)``."""
    return weights.T[labels] if labels.ndim == 1 else labels.to(weights.dtype) @ weights.T


def _chunks(codes: Tensor, *others: Tensor) -> Any:
    """The items in parts that are small enough to be copied in float64."""
    size = max(1, _CHUNK // codes.shape[1])
    return zip(*(tensor.split(size) for tensor in (codes, *others)), strict=True)
