"""Settings of the encoder: the network from inputs to features."""

from __future__ import annotations

from ..settings import Settings, setting

__all__ = ["EncoderSettings"]


class EncoderSettings(Settings):
    """Which backbone, how large, and from which weights it starts. None is chosen by the data when a run starts."""

    backbone: str | None = setting(
        None, "small_net, mlp, identity (features or pixels as they are) or timm:NAME"
    )
    width: int | None = setting(
        None, "channels of small_net's first stage, units of mlp's layers", ge=1, le=16_384
    )
    weights: str | None = setting(None, "timm:NAME: file of weights to start from (.safetensors, .pth)")
    start_from: str | None = setting(
        None, "a saved hasher or run whose backbone, and codes of known classes, the training starts from"
    )
