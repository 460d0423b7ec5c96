"""Warm start: a training that begins where another hasher ended, with classes added perhaps."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import InputError
from ..hasher import Hasher

__all__ = ["start_from"]


@torch.no_grad()
def start_from(hasher: Hasher, source: str) -> None:
    """Copy what ``hasher`` has in common with the one in ``source`` (see :meth:`dshc.Hasher.load`).

    The backbone and the normalisation are taken over and must fit. Where both have the same method and length, the
    sub-classes of classes known by name keep their codes and their rows of the head, so that codes made before stay
    comparable; classes that are new start as they were drawn.

    Raises :class:`dshc.errors.InputError` naming what does not fit.
    """
    old = Hasher.load(source, device="cpu")
    if old.item_shape != hasher.item_shape or old.kind != hasher.kind:
        raise InputError(
            f"start_from: {source} must take {hasher.kind} {hasher.item_shape}, it takes {old.kind} {old.item_shape}"
        )
    try:
        hasher.backbone.load_state_dict(old.backbone.state_dict())
    except RuntimeError as error:
        raise InputError(f"start_from: {source} must have the same backbone ({error})") from None
    hasher.preprocessing.load_state_dict(old.preprocessing.state_dict())
    hasher.about["started_from"] = str(old.about.get("run", source))
    if old.method.name != hasher.method.name or old.n_bits != hasher.n_bits:
        return
    if (rows := _known_rows(hasher, old)) is not None:
        _copy_rows(hasher.method.head, old.method.head, *rows)


def _known_rows(hasher: Hasher, old: Hasher) -> tuple[list[int], list[int]] | None:
    """Rows of both heads that stand for the same: for methods with sub-classes those with the same code."""
    new_head, old_head = hasher.method.head, old.method.head
    if not isinstance(new_head, nn.Linear) or not isinstance(old_head, nn.Linear):
        return None
    new_names, old_names = hasher.class_names, old.class_names
    offsets, old_offsets = (getattr(h.method, "offsets", None) for h in (hasher, old))
    if offsets is None or old_offsets is None:
        equal = new_names == old_names and new_head.weight.shape == old_head.weight.shape
        every = list(range(old_head.out_features))
        return (every, every) if equal else None
    codes, old_codes = hasher.method.codes, old.method.codes
    rows: tuple[list[int], list[int]] = ([], [])
    for number, name in enumerate(old_names):
        if name not in new_names:
            continue
        c = new_names.index(name)
        own = {bytes(codes[i].tolist()): i for i in range(int(offsets[c]), int(offsets[c + 1]))}
        for j in range(int(old_offsets[number]), int(old_offsets[number + 1])):
            if (i := own.get(bytes(old_codes[j].tolist()))) is not None:
                rows[0].append(i)
                rows[1].append(j)
    return rows


def _copy_rows(new: nn.Module, old: nn.Module, rows: list[int], old_rows: list[int]) -> None:
    new.weight[rows] = old.weight[old_rows].to(new.weight.device)
    if new.bias is not None:
        new.bias[rows] = old.bias[old_rows].to(new.bias.device)
