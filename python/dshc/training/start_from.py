"""Warm start: a training that begins where another hasher ended, with classes added perhaps."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..hasher import Hasher

__all__ = ["check_fits", "start_from"]


def check_fits(earlier: Hasher, kind: str, item_shape: tuple[int, ...]) -> None:
    """Refuse an earlier hasher that takes other inputs."""
    if earlier.item_shape != tuple(item_shape) or earlier.kind != kind:
        raise InputError(
            f"start_from must name a hasher of {kind} {tuple(item_shape)}, its inputs are {earlier.kind} "
            f"{earlier.item_shape}"
        )


@torch.no_grad()
def start_from(hasher: Hasher, earlier: Hasher) -> None:
    """Copy what ``hasher``, which was built with the earlier one's normalisation, has in common with it.

    The backbone is taken over and must fit. Where both have the same method and length, rows of the head that stand
    for the same (:meth:`dshc.methods.Method.known_outputs`) are taken over too. What is new starts as it was drawn.

    Raises :class:`dshc.errors.InputError` naming what does not fit.
    """
    try:
        hasher.backbone.load_state_dict(earlier.backbone.state_dict())
    except RuntimeError as error:
        raise InputError(f"start_from must name a hasher with the same backbone ({error})") from None
    new, old = hasher.method.head, earlier.method.head
    if hasher.method.name != earlier.method.name or hasher.n_bits != earlier.n_bits:
        return
    if not isinstance(new, nn.Linear) or not isinstance(old, nn.Linear):
        return
    rows, old_rows = hasher.method.known_outputs(earlier.method)
    new.weight[rows] = old.weight[old_rows].to(new.weight.device)
    if new.bias is not None:
        new.bias[rows] = old.bias[old_rows].to(new.bias.device)
