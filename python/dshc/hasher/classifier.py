"""Codes for a classifier that is ready: the code of an item is the center of the class it is put into.

Luo et al., *Deep Supervised Hashing by Classification*: "classification models can be directly utilized". Centers lie
as far apart as known codes go (:mod:`dshc.codebooks.separated`), so that a short code is enough.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones import EncoderSettings
from ..errors import InputError
from ..methods.dshc import DSHCSettings
from ..torch_defaults import torch_defaults
from .hasher import Hasher

__all__ = ["from_classifier"]


@torch_defaults()
def from_classifier(
    classifier: nn.Module | np.ndarray | Tensor,
    bits: int | None = None,
    *,
    item_shape: Sequence[int] | None = None,
    class_names: Sequence[str] = (),
    seed: int = 0,
) -> Hasher:
    """A hasher without training: class scores in, or whatever ``classifier`` takes, and codes out.

    Args:
        classifier: a network from inputs to logits ``(b, n_classes)``, which becomes part of the hasher (no copy is
            made); or logits ``(n, n_classes)`` themselves, of which only the width counts: the hasher then takes
            logits.
        bits: code length; None: as few as keep the centers 5 apart.
        item_shape: of the network's inputs without the batch, e.g. ``(3, 224, 224)``; needed for a network, which
            gets them as they are, float32, in evaluation mode.
        class_names: names of the classes; by default their numbers.
        seed: of the search for centers.

    Raises :class:`dshc.errors.InputError` where the classifier gives no logits ``(b, n_classes)``, and as
    :func:`dshc.codebooks.build` does.

    >>> hasher = from_classifier(np.zeros((1, 4), np.float32), bits=7)
    >>> hasher.encode(np.eye(4, dtype=np.float32)).shape
    (4, 1)
    """
    if isinstance(classifier, nn.Module):
        if item_shape is None:
            raise InputError("item_shape must be given with a network, such as (3, 224, 224)")
        if not isinstance(item_shape, Sequence) or not all(
            type(side) is int and side > 0 for side in item_shape
        ):
            raise InputError(f"item_shape must be whole numbers, such as (3, 224, 224), got {item_shape!r}")
        if any(weight.dtype == torch.bfloat16 for weight in classifier.parameters()):
            raise InputError(
                "classifier must have weights of float32, float16 or float64, got bfloat16; .float() it"
            )
        n_classes = _width(classifier, tuple(item_shape))
        network, encoder = classifier, EncoderSettings()
    else:
        if getattr(classifier, "ndim", 0) != 2:
            raise InputError(f"logits must have shape (n, n_classes), got {np.shape(classifier)}")
        n_classes = classifier.shape[1]
        item_shape, network, encoder = (n_classes,), None, EncoderSettings(backbone="identity")
    names = tuple(class_names) or tuple(map(str, range(n_classes)))
    if not all(isinstance(name, str) for name in names):
        raise InputError(
            f"class_names must be text, got {next(n for n in names if not isinstance(n, str))!r}"
        )
    if any("\ud800" <= letter <= "\udfff" for name in names for letter in name):
        raise InputError("class_names must be text that UTF-8 can hold, got half of a surrogate pair")
    if len(names) != n_classes:
        raise InputError(f"class_names must name the {n_classes} classes, got {len(names)}")
    device = _device(network) if isinstance(network, nn.Module) else torch.device("cpu")
    settings = DSHCSettings(bits=bits, construction="separated", radius=0, head="identity")
    hasher = Hasher.build(
        encoder,
        settings,
        kind="features",
        item_shape=tuple(item_shape),
        label_kind="ids",
        class_names=names,
        mean=torch.zeros((), device=device),
        std=torch.ones((), device=device),
        seed=seed,
        network=network,
        n_features=n_classes,
    )
    hasher.about["made_from"] = "a classifier, without training"
    return hasher.eval()


def _device(network: nn.Module) -> torch.device:
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))


@torch.no_grad()
def _width(classifier: nn.Module, item_shape: tuple[int, ...]) -> int:
    try:
        logits = classifier.eval()(torch.zeros(1, *item_shape, device=_device(classifier)))
    except Exception as error:  # a network of the caller's, which may raise anything
        raise InputError(f"classifier must take items of shape {item_shape}, got an error: {error}") from None
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"classifier must give logits (b, n_classes), got {found}")
    return logits.shape[1]
