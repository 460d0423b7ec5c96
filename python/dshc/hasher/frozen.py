"""Features of a frozen backbone: computed once per set of items, and kept under a fingerprint of all they depend on.

They are kept on disk, and with the set while it lives: where the disk keeps nothing, a training and what comes after it
have the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Dataset
from ..data.ahead import ahead
from ..kept_memory import kept_memory
from ..progress import progress
from ..storage import fingerprint, open_rows
from ..torch_defaults import thread_defaults
from .arithmetic import computed_in
from .hasher import Hasher, encoding_batch

__all__ = ["frozen_features"]

KIND = "features"
_VERSION = 2  # raised where the same network gives other features than before
_PART = 16  # batches between two writes: what a kill costs at most
_at_hand: WeakKeyDictionary[Dataset, tuple[str, np.ndarray]] = WeakKeyDictionary()


@thread_defaults()
@torch.no_grad()
def frozen_features(
    hasher: Hasher,
    dataset: Dataset,
    *,
    keep: bool = True,
    check: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """What a hasher's frozen backbone gives for the items of a set, float32 ``(n, n_frozen)``, in item order.

    Rows lie in a file of the cache folder (:func:`dshc.storage.cache_folder`) and are mapped, not copied, into memory.
    What an interrupted pass has computed is found by the next; a set, or weights, that differ in one byte have
    features of their own. ``keep=False``: what is computed here is not kept, as in all processes of a training but one.
    ``check`` is told how many are done before the first batch and after each, and may raise: these are kept.
    """
    key = _key(hasher, dataset)
    known, rows = _at_hand.get(dataset, ("", None))
    if rows is None or known != key:
        rows = _computed(hasher, dataset, key, keep, check)
        _at_hand[dataset] = key, rows
    return rows


def _computed(
    hasher: Hasher, dataset: Dataset, key: str, keep: bool, check: Callable[[int], None]
) -> np.ndarray:
    batch, inputs = encoding_batch(hasher.seen_shape), dataset.inputs
    n, width = dataset.n_items, hasher.backbone.n_frozen
    with open_rows(KIND, key, (n, width), keep=keep) as cache:
        if cache.n_done == n:
            return cache.rows
        check(cache.n_done)
        hasher.eval()
        with progress(f"features of {n} images") as update, kept_memory():
            update(cache.n_done, n)
            starts = range(cache.n_done, n, batch)
            rows: list[Tensor] = []
            for start, images in zip(starts, ahead(inputs[s : s + batch] for s in starts), strict=True):
                items = hasher.preprocessing(torch.from_numpy(images).to(hasher.device))
                rows.append(hasher.frozen_features(items).cpu())
                done = min(start + batch, n)
                update(done, n)
                try:
                    check(done)
                except BaseException:
                    cache.append(torch.cat(rows).numpy())
                    raise
                if len(rows) == _PART or done == n:
                    cache.append(torch.cat(rows).numpy())
                    rows = []
        return cache.rows


def weights_digest(*modules: nn.Module) -> str:
    """SHA-256, hexadecimal, of all that modules hold."""
    digest = hashlib.sha256()
    for module in modules:
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _key(hasher: Hasher, dataset: Dataset) -> str:
    size = hasher.encoder_settings.input_size
    return fingerprint(
        {
            "version": _VERSION,
            "backbone": hasher.encoder_settings.backbone,
            # Left out where None, as by the versions that had no such setting: features they kept are found.
            **({} if size is None else {"input_size": size}),
            "weights": weights_digest(hasher.preprocessing, hasher.backbone.net),
            "precision": computed_in(hasher.precision, hasher.device),
            "device": hasher.device.type,  # the last bits are the device's
            "items": dataset.digest(),
        }
    )
