"""Any model of timm by name, where the extra ``vision`` is installed: from random weights, a file or ImageNet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .enlarged import Enlarging, seen_shape
from .neck import neck
from .pretrained import check_known, load_pretrained
from .probe import features_of

__all__ = ["TimmBackbone", "timm_backbone"]

Finetune = Literal["none", "last", "all"]


class TimmBackbone(Enlarging):
    """A timm network without its classifier; ``n_features`` is the width of what it gives.

    ``finetune`` says what of it is trained: ``"all"``; ``"last"``, the last quarter of its stages (or transformer
    blocks), rounded up, as timm groups them; ``"none"``. What is not trained is frozen: its weights get no gradients
    and its normalisation keeps its statistics, also in training mode.

    ``neck``, behind the network, is always trained. Its input (:meth:`frozen_features`, ``n_frozen`` wide) is what can
    be kept where the network is frozen as a whole.

    ``input_size``: the side to which images are enlarged before the network; None: as they are.
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
        return self.net(self.enlarge(images))

    def at_size(self) -> nn.Module:
        return self.net

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.frozen_features(images))


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
