"""What each op accepts, and the shape of its result: one function per op, for real and for fake tensors alike.

An implementation calls its function here first, which refuses what does not fit and allocates the outputs; as
the op's fake it tells torch.compile the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _checks as checks
from ._metric_shapes import average_precision as average_precision
from ._metric_shapes import hamming_histogram as hamming_histogram
from ._metric_shapes import retrieval_metric as retrieval_metric

WEIGHTINGS = ("mean", "probability")


def n_bytes(n_bits: int) -> int:
    return (n_bits + 7) // 8


def pack_codes(values: Tensor, check: bool | None = None) -> Tensor:
    checks.check_same_device(values=values)
    checks.check_dtype(values, "values", checks.REALS, "floats, integers or bool")
    checks.check_dim(values, "values", 2, "(n, n_bits)")
    if not 1 <= values.shape[1] <= 8 * checks.MAX_BYTES:
        raise ValueError(
            f"values must have 1 to {8 * checks.MAX_BYTES} bits (columns), got shape {checks.shape_text(values)}"
        )
    return values.new_empty((values.shape[0], n_bytes(values.shape[1])), dtype=torch.uint8)


def unpack_codes(codes: Tensor, n_bits: int, signed: bool = False) -> Tensor:
    checks.check_same_device(codes=codes)
    checks.check_codes(codes, "codes")
    checks.check_bits(n_bits, codes.shape[1])
    return codes.new_empty((codes.shape[0], n_bits), dtype=torch.int8 if signed else torch.uint8)


def hamming_distance(
    queries: Tensor, database: Tensor, score: str = "hamming", prepared: Sequence[Tensor] | None = None
) -> Tensor:
    checks.check_pairs(queries, database, None, prepared)
    checks.check_score(score)
    return queries.new_empty((queries.shape[0], database.shape[0]), dtype=torch.int32)


def hamming_topk(
    queries: Tensor,
    database: Tensor,
    k: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    checks.check_pairs(queries, database, allowed, prepared)
    checks.check_score(score)
    if not 1 <= k <= database.shape[0]:
        raise ValueError(f"k must be between 1 and {database.shape[0]} (the database), got {k}")
    n_query = queries.shape[0]  # sizes apart: torch reads them faster than a tuple
    return queries.new_empty(n_query, k, dtype=torch.int32), queries.new_empty(n_query, k, dtype=torch.int64)


def asymmetric_topk(
    outputs: Tensor,
    database: Tensor,
    k: int,
    allowed: Tensor | None = None,
    check: bool | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    checks.check_same_device(outputs=outputs, database=database, allowed=allowed)
    checks.check_outputs(outputs, database)
    checks.check_prepared(database, prepared)
    if allowed is not None:
        checks.check_allowed(allowed, outputs.shape[0], database.shape[0])
    if not 1 <= k <= database.shape[0]:
        raise ValueError(f"k must be between 1 and {database.shape[0]} (the database), got {k}")
    shape = (outputs.shape[0], k)
    return outputs.new_empty(shape, dtype=torch.float32), outputs.new_empty(shape, dtype=torch.int64)


def check_hamming_radius(
    queries: Tensor,
    database: Tensor,
    radius: int,
    score: str,
    allowed: Tensor | None,
    prepared: Sequence[Tensor] | None,
) -> None:
    checks.check_pairs(queries, database, allowed, prepared)
    checks.check_score(score)
    if radius < 0:
        raise ValueError(f"radius must be 0 or more, got {radius}")


def hamming_radius(
    queries: Tensor,
    database: Tensor,
    radius: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    check_hamming_radius(queries, database, radius, score, allowed, prepared)
    found = torch.library.get_ctx().new_dynamic_size()
    return (
        queries.new_empty((queries.shape[0] + 1,), dtype=torch.int64),
        queries.new_empty((found,), dtype=torch.int64),
        queries.new_empty((found,), dtype=torch.int32),
    )


def check_hamming_pairs(codes: Tensor, radius: int, prepared: Sequence[Tensor] | None) -> None:
    checks.check_same_device(codes=codes)
    checks.check_codes(codes, "codes")
    checks.check_prepared(codes, prepared)
    if radius < 0:
        raise ValueError(f"radius must be 0 or more, got {radius}")


def hamming_pairs(
    codes: Tensor, radius: int, prepared: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    check_hamming_pairs(codes, radius, prepared)
    found = torch.library.get_ctx().new_dynamic_size()
    return (
        codes.new_empty((codes.shape[0] + 1,), dtype=torch.int64),
        codes.new_empty((found,), dtype=torch.int64),
        codes.new_empty((found,), dtype=torch.int32),
    )


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """What the loss of logits of this dtype is computed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def loss_dtype(logits: Tensor) -> torch.dtype:
    return wide_dtype(logits.dtype)


def class_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    check_class_softmax_loss(logits, labels, class_offsets)
    return _loss_and_stats(logits, loss_dtype(logits))


def check_class_softmax_loss(logits: Tensor, labels: Tensor, class_offsets: Tensor) -> None:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, labels=labels, class_offsets=class_offsets)
    check_loss_labels(logits, "logits", labels, class_offsets)


def check_loss_labels(rows: Tensor, name: str, labels: Tensor, class_offsets: Tensor) -> None:
    checks.check_dtype(labels, "labels", checks.INTEGERS, "integers (class ids)")
    if labels.dim() != 1 or labels.shape[0] != rows.shape[0]:
        raise ValueError(
            f"labels must have shape ({rows.shape[0]},), one per row of {name}, got {checks.shape_text(labels)}"
        )
    checks.check_class_offsets(class_offsets)


def _loss_and_stats(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return rows.new_empty((rows.shape[0],), dtype=dtype), rows.new_empty((rows.shape[0], 2), dtype=dtype)


def check_stats(grad_loss: Tensor, stats: Tensor, n: int, logits_dtype: torch.dtype) -> None:
    dtype = wide_dtype(logits_dtype)
    for tensor, name, shape in ((grad_loss, "grad_loss", (n,)), (stats, "stats", (n, 2))):
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(
                f"{name} must have shape {shape} and be {dtype}, got {checks.shape_text(tensor)}, {tensor.dtype}"
            )


def class_softmax_loss_backward(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> Tensor:
    checks.check_same_device(logits=logits, grad_loss=grad_loss, stats=stats)
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def class_softmax_loss_backward_(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> None:
    checks.check_same_device(logits=logits, grad_loss=grad_loss, stats=stats)
    if not logits.is_contiguous():
        raise ValueError(
            "logits must be contiguous, because the gradient is written over them, got strides "
            f"{tuple(logits.stride())}"
        )


def check_layer(
    features: Tensor, weight: Tensor, bias: Tensor | None, chunk: int | None, dtype: torch.dtype | None
) -> None:
    checks.check_same_device(features=features, weight=weight, bias=bias)
    for tensor, name in ((features, "features"), (weight, "weight"), (bias, "bias")):
        if tensor is None:
            continue
        checks.check_dtype(tensor, name, checks.FLOATS, "float32, float64, float16 or bfloat16")
        if dtype is None and tensor.dtype != features.dtype:
            raise TypeError(
                f"{name} must be {checks.dtype_text(features)}, as features is, except under autocast, "
                f"got {checks.dtype_text(tensor)}"
            )
    checks.check_dim(features, "features", 2, "(n, n_features)")
    checks.check_dim(weight, "weight", 2, "(n_subclasses, n_features)")
    if weight.shape[0] < 1 or weight.shape[1] != features.shape[1]:
        raise ValueError(
            f"weight must have shape (n_subclasses, {features.shape[1]}), one row or more, "
            f"got {checks.shape_text(weight)}"
        )
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != weight.shape[0]):
        raise ValueError(
            f"bias must have shape ({weight.shape[0]},), one per row of weight, got {checks.shape_text(bias)}"
        )
    check_chunk(chunk)


def check_chunk(chunk: int | None) -> None:
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be 1 or more sub-classes, or None, got {chunk}")


def class_softmax_linear_loss(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    class_offsets: Tensor,
    target: float = 0.0,
    ignore_index: int = -100,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    check_layer(features, weight, bias, chunk, dtype)
    checks.check_same_device(features=features, labels=labels, class_offsets=class_offsets)
    check_loss_labels(features, "features", labels, class_offsets)
    return _loss_and_stats(features, wide_dtype(dtype or features.dtype))


def class_softmax_linear_loss_backward(
    grad_loss: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    target: float = 0.0,
    ignore_index: int = -100,
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    wanted: Sequence[bool] = (True, True, True),
) -> tuple[Tensor, Tensor, Tensor]:
    grad_features, grad_weight, grad_bias = (
        features.new_empty((0,)) if tensor is None or not is_wanted else tensor.new_empty(tensor.shape)
        for tensor, is_wanted in zip((features, weight, bias), wanted, strict=True)
    )
    return grad_features, grad_weight, grad_bias


def codes_from_logits(
    logits: Tensor, codebook: Tensor, k: int, weighting: str = "mean", check: bool | None = None
) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, codebook=codebook)
    return _codes(logits.shape, "columns of logits", codebook, k, weighting)


def codes_from_features(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    codebook: Tensor,
    k: int,
    weighting: str = "mean",
    chunk: int | None = None,
    dtype: torch.dtype | None = None,
    check: bool | None = None,
) -> Tensor:
    check_layer(features, weight, bias, chunk, dtype)
    checks.check_same_device(features=features, codebook=codebook)
    return _codes((features.shape[0], weight.shape[0]), "rows of weight", codebook, k, weighting)


def _codes(shape: Sequence[int], what: str, codebook: Tensor, k: int, weighting: str) -> Tensor:
    n, n_subclasses = shape
    checks.check_codes(codebook, "codebook", at_least=1)
    if codebook.shape[0] != n_subclasses:
        raise ValueError(
            f"codebook must have {n_subclasses} codes, one for each of the {what}, got {codebook.shape[0]}"
        )
    if not 1 <= k <= n_subclasses:
        raise ValueError(f"k must be between 1 and {n_subclasses} (the sub-classes), got {k}")
    checks.check_choice(weighting, "weighting", WEIGHTINGS)
    return codebook.new_empty((n, codebook.shape[1]))


def center_codes_from_logits(
    logits: Tensor, class_offsets: Tensor, centers: Tensor, check: bool | None = None
) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, class_offsets=class_offsets, centers=centers)
    checks.check_class_offsets(class_offsets)
    checks.check_codes(centers, "centers", at_least=1)
    if centers.shape[0] != class_offsets.shape[0] - 1:
        raise ValueError(
            f"centers must have {class_offsets.shape[0] - 1} rows, one for each class of class_offsets, "
            f"got {centers.shape[0]}"
        )
    return centers.new_empty((logits.shape[0], centers.shape[1]))


def multilabel_codes(logits: Tensor, threshold: Tensor, check: bool | None = None) -> Tensor:
    checks.check_logits(logits)
    checks.check_same_device(logits=logits, threshold=threshold)
    if logits.shape[1] > 8 * checks.MAX_BYTES:
        raise ValueError(
            f"logits must have 1 to {8 * checks.MAX_BYTES} labels (columns), got shape {checks.shape_text(logits)}"
        )
    checks.check_dtype(
        threshold, "threshold", (*checks.FLOATS, *checks.INTEGERS), "a real number, or one per class"
    )
    if threshold.dim() > 1 or (threshold.dim() == 1 and threshold.shape[0] != logits.shape[1]):
        raise ValueError(
            f"threshold must be a number, or have shape ({logits.shape[1]},), got {checks.shape_text(threshold)}"
        )
    return logits.new_empty((logits.shape[0], n_bytes(logits.shape[1])), dtype=torch.uint8)
