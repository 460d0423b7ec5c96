"""Sums of outputs over classes, and how many items lie nearer to another class than to their own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_means", "class_sums", "nearer_to_another"]

_CHUNK = 1 << 22  # numbers of a float64 copy at a time, 32 MiB


@torch.no_grad()
def class_sums(outputs: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """The sum of the outputs of every class, float64 ``(n_classes, L)``, and its number of items, float64.

    ``outputs`` float ``(n, L)``; ``labels`` class ids int64 ``(n,)`` or multi-hot ``(n, n_classes)``: an item counts
    for each of its labels. Added up in float64 on the CPU, in the order of the items, so that every process and every
    run gets the same bits.
    """
    _check(outputs, labels, n_classes)
    sums = torch.zeros(n_classes, outputs.shape[1], dtype=torch.float64)
    counts = torch.zeros(n_classes, dtype=torch.float64)
    size = max(1, _CHUNK // max(outputs.shape[1], n_classes))
    for rows, of_rows in zip(outputs.split(size), labels.split(size), strict=True):
        rows, of_rows = rows.cpu().double(), of_rows.cpu()
        if labels.ndim == 1:
            sums.index_add_(0, of_rows, rows)
            counts += torch.bincount(of_rows, minlength=n_classes)
        else:
            hot = of_rows.double()
            sums.addmm_(hot.T, rows)
            counts += hot.sum(0)
    return sums, counts


def class_means(outputs: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """The mean of the outputs of every class, float64 ``(n_classes, L)``, and which classes have items.

    Arguments as of :func:`class_sums`. The mean of a class without items is 0.
    """
    sums, counts = class_sums(outputs, labels, n_classes)
    return sums / counts.clamp(min=1)[:, None], counts > 0


@torch.no_grad()
def nearer_to_another(outputs: Tensor, labels: Tensor, centers: Tensor | None = None) -> float:
    """The share of items that lie nearer to the center of a class that is not theirs than to any of their own.

    Args:
        outputs: float ``(n, L)``; codes as -1 and 1 are outputs too.
        labels: class ids int64 ``(n,)``, or multi-hot ``(n, C)``. Items without labels do not count.
        centers: float ``(C, L)``; None: the means of these outputs over their classes.

    Distances are Euclidean, in float64, and an item at equal distances is not nearer. Classes without items have no
    center, where centers are means. NaN where no item counts. Raises ``ValueError`` where shapes do not fit.
    """
    if centers is None:
        n_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1 if len(labels) else 0
        means, there = class_means(outputs, labels, n_classes)
    else:
        means, there = centers.detach().cpu().double(), torch.ones(len(centers), dtype=torch.bool)
        _check(outputs, labels, len(centers))
        if means.ndim != 2 or means.shape[1] != outputs.shape[1]:
            raise ValueError(f"centers must have shape (C, {outputs.shape[1]}), got {tuple(centers.shape)}")
    if not len(outputs):
        return float("nan")
    n_nearer = n_counted = 0
    size = max(1, _CHUNK // max(means.shape))
    for rows, of_rows in zip(outputs.split(size), labels.split(size), strict=True):
        of_rows = of_rows.cpu()
        # Differences, not products: equal distances stay equal.
        distance = torch.cdist(rows.cpu().double(), means, compute_mode="donot_use_mm_for_euclid_dist")
        distance = distance.masked_fill(~there, torch.inf)
        if labels.ndim == 1:
            own = torch.zeros_like(distance, dtype=torch.bool).scatter_(1, of_rows[:, None], True)
        else:
            own = of_rows.bool()
        nearest_own = distance.masked_fill(~own, torch.inf).amin(1)
        nearest_other = distance.masked_fill(own, torch.inf).amin(1)
        counted = own.any(1)
        n_nearer += int((counted & (nearest_other < nearest_own)).sum())
        n_counted += int(counted.sum())
    return n_nearer / n_counted if n_counted else float("nan")


def _check(outputs: Tensor, labels: Tensor, n_classes: int) -> None:
    n = len(outputs)
    if outputs.ndim != 2:
        raise ValueError(f"outputs must have shape (n, L), got {tuple(outputs.shape)}")
    if tuple(labels.shape) not in ((n,), (n, n_classes)):
        raise ValueError(f"labels must have shape ({n},) or ({n}, {n_classes}), got {tuple(labels.shape)}")
