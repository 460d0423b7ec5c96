"""Inputs of either kind behind one face: a set on the device, cut into normalised batches there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .fetched_images import FetchedImages
from .image_batches import TensorImages
from .image_files import ImageFiles
from .tensor_batches import TensorBatches, check_statistics

__all__ = ["Batches", "TensorFeatures", "make_batches"]


class TensorFeatures(TensorBatches):
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
            raise TypeError(f"features must be float32, got {features.dtype}")
        if features.ndim != 2 or 0 in features.shape:
            raise ValueError(f"features must have shape (n, d), none of them 0, got {features.shape}")
        check_statistics(train_indices, mean, std)
        if train_indices is not None:
            known = features[train_indices]
            mean = torch.from_numpy(known.mean(axis=0, dtype=np.float64).astype(np.float32))
            std = torch.from_numpy(known.std(axis=0, dtype=np.float64).astype(np.float32))
            std[std == 0] = 1
        if mean.shape != (features.shape[1],):
            raise ValueError(f"features must have {len(mean)} dimensions, got {features.shape[1]}")
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


Batches = TensorImages | FetchedImages | TensorFeatures


def make_batches(
    inputs: np.ndarray | ImageFiles,
    *,
    train_indices: np.ndarray | None = None,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    device: torch.device | str = "cpu",
    crop: bool = False,
    flip: bool = False,
    standardize: bool = True,
    augment: str = "none",
    workers: int | None = None,
) -> Batches:
    """Batches of uint8 images ``(n, h, w, c)``, in memory or in files, or float32 features ``(n, d)``.

    ``standardize=False`` leaves features as they are (mean 0 and deviation 1 then stand for nothing done).
    ``augment`` and ``workers`` as for :class:`FetchedImages`, which serves images in files and augmented ones.
    """
    known = {"train_indices": train_indices, "mean": mean, "std": std, "device": device}
    if inputs.ndim == 2:
        if not standardize and mean is None:
            d = inputs.shape[1]
            known |= {"train_indices": None, "mean": torch.zeros(d), "std": torch.ones(d)}
        return TensorFeatures(inputs, **known)
    known |= {"padding": None if crop else 0, "flip": flip, "channels_last": True}
    if isinstance(inputs, ImageFiles) or augment != "none":
        return FetchedImages(inputs, augment=augment, workers=workers, **known)
    return TensorImages(inputs, **known)
