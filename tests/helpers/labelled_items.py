"""Sets of labels for tests of splits, whose inputs say nothing."""

from __future__ import annotations

import numpy as np

from dshc.data import Dataset

__all__ = ["cifar10_like", "labelled"]


def labelled(labels: np.ndarray, name: str = "some", test_mask: np.ndarray | None = None) -> Dataset:
    n_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    inputs = np.zeros((len(labels), 1), np.float32)
    return Dataset(name, "features", inputs, labels, tuple(f"c{i}" for i in range(n_classes)), test_mask)


def cifar10_like() -> Dataset:
    """60,000 items of ten classes, without pixels."""
    return labelled(np.arange(60000) * 7 % 10, "cifar10")
