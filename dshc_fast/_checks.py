"""Checks of arguments. A wrong type or dtype is a TypeError, a wrong shape, size, range or value a
ValueError; each message names the argument, what must hold and what came. Checks of shapes and dtypes run in
eager mode and on fake tensors alike."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ._prepared import Prepared, labels_of, padded_bytes, tables_of
from ._torch_threads import torch_steps

MAX_BYTES = 512
MAX_TABLE_BITS = 26  # of a substring (csrc/core/substring_tables.h)
SCORES = ("hamming", "overlap")
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
INTEGERS = (
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
REALS = (torch.bool, *INTEGERS, *FLOATS)
_INTEGERS, _REALS = frozenset(INTEGERS), frozenset(REALS)
DEVICES = ("cpu", "cuda", "meta")


def shape_text(tensor: Tensor) -> str:
    return "(" + ", ".join(str(size) for size in tensor.shape) + ("," if tensor.dim() == 1 else "") + ")"


def dtype_text(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def check_dtype(
    tensor: Tensor, name: str, allowed: Sequence[torch.dtype], words: str, remedy: str = ""
) -> None:
    if tensor.dtype not in allowed:
        raise TypeError(f"{name} must be {words}, got {dtype_text(tensor)}{remedy}")


def check_dim(tensor: Tensor, name: str, dim: int, shape: str) -> None:
    if tensor.dim() != dim:
        raise ValueError(f"{name} must have shape {shape}, got {shape_text(tensor)}")


def check_same_device(**tensors: Tensor | None) -> None:
    first_name, first = next(item for item in tensors.items() if item[1] is not None)
    device = first.device  # type: ignore[union-attr]  # not None
    if device.type not in DEVICES:
        raise ValueError(f"{first_name} must be on cpu or cuda, got {device}")
    for name, tensor in tensors.items():
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{name} must be on {device}, where {first_name} is, got {tensor.device}")


def check_codes(codes: Tensor, name: str, *, at_least: int = 0) -> None:
    remedy = f"; pack_codes({name}) packs signs" if codes.dtype in FLOATS and name.isidentifier() else ""
    check_dtype(codes, name, (torch.uint8,), "uint8 (packed codes)", remedy)
    check_dim(codes, name, 2, "(n, bytes)")
    if not 1 <= codes.shape[1] <= MAX_BYTES:
        raise ValueError(f"{name} must have 1 to {MAX_BYTES} bytes per code, got shape {shape_text(codes)}")
    if at_least and codes.shape[0] < at_least:
        raise ValueError(f"{name} must have at least {at_least} row, got shape {shape_text(codes)}")


def check_pairs(
    queries: Tensor, database: Tensor, allowed: Tensor | None = None, prepared: Sequence[Tensor] | None = None
) -> None:
    # What a HammingDatabase keeps fits, unless somebody has written to it: _arguments.py asks, before it is used.
    if allowed is None and (not prepared or type(prepared) is Prepared) and _are_good(queries, database):
        return
    # Something does not fit, or has to be looked at more closely: one question after the other, to name what it is.
    check_same_device(queries=queries, database=database, allowed=allowed)
    check_codes(queries, "queries")
    check_codes(database, "database", at_least=1)
    check_prepared(database, prepared)
    if queries.shape[1] != database.shape[1]:
        raise ValueError(
            f"database must have codes of {queries.shape[1]} bytes, as queries has, got {database.shape[1]}"
        )
    if allowed is not None:
        check_allowed(allowed, queries.shape[0], database.shape[0])


def check_allowed(allowed: Tensor, n_query: int, n_db: int) -> None:
    check_dtype(allowed, "allowed", (torch.bool, torch.uint8), "bool, or uint8 for packed bits")
    width = n_db if allowed.dtype == torch.bool else (n_db + 7) // 8
    if (
        allowed.dim() not in (1, 2)
        or allowed.shape[-1] != width
        or (allowed.dim() == 2 and allowed.shape[0] != n_query)
    ):
        raise ValueError(
            f"allowed must have shape ({width},) or ({n_query}, {width}) where it is {dtype_text(allowed)}, "
            f"got {shape_text(allowed)}"
        )


def _are_good(queries: Tensor, database: Tensor) -> bool:
    """All that is asked of two sets of codes on the CPU, in one look: a call on few items is little but its checks."""
    ours, theirs = queries.shape, database.shape
    return (
        queries.dtype is torch.uint8
        and database.dtype is torch.uint8
        and queries.is_cpu
        and database.is_cpu
        and len(ours) == len(theirs) == 2
        and ours[1] == theirs[1]
        and 1 <= ours[1] <= MAX_BYTES
        and theirs[0] >= 1
    )


def check_prepared(database: Tensor, prepared: Sequence[Tensor] | None) -> None:
    """The tensors of _prepared.py: how many, their dtypes and sizes."""
    if not prepared:
        return
    if len(prepared) not in (3, 5, 6, 8):
        raise ValueError(
            f"prepared must hold 0, 3, 5, 6 or 8 tensors, as HammingDatabase keeps them, got {len(prepared)}"
        )
    n, n_bytes = database.shape
    for parts, what in ((prepared[:3], "code"), (labels_of(prepared), "label")):
        if not parts:
            continue
        rows, members, offsets = parts
        for name, tensor in (("rows", rows), ("members", members), ("offsets", offsets)):
            check_same_device(**{"database": database, f"prepared: {what} {name}": tensor})
            if name != "rows":
                check_dtype(tensor, f"prepared: {what} {name}", (torch.int64,), "int64")
                check_dim(tensor, f"prepared: {what} {name}", 1, "(n,)")
        if (members.shape[0] or offsets.shape[0]) and (
            members.shape[0] != n or not 2 <= offsets.shape[0] <= n + 1
        ):
            raise ValueError(
                f"prepared: {what} members and {what} offsets must have shapes ({n},) and (n_parts + 1,), or both be "
                f"empty, got {shape_text(members)} and {shape_text(offsets)}"
            )
    check_codes(prepared[0], "prepared: code rows")
    if prepared[0].shape[0] != n or prepared[0].shape[1] < n_bytes:
        raise ValueError(
            f"prepared: code rows must have shape ({n}, {n_bytes} or more), got {shape_text(prepared[0])}"
        )
    if tables := tables_of(prepared):
        if prepared[0].shape[1] != padded_bytes(n_bytes):
            raise ValueError(
                f"prepared: code rows must have {padded_bytes(n_bytes)} bytes beside tables, got {prepared[0].shape[1]}"
            )
        check_tables(tables[0], tables[1], database, prepared[2], "prepared: table ")


def table_sizes(n_bits: int, n_tables: int) -> list[int]:
    """Offsets of each table: of s bits, 2^s + 1 (csrc/core/types.h, SubstringTables)."""
    firsts = [n_bits * t // n_tables for t in range(n_tables + 1)]
    return [(1 << (end - begin)) + 1 for begin, end in zip(firsts, firsts[1:], strict=False)]


def check_tables(offsets: Tensor, items: Tensor, codes: Tensor, code_offsets: Tensor, name: str) -> None:
    """Dtypes and sizes of substring tables; what they hold is another question."""
    n_codes = code_offsets.shape[0] - 1 if code_offsets.shape[0] else codes.shape[0]
    n_bits = 8 * codes.shape[1]
    for tensor, what in ((offsets, "offsets"), (items, "items")):
        check_same_device(codes=codes, **{f"{name}{what}": tensor})
        check_dtype(tensor, f"{name}{what}", (torch.uint32,), "uint32")
    least = (n_bits + MAX_TABLE_BITS - 1) // MAX_TABLE_BITS
    if items.dim() != 2 or items.shape[1] != n_codes or not least <= items.shape[0] <= n_bits:
        raise ValueError(
            f"{name}items must have shape (n_tables, {n_codes}), with {least} to {n_bits} tables of these codes, "
            f"got {shape_text(items)}"
        )
    n_offsets = sum(table_sizes(n_bits, items.shape[0]))
    if offsets.dim() != 1 or offsets.shape[0] != n_offsets:
        raise ValueError(f"{name}offsets must have shape ({n_offsets},), got {shape_text(offsets)}")


def check_prepared_labels(database_labels: Tensor, prepared: Sequence[Tensor] | None) -> None:
    if not labels_of(prepared):
        return
    rows, n = labels_of(prepared)[0], database_labels.shape[0]
    if database_labels.dim() == 1:
        check_dtype(rows, "prepared: label rows", (torch.int32,), "int32 (class ids)")
        fits = rows.dim() == 1 and rows.shape[0] in (0, n)
    else:
        check_dtype(rows, "prepared: label rows", (torch.uint8,), "uint8 (packed multi-hot rows)")
        fits = (
            rows.dim() == 2
            and rows.shape[0] == n
            and rows.shape[1] == (database_labels.shape[1] + 63) // 64 * 8
        )
    if not fits:
        raise ValueError(
            f"prepared: label rows must be those of labels of shape {shape_text(database_labels)}, "
            f"got shape {shape_text(rows)}"
        )


def check_label_rows(labels: Tensor, name: str, n: int, of: str) -> None:
    if labels.dim() not in (1, 2) or labels.shape[0] != n:
        raise ValueError(
            f"{name} must have shape ({n},), class ids, or ({n}, n_labels), multi-hot rows: one per row of {of}; "
            f"got {shape_text(labels)}"
        )
    if labels.dim() == 1:
        check_dtype(labels, name, INTEGERS, "integers (class ids)")
    else:
        check_dtype(labels, name, REALS, "bool, integers or floats (multi-hot rows)")
        if labels.shape[1] == 0:
            raise ValueError(f"{name} must have at least 1 label, got shape {shape_text(labels)}")


def _are_good_labels(
    queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor
) -> bool:
    """All that check_labels asks, of labels on the CPU."""
    ours, theirs = query_labels.shape, database_labels.shape
    if not (
        queries.is_cpu and query_labels.is_cpu and database_labels.is_cpu and 1 <= len(ours) == len(theirs)
    ):
        return False
    if ours[0] != queries.shape[0] or theirs[0] != database.shape[0]:
        return False
    if len(ours) == 1:
        return query_labels.dtype in _INTEGERS and database_labels.dtype in _INTEGERS
    both = query_labels.dtype in _REALS and database_labels.dtype in _REALS
    return both and len(ours) == 2 and ours[1] == theirs[1] and ours[1] >= 1


def check_labels(queries: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor) -> None:
    if _are_good_labels(queries, database, query_labels, database_labels):
        return
    check_same_device(queries=queries, query_labels=query_labels, database_labels=database_labels)
    check_label_rows(query_labels, "query_labels", queries.shape[0], "queries")
    check_label_rows(database_labels, "database_labels", database.shape[0], "database")
    if query_labels.dim() != database_labels.dim() or query_labels.shape[1:] != database_labels.shape[1:]:
        raise ValueError(
            "query_labels and database_labels must both be class ids, or both multi-hot rows of one width, "
            f"got shapes {shape_text(query_labels)} and {shape_text(database_labels)}"
        )


def check_outputs(outputs: Tensor, database: Tensor) -> None:
    """Real-valued outputs as queries for the codes of a database."""
    remedy = "; hamming_topk searches with codes" if outputs.dtype == torch.uint8 else ""
    check_dtype(outputs, "outputs", FLOATS, "float32, float64, float16 or bfloat16", remedy)
    check_dim(outputs, "outputs", 2, "(n, n_bits)")
    check_codes(database, "database", at_least=1)
    n_bits, n_bytes = outputs.shape[1], database.shape[1]
    if not 8 * (n_bytes - 1) < n_bits <= 8 * n_bytes:
        raise ValueError(
            f"outputs must have {8 * (n_bytes - 1) + 1} to {8 * n_bytes} columns, one for each bit of codes of "
            f"{n_bytes} bytes, got shape {shape_text(outputs)}"
        )


def check_logits(logits: Tensor) -> None:
    check_dtype(logits, "logits", FLOATS, "float32, float64, float16 or bfloat16")
    check_dim(logits, "logits", 2, "(n, n_subclasses)")
    if logits.shape[1] < 1:
        raise ValueError(f"logits must have at least 1 column, got shape {shape_text(logits)}")


def check_class_offsets(class_offsets: Tensor) -> None:
    check_dtype(class_offsets, "class_offsets", INTEGERS, "integers")
    check_dim(class_offsets, "class_offsets", 1, "(n_classes + 1,)")
    if class_offsets.shape[0] < 2:
        raise ValueError(
            f"class_offsets must have at least 2 entries (one class), got shape {shape_text(class_offsets)}"
        )


def check_offset_values(class_offsets: Tensor, n_subclasses: int) -> None:
    """A value check: for real tensors only."""
    offsets = class_offsets.tolist()
    if (
        offsets[0] != 0
        or offsets[-1] != n_subclasses
        or any(a >= b for a, b in zip(offsets, offsets[1:], strict=False))
    ):
        shown = str(offsets) if len(offsets) <= 12 else f"[{offsets[0]}, {offsets[1]}, ..., {offsets[-1]}]"
        raise ValueError(
            f"class_offsets must rise strictly from 0 to the number of sub-classes ({n_subclasses}), got {shown}"
        )


def check_bits(n_bits: int, n_bytes: int) -> None:
    if not 8 * (n_bytes - 1) < n_bits <= 8 * n_bytes:
        raise ValueError(
            f"n_bits must be between {8 * (n_bytes - 1) + 1} and {8 * n_bytes} for codes of {n_bytes} bytes, "
            f"got {n_bits}"
        )


# The dtypes of the same bits that every torch can pickle, load and gather.
SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def signed_labels(labels: Tensor) -> Tensor:
    """Class ids as int64; ids beyond it, which uint64 alone can hold, become the largest one, which no class has."""
    if labels.dtype == torch.int64:
        return labels
    with torch_steps():
        if labels.dtype != torch.uint64:
            return labels.to(torch.int64)
        wrapped = labels.view(torch.int64)
        return torch.where(wrapped < 0, torch.iinfo(torch.int64).max, wrapped)


# ---- plain Python arguments ----


def as_int(value: object, name: str) -> int:
    if type(value) is int:
        return value if -(2**63) <= value < 2**63 else _in_int64(value)
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]  # an int to whoever traces
    if isinstance(value, bool) or isinstance(value, Tensor):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # that is the question
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    return _in_int64(number)


def as_ignore_index(value: object) -> int:
    """A label that is ignored. Not the largest int64, which stands for all that int64 cannot hold (signed_labels)."""
    number = as_int(value, "ignore_index")
    if isinstance(number, int) and (number == 2**63 - 1 or number != value):
        raise ValueError(f"ignore_index must be between -2^63 and 2^63 - 2, got {value}")
    return number


def _in_int64(number: int) -> int:
    """Where more than all means all, a number that int64 cannot hold means no more than one that it can."""
    return min(max(number, -(2**63)), 2**63 - 1)


def check_choice(value: object, name: str, choices: Sequence[str]) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(word) for word in choices)}, got {value!r}")


def check_score(score: str) -> None:
    check_choice(score, "score", SCORES)


def check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")


def check_flag(value: object, name: str) -> None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{name} must be True, False or None, got {type(value).__name__}")
