"""Call an op and its twin with the same arguments, and bring both answers to numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import dshc_fast
from dshc_fast import reference


def to_torch(value: Any, device: str = "cpu") -> Any:
    """numpy arrays and tensors as tensors on `device`; anything else unchanged."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value)).to(device)
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return value


def to_numpy(value: Any) -> Any:
    """Tensors as numpy arrays, inside tuples too."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, tuple):
        parts = [to_numpy(field) for field in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def native(op: str, device: str, *args: Any, **kwargs: Any) -> Any:
    """The op's answer for tensors on `device`, as numpy."""
    moved = [to_torch(a, device) for a in args]
    return to_numpy(getattr(dshc_fast, op)(*moved, **{k: to_torch(v, device) for k, v in kwargs.items()}))


def twin(op: str, *args: Any, **kwargs: Any) -> Any:
    """The answer of `dshc_fast.reference`, which takes tensors only, as numpy."""
    moved = [torch.tensor(a) if isinstance(a, list | tuple) else to_torch(a) for a in args]
    return to_numpy(getattr(reference, op)(*moved, **{k: to_torch(v) for k, v in kwargs.items()}))


def twin_loss(logits: torch.Tensor, labels: torch.Tensor, offsets: list[int], **options: Any) -> torch.Tensor:
    """`dshc_fast.reference.class_softmax_loss`, differentiable, for offsets in a list."""
    return reference.class_softmax_loss(
        logits, labels, torch.tensor(offsets, device=logits.device), **options
    )


def both(op: str, device: str, *args: Any, **kwargs: Any) -> list[tuple[str, Any]]:
    """`[("native", answer), ("reference", answer)]`, each to be held against an oracle.

    The twin answers in plain tuples; they get the names of the op's own fields.
    """
    ours, theirs = native(op, device, *args, **kwargs), twin(op, *args, **kwargs)
    if isinstance(theirs, tuple):
        assert len(theirs) == len(ours), f"{op}: {len(ours)} fields, the twin has {len(theirs)}"
        theirs = type(ours)(*theirs)
    return [("native", ours), ("reference", theirs)]
