"""The arithmetic that a network computes in: float32, or bfloat16 where the device has it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["Precision", "computed_in", "in_precision"]

Precision = Literal["fp32", "bf16"]


def computed_in(precision: Precision, device: torch.device) -> Precision:
    """The arithmetic that stands for ``precision`` on a device: bfloat16 is float32 on a CPU that does not have it.

    There torch's convolutions in bfloat16 take six times as long as in float32 (torch 2.14, EfficientNet-Lite0, AVX2).
    """
    return "fp32" if device.type == "cpu" and not _cpu_has_bfloat16() else precision


def in_precision(precision: Precision, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """What a network gives for inputs, as float32, computed in ``precision`` as their device has it."""
    if computed_in(precision, inputs.device) == "fp32":
        return network(inputs).float()
    with _bfloat16(inputs.device.type):
        outputs = network(inputs)
    return outputs.float()


@functools.cache
def _cpu_has_bfloat16() -> bool:
    """Whether torch has kernels for networks in bfloat16 on this CPU."""
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # not in every build
    return asked is not None and bool(asked())


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

    On the CPU torch has no fast gradient in bfloat16 of those of 5 x 5 or of stride 2 (torch 2.14): in float32 they
    take a fraction of the time (``benchmarks/step_profile.py``).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.conv2d or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        named = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs
        if not _is_slow(named):
            return func(*args, **kwargs)
        for name in ("input", "weight", "bias"):
            if named.get(name) is not None:
                named[name] = named[name].float()
        with torch.autocast("cpu", enabled=False):
            return func(**named).to(torch.bfloat16)


_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def _is_slow(convolution: dict[str, Any]) -> bool:
    weight, stride = convolution["weight"], convolution.get("stride", 1)
    if convolution.get("groups", 1) == 1 or weight.shape[1] != 1:
        return False
    return max(weight.shape[2:]) > 3 or max([stride] if isinstance(stride, int) else stride) > 1
