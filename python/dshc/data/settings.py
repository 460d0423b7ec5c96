"""Settings of the data: what is read, how it is split, how training images are varied."""

from __future__ import annotations

from typing import Literal, get_args

from ..settings import Settings, setting
from .fetched_images import AUGMENTATIONS

__all__ = ["RECOVERIES", "DataSettings", "Recovery"]

Recovery = Literal["auto", "neighbourhoods", "markov", "spectral"]
RECOVERIES = get_args(Recovery)


class DataSettings(Settings):
    """Which items, in which roles. None is chosen by the data when a run starts."""

    source: str = setting(
        "digits", "a named set, a folder or list of photos, or a file of embeddings", result=False
    )
    root: str | None = setting(None, "folder of the official files of a named set", result=False)
    labels: str | None = setting(None, "file of labels for embeddings that hold none", result=False)
    pairs: str | None = setting(
        None,
        "file of pairs of items that are similar or not, instead of labels (csv, tsv, txt, npy, npz, safetensors)",
        result=False,
        later=True,
    )
    recover: Recovery | None = setting(
        None,
        "pairs: how labels are recovered from them (default: auto, but a method that learns from pairs is given these)",
        later=True,
    )
    image_size: int | None = setting(
        None,
        "side to which photos are brought (default: the pretrained backbone's own, else 64)",
        ge=1,
        le=4096,
    )
    interpolation: Literal["bilinear", "bicubic"] | None = setting(
        None, "how photos are brought to it (default: the pretrained backbone's own, else bilinear)"
    )
    n_channels: int | None = setting(None, "1 or 3: take photos as grey or RGB", ge=1, le=3)
    skip_unreadable: bool = setting(False, "leave out images that cannot be read, with a warning")
    protocol: str = setting("default", "which items are queries, database and training")
    validation: float = setting(0.1, "share of the training items kept for selecting the model", ge=0, lt=1)
    train_per_class: int | None = setting(
        None,
        "train on at most so many items of each class, those for validation among them (default: all); multi-label: on "
        "items until each label has so many",
        ge=1,
    )
    unseen_classes: int = setting(
        0,
        "train on none of so many classes, drawn by the seed; they are queried and found all the same",
        ge=0,
    )
    max_memory_mib: int = setting(
        1024,
        "decoded photos of at most so many MiB stay in memory, more are decoded as needed",
        result=False,
        ge=0,
    )
    crop: bool | None = setting(None, "random crops of training images")
    flip: bool | None = setting(None, "random mirroring of training images")
    augment: Literal[AUGMENTATIONS] = setting(  # type: ignore[valid-type]
        "none", "operations drawn for every training image, as torchvision has them"
    )
    standardize: bool | None = setting(
        None, "features: bring each to mean 0 and deviation 1 over the training items"
    )
