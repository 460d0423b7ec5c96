"""Where a hasher runs, by name."""

from __future__ import annotations

import torch

import dshc_fast

from ..errors import InputError, one_of

__all__ = ["resolve_device"]

_NAMES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> torch.device:
    """``"auto"``, ``"cpu"`` or ``"cuda"`` as a device; auto: CUDA where torch finds one and the core has kernels.

    Raises :class:`dshc.errors.InputError` for other names, and for CUDA where one of the two is missing.
    """
    if device not in _NAMES:
        raise one_of("device", device, _NAMES)
    found, built = torch.cuda.is_available(), bool(dshc_fast.build_info()["cuda"])
    if device == "cuda" and not (found and built):
        why = "the core was built without CUDA" if found else "torch finds no CUDA device"
        raise InputError(f"device must be 'cpu' or 'auto' where {why}, got 'cuda'")
    return torch.device("cuda" if device != "cpu" and found and built else "cpu")
