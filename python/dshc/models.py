"""Networks: a backbone from inputs to features, and the method's head on top.

``small_net`` trains images of up to 32 pixels in minutes on a CPU, ``mlp`` takes given features, and any
model of timm is had by name where the extra ``vision`` is installed.
"""

from __future__ import annotations

import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .config import Config

__all__ = ["Network", "build_backbone", "mlp", "small_net", "timm_backbone"]


class Network(nn.Module):
    """Backbone and head: inputs to the outputs a method takes."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.backbone(inputs))


def build_backbone(config: Config, item_shape: tuple[int, ...]) -> nn.Module:
    """The backbone that a resolved config names, for items ``(h, w, c)`` or ``(d,)``; has ``n_features``."""
    name = config.backbone or ""
    if config.weights is not None and not name.startswith("timm:"):
        raise ValueError(
            f"weights: got {config.weights!r}, taken with a backbone timm:NAME only; {name!r} starts from "
            "random weights"
        )
    if name == "mlp" and len(item_shape) == 1:
        return mlp(item_shape[0], width=config.width or 512)
    if name == "small_net" and len(item_shape) == 3:
        net = small_net(item_shape[2], width=config.width or 64, image_size=max(item_shape[:2]))
        _features(net, name, item_shape)
        return net.train()
    if name.startswith("timm:") and len(item_shape) == 3:
        return timm_backbone(name.removeprefix("timm:"), item_shape, weights=config.weights)
    taken = "mlp" if len(item_shape) == 1 else "small_net or timm:NAME"
    raise ValueError(f"backbone: got {name!r}, taken for items of shape {item_shape} is {taken}")


def mlp(n_inputs: int, *, width: int = 512, dropout: float = 0.3) -> nn.Sequential:
    """Two hidden layers over features ``(b, n_inputs)``; ``n_features`` is ``width``."""
    net = nn.Sequential(
        *(nn.Linear(n_inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)),
        *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)),
    )
    net.n_features = width
    return net


def small_net(n_channels: int, *, width: int = 64, image_size: int = 32) -> nn.Sequential:
    """A small residual network over images ``(b, n_channels, h, w)``; ``n_features`` is ``4 * width``.

    Three stages of ``width``, ``2 * width`` and ``4 * width`` channels. Above 16 pixels the first convolution
    halves the image at once: most of the time at full resolution goes into memory traffic, and costs little
    accuracy to save.
    """
    stride = 2 if image_size > 16 else 1
    net = nn.Sequential(
        *_convolution(n_channels, width, kernel=4 if stride == 2 else 3, stride=stride),
        *_convolution(width, 2 * width),
        nn.MaxPool2d(2),
        _Residual(2 * width),
        *_convolution(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    net.n_features = 4 * width
    return net


class _Residual(nn.Module):
    """x plus two convolutions of x."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(n_channels, n_channels), *_convolution(n_channels, n_channels)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.body(inputs)


def _convolution(n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]


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
    net.n_features = _features(net, f"timm:{name}", item_shape).shape[1]
    return net.train()


def _features(net: nn.Module, name: str, item_shape: tuple[int, int, int]) -> Tensor:
    """What ``net`` gives for a black image; ValueError where it does not take images of that size."""
    height, width, n_channels = item_shape
    try:
        with torch.no_grad():
            return net.eval()(torch.zeros(1, n_channels, height, width))
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"image_size: {name} does not take {height}x{width} images ({error})") from None


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
