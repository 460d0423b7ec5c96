"""Rotations and thresholds for the outputs of any method whose code is a sign: found afterwards, nothing is trained.

    postprocess(hasher.method, outputs, labels, by="map", generator=torch.Generator().manual_seed(0))

``outputs`` are those of training items. What is found becomes a part of the method, and is saved with it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

import dshc_fast

from .itq import next_rotation, random_rotation, signs
from .signs import SignCoding

__all__ = ["calibrated_thresholds", "itq_rotation", "map_rotation", "postprocess"]

Postprocessing = Literal["itq", "map", "thresholds"]


@torch.no_grad()
def postprocess(
    method: SignCoding,
    outputs: Tensor,
    labels: Tensor | None = None,
    *,
    by: Postprocessing,
    generator: torch.Generator | None = None,
) -> None:
    """Find a rotation or thresholds for a method's codes and set them (:meth:`SignCoding.set_transform`).

    Args:
        method: one whose code is the sign of its outputs.
        outputs: float ``(n, n_bits)``, of training items.
        labels: of these items, class ids int64 ``(n,)`` or multi-hot ``(n, C)``; for "map" alone.
        by: what to find, in the place of what was found before.

            * "itq": the mean as thresholds, and behind them :func:`itq_rotation`;
            * "map": :func:`map_rotation`;
            * "thresholds": :func:`calibrated_thresholds`. A rotation that is there stays, and the bits behind it are
              balanced.
        generator: on the CPU; for the rotations.

    Raises ``TypeError`` for another method, ``ValueError`` where something is missing or does not fit: shapes, values
    that are not finite, a rotation for several lengths.
    """
    if not isinstance(method, SignCoding):
        name = getattr(method, "name", type(method).__name__)
        raise TypeError(f"method must be one whose code is the sign of its outputs, got {name}")
    if by not in get_args(Postprocessing):
        raise ValueError(f"by must be one of {', '.join(get_args(Postprocessing))}, got {by!r}")
    _check(outputs)
    if outputs.shape[1] != method.n_bits:
        raise ValueError(
            f"outputs must have {method.n_bits} columns, as many as bits, got {outputs.shape[1]}"
        )
    if by == "thresholds":
        _balance(method, outputs)
        return
    if generator is None:
        raise ValueError(f"generator must be given for by={by!r}, got None")
    found: dict[str, Any]
    if by == "map":
        if labels is None:
            raise ValueError("labels must be given for by='map', got None")
        found = {"rotation": map_rotation(outputs, labels, generator)}
    else:
        mean = outputs.double().mean(0)
        found = {"rotation": itq_rotation(outputs - mean.to(outputs.dtype), generator), "thresholds": mean}
    method.set_transform(**found)


@torch.no_grad()
def itq_rotation(outputs: Tensor, generator: torch.Generator, iterations: int = 50) -> Tensor:
    """The rotation R that brings outputs Z near the corners of a cube: a local minimum of ||sign(Z R) - Z R||.

    Gong and Lazebnik, *Iterative Quantization*, CVPR 2011, equation 2. It starts from a random rotation, as the paper
    does, and from none, for trained outputs are near corners already; the better end is taken, so that the distance is
    never more than that of the outputs as they are. Outputs should be centered, and as large as their signs.

    ``outputs`` float ``(n, L)``. Returns an orthogonal float64 ``(L, L)`` on the CPU, where all is computed in float64.
    Raises ``ValueError`` where shapes do not fit, values are not finite or ``iterations`` is below 1.
    """
    _check(outputs)
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    values = outputs.detach().cpu().double()
    best, least = torch.eye(0), math.inf
    for start in (
        torch.eye(values.shape[1], dtype=torch.float64),
        random_rotation(values.shape[1], generator),
    ):
        rotation = start
        for _ in range(iterations):
            rotation = next_rotation(values, rotation)
        turned = values @ rotation
        distance = float((signs(turned) - turned).square().sum())
        if distance < least:
            best, least = rotation, distance
    return best


@torch.no_grad()
def map_rotation(
    outputs: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    steps: int = 800,
    n_queries: int = 2000,
    n_database: int = 16_000,
) -> Tensor:
    """A rotation R that raises the mAP of the codes sign(u R), by random search from none: mAP has no gradient.

    Pidhorskyi et al., *Deep Supervised Hashing with Spherical Embedding*, ACCV 2018; numbers as in the authors' code.
    Step i of ``steps`` turns the rotation found so far by (steps - i) / steps radians in a random plane, and keeps
    that where mAP rises. mAP is over all ranks, exact under ties, and the mean over the queries that have something
    relevant. Queries and database are drawn from the items, and no item is in both; where items are fewer than
    ``n_queries`` and ``n_database`` together, at most half of them are queries.

    All planes are equally likely. A rotation of a plane changes outputs by a matrix of rank 2: a proposal costs
    O(items L), its codes and one exact mAP from packed codes.

    ``outputs`` float ``(n, L)``, ``labels`` class ids int64 ``(n,)`` or multi-hot ``(n, C)``, on one device; outputs
    are computed in float32, as codes are. Returns an orthogonal float64 ``(L, L)`` on the CPU, the identity where
    nothing is better. The mAP of the drawn items is never lower than without it. Raises ``ValueError`` where shapes
    do not fit, values are not finite or numbers are too low.
    """
    _check(outputs)
    if labels.ndim not in (1, 2) or len(labels) != len(outputs):
        n = len(outputs)
        raise ValueError(f"labels must have shape ({n},) or ({n}, C), got {tuple(labels.shape)}")
    for name, number, least in (
        ("steps", steps, 0),
        ("n_queries", n_queries, 1),
        ("n_database", n_database, 1),
    ):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    n, n_bits = outputs.shape
    rotation = torch.eye(n_bits, dtype=torch.float64)
    if n < 2 or n_bits < 2:
        return rotation
    n_queries = min(n_queries, n // 2)
    drawn = torch.randperm(n, generator=generator)[: n_queries + n_database].to(outputs.device)
    rows, labels = outputs[drawn].float(), labels[drawn]

    def mean_precision(values: Tensor) -> float:
        codes = dshc_fast.pack_codes(values)
        precision = dshc_fast.average_precision(
            codes[:n_queries], codes[n_queries:], labels[:n_queries], labels[n_queries:]
        )
        return float(precision.nanmean())

    turned, best = rows, mean_precision(rows)
    if math.isnan(best):  # nothing drawn is relevant to anything
        return rotation
    for step in range(steps):
        if best >= 1:
            break
        angle, plane = (steps - step) / steps, _random_plane(n_bits, generator)
        cos, sin = math.cos(angle) - 1, math.sin(angle)
        change = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64) @ plane.T
        if mean_precision(torch.addmm(turned, turned @ plane.to(turned), change.to(turned))) <= best:
            continue
        # Once more as codes will be made, not as the sum of many small turns.
        proposed = torch.addmm(rotation, rotation @ plane, change)
        values = rows @ proposed.to(rows)
        if (precision := mean_precision(values)) > best:
            rotation, turned, best = proposed, values, precision
    return rotation


@torch.no_grad()
def calibrated_thresholds(outputs: Tensor) -> Tensor:
    """Thresholds by which every bit is 1 for half of the items: the median of every output.

    A bit is 1 where its output is more than its threshold. A threshold is halfway between two neighbouring values,
    so that items on either side are equally far from it. Items of equal value stay together: of all cuts between
    different values, the one is taken that leaves the numbers of 0 and 1 most alike, and of two as good the one with
    fewer 1. For n different values, n // 2 items have 1. An output that is the same for all items is 0 for all.

    ``outputs`` float ``(n, L)``. Returns ``(L,)``, of the same dtype and device. Raises ``ValueError`` where shapes
    do not fit or values are not finite.
    """
    _check(outputs)
    values = outputs.sort(0).values
    n = len(values)
    below, above = values[:-1], values[1:]
    # Behind the last value nothing is left: the cut where there is no other.
    n_ones = torch.arange(n - 1, -1, -1, device=values.device)[:, None].expand_as(values)
    uneven = (2 * n_ones - n).abs()
    together = torch.cat([below == above, torch.zeros_like(values[:1], dtype=torch.bool)])
    uneven = uneven.masked_fill(together, 2 * n + 2)
    last = uneven.flip(0).argmin(
        0, keepdim=True
    )  # the first of the least from behind: of equal cuts the highest
    place = n - 1 - last
    left = values.gather(0, place)[0]
    right = values.gather(0, (place + 1).clamp(max=n - 1))[0]
    middle = left + (right - left) / 2
    return torch.where(middle < right, middle, left)  # between neighbouring floats there is no middle


def _random_plane(n_bits: int, generator: torch.Generator) -> Tensor:
    """Two orthonormal columns, float64 ``(n_bits, 2)``: all planes are equally likely, and both directions of each."""
    normal = torch.randn(n_bits, 2, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(normal)
    return q * torch.where(r.diagonal() < 0, -1.0, 1.0)  # the library's signs would prefer one direction


def _balance(method: SignCoding, outputs: Tensor) -> None:
    rotation = method.rotation.clone() if method.rotation.numel() else None
    if rotation is None:
        method.set_transform(thresholds=calibrated_thresholds(outputs))
        return
    turned = outputs @ rotation.to(outputs)
    # Thresholds are taken away before outputs are turned.
    thresholds = calibrated_thresholds(turned).double() @ rotation.to(outputs.device).double().T
    method.set_transform(rotation=rotation, thresholds=thresholds)


def _check(outputs: Tensor) -> None:
    if outputs.ndim != 2 or not outputs.numel():
        raise ValueError(
            f"outputs must have shape (n, L), with at least one item and bit, got {tuple(outputs.shape)}"
        )
    if not torch.isfinite(outputs).all():
        raise ValueError("outputs must be finite, got NaN or infinity")
