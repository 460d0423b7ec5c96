"""log(1 + exp(x)) where nothing needs its gradient: what losses with a gradient in closed form sum up."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

__all__ = ["softplus"]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) of every entry, without overflow, to a few units in the last place; not differentiable.

    ``torch.nn.functional.softplus`` gives x beyond 20, which is off in float64, and on the CPU computes float32 one by
    one: log1p has no vectors there (torch 2.14). Here log(1 + p), with p = exp(-|x|), is log(u) less what rounding
    u = 1 + p has added.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32:
        return -logsigmoid(-x)
    p = x.abs().neg_().exp_()
    u = p + 1
    added = (u - 1).sub_(p).div_(u)
    return u.log_().sub_(added).add_(x.clamp(min=0))
