"""Any model of timm by name, where the extra ``vision`` is installed: from random weights, a file or ImageNet."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path
from typing import Literal, Self

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .neck import neck
from .pretrained import check_known, load_pretrained
from .probe import features_of

__all__ = ["TimmBackbone", "enlarged", "seen_shape", "timm_backbone"]

Finetune = Literal["none", "last", "all"]


class TimmBackbone(nn.Module):
    """A timm network without its classifier; ``n_features`` is the width of what it gives.

    ``finetune`` says what of it is trained: ``"all"``; ``"last"``, the last quarter of its stages (or transformer
    blocks), rounded up, as timm groups them; ``"none"``. What is not trained is frozen: its weights get no gradients
    and its normalisation keeps its statistics, also in training mode.

    ``neck``, behind the network, is always trained. Its input (:meth:`frozen_features`, ``n_frozen`` wide) is what can
    be kept where the network is frozen as a whole.

    ``input_size``: the side to which images are enlarged before the network (:func:`enlarged`); None: as they are.
    ``train_size``, an attribute, is another one in training mode.
    """

    def __init__(
        self,
        net: nn.Module,
        n_frozen: int,
        finetune: Finetune = "all",
        width: int | None = None,
        input_size: int | None = None,
    ) -> None:
        super().__init__()
        self.net, self.n_frozen, self.finetune, self.input_size = net, n_frozen, finetune, input_size
        self.train_size: int | None = None
        self.neck = nn.Identity() if width is None else neck(n_frozen, width)
        self.n_features = n_frozen if width is None else width
        trained = _trained_names(net, finetune)
        for name, weight in net.named_parameters():
            weight.requires_grad_(name in trained)
        # A module is frozen where it has weights and none of them, nor of its parts, is trained.
        self._frozen = [
            module
            for module in net.modules()
            if (own := list(module.parameters())) and not any(weight.requires_grad for weight in own)
        ]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def frozen_features(self, images: Tensor) -> Tensor:
        """What the network gives before the neck, ``(b, n_frozen)``."""
        side = (self.training and self.train_size) or self.input_size
        return self.net(images if side is None else enlarged(images, side))

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.frozen_features(images))


def enlarged(images: Tensor, side: int) -> Tensor:
    """Images ``(b, c, h, w)`` whose longer side is ``side`` pixels, by bicubic interpolation.

    A network made for photos halves them five times; images of 32 pixels would be one pixel behind it.

    Two products of matrices, in float32 at least, whatever autocast says: the interpolation of torch goes channel by
    channel where they lie last, and a network of small images feels it.
    """
    height, width = enlarged_shape(images.shape[2], images.shape[3], side)
    last = images.is_contiguous(memory_format=torch.channels_last)
    with _without_autocast(images.device.type):
        images = images if images.dtype == torch.float64 else images.float()
        rows, columns = (
            torch.from_numpy(_bicubic(n, m)).to(images)
            for n, m in ((images.shape[2], height), (images.shape[3], width))
        )
        larger = rows @ images @ columns.mT
    return larger.contiguous(memory_format=torch.channels_last) if last else larger


def _without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else contextlib.nullcontext()


# Of numpy: a tensor would be of whatever traces the first call, and stay so.
@functools.lru_cache(maxsize=16)
def _bicubic(n: int, m: int) -> np.ndarray:
    """What makes ``m`` pixels of a row of ``n``, float64 ``(m, n)``: cubic convolution (Keys 1981, with a = -3/4).

    Pixels are squares, and those beyond the border are the last ones before it, as torch and OpenCV have it.
    """
    a, matrix = -0.75, np.zeros((m, n))
    for row in range(m):
        center = (row + 0.5) * n / m - 0.5
        first = math.floor(center) - 1
        for pixel in range(first, first + 4):
            d = abs(center - pixel)
            inner = (a + 2) * d**3 - (a + 3) * d**2 + 1
            outer = a * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[row, min(max(pixel, 0), n - 1)] += inner if d <= 1 else outer
    return matrix


def seen_shape(item_shape: tuple[int, int, int], side: int | None) -> tuple[int, int, int]:
    """The shape ``(h, w, c)`` of an image that is enlarged to ``side``; as it is with None."""
    height, width, n_channels = item_shape
    return item_shape if side is None else (*enlarged_shape(height, width, side), n_channels)


def enlarged_shape(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width with ``side`` as the longer one; ``ValueError`` where that is no enlargement."""
    longer = max(height, width)
    if side < longer:
        raise ValueError(f"input_size must be at least {longer}, the side of the images, got {side}")
    return max(1, round(height * side / longer)), max(1, round(width * side / longer))


def timm_backbone(
    name: str,
    item_shape: tuple[int, int, int],
    *,
    weights: str | os.PathLike[str] | None = None,
    pretrained: bool = False,
    finetune: Finetune = "all",
    width: int | None = None,
    input_size: int | None = None,
) -> TimmBackbone:
    """A timm model without its classifier, for images ``(h, w, c)``; ``n_features`` is what it gives for them.

    ``width`` puts a neck of that many units behind it; ``input_size`` enlarges images before it.

    ``weights`` is a file of the model's own weights, ``.safetensors`` or a ``torch.save``d state dict (read with
    ``weights_only=True``); its classifier is left out, and weights for RGB are brought to other channels as timm does.
    ``pretrained``: ImageNet weights
    (:func:`dshc.backbones.pretrained.load_pretrained`). Raises ``ImportError`` naming the extra where timm is absent,
    ``ValueError`` for an unknown name, weights of another model or that cannot be had, or images of a size the model
    does not take.
    """
    check_known(name)
    if pretrained and weights is None:
        net = load_pretrained(name, item_shape[2])
    else:
        import timm

        net = timm.create_model(name, pretrained=False, num_classes=0, in_chans=item_shape[2])
    if weights is not None:
        _load_weights(net, Path(weights), item_shape[2])
    seen = seen_shape(item_shape, input_size)
    setting = "image_size" if input_size is None else "input_size"
    n_features = features_of(net, f"timm:{name}", seen, setting).shape[1]
    return TimmBackbone(net, n_features, finetune, width, input_size).train()


def _trained_names(net: nn.Module, finetune: Finetune) -> set[str]:
    """Names of the parameters that are trained."""
    if finetune == "none":
        return set()
    if finetune == "all":
        return {name for name, _ in net.named_parameters()}
    from timm.models import group_parameters

    groups = list(group_parameters(net, net.group_matcher(coarse=True)).values())
    last = groups[-max(1, -(-len(groups) // 4)) :]
    return {name for group in last for name in group}


def _names(net: nn.Module, what: str) -> tuple[str, ...]:
    """The names of the layers that timm calls a network's ``"classifier"`` or ``"first_conv"``."""
    found = getattr(net, "default_cfg", {}).get(what) or ()
    return (found,) if isinstance(found, str) else tuple(found)


def _load_weights(net: nn.Module, path: Path, n_channels: int) -> None:
    """Weights into ``net``, which has no classifier; the file's classifier is left out."""
    from timm.models import adapt_input_conv

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
        raise ValueError(f"weights: {path}: must hold a state dict, got {type(state).__name__}")
    state = state.get("state_dict", state)
    classifiers = tuple(f"{name}." for name in _names(net, "classifier"))
    state = {key: value for key, value in state.items() if not key.startswith(classifiers)}
    try:
        for name in _names(net, "first_conv"):
            key = f"{name}.weight"
            own, given = net.state_dict().get(key), state.get(key)
            if own is not None and isinstance(given, Tensor) and own.shape != given.shape:
                state[key] = adapt_input_conv(n_channels, given)
        net.load_state_dict(state)
    except (
        NotImplementedError,
        RuntimeError,
    ) as error:  # the former is timm's, of filters that are not of RGB
        raise ValueError(f"weights: {path}: not the weights of this model ({error})") from None
