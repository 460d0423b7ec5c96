"""Twins of the losses, and of codes read off their logits."""

from __future__ import annotations

import torch
from torch import Tensor

from .codes import pack_codes, unpack_codes


def class_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    *,
    target: str | float = "normalized",
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    labels, class_offsets = labels.long(), class_offsets.to(logits.device).long()
    kept = labels != ignore_index
    true_class = labels[kept]
    first, last = class_offsets[true_class], class_offsets[true_class + 1]
    position = torch.arange(logits.shape[1], device=logits.device)
    in_run = (position >= first[:, None]) & (position < last[:, None])
    weight = 1.0 / (last - first).to(wide.dtype) if target == "normalized" else float(target)
    log_p = torch.log_softmax(wide[kept], dim=1)
    # Selected, not multiplied by a 0/1 target: probability 0 outside the run must not turn into 0 * inf.
    # Added in float64: a sum over thousands of sub-classes would round to more than their mean does.
    sums = torch.where(in_run, log_p, torch.zeros_like(log_p)).sum(1, dtype=torch.float64)
    kept_loss = (-weight * sums).to(wide.dtype)
    if reduction == "none":
        return torch.zeros(len(labels), dtype=wide.dtype, device=logits.device).masked_scatter(
            kept, kept_loss
        )
    return kept_loss.sum() if reduction == "sum" else kept_loss.mean()


def class_softmax_linear_loss(
    features: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, class_offsets: Tensor, **options
) -> Tensor:
    return class_softmax_loss(
        torch.nn.functional.linear(features, weight, bias), labels, class_offsets, **options
    )


def codes_from_logits(logits: Tensor, codebook: Tensor, k: int, *, weighting: str = "mean") -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    values, order = wide.sort(dim=1, descending=True, stable=True)
    values, order = values[:, :k], order[:, :k]
    signs = unpack_codes(codebook, 8 * codebook.shape[1], signed=True)[order]  # (n, k, bits)
    if weighting == "probability":
        # A common factor does not change the sign, so the soft-max is relative to the largest logit.
        top = values[:, :1]
        weights = torch.where(values == top, torch.ones_like(values), (values - top).exp())
        votes = torch.zeros(signs[:, 0].shape, dtype=wide.dtype, device=logits.device)
        for rank in range(k):
            votes += weights[:, rank, None] * signs[:, rank].to(wide.dtype)
    else:
        votes = signs.sum(dim=1, dtype=torch.int64)
    return pack_codes(torch.where(votes == 0, signs[:, 0].to(votes.dtype), votes))


def codes_from_features(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    k: int,
    *,
    weighting: str = "mean",
) -> Tensor:
    logits = torch.nn.functional.linear(features, weight, bias)
    return codes_from_logits(logits, codebook, k, weighting=weighting)


def center_codes_from_logits(logits: Tensor, class_offsets: Tensor, centers: Tensor) -> Tensor:
    wide = logits if logits.dtype == torch.float64 else logits.float()
    runs = [
        wide[:, first:last]
        for first, last in zip(class_offsets[:-1].tolist(), class_offsets[1:].tolist(), strict=True)
    ]
    scores = torch.stack([run.logsumexp(dim=1) for run in runs], dim=1)
    best = scores.sort(dim=1, descending=True, stable=True).indices[:, 0]
    return centers[best]
