"""Substring tables of a `HammingDatabase`, for multi-index hashing (csrc/core/substring_tables.h): made or adopted.

    offsets  uint32: table after table, of s bits each, 2^s + 1 of them
    items    uint32 (n_tables, n_codes): the items by the value of a table's bits, ascending inside a value; where codes
             are kept in parts, the first item of each part stands for it

Table t has bits n_bits * t // n_tables to n_bits * (t + 1) // n_tables of the code, n_bits being eight times its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _checks as checks
from . import _prepared
from ._arrays import Array, as_tensor
from ._native import native

if TYPE_CHECKING:
    from ._arguments import EqualRows

USES = {"automatic": 0, "never": 1, "always": 2}  # csrc/core/types.h, TableUse
use = "automatic"  # of all calls; tests set it


class SubstringTables:
    """Native description of tables; keeps the tensors it points into alive."""

    def __init__(self, offsets: Tensor | None = None, items: Tensor | None = None, n_bits: int = 0) -> None:
        self.tensors: tuple[Tensor, ...] = ()
        arguments = (0, 0, 0, 0, 0)
        if offsets is not None and items is not None:
            self.tensors = offsets, items = offsets.contiguous(), items.contiguous()
            arguments = offsets.data_ptr(), items.data_ptr(), items.shape[0], n_bits, items.shape[1]
        self.native = native.SubstringTables(*arguments)


NO_TABLES = SubstringTables()


def native_tables(prepared: Sequence[Tensor], n_bytes: int) -> SubstringTables:
    tables = _prepared.tables_of(prepared)
    return SubstringTables(tables[0], tables[1], 8 * n_bytes) if tables else NO_TABLES


def _group(prepared: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """What tables belong to, and what must be unchanged for them to be right."""
    rows, members, offsets = prepared[:3]
    return rows, [*_prepared.tables_of(prepared), members, offsets]


def is_known(prepared: Sequence[Tensor]) -> bool:
    return _prepared.group_of(*_group(prepared)) is not None


def check(rows: Tensor, equal: EqualRows, tables: SubstringTables, name: str) -> None:
    """Looks at every entry, because a search relies on each: it must be in its place once."""
    fault = native.check_substring_tables(
        rows.data_ptr(),
        rows.shape[1],
        rows.shape[0],
        *equal.arguments,
        tables.native,
        torch.get_num_threads(),
    )
    if fault:
        what = ("offsets", "items")[fault - 1]
        raise ValueError(f"{name}{what} must be those of tables of these codes, got others")


def make(prepared: Sequence[Tensor], n_bytes: int, equal: EqualRows) -> list[Tensor]:
    rows, code_offsets = prepared[0], prepared[2]
    if rows.shape[0] >= 1 << 32:
        raise ValueError(f"codes must be fewer than 2^32 for tables, got {rows.shape[0]}")
    n_codes = code_offsets.shape[0] - 1 if code_offsets.shape[0] else rows.shape[0]
    n_tables = native.substring_table_count(8 * n_bytes, n_codes)
    offsets = torch.empty(
        (sum(checks.table_sizes(8 * n_bytes, n_tables)),), dtype=torch.uint32, device=rows.device
    )
    items = torch.empty((n_tables, n_codes), dtype=torch.uint32, device=rows.device)
    native.build_substring_tables(
        rows.data_ptr(),
        rows.shape[1],
        *equal.arguments,
        SubstringTables(offsets, items, 8 * n_bytes).native,
        torch.get_num_threads(),
    )
    return _remember(prepared, [offsets, items])


def adopt(
    given: Mapping[str, Array], codes: Tensor, prepared: Sequence[Tensor], equal: EqualRows
) -> list[Tensor]:
    """Tables that were made of equal codes before, over the same memory. Every entry is looked at."""
    if set(given) != {"offsets", "items"}:
        names = ", ".join(repr(name) for name in sorted(map(str, given)))
        raise ValueError(
            f"tables must have 'offsets' and 'items', as HammingDatabase.tables has, got {names or 'nothing'}"
        )
    offsets, items = (as_tensor(given[name], f"tables['{name}']") for name in ("offsets", "items"))
    checks.check_tables(offsets, items, codes, prepared[2], "tables: ")
    tables = SubstringTables(offsets, items, 8 * codes.shape[1])
    check(prepared[0], equal, tables, "tables: ")
    return _remember(prepared, list(tables.tensors))


def _remember(prepared: Sequence[Tensor], tables: list[Tensor]) -> list[Tensor]:
    source, tensors = _group([*prepared[:3], *tables])
    _prepared.Group([source, *tensors])
    return tables


def as_mapping(prepared: Sequence[Tensor], convert: Any) -> dict[str, Any] | None:
    tables = _prepared.tables_of(prepared)
    return dict(zip(("offsets", "items"), map(convert, tables), strict=True)) if tables else None
