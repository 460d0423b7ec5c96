"""Arguments in the form of the native module: addresses and sizes, packed masks, dtype codes.

Each description keeps the tensors it points into alive, contiguous copies among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks
from . import _prepared, _tables
from . import _shapes as shapes
from ._native import native
from ._tables import NO_TABLES
from ._torch_threads import torch_steps

WITH_MEMORY = "must hold values (no fake tensor, none inside torch.func transforms or while tracing)"
DTYPE_CODES = {  # csrc/core/types.h, enum DType
    torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3,
    torch.int8: 4, torch.int16: 5, torch.int32: 6, torch.int64: 7,
    torch.uint8: 8, torch.bool: 8, torch.uint16: 9, torch.uint32: 10, torch.uint64: 11,
}  # fmt: skip


def on_cuda(tensor: Tensor) -> bool:
    """Which of the two back ends a tensor's addresses go to."""
    return tensor.is_cuda


def place(tensor: Tensor) -> tuple[int, int]:
    """The last arguments of every native CUDA op: device and stream."""
    return tensor.get_device(), torch.cuda.current_stream(tensor.device).cuda_stream


def contiguous(tensor: Tensor) -> Tensor:
    if tensor.is_contiguous():
        return tensor
    with torch_steps():
        return tensor.contiguous()


def as_int64(values: Tensor) -> Tensor:
    if values.dtype == torch.int64:
        return contiguous(values)
    with torch_steps():
        return values.to(torch.int64).contiguous()


def widen_rows(rows: Tensor, n_bytes: int) -> Tensor:
    """A copy of uint8 rows, each filled up with zeros to n_bytes."""
    if rows.is_cuda:
        return torch.nn.functional.pad(rows, (0, n_bytes - rows.shape[1])).contiguous()
    if rows.stride(1) != 1:
        rows = contiguous(rows)
    wider = rows.new_empty((rows.shape[0], n_bytes))
    native.widen_rows(
        rows.data_ptr(), *rows.shape, rows.stride(0), wider.data_ptr(), n_bytes, torch.get_num_threads()
    )
    return wider


def largest_last_byte(codes: Tensor) -> int:
    """Of codes on the CPU."""
    last = codes[:, -1]
    return native.largest_byte(last.data_ptr(), last.shape[0], last.stride(0), torch.get_num_threads())


def first_true(rows: Tensor) -> int | None:
    """The first true entry; waits for the device."""
    return int(rows.int().argmax()) if bool(rows.any()) else None


def refuse_nan(values: Tensor, name: str, first_row: int = 0) -> None:
    """`first_row`: the number of the first one, where these are a part of all rows."""
    if values.is_floating_point() and (row := first_true(values.isnan().any(1))) is not None:
        raise ValueError(f"{name}[{first_row + row}] must hold numbers and infinities, got NaN")


def has_memory(tensor: Tensor) -> bool:
    """Whether a plain tensor is what it seems, and stands for no batch of others."""
    try:
        return tensor.numel() == 0 or tensor.data_ptr() != 0
    except RuntimeError:
        return False


def refuse_without_memory(tensor: Tensor, name: str) -> None:
    """Tensors that stand for others (fake ones, those of a transform or a tracer, subclasses around another tensor)
    have no memory to read. Ops get what they stand for from torch; what calls the native module itself does not."""
    try:
        on_meta = tensor.untyped_storage().device.type == "meta"  # fake ones, whatever device they name
        has_memory = not on_meta and (tensor.numel() == 0 or tensor.data_ptr() != 0)
    except RuntimeError:  # most raise, but not all of them in every version of torch
        has_memory = False
    if not has_memory:
        raise ValueError(f"{name} {WITH_MEMORY}, got a {type(tensor).__name__} without memory of its own")


def pack_bits(rows: Tensor) -> Tensor:
    """Rows of bools as packed bits, of any width and on either device."""
    rows = contiguous(rows)
    packed = rows.new_empty((rows.shape[0], shapes.n_bytes(rows.shape[1])), dtype=torch.uint8)
    arguments = rows.data_ptr(), DTYPE_CODES[torch.bool], *rows.shape, packed.data_ptr()
    if rows.is_cuda:
        native.cuda.pack_codes(*arguments, *place(rows))
    else:
        native.pack_codes(*arguments, False, torch.get_num_threads())
    return packed


def partition_rows(rows: Tensor, max_parts: int) -> tuple[Tensor, Tensor]:
    """Members and offsets of equal rows, uint8 (n, row_bytes); empty ones where there are more than max_parts, and on
    CUDA, whose kernels use none."""
    n = rows.shape[0]
    members, offsets = (rows.new_empty((size,), dtype=torch.int64) for size in (n, max_parts + 1))
    n_parts = -1  # Partition::kDistinct
    if max_parts and not rows.is_cuda:
        refuse_without_memory(rows, "codes or labels")
        n_parts = native.partition_rows(
            rows.data_ptr(),
            *rows.shape,
            max_parts,
            members.data_ptr(),
            offsets.data_ptr(),
            torch.get_num_threads(),
        )
    if n_parts < 1:
        return members.new_empty((0,)), members.new_empty((0,))
    with torch_steps():
        return members, offsets[: n_parts + 1].clone()


class EqualRows:
    """Native description of a partition: addresses of members and offsets, number of parts; and one row of each part,
    or all rows around centers, if somebody has gathered them (csrc/core/types.h)."""

    def __init__(
        self,
        members: Tensor | None = None,
        offsets: Tensor | None = None,
        distinct: native.DistinctCodes | None = None,
        clusters: native.CodeClusters | None = None,
    ) -> None:
        self.tensors, self.arguments = (), (0, 0, 0)  # nobody has looked
        self.distinct, self.clusters = distinct, clusters
        if members is not None:
            self.tensors = members, offsets = contiguous(members), contiguous(offsets)
            # Empty offsets: -1, Partition::kDistinct.
            self.arguments = members.data_ptr(), offsets.data_ptr(), offsets.shape[0] - 1


NOBODY_LOOKED = EqualRows()


def distinct_codes(rows: Tensor, members: Tensor, offsets: Tensor) -> native.DistinctCodes:
    """One row of each part, gathered, and the centers that they lie around."""
    return native.DistinctCodes(rows.data_ptr(), rows.shape[1], *EqualRows(members, offsets).arguments)


def code_clusters(rows: Tensor) -> native.CodeClusters | None:
    """The rows around centers, where they lie around few."""
    found = native.CodeClusters(
        rows.data_ptr(), rows.shape[1], rows.shape[0], _tables.use == "always", torch.get_num_threads()
    )
    return found if found.n_centers else None


def packed_allowed(allowed: Tensor) -> tuple[Tensor, int, int]:
    """Rows of packed bits, their address, and the bytes from one query's row to the next (0: one row for all)."""
    if allowed.numel() and not allowed.data_ptr():
        raise ValueError("allowed must hold values, got a tensor whose storage was freed")
    of_each = allowed.dim() == 2
    rows = contiguous(allowed).reshape(-1, allowed.shape[-1])
    if rows.dtype != torch.uint8:
        rows = pack_bits(rows)
    return rows, rows.data_ptr(), rows.shape[1] if of_each else 0


class Pairs:
    """Native description of queries against a database; keeps the tensors it points into alive."""

    __slots__ = ("allowed", "database", "equal_codes", "native", "queries", "tables")

    def __init__(
        self,
        queries: Tensor,
        database: Tensor,
        score: str,
        allowed: Tensor | None = None,
        prepared: Sequence[Tensor] | None = None,
    ) -> None:
        n_query, n_bytes = queries.shape
        equal, tables = NOBODY_LOOKED, NO_TABLES
        if prepared:
            database, equal, tables = _code_rows(database, prepared)
            if database.shape[1] != n_bytes:
                queries = widen_rows(queries, database.shape[1])
                n_bytes = database.shape[1]
        if not queries.is_contiguous():
            queries = contiguous(queries)
        if not database.is_contiguous():
            database = contiguous(database)
        mask = stride = 0
        if allowed is not None:
            allowed, mask, stride = packed_allowed(allowed)
        self.queries, self.database, self.allowed = queries, database, allowed
        self.equal_codes, self.tables = equal, tables
        self.native = native.Pairs(
            queries.data_ptr(), database.data_ptr(), n_query, database.shape[0], n_bytes, _SCORE_CODES[score], mask,
            stride, *equal.arguments, equal.distinct, tables.native, _tables.USES[_tables.use], equal.clusters,
        )  # fmt: skip


_SCORE_CODES = {score: code for code, score in enumerate(checks.SCORES)}


def code_rows(codes: Tensor, prepared: Sequence[Tensor] | None) -> tuple[Tensor, EqualRows]:
    """Codes as a search of pairs reads them, and which of them are equal, if somebody has looked."""
    if not prepared:
        return contiguous(codes), NOBODY_LOOKED
    rows, equal, _ = _code_rows(codes, prepared)
    return contiguous(rows), equal


def _code_rows(
    database: Tensor, prepared: Sequence[Tensor]
) -> tuple[Tensor, EqualRows, _tables.SubstringTables]:
    if type(prepared) is _prepared.Prepared:
        if prepared.is_of(database):
            if prepared.equal_codes is None:
                prepared.equal_codes = EqualRows(
                    prepared[1], prepared[2], prepared.distinct, prepared.clusters
                )
                prepared.tables = _tables.native_tables(prepared, database.shape[1])
            return prepared[0], prepared.equal_codes, prepared.tables
        checks.check_prepared(database, prepared)
    rows, members, offsets = prepared[:3]
    if not rows.is_cuda and _prepared.group_of(database, prepared[:3]) is None:
        with torch_steps():
            _prepared.check_rows(database, rows, "code")
            _prepared.check_partition(rows, members, offsets, "code")
    equal, tables = EqualRows(members, offsets), _tables.native_tables(prepared, database.shape[1])
    if tables is not NO_TABLES and not _tables.is_known(prepared):
        _tables.check(rows, equal, tables, "prepared: table ")
    return rows, equal, tables


def workspace_bytes(n_bytes: int, beside: Tensor) -> Tensor:
    """Room on the device of a tensor; torch's allocator keeps what is freed in the order of the stream."""
    return beside.new_empty((n_bytes,), dtype=torch.uint8)


def wants_check(check: bool | None, tensor: Tensor) -> bool:
    """Whether values are looked at: on the CPU unless told not to, on CUDA only if asked."""
    return not tensor.is_cuda if check is None else check


def check_padding(codes: Tensor, n_bits: int, name: str) -> None:
    padding = 8 * codes.shape[1] - n_bits
    if not codes.is_cuda and largest_last_byte(codes) < 1 << (8 - padding):
        return
    if padding and bool((set_bits := codes[:, -1] >= 1 << (8 - padding)).any()):
        raise ValueError(
            f"{name} must have no padding bits set (from bit {n_bits} on), got some in row {int(set_bits.nonzero()[0])}"
        )
