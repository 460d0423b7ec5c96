"""Twins of the ranking ops."""

from __future__ import annotations

import torch
from torch import Tensor

from .codes import POPCOUNT, unpack_codes

DISTANCE_FILL = 2**31 - 1  # distance of an answer that does not exist (fewer than k items allowed)
OVERLAP_FILL = -1


def hamming_distance(queries: Tensor, database: Tensor, *, score: str = "hamming") -> Tensor:
    popcount = POPCOUNT.to(queries.device)
    combine = torch.bitwise_xor if score == "hamming" else torch.bitwise_and
    rows = [popcount[combine(query, database).long()].sum(1, dtype=torch.int32) for query in queries]
    return torch.stack(rows) if rows else database.new_empty((0, len(database)), dtype=torch.int32)


def allowed_matrix(allowed: Tensor | None, n_query: int, n_db: int, device: torch.device) -> Tensor:
    """`allowed` in any of its four forms as a bool matrix (n_query, n_db)."""
    if allowed is None:
        return torch.ones((n_query, n_db), dtype=torch.bool, device=device)
    if allowed.dtype == torch.uint8:
        allowed = (
            unpack_codes(allowed.reshape(-1, allowed.shape[-1]), n_db).bool().view(*allowed.shape[:-1], n_db)
        )
    return allowed.expand(n_query, n_db)


def rank_keys(queries: Tensor, database: Tensor, score: str) -> tuple[Tensor, Tensor]:
    """Counts, and the same turned so that a smaller key is a better answer."""
    counts = hamming_distance(queries, database, score=score)
    return counts, counts if score == "hamming" else -counts


def hamming_topk(
    queries: Tensor, database: Tensor, k: int, *, score: str = "hamming", allowed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    counts, keys = rank_keys(queries, database, score)
    mask = allowed_matrix(allowed, len(queries), len(database), queries.device)
    keys = keys.masked_fill(~mask, DISTANCE_FILL)
    order = keys.argsort(dim=1, stable=True)[:, :k]
    taken = mask.gather(1, order)
    fill = DISTANCE_FILL if score == "hamming" else OVERLAP_FILL
    return counts.gather(1, order).masked_fill(~taken, fill), order.masked_fill(~taken, -1)


def asymmetric_distances(outputs: Tensor, database: Tensor) -> Tensor:
    """float32 (n_query, n_db). Bytes of the code one after the other, the bits of a byte in pairs of pairs."""
    n_bits = outputs.shape[1]
    outputs = outputs.to(torch.float32)
    weights = torch.where(outputs.isnan(), 0.0, outputs.abs())
    bits = unpack_codes(database, n_bits).bool()
    padding = 8 * database.shape[1] - n_bits
    rows = []
    for weight, sign in zip(weights, outputs > 0, strict=True):
        counted = torch.where(bits != sign, weight, 0.0)
        w = torch.nn.functional.pad(counted, (0, padding)).view(len(database), -1, 8)
        pairs = w[..., 0::2] + w[..., 1::2]
        fours = pairs[..., 0::2] + pairs[..., 1::2]
        of_bytes = fours[..., 0] + fours[..., 1]
        distances = torch.zeros(len(database), device=outputs.device)
        for byte in range(of_bytes.shape[1]):
            distances = distances + of_bytes[:, byte]
        rows.append(distances)
    return torch.stack(rows) if rows else outputs.new_empty((0, len(database)))


def asymmetric_topk(
    outputs: Tensor,
    database: Tensor,
    k: int,
    *,
    allowed: Tensor | None = None,
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    mask = allowed_matrix(allowed, len(outputs), len(database), outputs.device)
    distances = asymmetric_distances(outputs, database)
    by_distance = distances.argsort(dim=1, stable=True)
    # Items that are not allowed go behind all others, even those at an infinite distance.
    order = by_distance.gather(1, (~mask).gather(1, by_distance).int().argsort(dim=1, stable=True))[:, :k]
    taken = mask.gather(1, order)
    return distances.gather(1, order).masked_fill(~taken, torch.inf), order.masked_fill(~taken, -1)


def hamming_radius(
    queries: Tensor, database: Tensor, radius: int, *, score: str = "hamming", allowed: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    counts, keys = rank_keys(queries, database, score)
    inside = counts <= radius if score == "hamming" else counts >= radius
    inside &= allowed_matrix(allowed, len(queries), len(database), queries.device)
    offsets = torch.zeros(len(queries) + 1, dtype=torch.int64, device=queries.device)
    offsets[1:] = inside.sum(1).cumsum(0)
    order = keys.argsort(dim=1, stable=True)
    inside_in_order = inside.gather(1, order)
    return offsets, order[inside_in_order], counts.gather(1, order)[inside_in_order]


def hamming_pairs(codes: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    later = torch.ones((len(codes), len(codes)), dtype=torch.bool, device=codes.device).triu(1)
    return hamming_radius(codes, codes, min(radius, 8 * codes.shape[1]), allowed=later)
