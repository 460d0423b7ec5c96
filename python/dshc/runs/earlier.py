"""A training that goes on from an earlier hasher: what it takes over of that one's settings where its own are open."""

from __future__ import annotations

from .. import methods
from ..hasher import Hasher
from .settings import RunSettings

__all__ = ["earlier_hasher", "with_earlier", "with_network"]

_NETWORK = ("backbone", "width", "input_size", "finetune")


def earlier_hasher(settings: RunSettings) -> Hasher | None:
    """The hasher that a training starts from, on the CPU; None where it starts from none."""
    source = settings.encoder.start_from
    return None if source is None else Hasher.load(source, device="cpu")


def with_earlier(settings: RunSettings, earlier: Hasher | None) -> RunSettings:
    """Settings left open are those of the hasher that the training starts from: of its network, and of its method."""
    return settings if earlier is None else _with_method(with_network(settings, earlier), earlier)


def with_network(settings: RunSettings, earlier: Hasher | None) -> RunSettings:
    """The network's settings left open are the earlier one's, where the backbone is open too, or that one's.

    Another backbone cannot go on from it, and is refused by name once both are there.
    """
    if earlier is None or settings.encoder.backbone not in (None, earlier.encoder_settings.backbone):
        return settings
    return settings.filled({f"encoder.{name}": getattr(earlier.encoder_settings, name) for name in _NETWORK})


def _with_method(settings: RunSettings, earlier: Hasher) -> RunSettings:
    method = earlier.method.settings.replaced(bits=earlier.n_bits)
    if method.name != settings.method.name:
        return settings
    defaults = type(method)().values()
    kept = {
        f"method.{name}": getattr(method, name)
        for name in methods.get(method.name).code_settings
        if getattr(settings.method, name) == defaults[name]
    }
    filled = settings.filled({f"method.{name}": value for name, value in method.values().items()})
    return filled.with_values(**kept)
