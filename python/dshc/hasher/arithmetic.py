"""The arithmetic that a network computes in: float32, or bfloat16 where that is faster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Precision", "in_precision"]

Precision = Literal["fp32", "bf16"]


def in_precision(precision: Precision, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a network gives for inputs, as float32, computed in ``precision``."""
    if precision == "fp32":
        return network(inputs).float()
    with _bfloat16(inputs.device.type):
        outputs = network(inputs)
    return outputs.float()


@contextlib.contextmanager
def _bfloat16(device: str) -> Iterator[None]:
    with torch.autocast(device, torch.bfloat16):
        if device != "cpu":
            yield
            return
        with _DepthwiseInFloat():
            yield


class _DepthwiseInFloat(TorchFunctionMode):
    """Convolutions of one channel each in float32, the rest as it is.

    On the CPU torch has no fast gradient of them in bfloat16: those of 5 x 5 or of stride 2 take up to nine times as
    long as in float32, three quarters of a step of EfficientNet-Lite0 (torch 2.14, Zen 5).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or not _is_slow(*args, **kwargs):
            return func(*args, **kwargs)
        inputs, *others = args
        with torch.autocast("cpu", enabled=False):
            return func(inputs.float(), *others, **kwargs).to(torch.bfloat16)


def _is_slow(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    if weight.shape[1] != 1 or groups == 1:
        return False
    strides = (stride,) if isinstance(stride, int) else tuple(stride)
    return weight.shape[-1] > 3 or any(step > 1 for step in strides)
