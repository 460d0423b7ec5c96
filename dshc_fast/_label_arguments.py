"""Labels in the form of the native module: which pairs are relevant, and what every metric hands over.

Each description keeps the tensors it points into alive, contiguous copies among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _prepared
from ._arguments import DTYPE_CODES, EqualRows, Pairs, check_padding, contiguous, pack_bits, wants_check
from ._native import native
from ._torch_threads import torch_steps


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
            torch.tensor([number[v] for v in ids.tolist()], dtype=torch.int32, device=ids.device)
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
