"""Fewer items to train on than a protocol has: some of each class, or none of some classes."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .dataset import Dataset

__all__ = ["some_per_class", "without_classes"]


def some_per_class(dataset: Dataset, pool: np.ndarray, n_per_class: int, words: np.ndarray) -> np.ndarray:
    """At most so many items of each class, the first in the order of their words; rising item numbers.

    Of more, those of fewer are the first: 10 items per class are among the 50 of the same seed. Multi-label: items are
    taken in that order as long as one of their labels has fewer than ``n_per_class``, so that every label gets as many
    (or all there are), common ones more; items without labels are not taken.
    """
    order = pool[np.argsort(words[pool], kind="stable")]
    taken = np.zeros(len(order), bool)
    counts = np.zeros(dataset.n_classes, np.int64)
    if dataset.multilabel:
        for i, hot in enumerate(dataset.labels[order].astype(bool)):
            if (counts[hot] < n_per_class).any():
                taken[i] = True
                counts[hot] += 1
    else:
        for i, label in enumerate(dataset.labels[order]):
            taken[i] = counts[label] < n_per_class
            counts[label] += 1
    return np.sort(order[taken])


def without_classes(dataset: Dataset, pool: np.ndarray, n_classes: int, words: np.ndarray) -> np.ndarray:
    """The items of the pool of all classes but ``n_classes``: the first in the order of ``words``, one a class.

    Raises :class:`InputError` for multi-label sets, and where fewer than two classes would be left.
    """
    if dataset.multilabel:
        raise InputError(
            f"{dataset.name}: items must be of one class each for unseen_classes, got several labels"
        )
    there = np.unique(dataset.labels[pool])
    if n_classes > len(there) - 2:
        raise InputError(
            f"unseen_classes must leave two of the {len(there)} classes to train on, got {n_classes}"
        )
    unseen = there[np.argsort(words[there], kind="stable")[:n_classes]]
    return pool[~np.isin(dataset.labels[pool], unseen)]
