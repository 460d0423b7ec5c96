"""The class soft-max loss by its formula, in long double, and in plain PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from oracles import log_sum_exp


def targets(labels, offsets, target, ignore_index=-100) -> np.ndarray:
    """y `(B, n_subclasses)`: 1/m_c or the number given on the true class's run, else 0; ignored rows 0."""
    y = np.zeros((len(labels), offsets[-1]), dtype=np.longdouble)
    for row, label in zip(y, labels, strict=True):
        if label != ignore_index:
            run = slice(offsets[label], offsets[label + 1])
            share = (
                np.longdouble(1) / (run.stop - run.start) if target == "normalized" else np.longdouble(target)
            )
            row[run] = share
    return y


def exact_loss(logits, labels, offsets, target="normalized", ignore_index=-100) -> np.ndarray:
    """-Σ_c y_c log p_c per row, long double; -inf outside the true run is probability 0."""
    y = targets(labels, offsets, target, ignore_index)
    out = np.zeros(len(labels), dtype=np.longdouble)
    for i, row in enumerate(np.asarray(logits, dtype=np.longdouble)):
        on = y[i] > 0
        if on.any():
            out[i] = (y[i][on] * (log_sum_exp(row) - row[on])).sum()
    return out


def exact_gradient(logits, labels, offsets, target="normalized", ignore_index=-100) -> np.ndarray:
    """(Σy)·p − y per row, long double: the gradient of the summed loss."""
    y = targets(labels, offsets, target, ignore_index)
    out = np.zeros_like(y)
    for i, row in enumerate(np.asarray(logits, dtype=np.longdouble)):
        if labels[i] != ignore_index:
            out[i] = y[i].sum() * np.exp(row - log_sum_exp(row)) - y[i]
    return out


def plain_torch_loss(logits: torch.Tensor, labels, offsets, target="normalized") -> torch.Tensor:
    """What a user would write: float32 log_softmax times dense targets, per row."""
    y = torch.from_numpy(targets(labels, offsets, target).astype(np.float64)).to(logits.device)
    inside = logits if logits.dtype == torch.float64 else logits.float()
    return -(y.to(inside.dtype) * torch.log_softmax(inside, dim=1)).sum(1)
