"""What each row is checked against before it is timed: the CPU back end on some of the queries, and torch on the device
where the database is too large to be copied to the host."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import dshc_fast
from gpu.checks import differs

ON_HOST = 2 << 30  # bytes of a database that is copied
HOST_PAIRS = 4e9  # that the CPU is asked for
CHUNK = 1 << 27  # items whose distances torch computes at a time
TOLERANCE = 1e-12


def sample(n_query: int, n_db: int) -> Tensor:
    """Queries from all over, as many as the CPU does in a second or so: the first and the last among them."""
    n = max(1, min(n_query, 256, int(HOST_PAIRS / n_db)))
    return torch.linspace(0, n_query - 1, n).round().long().unique()


def on_cpu(op: Callable[..., object], *inputs: Tensor) -> object:
    return op(*(tensor.cpu() for tensor in inputs))


def picked(answer: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(part[rows.to(part.device)] for part in answer)


# ---- top-k ----


def bits_set(words: Tensor) -> Tensor:
    """Of int64, without a population count: pairs, nibbles, bytes, then a product that adds up the bytes."""
    pairs = words - ((words >> 1) & 0x5555555555555555)
    nibbles = (pairs & 0x3333333333333333) + ((pairs >> 2) & 0x3333333333333333)
    in_bytes = (nibbles + (nibbles >> 4)) & 0x0F0F0F0F0F0F0F0F
    return (in_bytes * 0x0101010101010101) >> 56 & 0xFF


def topk_by_torch(query: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(distances, indices) of one code of whole 64-bit words, by (distance, index)."""
    words, key = database.view(torch.int64), query.view(torch.int64)
    n_values = 8 * database.shape[1] + 1
    distances = torch.empty(len(database), dtype=torch.int16, device=database.device)
    for start in range(0, len(words), CHUNK):
        part = words[start : start + CHUNK]
        distances[start : start + CHUNK] = bits_set(part ^ key).sum(1)
    counts = torch.zeros(n_values, dtype=torch.int64, device=database.device)
    for start in range(0, len(words), CHUNK):
        counts += torch.bincount(distances[start : start + CHUNK].long(), minlength=n_values)
    bound = int((counts.cumsum(0) >= k).long().argmax())
    near = torch.cat([(distances[start : start + CHUNK] <= bound).nonzero()[:, 0] + start
                      for start in range(0, len(words), CHUNK)])  # fmt: skip
    found, order = distances[near].to(torch.int32).sort(stable=True)
    return found[:k], near[order[:k]]


class TopK:
    """The right answer for some queries."""

    def __init__(self, queries: Tensor, database: Tensor, k: int) -> None:
        if database.numel() <= ON_HOST:
            self.rows = sample(len(queries), len(database))
            self.wanted = tuple(
                dshc_fast.hamming_topk(queries[self.rows.to(queries.device)].cpu(), database.cpu(), k)
            )
        else:
            self.rows = torch.tensor([0, len(queries) - 1]).unique()
            found = [topk_by_torch(queries[row], database, k) for row in self.rows.tolist()]
            self.wanted = tuple(torch.stack(part).cpu() for part in zip(*found, strict=True))

    def differs(self, answer: tuple[Tensor, ...]) -> str:
        return differs(picked(tuple(answer), self.rows), self.wanted, 0)


# ---- the rest ----


def radius_differs(queries: Tensor, database: Tensor, radius: int) -> str:
    rows = sample(len(queries), len(database))
    offsets, indices, distances = (part.cpu() for part in dshc_fast.hamming_radius(queries, database, radius))
    wanted = dshc_fast.hamming_radius(queries[rows.to(queries.device)].cpu(), database.cpu(), radius)
    found = [(indices[offsets[row] : offsets[row + 1]], distances[offsets[row] : offsets[row + 1]])
             for row in rows.tolist()]  # fmt: skip
    lengths = torch.tensor([len(part) for part, _ in found])
    if not torch.equal(lengths, wanted.offsets.diff()):
        return f"found {lengths.tolist()[:5]} items, wanted {wanted.offsets.diff().tolist()[:5]}"
    return differs(
        tuple(torch.cat(parts) for parts in zip(*found, strict=True)), (wanted.indices, wanted.distances), 0
    )


def labelled_differs(op: Callable[..., object], data: tuple[Tensor, ...]) -> str:
    """Of an op of (queries, database, query labels, database labels) that answers in rows of queries."""
    queries, database, query_labels, labels = data
    rows = sample(len(queries), len(database))
    here = rows.to(queries.device)
    wanted = on_cpu(op, queries[here], database, query_labels[here], labels)
    answer = op(*data)
    parts = tuple(answer) if isinstance(answer, tuple) else (answer,)
    return differs(picked(parts, rows), tuple(wanted) if isinstance(wanted, tuple) else (wanted,), 0)
