"""Any model of timm by name, where the extra ``vision`` is installed."""

from __future__ import annotations

import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from .probe import features_of

__all__ = ["timm_backbone"]


def timm_backbone(
    name: str, item_shape: tuple[int, int, int], *, weights: str | os.PathLike[str] | None = None
) -> nn.Module:
    """A timm model without its classifier, for images ``(h, w, c)``; ``n_features`` is what it gives for
    them.

    ``weights`` is a file of the model's own weights, ``.safetensors`` or a ``torch.save``d state dict (read
    with ``weights_only=True``); its classifier is left out. Raises ``ImportError`` naming the extra where
    timm is absent, ``ValueError`` for an unknown name, weights of another model or images of a size the model
    does not take.
    """
    try:
        import timm
    except ImportError:
        raise ImportError(
            f"backbone: 'timm:{name}' needs timm; install the extra: pip install 'dshc-fast[vision]'"
        ) from None
    try:
        net = timm.create_model(name, pretrained=False, num_classes=0, in_chans=item_shape[2])
    except RuntimeError as error:
        raise ValueError(f"backbone: timm does not know {name!r} ({error})") from None
    if weights is not None:
        _load_weights(net, Path(weights))
    net.n_features = features_of(net, f"timm:{name}", item_shape).shape[1]
    return net.train()


def _load_weights(net: nn.Module, path: Path) -> None:
    """Weights into ``net``, which has no classifier; the file's classifier is left out."""
    if not path.is_file():
        raise FileNotFoundError(f"weights: {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive fails in many ways, each of which means the same
        raise ValueError(f"weights: {path}: damaged, or no file of weights ({error})") from None
    if not isinstance(state, dict):
        raise ValueError(f"weights: {path}: holds {type(state).__name__}, expected a state dict")
    state = state.get("state_dict", state)
    classifiers = getattr(net, "default_cfg", {}).get("classifier", ())
    classifiers = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    state = {
        key: value for key, value in state.items() if not key.startswith(tuple(f"{c}." for c in classifiers))
    }
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights: {path}: not the weights of this model ({error})") from None
