"""Backbones: networks from inputs to features, by name. Each states the width of its features, ``n_features``.

``small_net`` trains images of up to 64 pixels in minutes on a CPU, ``conv_net`` is a smaller one, ``mlp`` takes given
features, ``identity`` hands them on as they are, and any model of timm is had by name where the extra ``vision`` is
installed: from random weights, from a file, or with the ImageNet weights of a package or of timm's hub
(``pretrained``).
"""

from __future__ import annotations

from torch import nn

from .enlarged import Enlarging, seen_shape
from .identity import identity
from .mlp import mlp
from .pretrained import ImageInput, has_vision, image_input
from .probe import features_of
from .settings import EncoderSettings
from .small_net import conv_net, small_net
from .timm_networks import TimmBackbone, timm_backbone

__all__ = [
    "EncoderSettings",
    "Enlarging",
    "ImageInput",
    "TimmBackbone",
    "build_backbone",
    "conv_net",
    "has_vision",
    "identity",
    "image_input",
    "mlp",
    "seen_shape",
    "small_net",
    "timm_backbone",
]


_CONVOLUTIONS = {
    "small_net": (small_net, 64),
    "conv_net": (conv_net, 32),
}  # and the width of each where nothing says one


def build_backbone(settings: EncoderSettings, item_shape: tuple[int, ...]) -> nn.Module:
    """The backbone that resolved settings name, for items ``(h, w, c)`` or ``(d,)``; has ``n_features``.

    Raises ``ValueError`` where it takes no such items, ``ImportError`` naming the extra where timm is missing.
    """
    name = settings.backbone or ""
    known = "mlp or identity" if len(item_shape) == 1 else "small_net, conv_net, identity or timm:NAME"
    if settings.timm_name is not None and len(item_shape) != 3:
        raise ValueError(f"backbone must be {known} for items of shape {item_shape}, got {name!r}")
    if settings.timm_name is not None:
        return timm_backbone(
            settings.timm_name,
            item_shape,
            weights=settings.weights,
            pretrained=bool(settings.pretrained),
            finetune=settings.finetune or "all",
            width=settings.width,
            input_size=settings.input_size,
        )
    if settings.weights is not None:
        raise ValueError(
            f"weights must go with a backbone timm:NAME; {name!r} starts from random weights, got {settings.weights!r}"
        )
    convolution = name in _CONVOLUTIONS and len(item_shape) == 3
    if (side := settings.input_size) is not None and not convolution:
        raise ValueError(
            f"input_size must go with a backbone {', '.join(_CONVOLUTIONS)} or timm:NAME; {name!r} reads items "
            f"as they are, got {side}"
        )
    if settings.pretrained or settings.finetune in ("none", "last"):
        asked = "pretrained" if settings.pretrained else f"finetune {settings.finetune!r}"
        raise ValueError(
            f"{asked} must go with a backbone timm:NAME; {name!r} starts from random weights and is trained as a whole"
        )
    if name == "identity":
        return identity(item_shape)
    if name == "mlp" and len(item_shape) == 1:
        return mlp(item_shape[0], width=settings.width or 512)
    if convolution:
        make, width = _CONVOLUTIONS[name]
        height, breadth, n_channels = seen = seen_shape(item_shape, side)  # type: ignore[arg-type]
        net = make(n_channels, width=settings.width or width, image_size=max(height, breadth))
        features_of(net, name, seen, "image_size" if side is None else "input_size")
        net.input_size = side
        return net.train()
    raise ValueError(f"backbone must be {known} for items of shape {item_shape}, got {name!r}")
