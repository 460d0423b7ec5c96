"""What a `HammingDatabase` keeps and hands to the ranking ops as `prepared`: None, or three tensors, then three more
where there are labels, then two more where there are substring tables.

    code rows      uint8 (n, width): the database's codes, padded with zero bytes to a width that kernels read whole
    code members   int64 (n,), code offsets int64 (n_parts + 1,): the rows parted into equal ones (csrc/core/types.h,
                   Partition); both empty where rows do not repeat enough
    label rows     the database's labels as kernels read them: int32 (n,) ids, or uint8 (n, 8 * n_words) packed
                   multi-hot rows; int32 (0,) for ids that int32 cannot hold, and on CUDA, where that is not looked at
    label members, label offsets: likewise for labels; the last three are left out where there are none

    table offsets  uint32, table items uint32 (n_tables, n_codes): _tables.py; the last two, on the CPU alone

Sizes and dtypes are checked at every call. Contents, which a kernel that follows members and offsets relies on, are
looked at by the CPU ops (those of CUDA use no partition): once for a whole group of tensors made here, which is
remembered with the tensors' version counters, and at every call for tensors that came from elsewhere or were written to
since.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

# Codes are kept in parts from this many items per part on average. With fewer, following members costs more than the
# comparisons it saves; and parting rows that hardly repeat is given up early.
ROWS_PER_PART = 4

_made_here: WeakIdKeyDictionary = WeakIdKeyDictionary()  # rows -> the group they belong to


class Group:
    """A source (codes or labels), its rows, members and offsets as they were when they were made."""

    def __init__(self, tensors: Sequence[Tensor], last_byte: int | None = None) -> None:
        self.last_byte = last_byte  # of codes: the largest one; None: not looked at
        self._state = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
        _made_here[tensors[1]] = self

    def is_whole(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are the tensors that were made then, and nobody has written to them since."""
        return all(
            made() is tensor and version == tensor._version
            for (made, version), tensor in zip(self._state, tensors, strict=True)
        )


class Prepared(tuple):
    """The tensors as a HammingDatabase keeps them, and the codes that they were made of, by which a call that gets this
    very tuple knows them at once. A dispatcher hands on a list of its own; group_of finds the groups of its tensors."""

    _source: weakref.ref[Tensor]
    _writes: int
    distinct: Any = None  # of the code rows one of each part, native; None: there are no parts
    clusters: Any = None  # the code rows around centers, native; None: there are none
    equal_codes: Any = None  # what _arguments.py makes of the second and third, once
    tables: Any = None  # and of the last two, where they are tables

    @classmethod
    def of(cls, source: Tensor, tensors: Sequence[Tensor]) -> Prepared:
        made = cls(tensors)
        made._source, made._writes = weakref.ref(source), made._writes_with(source)
        return made

    def is_of(self, source: Tensor) -> bool:
        """Whether all was made of these codes, and nobody has written to any of it since."""
        return self._source() is source and self._writes == self._writes_with(source)

    def _writes_with(self, source: Tensor) -> int:
        writes = source._version  # each is a count, which only grows: the sum tells as much as all of them
        for tensor in self:
            writes += tensor._version
        return writes


def group_of(source: Tensor, prepared: Sequence[Tensor]) -> Group | None:
    """The group these tensors were made as; None where they were not, or no longer are what they were."""
    group = _made_here.get(prepared[0])
    return group if group is not None and group.is_whole((source, *prepared)) else None


def labels_of(prepared: Sequence[Tensor] | None) -> Sequence[Tensor]:
    """Label rows, members and offsets, or nothing."""
    return prepared[3:6] if prepared and len(prepared) in (6, 8) else ()


def tables_of(prepared: Sequence[Tensor] | None) -> Sequence[Tensor]:
    """Table offsets and items, or nothing."""
    return prepared[-2:] if prepared and len(prepared) in (5, 8) else ()


def padded_bytes(n_bytes: int) -> int:
    """The width at which kernels read codes: 4 bytes, or whole 8-byte words."""
    return 4 if n_bytes <= 4 else (n_bytes + 7) // 8 * 8


def as_bytes(rows: Tensor) -> Tensor:
    """Rows of any dtype, or ids, as uint8 (n, row_bytes)."""
    return rows.contiguous().view(torch.uint8).view(rows.shape[0], -1)


def _refuse(what: str, found: str) -> None:
    raise ValueError(f"prepared must be what HammingDatabase made of these {what}s, unchanged; {found}")


def check_rows(source: Tensor, rows: Tensor, what: str) -> None:
    """`rows` are the bytes of `source`, then zeros."""
    n_bytes = source.shape[1]
    same = rows.shape[1] >= n_bytes and torch.equal(rows[:, :n_bytes], source)
    if not same or bool(rows[:, n_bytes:].any()):
        _refuse(what, f"{what} rows differ from the database's {what}s")


def check_partition(rows: Tensor, members: Tensor, offsets: Tensor, what: str) -> None:
    """Offsets rise from 0 to n; members are the rows 0 .. n-1, each once, ascending inside a part; parts are in the
    order of their first member; rows are equal inside a part and differ between parts."""
    if offsets.shape[0] == 0:
        return
    n = rows.shape[0]
    sizes = offsets.diff()
    if int(offsets[0]) != 0 or int(offsets[-1]) != n or bool((sizes < 1).any()):
        _refuse(what, f"{what} offsets do not rise from 0 to {n}")
    if int(members.min()) < 0 or int(members.max()) >= n:
        _refuse(what, f"{what} members lie outside 0 to {n - 1}")
    if bool((torch.bincount(members, minlength=n) != 1).any()):
        _refuse(what, f"{what} members do not name each item once")
    part = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    first = members[offsets[:-1]]
    if bool((first.diff() < 0).any()) or bool(((members.diff() < 0) & (part.diff() == 0)).any()):
        _refuse(what, f"{what} members are not in order")
    if not torch.equal(rows[members], rows[first][part]) or len(rows[first].unique(dim=0)) != len(sizes):
        _refuse(what, f"{what} members part other rows")
