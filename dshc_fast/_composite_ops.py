"""Ops made of other ops and of torch: their schemas, and one implementation each for every device (fakes
included)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks
from ._device_values import on_device
from ._ops import LABELLED, PREPARED, library
from ._torch_threads import torch_steps

EMPTY = ("zero", "skip", "error")
DEFAULT_RANKS = (1, 5, 10, 50, 100, 500, 1000, 5000)

SCHEMAS = {
    "reverse_bit_order": "(Tensor codes) -> Tensor",
    "mean_average_precision": f'({LABELLED}, SymInt? k=None, str ties="expected", str denominator="retrieved", '
    'str score="hamming", SymInt? n_bits=None, str empty="zero", Tensor? allowed=None, bool? check=None, '
    f"{PREPARED}) -> Tensor",
    "retrieval_curves": f'({LABELLED}, SymInt[]? ranks=None, str score="hamming", SymInt? n_bits=None, '
    f'str empty="zero", Tensor? allowed=None, bool? check=None, {PREPARED}) -> ('
    + ", ".join(["Tensor"] * 9)
    + ")",
}


LARGE_BYTES = 1 << 22


def _reverse_bit_order(codes: Tensor) -> Tensor:
    checks.check_same_device(codes=codes)
    checks.check_codes(codes, "codes")
    with torch_steps():
        if codes.is_cuda and codes.numel() >= LARGE_BYTES and codes.numel() % 2 == 0:
            flat = codes.contiguous().view(-1)
            if flat.storage_offset() % 2 == 0:
                return reversed_by_table(flat).view(codes.shape)
        return reversed_by_steps(codes)


def reversed_by_steps(codes: Tensor) -> Tensor:
    """Swaps neighbours, pairs, then halves: three steps for all bytes at once, and no table to move between devices."""
    for shift, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
        codes = ((codes >> shift) & mask) | ((codes & mask) << shift)
    return codes


def reversed_by_table(flat: Tensor) -> Tensor:
    """Two bytes at a time from a table made on the device: the steps above read and write all bytes 15 times, this
    moves 6 bytes for each, beside the table."""
    table = torch.arange(1 << 16, dtype=torch.int32, device=flat.device).view(torch.uint8).view(-1, 4)[:, :2]
    table = reversed_by_steps(table).contiguous().view(torch.int16).view(-1)
    return table.index_select(0, flat.view(torch.uint16).to(torch.int32)).view(torch.uint8)


def _refuse_empty(is_empty: Tensor) -> None:
    if bool(is_empty.any()):
        raise ValueError(
            f'query_labels must give every query something relevant in the database with empty="error", got '
            f"{int(is_empty.sum())} queries without, the first is {int(is_empty.nonzero()[0])}"
        )


def _mean_average_precision(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    k: int | None = None,
    ties: str = "expected",
    denominator: str = "retrieved",
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> Tensor:
    checks.check_choice(empty, "empty", EMPTY)
    precisions = torch.ops.dshc_fast.average_precision(
        queries, database, query_labels, database_labels, k, ties, denominator, score, n_bits, allowed, check,
        prepared,
    )  # fmt: skip
    with torch_steps():
        return mean_of_queries(precisions, empty)


def mean_of_queries(values: Tensor, empty: str) -> Tensor:
    """The mean of a metric, which is NaN for queries with nothing relevant in the database."""
    if empty == "error":
        _refuse_empty(values.isnan())
    return values.nanmean() if empty == "skip" else values.nan_to_num(nan=0.0).mean()


def _retrieval_curves(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    ranks: list[int] | None = None,
    score: str = "hamming",
    n_bits: int | None = None,
    empty: str = "zero",
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, ...]:
    checks.check_choice(empty, "empty", EMPTY)
    items, relevant = torch.ops.dshc_fast.hamming_histogram(
        queries, database, query_labels, database_labels, score, n_bits, allowed, check, prepared
    )
    n_db = database.shape[0]
    if ranks is None:
        ranks = [rank for rank in DEFAULT_RANKS if rank <= n_db]
    for rank in ranks:
        if not 1 <= rank <= n_db:
            raise ValueError(f"ranks must be between 1 and {n_db} (the database), got {rank}")
    with torch_steps():
        if empty == "error":
            _refuse_empty(relevant.sum(1) == 0)
        radius = torch.arange(items.shape[1], dtype=torch.float64, device=items.device)
        if score == "overlap":
            items, relevant, radius = items.flip(1), relevant.flip(1), radius.flip(0)
        curves = _curves(items, relevant, ranks, skip_empty=empty == "skip")
    return radius, *curves[:5], on_device(ranks, torch.float64, items.device), *curves[5:]


def _curves(items: Tensor, relevant: Tensor, ranks: list[int], *, skip_empty: bool) -> tuple[Tensor, ...]:
    """The seven curves from histograms whose columns run from best to worst."""
    all_relevant = relevant.sum(1).double()
    # Weights instead of a selection, whose size a GPU would have to synchronise for.
    weight = (all_relevant > 0).double() if skip_empty else torch.ones_like(all_relevant)
    n_queries = weight.sum()

    def mean(values: Tensor) -> Tensor:
        return (values * weight[:, None]).sum(0) / n_queries  # no query left: 0 / 0

    def pooled(numerator: Tensor, denominator: Tensor) -> Tensor:
        total = (denominator * weight[:, None]).sum(0)
        ratio = (numerator * weight[:, None]).sum(0) / total.clamp(min=1)
        return torch.where(n_queries > 0, ratio, torch.nan)

    inside, found = items.cumsum(1).double(), relevant.cumsum(1).double()
    divisor = all_relevant.clamp(min=1)[:, None]
    by_radius = (
        mean(found / inside.clamp(min=1)),
        mean(found / divisor),
        pooled(found, inside),
        pooled(found, all_relevant[:, None].expand_as(found)),
        mean((inside == 0).double()),
    )
    before = inside - items
    # Of a tie that a rank cuts, each item is inside with the same chance.
    found_at = items.new_empty((items.shape[0], len(ranks)), dtype=torch.float64)
    for column, rank in enumerate(ranks):
        share = ((rank - before) / items.clamp(min=1)).clamp(0, 1)
        found_at[:, column] = (relevant * share).sum(1)
    at_rank = on_device(ranks, torch.float64, items.device)
    return *by_radius, mean(found_at / at_rank), mean(found_at / divisor)


for _name, _schema in SCHEMAS.items():
    library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(_name, globals()[f"_{_name}"], "CompositeImplicitAutograd")
