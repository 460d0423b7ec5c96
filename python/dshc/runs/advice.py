"""What a training that came to nothing says, and what to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data import Dataset, Split, is_photos
from .settings import RunSettings

__all__ = ["about_codes", "about_training"]

_NEAR = 0.1
"""Share of the way from chance to perfect that still counts as near chance."""
_NEARLY_ALL = 0.9


def about_training(
    metrics: Sequence[Mapping[str, Any]], dataset: Dataset, split: Split, settings: RunSettings
) -> str | None:
    """A sentence where the last epoch is near chance on its own training items; None where it is not.

    Chance is the share of the largest class for accuracy, and of relevant items for the validation mAP of a method that
    predicts nothing. Multi-label sets have no chance level of this kind, for predicting no label is right mostly.
    """
    if not metrics or dataset.labels is None or dataset.multilabel or dataset.n_classes < 2:
        return None
    shares = np.bincount(dataset.labels[split.train], minlength=dataset.n_classes) / len(split.train)
    row = metrics[-1]
    if row.get("train_accuracy") is not None:
        what, found, chance = "accuracy on its own training items", row["train_accuracy"], float(shares.max())
    elif row.get("validation_map") is not None and row["epoch"] > 0:
        what, found, chance = "validation mAP", row["validation_map"], float((shares**2).sum())
    else:
        return None
    if found >= chance + _NEAR * (1 - chance):
        return None
    return (
        f"the training ended near chance: {what} {found:.3f}, chance {chance:.3f}; {_what_to_try(settings)}"
    )


def about_codes(codes: np.ndarray, labels: np.ndarray | None, settings: RunSettings) -> str | None:
    """A sentence where nearly all codes, uint8 ``(n, bytes)``, are one though the items are of several classes."""
    if len(codes) < 2:
        return None
    _, counts = np.unique(codes, axis=0, return_counts=True)
    share = counts.max() / len(codes)
    if labels is None or share < _NEARLY_ALL:
        return None
    if np.unique(labels, axis=0, return_counts=True)[1].max() >= _NEARLY_ALL * len(labels):
        return None
    return (
        f"{share:.0%} of the {len(codes)} codes of the database are one, so that ranking says nothing; "
        f"{_what_to_try(settings)}"
    )


def _what_to_try(settings: RunSettings) -> str:
    tries = [f"more epochs (--epochs, now {settings.optim.epochs})"] if settings.optim.epochs else []
    if settings.optim.lr is not None:
        tries.append(f"another learning rate (--lr, now {settings.optim.lr:g})")
    if settings.encoder.finetune == "none":
        tries.append("training the backbone too (--finetune last or all)")
    elif is_photos(settings.data.source) and not settings.encoder.pretrained:
        tries.append("ImageNet weights (--backbone timm:tf_efficientnet_lite0 --pretrained)")
    tries.append("more items per class")
    return f"try {', '.join(tries[:-1])} or {tries[-1]}" if len(tries) > 1 else f"try {tries[0]}"
