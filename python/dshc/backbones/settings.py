"""Settings of the encoder: the network from inputs to features."""

from __future__ import annotations

from typing import Literal

from ..settings import Settings, setting

__all__ = ["EncoderSettings"]


class EncoderSettings(Settings):
    """Which backbone, how large, from which weights it starts and what of it is trained.

    None is chosen by the data when a run starts.
    """

    backbone: str | None = setting(
        None, "small_net, conv_net, mlp, identity (features or pixels as they are) or timm:NAME"
    )
    width: int | None = setting(
        None,
        "channels of the first stage of small_net or conv_net, units of mlp's layers, or of a layer behind timm:NAME",
        ge=1,
        le=16_384,
    )
    input_size: int | None = setting(
        None,
        "images: side to which small ones, such as those of a named set, are enlarged on the device before the "
        "network (default: as they are)",
        later=True,
        ge=1,
        le=4096,
    )
    average_flips: bool = setting(
        False, "images: encode by the mean of the outputs of an image and of its mirror image", later=True
    )
    pretrained: bool | None = setting(
        None, "timm:NAME: start from its ImageNet weights (default: for photos, where timm is installed)"
    )
    weights: str | None = setting(None, "timm:NAME: file of weights to start from (.safetensors, .pth)")
    finetune: Literal["none", "last", "all"] | None = setting(
        None, "what of the backbone is trained: nothing (its features are kept), its last blocks or all"
    )
    start_from: str | None = setting(
        None, "a saved hasher or run whose backbone, and codes of known classes, the training starts from"
    )

    @property
    def timm_name(self) -> str | None:
        """NAME of a backbone ``timm:NAME``; None for another."""
        name = self.backbone or ""
        return name.removeprefix("timm:") if name.startswith("timm:") else None
