"""Small images as one tensor on the device, cut into normalised and augmented batches there.

No worker processes and no loop over images: a batch is one gather whose row and column numbers carry crop and
flip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from .tensor_batches import TensorBatches, check_statistics

if TYPE_CHECKING:
    from .image_files import ImageFiles

__all__ = ["ImageBatches", "TensorImages", "channel_statistics", "item_numbers", "normalised"]


class ImageBatches:
    """What images of either kind, in memory or in files, share: crops, mirroring and normalisation on a device.

    Attributes: ``mean``, ``std`` (float32 ``(c,)``, on the CPU), ``device``, ``padding``.
    """

    def __init__(
        self,
        item_shape: tuple[int, int, int],
        mean: Tensor | np.ndarray,
        std: Tensor | np.ndarray,
        *,
        device: torch.device | str = "cpu",
        padding: int | None = None,
        padding_mode: Literal["reflect", "zero"] = "reflect",
        flip: bool = False,
        channels_last: bool = False,
    ) -> None:
        height, width, n_channels = item_shape
        self.mean, self.std = (torch.as_tensor(v).to("cpu", torch.float32).clone() for v in (mean, std))
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.shape != (n_channels,) or not values.isfinite().all():
                raise ValueError(f"{name} must be {n_channels} finite numbers, got {values.tolist()}")
        if (self.std <= 0).any():
            raise ValueError(f"std must be positive numbers, got {self.std.tolist()}")
        if padding is None:
            side = min(height, width)
            padding = 1 if side <= 16 else 2 if side <= 32 else side // 16
            padding = min(padding, side - 1)
        if padding_mode not in ("reflect", "zero"):
            raise ValueError(f"padding_mode must be 'reflect' or 'zero', got {padding_mode!r}")
        if isinstance(padding, bool) or not isinstance(padding, int):
            raise TypeError(f"padding must be a number of pixels, got {padding!r}")
        if not 0 <= padding < min(height, width):
            raise ValueError(
                f"padding must be 0 to {min(height, width) - 1} for {height}x{width} pixels, got {padding}"
            )
        self.device = torch.device(device)
        self.padding = padding
        self.padding_mode = padding_mode
        self.flip = flip
        self.channels_last = channels_last
        self._mean, self._std = self.mean.to(self.device), self.std.to(self.device)

    def _inputs(
        self, images: Tensor, picked: Tensor, *, train: bool, generator: torch.Generator | None
    ) -> Tensor:
        """Images ``picked`` of uint8 ``(n, h, w, c)`` as the network takes them."""
        augmented = train and (self.padding > 0 or self.flip)
        if augmented and generator is None:
            raise TypeError("generator must be a torch.Generator with train=True, got None")
        pixels = self._augmented(images, picked, generator) if augmented else images[picked]
        batch = normalised(pixels, self._mean, self._std)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return batch.contiguous(memory_format=layout)

    def _augmented(self, images: Tensor, picked: Tensor, generator: torch.Generator) -> Tensor:
        """uint8 ``(b, h, w, c)``, each image moved and perhaps mirrored."""
        n, (height, width) = len(picked), images.shape[1:3]
        rows = torch.arange(height, device=self.device).expand(n, height)
        columns = torch.arange(width, device=self.device).expand(n, width)
        if self.flip:
            mirrored = torch.randint(2, (n, 1), generator=generator, device=generator.device).to(self.device)
            columns = torch.where(mirrored == 1, width - 1 - columns, columns)
        if self.padding == 0:
            return images[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        moves = torch.randint(2 * self.padding + 1, (2, n, 1), generator=generator, device=generator.device)
        moves = moves.to(self.device) - self.padding
        rows, columns = rows + moves[0], columns + moves[1]
        if self.padding_mode == "reflect":
            rows, columns = _reflect(rows, height), _reflect(columns, width)
            return images[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        inside_rows, inside_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        pixels = images[picked[:, None, None], rows[:, :, None], columns[:, None, :]]
        return pixels * (inside_rows[:, :, None] & inside_columns[:, None, :])[..., None]


class TensorImages(TensorBatches, ImageBatches):
    """A set of images on a device, and batches of it as a network takes them.

    * ``images``: uint8 ``(n, h, w, c)``, numpy or torch.
    * ``train_indices``: the training items, whose mean and standard deviation a channel normalise every
      batch; or give ``mean`` and ``std``, ``(c,)`` in units of pixel / 255, as another ``TensorImages``
      computed them.
    * ``padding``: a training crop is moved by up to that many pixels each way; None: 1 for sides up to 16, 2
      up to 32, a sixteenth above. 0: no crop. ``padding_mode``: what lies outside: ``"reflect"`` (mirrored at
      the border pixel) or ``"zero"`` (black).
    * ``flip``: mirror half of the training images left to right; right for photographs, wrong for digits.
    * ``channels_last``: batches lie in memory as ``torch.channels_last`` (their shape is the same).

    Attributes: ``images`` (uint8 tensor on ``device``) and those of :class:`ImageBatches`.
    """

    def __init__(
        self,
        images: np.ndarray | Tensor,
        *,
        train_indices: np.ndarray | Tensor | None = None,
        mean: Tensor | np.ndarray | None = None,
        std: Tensor | np.ndarray | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> None:
        tensor = torch.as_tensor(images)
        if tensor.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, got {tensor.dtype}")
        if tensor.ndim != 4 or 0 in tensor.shape:
            raise ValueError(
                f"images must have shape (n, h, w, c), none of them 0, got {tuple(tensor.shape)}"
            )
        check_statistics(train_indices, mean, std)
        if mean is None:
            mean, std = channel_statistics(tensor, train_indices)
        super().__init__(tensor.shape[1:], mean, std, device=device, **options)
        self.images = tensor.to(self.device)

    def __len__(self) -> int:
        return self.images.shape[0]

    def batch(
        self,
        indices: np.ndarray | Tensor,
        *,
        train: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images ``indices`` (integers ``(b,)``) as float32 ``(b, c, h, w)``: (pixel / 255 - mean) / std.

        ``train=True`` crops and flips; every random number comes from ``generator``, so the same state gives
        the same batch. A generator on the CPU gives the same crops on any device.
        """
        picked = item_numbers(indices, len(self)).to(self.device)
        return self._inputs(self.images, picked, train=train, generator=generator)


def normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 ``(b, h, w, c)`` as float32 ``(b, c, h, w)``: (pixel / 255 - mean) / std, by one product and one sum."""
    scale = (1 / (255 * std.double())).float()
    shift = (-mean.double() / std.double()).float()
    return torch.addcmul(shift, pixels, scale).permute(0, 3, 1, 2)


def channel_statistics(
    images: Tensor | np.ndarray | ImageFiles, indices: np.ndarray | Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over items ``indices``, float32 ``(c,)``, pixels as 0..1.

    From integer sums, so the result depends on neither order, device nor threads. A constant channel has
    deviation 1.
    """
    in_memory = isinstance(images, (np.ndarray, Tensor))  # images in files are decoded part by part
    pixels = torch.as_tensor(images) if in_memory else images
    picked = item_numbers(indices, len(pixels)).to(pixels.device if in_memory else "cpu")
    if not len(picked):
        raise ValueError(f"indices must be the numbers of at least one item, got shape {tuple(picked.shape)}")
    n_channels = pixels.shape[3]
    totals = torch.zeros(2, n_channels, dtype=torch.int64, device=picked.device)
    # In parts, for the integers of one part are held at eight bytes a pixel.
    for part in picked.split(max(1, 2**22 // math.prod(pixels.shape[1:]))):
        taken = pixels[part] if in_memory else torch.from_numpy(pixels[part.numpy()])
        values = taken.reshape(-1, n_channels).long()
        totals += torch.stack([values.sum(0), (values * values).sum(0)])
    count = len(picked) * pixels.shape[1] * pixels.shape[2]
    sums, squares = totals.tolist()
    # Exact until the last step: count * squares - sum^2 in Python's integers.
    variances = [(count * q - s * s) / (count * 255) ** 2 for s, q in zip(sums, squares, strict=True)]
    mean = torch.tensor([s / (count * 255) for s in sums])
    return mean, torch.tensor([variance**0.5 if variance > 0 else 1.0 for variance in variances])


def item_numbers(indices: np.ndarray | Tensor, n_items: int) -> Tensor:
    """``indices`` as int64 ``(b,)``; values are checked on the CPU only, without a synchronisation."""
    picked = torch.as_tensor(indices)
    if picked.dtype.is_floating_point and picked.numel() or picked.dtype == torch.bool:
        raise TypeError(f"indices must be integers, got {picked.dtype}")
    if picked.ndim != 1:
        raise ValueError(f"indices must have shape (b,), got {tuple(picked.shape)}")
    picked = picked.long()
    if picked.device.type == "cpu" and len(picked):
        low, high = (int(value) for value in picked.aminmax())
        if low < 0 or high >= n_items:
            raise ValueError(f"indices must be 0 to {n_items - 1}, got {low} to {high}")
    return picked


def _reflect(positions: Tensor, size: int) -> Tensor:
    """Positions beyond the border mirrored at the border pixel, as ``torch``'s padding ``reflect`` does."""
    positions = positions.abs()
    return size - 1 - (size - 1 - positions).abs()
