"""Arguments in the form of the native module: addresses and sizes, packed masks and labels, dtype codes.

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


def refuse_nan(values: Tensor, name: str) -> None:
    if values.is_floating_point() and (row := first_true(values.isnan().any(1))) is not None:
        raise ValueError(f"{name}[{row}] must hold numbers and infinities, got NaN")


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
    """Native description of a partition: addresses of members and offsets, number of parts (csrc/core/types.h)."""

    def __init__(self, members: Tensor | None = None, offsets: Tensor | None = None) -> None:
        self.tensors, self.arguments = (), (0, 0, 0)  # nobody has looked
        if members is not None:
            self.tensors = members, offsets = contiguous(members), contiguous(offsets)
            # Empty offsets: -1, Partition::kDistinct.
            self.arguments = members.data_ptr(), offsets.data_ptr(), offsets.shape[0] - 1


NOBODY_LOOKED = EqualRows()


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
            stride, *equal.arguments, tables.native, _tables.USES[_tables.use],
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
                prepared.equal_codes = EqualRows(prepared[1], prepared[2])
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


class Relevance:
    """Native description of which pairs are relevant; keeps the tensors it points into alive."""

    def __init__(
        self,
        query_labels: Tensor,
        database_labels: Tensor,
        check: bool | None,
        prepared: Sequence[Tensor] | None = None,
    ) -> None:
        n_words, rows, kept = 0, None, _prepared.labels_of(prepared)
        self.equal_labels = EqualRows(*kept[1:])
        if kept:
            rows = kept[0] if kept[0].shape[0] else None
            if not database_labels.is_cuda and _prepared.group_of(database_labels, kept) is None:
                _check_prepared_labels(database_labels, kept, check)
            elif database_labels.is_cuda and check:
                check_multi_hot(database_labels, "database_labels", check)
        if query_labels.dim() == 1:
            ids = _device_ids if query_labels.is_cuda else _int32_ids
            self.tensors = ids(query_labels, database_labels, rows)
        else:
            self.tensors = (
                label_words(query_labels, "query_labels", check),
                label_words(database_labels, "database_labels", check) if rows is None else contiguous(rows),
            )
            n_words = self.tensors[0].shape[1] // 8
        wide_ids = self.tensors[0].dtype == torch.int64
        self.native = native.Relevance(
            *(tensor.data_ptr() for tensor in self.tensors), n_words, wide_ids, *self.equal_labels.arguments
        )


def _check_prepared_labels(labels: Tensor, prepared: Sequence[Tensor], check: bool | None) -> None:
    rows, members, offsets = prepared
    words = label_words(labels, "database_labels", check) if labels.dim() == 2 else None
    ids = as_int32(labels) if labels.dim() == 1 and rows.shape[0] else None
    with torch_steps():
        if words is not None:
            _prepared.check_rows(words, rows, "label")
        elif rows.shape[0]:
            _prepared.check_rows(
                _prepared.as_bytes(labels if ids is None else ids), _prepared.as_bytes(rows), "label"
            )
        equal_rows = _prepared.as_bytes(rows if rows.shape[0] else labels)
        _prepared.check_partition(equal_rows, members, offsets, "label")


def _device_ids(query_ids: Tensor, database_ids: Tensor, _: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ids as int32, or as int64 where their dtypes hold more: nothing is looked at, so nothing waits."""
    dtypes = {query_ids.dtype, database_ids.dtype}
    if torch.uint64 in dtypes and len(dtypes) == 2:
        # As int64 bit patterns a large id would equal a negative one. Rare enough to go through the CPU.
        ids = _int32_ids(query_ids.cpu(), database_ids.cpu())
        return tuple(tensor.to(query_ids.device) for tensor in ids)
    wide = dtypes & {torch.int64, torch.uint32, torch.uint64}
    dtype = torch.int64 if wide else torch.int32
    return tuple(ids.to(dtype).contiguous() for ids in (query_ids, database_ids))


def as_int32(ids: Tensor) -> Tensor | None:
    """The ids as int32 if they all fit; looks at them where their dtype holds more."""
    ids = contiguous(ids)
    if ids.dtype == torch.int32:
        return ids
    narrow = ids.new_empty(ids.shape, dtype=torch.int32)
    all_fit = native.narrow_ids(
        ids.data_ptr(), DTYPE_CODES[ids.dtype], ids.shape[0], narrow.data_ptr(), torch.get_num_threads()
    )
    return narrow if all_fit else None


def _int32_ids(
    query_ids: Tensor, database_ids: Tensor, database_int32: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The ids as int32: themselves where they fit, else renumbered. Ids are only compared for equality."""
    ids = (
        as_int32(query_ids),
        as_int32(database_ids) if database_int32 is None else contiguous(database_int32),
    )
    if ids[0] is not None and ids[1] is not None:
        return ids
    if torch.uint64 in (query_ids.dtype, database_ids.dtype):
        # Ids beyond int64 exist only here; they are renumbered as Python integers, which have no largest
        # value.
        values = sorted({*query_ids.tolist(), *database_ids.tolist()})
        number = {value: i for i, value in enumerate(values)}
        return tuple(
            torch.tensor([number[v] for v in ids.tolist()], dtype=torch.int32)
            for ids in (query_ids, database_ids)
        )
    with torch_steps():
        _, renumbered = torch.cat([query_ids.long(), database_ids.long()]).unique(return_inverse=True)
        return tuple(
            tensor.to(torch.int32).contiguous()
            for tensor in renumbered.split([len(query_ids), len(database_ids)])
        )


def check_multi_hot(labels: Tensor, name: str, check: bool | None) -> None:
    if labels.dtype == torch.bool or labels.dim() == 1 or not wants_check(check, labels):
        return
    if bool((wrong := (labels != 0) & (labels != 1)).any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        raise ValueError(
            f"{name} must hold 0 and 1 in multi-hot rows, got {labels[row, column].item()} at [{row}, {column}]"
        )


def label_words(labels: Tensor, name: str, check: bool | None) -> Tensor:
    """Multi-hot rows as packed bits, padded to whole 64-bit words."""
    if labels.is_cuda:
        check_multi_hot(labels, name, check)
        bits = pack_bits(labels if labels.dtype == torch.bool else labels != 0)
        return torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8))
    labels = contiguous(labels)
    words = labels.new_empty((labels.shape[0], (labels.shape[1] + 63) // 64 * 8), dtype=torch.uint8)
    wrong_row = native.multi_hot_words(
        labels.data_ptr(), DTYPE_CODES[labels.dtype], *labels.shape, words.data_ptr(), torch.get_num_threads()
    )
    if wrong_row >= 0:
        with torch_steps():
            check_multi_hot(labels, name, check)
    return words


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


def check_metric_values(
    queries: Tensor,
    database: Tensor,
    n_bits: int | None,
    check: bool | None,
    prepared: Sequence[Tensor] | None = None,
) -> None:
    if n_bits is None or not wants_check(check, queries):
        return
    check_padding(queries, n_bits, "queries")
    group = _prepared.group_of(database, prepared[:3]) if prepared else None
    if (
        group is None
        or group.last_byte is None
        or group.last_byte >= 1 << (8 + n_bits - 8 * database.shape[1])
    ):
        check_padding(database, n_bits, "database")


def metric_operands(
    queries: Tensor,
    database: Tensor,
    query_labels: Tensor,
    database_labels: Tensor,
    score: str,
    n_bits: int | None,
    allowed: Tensor | None,
    check: bool | None,
    prepared: Sequence[Tensor] | None,
) -> tuple[Pairs, Relevance]:
    """What every metric hands to the native side, its values checked where they are to be."""
    check_metric_values(queries, database, n_bits, check, prepared)
    pairs = Pairs(queries, database, score, allowed, prepared)
    return pairs, Relevance(query_labels, database_labels, check, prepared)
