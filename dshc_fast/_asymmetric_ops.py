"""asymmetric_topk: real-valued outputs against packed codes, and its call on the CPU (registered by _ops.py)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _shapes as shapes
from ._arguments import DTYPE_CODES, NOBODY_LOOKED, code_rows, contiguous, packed_allowed
from ._native import native


class AsymmetricPairs:
    """Native description of real-valued outputs against a database; keeps the tensors it points into alive."""

    __slots__ = ("native", "tensors")

    def __init__(
        self,
        outputs: Tensor,
        database: Tensor,
        allowed: Tensor | None,
        prepared: Sequence[Tensor] | None = None,
    ) -> None:
        outputs, equal = contiguous(outputs), NOBODY_LOOKED
        n_bytes = database.shape[1]
        if prepared and not database.is_cuda:
            database, equal = code_rows(database, prepared)
        # A HammingDatabase's codes are columns of wider rows: read as they lie.
        if database.stride(1) != 1 or database.stride(0) < n_bytes:
            database = contiguous(database)
        mask = stride = 0
        if allowed is not None:
            allowed, mask, stride = packed_allowed(allowed)
        self.tensors = outputs, database, allowed, equal
        self.native = native.AsymmetricPairs(
            outputs.data_ptr(), DTYPE_CODES[outputs.dtype], database.data_ptr(), outputs.shape[0], database.shape[0],
            database.stride(0), outputs.shape[1], n_bytes, mask, stride, *equal.arguments,
        )  # fmt: skip


def _asymmetric_topk(
    outputs: Tensor,
    database: Tensor,
    k: int,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    distances, indices = shapes.asymmetric_topk(outputs, database, k, allowed, check, prepared)
    pairs = AsymmetricPairs(outputs, database, allowed, prepared)
    n_threads = torch.get_num_threads()
    native.asymmetric_topk(
        pairs.native, k, distances.data_ptr(), indices.data_ptr(), check is not False, n_threads
    )
    return distances, indices
