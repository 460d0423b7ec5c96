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

import dshc_fast

from ..settings import setting
from .base import MAX_BITS, Method, MethodSettings, Spec, Step

__all__ = ["HashNet", "HashNetLoss", "jaccard"]


class HashNetSettings(MethodSettings):
    """Settings of HashNet; those of the continuation are the authors' code's."""

    name: Literal["hashnet"] = "hashnet"
    bits: int | None = setting(None, "code length (default: 32)", ge=1, le=MAX_BITS)
    alpha: float | None = setting(None, "factor of inner products (default: 10 / bits)", gt=0)
    gamma: float = setting(0.005, "growth of beta, which is (1 + gamma t)^power at step t", ge=0)
    power: float = setting(0.5, "exponent of that growth", ge=0, le=10)
    beta_every: int = setting(200, "steps from one beta to the next", ge=1, le=10**9)


class HashNetLoss(nn.Module):
    """The loss of some outputs against each other, as a module of its own.

    The mean over all pairs i != j, with w_ij = c_ij |S| / |S1| for similar pairs and |S| / |S0| for the others; S, S1
    and S0 are the batch's pairs, its similar and its other pairs, and c_ij is the Jaccard index of the label sets (1
    for equal class ids). That is (sum over S1 of c_ij l_ij) / |S1| + (sum over S0 of l_ij) / |S0|: a half that has
    no pair is 0. ``alpha``: None for 10 / L.
    """

    def __init__(self, alpha: float | None = None) -> None:
        super().__init__()
        if alpha is not None and not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be more than 0 and finite, got {alpha}")
        self.alpha = alpha

    def forward(
        self,
        outputs: Tensor,
        labels: Tensor,
        *,
        items: Tensor | None = None,
        gather: Callable[[Tensor], Tensor] = lambda rows: rows.detach(),
    ) -> Tensor:
        """The loss, 0-d, differentiable once.

        Args:
            outputs: float ``(b, L)``, in [-1, 1] (after tanh).
            labels: class ids int64 ``(b,)``, or multi-hot ``(b, C)``.
            items: int64 ``(b,)``, numbers by which an item is known: a pair of an item with itself is left out. None:
                every row is another item; must be given with a ``gather`` over several processes.
            gather: the rows of all processes, without gradients. Each process then takes the pairs of its own rows
                with all rows; the mean of the losses over processes, and of their gradients, is that of one process
                with all rows. All have batches of one size.

        float16 and bfloat16 are computed in float32. Raises ``ValueError`` where shapes do not fit.
        """
        _check(outputs, labels, items)
        if items is None:
            items = torch.arange(len(outputs), device=outputs.device)
        with torch.autocast(outputs.device.type, enabled=False):
            if outputs.dtype != torch.float64:
                outputs = outputs.float()
            others, all_labels, all_items = gather(outputs.detach()), gather(labels), gather(items)
            agreement = jaccard(all_labels, all_labels)
            counted = all_items[:, None] != all_items
            n_similar = ((agreement > 0) & counted).sum()
            n_other = ((agreement == 0) & counted).sum()

            agreement = jaccard(labels, all_labels, outputs.dtype)
            counted = items[:, None] != all_items
            of_similar, of_other = (
                agreement / n_similar.clamp(min=1),
                1 / n_other.clamp(min=1).to(outputs.dtype),
            )
            weight = torch.where(agreement > 0, of_similar, of_other)
            alpha = 10 / outputs.shape[1] if self.alpha is None else self.alpha
            products = alpha * (outputs @ others.T)
            # softplus(x) - s x for s in {0, 1}, without overflow.
            losses = -logsigmoid(torch.where(agreement > 0, products, -products))
            loss = (losses * weight * counted).sum() * (len(others) / max(len(outputs), 1))
            # `others` is constant, and a pair counts once from either side: the gradient through one is half of it.
            return 2 * loss - loss.detach()


class HashNet(Method):
    """HashNet. The head is linear, its weights drawn with deviation 0.01; ``outputs`` are u, before the tanh.

    beta at step t, counted from 0 over the whole training, is (1 + ``gamma`` t')^``power`` with t' the last multiple
    of ``beta_every`` up to t. It depends on the step's number alone, so that a resumed training goes on with the same
    loss. With the defaults it is 1 for 200 steps and 7.1 after 10,000. The code is the sign of u, whatever beta.
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

    def __init__(self, settings: HashNetSettings, spec: Spec) -> None:
        super().__init__(settings, spec)
        self.n_bits = self.n_outputs = self.complete(settings, spec.n_classes).bits
        self.head = nn.Linear(spec.n_features, self.n_bits)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.pair_loss = HashNetLoss(settings.alpha)

    def beta(self, iteration: int) -> float:
        """The sharpness of tanh at a step, counted from 0."""
        every = self.settings.beta_every
        return (1 + self.settings.gamma * (iteration // every * every)) ** self.settings.power

    def loss(self, outputs: Tensor, step: Step) -> Tensor:
        """:class:`HashNetLoss` of tanh(beta u), over the batches of all processes."""
        if outputs.dtype != torch.float64:
            outputs = outputs.float()  # tanh in bfloat16 would be 1 from 3.5 on
        sharpened = torch.tanh(self.beta(step.iteration) * outputs)
        return self.pair_loss(sharpened, step.labels, items=step.items, gather=step.gather)

    def encode(self, outputs: Tensor) -> Tensor:
        return dshc_fast.pack_codes(outputs)


def jaccard(labels: Tensor, others: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """How far items' label sets agree: labels in common over labels of either, ``(b, n)``.

    Class ids int64 ``(b,)`` and ``(n,)``: 1 where they are equal, else 0. Multi-hot ``(b, C)`` and ``(n, C)``; an item
    without labels has 0 with all.
    """
    if labels.ndim == 1:
        return (labels[:, None] == others[None, :]).to(dtype)
    labels, others = labels.to(dtype), others.to(dtype)
    common = labels @ others.T
    either = labels.sum(1)[:, None] + others.sum(1) - common
    return common / either.clamp(min=1)


def _check(outputs: Tensor, labels: Tensor, items: Tensor | None) -> None:
    if outputs.ndim != 2:
        raise ValueError(f"outputs must have shape (b, L), got {tuple(outputs.shape)}")
    b = len(outputs)
    if labels.ndim not in (1, 2) or len(labels) != b:
        raise ValueError(f"labels must have shape ({b},) or ({b}, C), got {tuple(labels.shape)}")
    if items is not None and items.shape != (b,):
        raise ValueError(f"items must have shape ({b},), got {tuple(items.shape)}")
