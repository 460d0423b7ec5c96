"""Numbers from Python as a tensor on a device, without waiting for it where that can be avoided.

A list copied from pageable memory makes the host wait, and a CUDA graph that is being captured refuses it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def on_device(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`values`, a list (n,), as a tensor on `device`.

    On CUDA: evenly spaced integers are counted out there by one kernel; while a graph is captured each value is filled
    in by a kernel of its own; else they are copied from pinned memory. None of these waits for the device.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():  # a compiler makes a constant of it
        return torch.tensor(values, dtype=dtype, device=device)
    steps = {b - a for a, b in zip(values, values[1:], strict=False)}
    if len(steps) == 1 and all(isinstance(value, int) for value in values) and (step := steps.pop()):
        end = values[-1] + (1 if step > 0 else -1)
        return torch.arange(values[0], end, step, dtype=dtype, device=device)
    host = torch.tensor(values, dtype=dtype, device="cpu")
    if type(host) is not Tensor:  # traced: there is no device that could wait
        return host.to(device)
    with torch.cuda.device(device):
        if torch.cuda.is_current_stream_capturing():
            tensor = torch.empty((len(values),), dtype=dtype, device=device)
            for place, value in enumerate(values):
                tensor[place].fill_(value)
            return tensor
        return host.pin_memory().to(device, non_blocking=True)
