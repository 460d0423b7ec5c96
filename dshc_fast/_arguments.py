"""Arguments as the native module takes them: addresses and sizes, packed masks and labels, dtype codes.

Each description keeps the tensors it points into alive, contiguous copies among them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._native import native

DTYPE_CODES = {  # csrc/core/types.h, enum DType
    torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3,
    torch.int8: 4, torch.int16: 5, torch.int32: 6, torch.int64: 7,
    torch.uint8: 8, torch.bool: 8, torch.uint16: 9, torch.uint32: 10, torch.uint64: 11,
}  # fmt: skip


def pack_bits(rows: Tensor) -> Tensor:
    """Rows of bools as packed bits, of any width and on either device."""
    rows = rows.contiguous()
    packed = rows.new_empty((rows.shape[0], shapes.n_bytes(rows.shape[1])), dtype=torch.uint8)
    arguments = rows.data_ptr(), DTYPE_CODES[torch.bool], *rows.shape, packed.data_ptr()
    if rows.is_cuda:
        native.cuda.pack_codes(
            *arguments, rows.get_device(), torch.cuda.current_stream(rows.device).cuda_stream
        )
    else:
        native.pack_codes(*arguments, False, torch.get_num_threads())
    return packed


class Pairs:
    """Native description of queries against a database; keeps the tensors it points into alive."""

    def __init__(self, queries: Tensor, database: Tensor, score: str, allowed: Tensor | None = None) -> None:
        self.queries, self.database, self.allowed = queries.contiguous(), database.contiguous(), allowed
        if allowed is not None:
            rows = allowed.reshape(-1, allowed.shape[-1])
            self.allowed = rows.contiguous() if allowed.dtype == torch.uint8 else pack_bits(rows)
        stride = self.allowed.shape[1] if allowed is not None and allowed.dim() == 2 else 0
        self.native = native.Pairs(
            self.queries.data_ptr(), self.database.data_ptr(), queries.shape[0], database.shape[0],
            queries.shape[1], shapes.SCORES.index(score), 0 if self.allowed is None else self.allowed.data_ptr(),
            stride,
        )  # fmt: skip


class Relevance:
    """Native description of which pairs are relevant; keeps the tensors it points into alive."""

    def __init__(self, query_labels: Tensor, database_labels: Tensor, check: bool | None) -> None:
        n_words = 0
        if query_labels.dim() == 1:
            ids = _device_ids if query_labels.is_cuda else _int32_ids
            self.tensors = ids(query_labels, database_labels)
        else:
            self.tensors = (
                _label_words(query_labels, "query_labels", check),
                _label_words(database_labels, "database_labels", check),
            )
            n_words = self.tensors[0].shape[1] // 8
        wide_ids = self.tensors[0].dtype == torch.int64
        self.native = native.Relevance(*(tensor.data_ptr() for tensor in self.tensors), n_words, wide_ids)


def _device_ids(query_ids: Tensor, database_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The ids as int32, or as int64 where their dtypes hold more: nothing is looked at, so nothing waits."""
    dtypes = {query_ids.dtype, database_ids.dtype}
    if torch.uint64 in dtypes and len(dtypes) == 2:
        # As int64 bit patterns a large id would equal a negative one. Rare enough to go through the CPU.
        ids = _int32_ids(query_ids.cpu(), database_ids.cpu())
        return tuple(tensor.to(query_ids.device) for tensor in ids)
    wide = dtypes & {torch.int64, torch.uint32, torch.uint64}
    dtype = torch.int64 if wide else torch.int32
    return tuple(ids.to(dtype).contiguous() for ids in (query_ids, database_ids))


def _int32_ids(query_ids: Tensor, database_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The ids as int32: themselves where they fit, else renumbered. Ids are only compared for equality."""
    if torch.uint64 in (query_ids.dtype, database_ids.dtype):
        # Ids beyond int64 exist only here; they are renumbered as Python integers, which have no largest
        # value.
        values = sorted({*query_ids.tolist(), *database_ids.tolist()})
        number = {value: i for i, value in enumerate(values)}
        return tuple(
            torch.tensor([number[v] for v in ids.tolist()], dtype=torch.int32)
            for ids in (query_ids, database_ids)
        )
    ids, limits = [query_ids, database_ids], torch.iinfo(torch.int32)
    if any(tensor.dtype in (torch.int64, torch.uint32) for tensor in ids):
        ids = [tensor.long() for tensor in ids]
    for tensor in ids:
        if (
            tensor.dtype == torch.int64
            and tensor.numel()
            and (int(tensor.min()) < limits.min or int(tensor.max()) > limits.max)
        ):
            _, renumbered = torch.cat(ids).unique(return_inverse=True)
            ids = renumbered.split([len(query_ids), len(database_ids)])
            break
    return tuple(tensor.to(torch.int32).contiguous() for tensor in ids)


def _label_words(labels: Tensor, name: str, check: bool | None) -> Tensor:
    """Multi-hot rows as packed bits, padded to whole 64-bit words."""
    if labels.dtype != torch.bool:
        if wants_check(check, labels) and bool((wrong := (labels != 0) & (labels != 1)).any()):
            row, column = (int(i) for i in wrong.nonzero()[0])
            raise ValueError(
                f"{name}[{row}, {column}] is {labels[row, column].item()}; taken in multi-hot rows: 0 and 1"
            )
        labels = labels != 0
    bits = pack_bits(labels)
    return torch.nn.functional.pad(bits, (0, -bits.shape[1] % 8))


def wants_check(check: bool | None, tensor: Tensor) -> bool:
    """Whether values are looked at: on the CPU unless told not to, on CUDA only if asked."""
    return not tensor.is_cuda if check is None else check


def _check_padding(codes: Tensor, n_bits: int, name: str) -> None:
    padding = 8 * codes.shape[1] - n_bits
    if padding and bool((set_bits := codes[:, -1] >= 1 << (8 - padding)).any()):
        raise ValueError(
            f"{name}[{int(set_bits.nonzero()[0])}] has padding bits set; taken: no bits from {n_bits} on"
        )


def check_metric_values(queries: Tensor, database: Tensor, n_bits: int | None, check: bool | None) -> None:
    if n_bits is not None and wants_check(check, queries):
        _check_padding(queries, n_bits, "queries")
        _check_padding(database, n_bits, "database")


class ClassSoftmax:
    """Native description of a loss call; keeps the tensors it points into alive."""

    def __init__(
        self, logits: Tensor, labels: Tensor, class_offsets: Tensor, weight: float, ignore_index: int
    ) -> None:
        self.logits = logits.contiguous()
        self.labels = checks.signed_labels(labels).contiguous()
        self.class_offsets = class_offsets.to(torch.int64).contiguous()
        self.native = native.ClassSoftmax(
            self.logits.data_ptr(), DTYPE_CODES[logits.dtype], self.labels.data_ptr(),
            self.class_offsets.data_ptr(), *logits.shape, class_offsets.shape[0] - 1, weight, ignore_index,
        )  # fmt: skip
