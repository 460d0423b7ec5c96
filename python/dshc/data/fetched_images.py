"""Batches of images that are fetched one by one: decoded from files, varied by RandAugment or TrivialAugment.

Without augmentation threads decode while the network works on the batch before. Augmentation runs in worker processes
of its own (torch's ``DataLoader``), for most of it holds Python's lock. What is random about an item follows from
(seed, epoch, item) alone, so that neither workers nor an interruption change it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError, install
from .ahead import ahead
from .image_batches import ImageBatches, channel_statistics, item_numbers
from .image_files import ImageFiles
from .tensor_batches import check_statistics

__all__ = ["AUGMENTATIONS", "FetchedImages", "lost_workers"]

AUGMENTATIONS = ("none", "randaugment", "trivialaugment")
_MOST_WORKERS = 8
_STATISTICS_ITEMS = 4096


class FetchedImages(ImageBatches):
    """Images behind numbers, and batches of them as a network takes them.

    * ``source``: :class:`ImageFiles`, or uint8 ``(n, h, w, c)`` in memory.
    * ``train_indices``, or ``mean`` and ``std``: as for :class:`~dshc.data.image_batches.TensorImages`; of more than
      4,096 images in files, that many spread evenly are decoded for the statistics.
    * ``augment``: ``"randaugment"`` (Cubuk et al., arXiv 1909.13719: two operations of magnitude 9) or
      ``"trivialaugment"`` (Müller and Hutter, arXiv 2103.10158, wide) on every training image, as torchvision has
      them (extra ``vision``); ``"none"``.
    * ``workers``: processes that decode and augment; None: one per CPU core, at most 8, where images are augmented,
      else none (threads decode).

    The other options are those of :class:`~dshc.data.image_batches.ImageBatches`.
    """

    def __init__(
        self,
        source: ImageFiles | np.ndarray,
        *,
        train_indices: np.ndarray | None = None,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        augment: Literal["none", "randaugment", "trivialaugment"] = "none",
        workers: int | None = None,
        **options: Any,
    ) -> None:
        check_statistics(train_indices, mean, std)
        if mean is None:
            known = np.asarray(train_indices)
            if isinstance(source, ImageFiles):
                known = statistics_items(known)
            mean, std = channel_statistics(source, known)
        super().__init__(source.shape[1:], mean, std, **options)
        self.source = source
        self.augment = _augmentation(augment)
        if workers is None:
            workers = 0 if self.augment is None else min(_MOST_WORKERS, os.cpu_count() or 1)
        self.workers = workers

    def __len__(self) -> int:
        return len(self.source)

    def batch(
        self,
        indices: np.ndarray | Tensor,
        *,
        train: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images ``indices`` as :meth:`TensorImages.batch` gives them; ``augment`` belongs to :meth:`fetch`."""
        return self.inputs(self._decoded(indices), train=train, generator=generator)

    def fetch(
        self, picks: Sequence[np.ndarray | Tensor], numbers: tuple[int, ...] | None = None
    ) -> Iterator[Tensor]:
        """Images of each pick, uint8 ``(b, h, w, c)`` on the CPU, the next ones being fetched meanwhile.

        ``numbers``, such as (seed, epoch), augment them; None leaves them as they are.
        """
        if numbers is None or (self.augment is None and not self.workers):
            return ahead(self._decoded(pick) for pick in picks)
        return self._by_workers(picks, numbers)

    def inputs(
        self, fetched: Tensor, *, train: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """What :meth:`fetch` gave as float32 ``(b, c, h, w)``, with ``train`` cropped and mirrored."""
        images = fetched.to(self.device)
        every = torch.arange(len(images), device=self.device)
        return self._inputs(images, every, train=train, generator=generator)

    def _decoded(self, indices: np.ndarray | Tensor) -> Tensor:
        return torch.from_numpy(self.source[item_numbers(indices, len(self)).cpu().numpy()])

    def _by_workers(self, picks: Sequence[np.ndarray | Tensor], numbers: tuple[int, ...]) -> Iterator[Tensor]:
        items = _Items(self.source, self.augment, numbers)
        loader = DataLoader(
            items,
            batch_sampler=[torch.as_tensor(pick).tolist() for pick in picks],
            num_workers=self.workers,
            collate_fn=_stacked,
            worker_init_fn=_apart_from_signals,
            generator=torch.Generator(),  # else torch draws a seed of its own from the step's, where dropout draws
        )
        with lost_workers(self.workers):
            for batch in loader:
                if isinstance(batch, Exception):
                    raise batch
                yield batch


@contextlib.contextmanager
def lost_workers(workers: int) -> Iterator[None]:
    """Inside, a worker process that dies is an :class:`InputError`; torch raises it wherever the program then is."""
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise InputError(
            f"workers must be fewer, or 0, where memory is short, got {workers}: one of these processes died ({error})"
        ) from None


class _Items(Dataset):
    """One image by number, augmented by the randomness of its own; or why it cannot be had."""

    def __init__(
        self,
        source: ImageFiles | np.ndarray,
        augment: Callable[[Tensor], Tensor] | None,
        numbers: tuple[int, ...],
    ) -> None:
        self.source, self.augment, self.numbers = source, augment, numbers

    def __getitem__(self, item: int) -> Tensor | Exception:
        try:
            image = torch.from_numpy(np.array(self.source[item], order="C"))  # Pillow's cannot be written
        except (ValueError, OSError) as error:
            return error  # raised here, it would come with a worker's traceback in its text
        if self.augment is None:
            return image
        words = np.random.SeedSequence([*self.numbers, item]).generate_state(2, np.uint32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(words[0]) << 31 ^ int(words[1]))
            return self.augment(image.permute(2, 0, 1)).permute(1, 2, 0).contiguous()


def _stacked(images: list[Tensor | Exception]) -> Tensor | Exception:
    return next((image for image in images if isinstance(image, Exception)), None) or torch.stack(images)


def statistics_items(items: np.ndarray) -> np.ndarray:
    """Of many photos those that mean and deviation are taken of: at most 4,096, spread evenly."""
    if len(items) <= _STATISTICS_ITEMS:
        return items
    return items[np.linspace(0, len(items) - 1, _STATISTICS_ITEMS).astype(np.int64)]


def _augmentation(name: str) -> Callable[[Tensor], Tensor] | None:
    """torchvision's augmentation of uint8 ``(c, h, w)`` by its name; None for none."""
    if name == "none":
        return None
    try:
        from torchvision.transforms import v2
    except ImportError:
        raise ImportError(f"augment {name!r} needs torchvision: {install('vision')}") from None
    return v2.RandAugment() if name == "randaugment" else v2.TrivialAugmentWide()


def _apart_from_signals(_worker: int) -> None:
    # Ctrl-C, a hang-up and SIGTERM may be sent to a whole group of processes; the parent ends its step then, for which
    # it needs its workers. In a group of their own they hear only what is sent to them: SIGTERM by the parent, to which
    # a worker that is not done must answer with 0, for anything else is an error there.
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
