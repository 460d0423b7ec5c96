"""HashNet: a weighted likelihood of pairs, over a tanh that grows into a sign.

Cao, Long, Wang and Yu, *HashNet: Deep Learning to Hash by Continuation*, ICCV 2017, section 3. With
h = tanh(beta u) the loss is

    sum_ij w_ij [ log(1 + exp(alpha <h_i, h_j>)) - alpha s_ij <h_i, h_j> ]

where s_ij is 1 for items that share a class or a label, and w_ij makes up for how few such pairs there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..settings import setting
from .base import Spec, Step, in_full
from .pairs import batch_pairs, own_rows
from .signs import SignMethod, SignSettings
from .similarity import jaccard

__all__ = ["HashNet", "HashNetLoss"]


class HashNetSettings(SignSettings):
    """Settings of HashNet; those of the continuation are the authors' code's."""

    name: Literal["hashnet"] = "hashnet"
    alpha: float | None = setting(None, "factor of inner products (default: alpha_bits / bits)", gt=0)
    alpha_bits: float = setting(10.0, "alpha times bits: one number for codes of all lengths", gt=0)
    gamma: float = setting(0.005, "growth of beta, which is (1 + gamma t)^power at step t", ge=0)
    power: float = setting(0.5, "exponent of that growth", ge=0, le=10)
    beta_every: int = setting(200, "steps from one beta to the next", ge=1, le=10**9)


class HashNetLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own.

    The mean over all pairs i != j, with w_ij = c_ij |S| / |S1| for similar pairs and |S| / |S0| for the others; S, S1
    and S0 are the batch's pairs, its similar and its other pairs, and c_ij is the Jaccard index of the label sets (1
    for equal class ids). That is (sum over S1 of c_ij l_ij) / |S1| + (sum over S0 of l_ij) / |S0|: a half that has
    no pair is 0. ``alpha``: None for ``alpha_bits`` / L; 10 / L is the authors' code's.
    """

    def __init__(self, alpha: float | None = None, alpha_bits: float = 10.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("alpha_bits", alpha_bits)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be more than 0 and finite, got {value}")
        self.alpha, self.alpha_bits = alpha, alpha_bits

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        *,
        items: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = own_rows,
    ) -> Tensor:
        """The loss, 0-d, differentiable once.

        ``outputs`` float ``(b, L)``, in [-1, 1] (after tanh). ``labels``, ``items`` and ``gather``, precision and
        errors: as in :func:`~dshc.methods.pairs.batch_pairs`. The mean of the losses over processes, and of their
        gradients, is that of one process with all rows.
        """
        with torch.autocast(outputs.device.type, enabled=False):
            pairs = batch_pairs(outputs, labels, items, gather)
            agreement = jaccard(labels, pairs.other_labels, pairs.rows.dtype)
            n_similar = gather(((agreement > 0) & pairs.counted).sum(1)).sum()
            n_other = gather(((agreement == 0) & pairs.counted).sum(1)).sum()
            of_similar = agreement / n_similar.clamp(min=1)
            of_other = 1 / n_other.clamp(min=1).to(agreement.dtype)
            weight = torch.where(agreement > 0, of_similar, of_other)
            alpha = self.alpha_bits / outputs.shape[1] if self.alpha is None else self.alpha
            products = alpha * (pairs.rows @ pairs.others.T)
            # softplus(x) - s x for s in {0, 1}, without overflow.
            losses = -logsigmoid(torch.where(agreement > 0, products, -products))
            return pairs.sum(losses * weight)


class HashNet(SignMethod):
    """HashNet. The head is linear, its weights drawn with deviation 0.01; ``outputs`` are u, before the tanh.

    beta at step t, counted from 0 over the whole training, is (1 + ``gamma`` t')^``power`` with t' the last multiple
    of ``beta_every`` up to t. It depends on the step's number alone, so that a resumed training goes on with the same
    loss. With the defaults it is 1 for 200 steps and 7.1 after 10,000. The code is the sign of u, whatever beta.

    With several ``lengths`` each has its own alpha, ``alpha_bits`` over that length; an ``alpha`` that is given holds
    for all of them.
    """

    name: ClassVar[str] = "hashnet"
    title: ClassVar[str] = "HashNet: Deep Learning to Hash by Continuation"
    source: ClassVar[str] = "Cao, Long, Wang and Yu, HashNet, ICCV 2017, section 3"
    Settings = HashNetSettings
    label_kinds = ("ids", "multi-hot")
    recipe: ClassVar[Mapping[str, Any]] = {
        "optim.optimizer": "sgd",
        "optim.lr": 0.1,
        "optim.clip_norm": 0.5,  # without it, networks from scratch end in one code for everything
    }
    main_weight: ClassVar[str | None] = "alpha_bits"

    def __init__(self, settings: HashNetSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.head = nn.Linear(spec.n_features, self.n_bits)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.pair_loss = HashNetLoss(settings.alpha, settings.alpha_bits)

    def beta(self, iteration: int) -> float:
        """The sharpness of tanh at a step, counted from 0."""
        every = self.settings.beta_every
        try:
            return (1 + self.settings.gamma * (iteration // every * every)) ** self.settings.power
        except OverflowError:
            raise ValueError(
                f"gamma and power must leave the sharpness a finite number, got {self.settings.gamma} and "
                f"{self.settings.power} (step {iteration + 1})"
            ) from None

    def code_loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`HashNetLoss` of tanh(beta u), over the batches of all processes."""
        outputs = in_full(outputs)  # tanh in bfloat16 would be 1 from 3.5 on
        sharpened = torch.tanh(self.beta(step.iteration) * outputs)
        return self.pair_loss(sharpened, step.labels, items=step.items, gather=step.gather)
