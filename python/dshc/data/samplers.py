"""In which order the items of an epoch come. All that is random comes from one generator on the CPU.

What is drawn is drawn by integers alone, so that the processes of one training get the same order on CPUs that round
differently.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Sampler", "epoch_order"]

Sampler = Literal["uniform", "balanced"]


def epoch_order(
    n_items: int,
    generator: torch.Generator,
    *,
    labels: Tensor | None = None,
    sampler: Sampler = "uniform",
    per_class: int | None = None,
    batch_size: int,
) -> Tensor:
    """Item numbers of one epoch, int64; batch ``i`` is ``order[i * batch_size : (i + 1) * batch_size]``.

    * ``"uniform"``: every item once, ``(n_items,)``.
    * ``"balanced"``: every class equally often, ``(n_items,)``; where that cannot be, some classes, drawn anew every
      epoch, come once more. The items of a class come equally often, give or take one.
    * ``per_class=m``: every batch is m items of each of ``batch_size / m`` different classes, those of a class side
      by side; ``n_items // batch_size`` whole batches. A class comes as often as it has items (with
      ``"balanced"``: as the others), as far as once a batch allows, what cannot be even being drawn, so that over
      epochs all items come equally often; within an epoch those of a class do, give or take one. A batch has no item
      twice unless a class has fewer than m.

    ``labels``: class ids, an integer ``(n_items,)``, for all but plain ``"uniform"``. Several labels per item
    (multi-hot) are refused: an item brings its other labels along, and no order has all of them equally often.
    Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    _check_positive(n_items=n_items, batch_size=batch_size)
    if sampler not in ("uniform", "balanced"):
        raise ValueError(f"sampler must be one of uniform, balanced, got {sampler!r}")
    if sampler == "uniform" and per_class is None:
        return torch.randperm(n_items, generator=generator)
    what = "sampler 'balanced'" if per_class is None else f"per_class={per_class}"
    members = _members(labels, n_items, what)
    if per_class is None:
        order = _balanced(members, n_items, generator)
    else:
        _check_positive(per_class=per_class)
        order = _in_blocks(
            members, n_items, generator, per_class, batch_size, equal_classes=sampler == "balanced"
        )
    return torch.from_numpy(order)


def _balanced(members: list[np.ndarray], n_items: int, generator: torch.Generator) -> np.ndarray:
    each, more = divmod(n_items, len(members))
    counts = np.full(len(members), each)
    counts[_permutation(len(members), generator)[:more]] += 1
    items = [_stream(rows, count, 1, generator) for rows, count in zip(members, counts, strict=True)]
    return np.concatenate(items)[_permutation(n_items, generator)]


def _in_blocks(
    members: list[np.ndarray],
    n_items: int,
    generator: torch.Generator,
    m: int,
    batch_size: int,
    *,
    equal_classes: bool,
) -> np.ndarray:
    if batch_size % m:
        raise ValueError(f"batch_size must be a multiple of per_class = {m}, got {batch_size}")
    n_classes, n_batches = batch_size // m, n_items // batch_size
    if n_batches == 0:
        raise ValueError(f"batch_size must be at most the number of items, {n_items}, got {batch_size}")
    if n_classes > len(members):
        raise ValueError(
            f"batch_size must be at most {m * len(members)}, per_class = {m} items of each of {len(members)} classes, "
            f"got {batch_size}"
        )
    weights = np.array([1 if equal_classes else len(rows) for rows in members], np.int64)
    blocks = _shares(weights, n_batches * n_classes, n_batches, generator)
    streams = [
        _stream(rows, count * m, m, generator).reshape(-1, m)
        for rows, count in zip(members, blocks, strict=True)
    ]
    batches = []
    left = blocks.copy()
    for batches_left in range(n_batches, 0, -1):
        # A class with as many blocks as there are batches must be in every one of them.
        picked = list(np.flatnonzero(left == batches_left))
        weights = np.where(left < batches_left, left, 0)
        while len(picked) < n_classes:
            upto = np.cumsum(weights)
            drawn = int(np.searchsorted(upto, _below(int(upto[-1]), generator), side="right"))
            weights[drawn] = 0
            picked.append(drawn)
        batches += [streams[c][blocks[c] - left[c]] for c in picked]
        left[picked] -= 1
    return np.concatenate(batches)


def _shares(weights: np.ndarray, total: int, most: int, generator: torch.Generator) -> np.ndarray:
    """``total`` cut into whole shares in proportion to the weights, none above ``most``.

    Each is its exact share rounded down or up, up with the probability of what is cut off.
    """
    shares = np.full(len(weights), most, np.int64)
    free = np.arange(len(weights))
    while len(free):
        to_give = total - most * (len(weights) - len(free))
        scaled, unit = weights[free] * to_give, int(weights[free].sum())
        if not (over := scaled >= most * unit).any():
            # Remainders laid end to end in random order, and one mark every `unit` from a random start.
            free = free[_permutation(len(free), generator)]
            scaled = weights[free] * to_give
            ends = np.cumsum(scaled % unit) + _below(unit, generator)
            shares[free] = scaled // unit + np.diff(ends // unit, prepend=0)
            break
        free = free[~over]
    return shares


def _stream(rows: np.ndarray, count: int, m: int, generator: torch.Generator) -> np.ndarray:
    """``count`` of the rows: one permutation of them after the other, without a row twice in a block of m."""
    parts: list[np.ndarray] = []
    length = 0
    while length < count:
        fresh = rows[_permutation(len(rows), generator)]
        begun = length % m  # so many of the block under way are from the permutation before
        if 0 < begun and m <= len(rows):
            again = np.isin(fresh, parts[-1][-begun:])
            fresh = np.concatenate([fresh[~again], fresh[again]])
        parts.append(fresh)
        length += len(fresh)
    return np.concatenate(parts)[:count] if parts else rows[:0]


def _members(labels: Tensor | None, n_items: int, what: str) -> list[np.ndarray]:
    """The item numbers of every class that has any."""
    if labels is None:
        raise ValueError(f"{what} must be given labels, got items without labels")
    if labels.ndim == 2:
        raise ValueError(f"{what} must be given one class per item, got several labels per item (multi-hot)")
    if labels.shape != (n_items,):
        raise ValueError(f"labels must have shape ({n_items},), got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be class ids of an integer type, got {labels.dtype}")
    ids = labels.cpu().numpy()
    order = np.argsort(ids, kind="stable")
    _, starts = np.unique(ids[order], return_index=True)
    return np.split(order.astype(np.int64), starts[1:])


def _permutation(n: int, generator: torch.Generator) -> np.ndarray:
    return torch.randperm(n, generator=generator).numpy()


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (1,), generator=generator))


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
