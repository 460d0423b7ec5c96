"""Inputs of either kind behind one face: a set on the device, cut into normalised batches there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .image_batches import TensorImages

__all__ = ["Batches", "TensorFeatures", "make_batches"]


class TensorFeatures:
    """Feature vectors on a device; batches are standardised by mean and deviation of the training items.

    ``features`` float32 ``(n, d)``; give ``train_indices``, or ``mean`` and ``std`` ``(d,)`` computed before.
    A constant feature has deviation 1. The counterpart of :class:`dshc.data.image_batches.TensorImages`.
    """

    def __init__(
        self,
        features: np.ndarray,
        *,
        train_indices: np.ndarray | None = None,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if features.dtype != np.float32:
            raise TypeError(f"features have dtype {features.dtype}, expected float32")
        if features.ndim != 2 or 0 in features.shape:
            raise ValueError(f"features have shape {features.shape}, expected (n, d), none of them 0")
        if (train_indices is None) == (mean is None) or (mean is None) != (std is None):
            raise ValueError("expected either train_indices or both mean and std")
        if train_indices is not None:
            known = features[train_indices]
            mean = torch.from_numpy(known.mean(axis=0, dtype=np.float64).astype(np.float32))
            std = torch.from_numpy(known.std(axis=0, dtype=np.float64).astype(np.float32))
            std[std == 0] = 1
        if mean.shape != (features.shape[1],):
            raise ValueError(f"features have {features.shape[1]} dimensions, expected {len(mean)}")
        self.device = torch.device(device)
        self.mean, self.std = mean.cpu(), std.cpu()
        self.features = torch.from_numpy(features).to(self.device)
        self._mean, self._std = self.mean.to(self.device), self.std.to(self.device)

    def __len__(self) -> int:
        return len(self.features)

    def batch(
        self, indices: np.ndarray | Tensor, *, train: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """Features ``indices`` as float32 ``(b, d)``; nothing is random about them."""
        picked = torch.as_tensor(indices).to(self.device, torch.int64)
        return (self.features[picked] - self._mean) / self._std


Batches = TensorImages | TensorFeatures


def make_batches(
    inputs: np.ndarray,
    *,
    train_indices: np.ndarray | None = None,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    device: torch.device | str = "cpu",
    crop: bool = False,
    flip: bool = False,
    standardize: bool = True,
) -> Batches:
    """Batches of uint8 images ``(n, h, w, c)`` or float32 features ``(n, d)``; the shape says which.

    ``standardize=False`` leaves features as they are (mean 0 and deviation 1 then stand for nothing done).
    """
    known = {"train_indices": train_indices, "mean": mean, "std": std, "device": device}
    if inputs.ndim == 2:
        if not standardize and mean is None:
            d = inputs.shape[1]
            known |= {"train_indices": None, "mean": torch.zeros(d), "std": torch.ones(d)}
        return TensorFeatures(inputs, **known)
    return TensorImages(inputs, **known, padding=None if crop else 0, flip=flip, channels_last=True)
