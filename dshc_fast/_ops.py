"""The ops `torch.ops.dshc_fast.*`: schemas, registration, and the calls into the native module. Addresses are
touched here, in _cuda_ops.py, _arguments.py, _label_arguments.py, _logit_arguments.py, _tables.py, for asymmetric_topk
in _asymmetric_ops.py, for the loss in _cuda_loss_ops.py and for the metrics in _metric_ops.py and _cuda_metric_ops.py,
only.

Every op has a line in SCHEMAS, a CPU implementation `_<op>` here, a CUDA implementation of the same name in
_cuda_ops.py and a shape function of its name in _shapes.py; some come from files of their own. An
implementation validates and allocates (its shape function does both), makes contiguous locals (a temporary's memory
is gone before the kernel reads it), and calls.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _checks as checks
from . import _shapes as shapes
from ._arguments import (
    DTYPE_CODES,
    Pairs,
    as_int64,
    code_rows,
    contiguous,
)
from ._asymmetric_ops import _asymmetric_topk as _asymmetric_topk
from ._logit_arguments import ClassSoftmax, write_codes
from ._loss_formulas import gradient_vjp
from ._metric_ops import _average_precision as _average_precision
from ._metric_ops import _hamming_histogram as _hamming_histogram
from ._metric_ops import _retrieval_metric as _retrieval_metric
from ._native import native

LABELLED = "Tensor queries, Tensor database, Tensor query_labels, Tensor database_labels"
PREPARED = "Tensor[]? prepared=None"  # _prepared.py says which

SCHEMAS = {
    "pack_codes": "(Tensor values, bool? check=None) -> Tensor",
    "unpack_codes": "(Tensor codes, SymInt n_bits, bool signed=False) -> Tensor",
    "hamming_distance": '(Tensor queries, Tensor database, str score="hamming", ' + PREPARED + ") -> Tensor",
    "hamming_topk": '(Tensor queries, Tensor database, SymInt k, str score="hamming", Tensor? allowed=None, '
    f"{PREPARED}) -> (Tensor, Tensor)",
    "asymmetric_topk": "(Tensor outputs, Tensor database, SymInt k, Tensor? allowed=None, bool? check=None, "
    f"{PREPARED}) -> (Tensor, Tensor)",
    "hamming_radius": '(Tensor queries, Tensor database, SymInt radius, str score="hamming", Tensor? allowed=None, '
    f"{PREPARED}) -> (Tensor, Tensor, Tensor)",
    "hamming_pairs": f"(Tensor codes, SymInt radius, {PREPARED}) -> (Tensor, Tensor, Tensor)",
    "hamming_histogram": f'({LABELLED}, str score="hamming", SymInt? n_bits=None, Tensor? allowed=None, '
    f"bool? check=None, {PREPARED}) -> (Tensor, Tensor)",
    "average_precision": f"({LABELLED}, SymInt? k=None, "
    'str ties="expected", str denominator="retrieved", str score="hamming", SymInt? n_bits=None, Tensor? allowed=None, '
    f"bool? check=None, {PREPARED}) -> Tensor",
    "retrieval_metric": f"({LABELLED}, str metric, SymInt? k=None, "
    'str ties="expected", str gains="linear", str score="hamming", SymInt? n_bits=None, Tensor? allowed=None, '
    f"bool? check=None, {PREPARED}) -> Tensor",
    # weight 0: 1 / m_c. The second result is what the backward pass reads (csrc/core/class_softmax_loss.h).
    "class_softmax_loss": "(Tensor logits, Tensor labels, Tensor class_offsets, float weight=0.0, "
    "int ignore_index=-100, bool? check=None) -> (Tensor, Tensor)",
    "class_softmax_loss_backward": "(Tensor grad_loss, Tensor logits, Tensor stats, Tensor labels, "
    "Tensor class_offsets, float weight=0.0, int ignore_index=-100) -> Tensor",
    # The gradient over the logits.
    "class_softmax_loss_backward_": "(Tensor grad_loss, Tensor(a!) logits, Tensor stats, Tensor labels, "
    "Tensor class_offsets, float weight=0.0, int ignore_index=-100) -> ()",
    "codes_from_logits": '(Tensor logits, Tensor codebook, SymInt k, str weighting="mean", bool? check=None) -> Tensor',
    "center_codes_from_logits": "(Tensor logits, Tensor class_offsets, Tensor centers, bool? check=None) -> Tensor",
    "multilabel_codes": "(Tensor logits, Tensor threshold, bool? check=None) -> Tensor",
}


# ---- codes ----


def _pack_codes(values: Tensor, check: bool | None = None) -> Tensor:
    codes = shapes.pack_codes(values)
    values = contiguous(values)
    native.pack_codes(
        values.data_ptr(),
        DTYPE_CODES[values.dtype],
        *values.shape,
        codes.data_ptr(),
        check is not False,
        torch.get_num_threads(),
    )
    return codes


def _unpack_codes(codes: Tensor, n_bits: int, signed: bool = False) -> Tensor:
    values = shapes.unpack_codes(codes, n_bits, signed)
    codes = contiguous(codes)
    native.unpack_codes(
        codes.data_ptr(), *codes.shape, n_bits, signed, values.data_ptr(), torch.get_num_threads()
    )
    return values


# ---- ranking ----


def _hamming_distance(
    queries: Tensor, database: Tensor, score: str = "hamming", prepared: Sequence[Tensor] | None = None
) -> Tensor:
    counts = shapes.hamming_distance(queries, database, score, prepared)
    pairs = Pairs(queries, database, score, None, prepared)
    native.hamming_distance(pairs.native, counts.data_ptr(), torch.get_num_threads())
    return counts


def _hamming_topk(
    queries: Tensor,
    database: Tensor,
    k: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    counts, indices = shapes.hamming_topk(queries, database, k, score, allowed, prepared)
    pairs = Pairs(queries, database, score, allowed, prepared)
    native.hamming_topk(pairs.native, k, counts.data_ptr(), indices.data_ptr(), torch.get_num_threads())
    return counts, indices


def _hamming_radius(
    queries: Tensor,
    database: Tensor,
    radius: int,
    score: str = "hamming",
    allowed: Tensor | None = None,
    prepared: Sequence[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    shapes.check_hamming_radius(queries, database, radius, score, allowed, prepared)
    pairs = Pairs(queries, database, score, allowed, prepared)
    n_threads = torch.get_num_threads()
    search = native.RadiusSearch(pairs.native, min(radius, 2**31 - 1), n_threads)
    offsets = queries.new_empty((queries.shape[0] + 1,), dtype=torch.int64)
    indices = queries.new_empty((search.n_found(),), dtype=torch.int64)
    counts = queries.new_empty((search.n_found(),), dtype=torch.int32)
    search.write(offsets.data_ptr(), indices.data_ptr(), counts.data_ptr(), n_threads)
    return offsets, indices, counts


def _hamming_pairs(
    codes: Tensor, radius: int, prepared: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    shapes.check_hamming_pairs(codes, radius, prepared)
    rows, equal_codes = code_rows(codes, prepared)
    n_threads = torch.get_num_threads()
    offsets = codes.new_empty((codes.shape[0] + 1,), dtype=torch.int64)
    search = native.PairSearch(
        rows.data_ptr(), *codes.shape, rows.shape[1], *equal_codes.arguments, min(radius, 2**31 - 1),
        offsets.data_ptr(), n_threads,
    )  # fmt: skip
    indices = codes.new_empty((search.n_found(),), dtype=torch.int64)
    distances = codes.new_empty((search.n_found(),), dtype=torch.int32)
    search.write(indices.data_ptr(), distances.data_ptr(), n_threads)
    return offsets, indices, distances


# ---- loss ----


def _class_softmax_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
    check: bool | None = None,
) -> tuple[Tensor, Tensor]:
    loss, stats = shapes.class_softmax_loss(logits, labels, class_offsets)
    checks.check_offset_values(class_offsets, logits.shape[1])
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    native.class_softmax_loss(
        task.native, 0, loss.data_ptr(), stats.data_ptr(), check is not False, torch.get_num_threads()
    )
    return loss, stats


def reduced_loss(
    logits: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
    check: bool | None,
    is_mean: bool,
    with_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The mean or sum of class_softmax_loss, its stats, and the gradient of the mean or sum. No op of its own: who
    traces or transforms sees class_softmax_loss."""
    shapes.check_class_softmax_loss(logits, labels, class_offsets)
    checks.check_offset_values(class_offsets, logits.shape[1])
    dtype = shapes.loss_dtype(logits)
    reduced = logits.new_empty((), dtype=dtype)
    stats = logits.new_empty((logits.shape[0], 2), dtype=dtype)
    gradient = logits.new_empty(logits.shape) if with_gradient else None
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    native.class_softmax_loss_and_gradient(
        task.native, is_mean, reduced.data_ptr(), stats.data_ptr(), 0 if gradient is None else gradient.data_ptr(),
        check is not False, torch.get_num_threads(),
    )  # fmt: skip
    return reduced, stats, gradient


def check_loss_backward(
    grad_loss: Tensor, logits: Tensor, stats: Tensor, labels: Tensor, class_offsets: Tensor
) -> Tensor:
    """Checks the arguments of the backward pass and allocates its results."""
    grad_logits = shapes.class_softmax_loss_backward(grad_loss, logits, stats, labels, class_offsets)
    shapes.check_class_softmax_loss(logits, labels, class_offsets)
    shapes.check_stats(grad_loss, stats, logits.shape[0], logits.dtype)
    return grad_logits


def check_inplace_backward(
    grad_loss: Tensor, logits: Tensor, stats: Tensor, labels: Tensor, class_offsets: Tensor
) -> None:
    shapes.class_softmax_loss_backward_(grad_loss, logits, stats, labels, class_offsets)
    shapes.check_class_softmax_loss(logits, labels, class_offsets)
    shapes.check_stats(grad_loss, stats, logits.shape[0], logits.dtype)


def _class_softmax_loss_backward(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> Tensor:
    grad_logits = check_loss_backward(grad_loss, logits, stats, labels, class_offsets)
    checks.check_offset_values(class_offsets, logits.shape[1])
    write_loss_gradient(grad_logits, grad_loss, logits, stats, labels, class_offsets, weight, ignore_index)
    return grad_logits


def write_loss_gradient(
    grad_logits: Tensor,
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float,
    ignore_index: int,
) -> None:
    """Of arguments that were checked: what forward has saved was, and autograd lets nobody change it."""
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    grad_loss, stats = contiguous(grad_loss), contiguous(stats)
    native.class_softmax_loss_backward(
        task.native, stats.data_ptr(), grad_loss.data_ptr(), grad_logits.data_ptr(), torch.get_num_threads()
    )


def _class_softmax_loss_backward_(
    grad_loss: Tensor,
    logits: Tensor,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    weight: float = 0.0,
    ignore_index: int = -100,
) -> None:
    check_inplace_backward(grad_loss, logits, stats, labels, class_offsets)
    checks.check_offset_values(class_offsets, logits.shape[1])
    task = ClassSoftmax(logits, labels, class_offsets, weight, ignore_index)
    task.to_gradient(contiguous(grad_loss), contiguous(stats))


# ---- codes from logits ----


def _codes_from_logits(
    logits: Tensor, codebook: Tensor, k: int, weighting: str = "mean", check: bool | None = None
) -> Tensor:
    codes = shapes.codes_from_logits(logits, codebook, k, weighting)
    write_codes(logits, codebook, k, weighting, None, codes, check is not False)
    return codes


def _center_codes_from_logits(
    logits: Tensor, class_offsets: Tensor, centers: Tensor, check: bool | None = None
) -> Tensor:
    codes = shapes.center_codes_from_logits(logits, class_offsets, centers)
    checks.check_offset_values(class_offsets, logits.shape[1])
    logits, centers = contiguous(logits), contiguous(centers)
    class_offsets = as_int64(class_offsets)
    native.center_codes_from_logits(
        logits.data_ptr(),
        DTYPE_CODES[logits.dtype],
        *logits.shape,
        class_offsets.data_ptr(),
        centers.shape[0],
        centers.data_ptr(),
        centers.shape[1],
        codes.data_ptr(),
        check is not False,
        torch.get_num_threads(),
    )
    return codes


def _multilabel_codes(logits: Tensor, threshold: Tensor, check: bool | None = None) -> Tensor:
    codes = shapes.multilabel_codes(logits, threshold)
    logits = contiguous(logits)
    thresholds = threshold.to(torch.float64).expand(logits.shape[1]).contiguous()
    if check is not False and bool(thresholds.isnan().any()):
        raise ValueError("threshold must hold numbers and infinities, got NaN")
    native.multilabel_codes(
        logits.data_ptr(),
        DTYPE_CODES[logits.dtype],
        *logits.shape,
        thresholds.data_ptr(),
        codes.data_ptr(),
        check is not False,
        torch.get_num_threads(),
    )
    return codes


# ---- registration ----


# Radius search and pairs wait for the device to learn how much they found, which no CUDA graph can: compilers keep them
# out of theirs where torch knows the tag (from 2.8 on).
_WAITS = (torch.Tag.cudagraph_unsafe,) if hasattr(torch.Tag, "cudagraph_unsafe") else ()
TAGS = {name: (torch.Tag.pt2_compliant_tag, *_WAITS) for name in ("hamming_radius", "hamming_pairs")}

library = torch.library.Library("dshc_fast", "DEF")
# At exit torch would remove the ops again, even where daemon threads are inside one. They stay.
for _reference in weakref.getweakrefs(library):
    if isinstance(_reference.__callback__, weakref.finalize):
        _reference.__callback__.atexit = False
for _name, _schema in SCHEMAS.items():
    library.define(_name + _schema, tags=TAGS.get(_name, (torch.Tag.pt2_compliant_tag,)))
    library.impl(_name, globals()[f"_{_name}"], "CPU")
    torch.library.register_fake(f"dshc_fast::{_name}", getattr(shapes, _name), lib=library)


# losses.py has its own autograd.Function, which costs half as much a call; this one makes the bare op
# differentiable too.
def _save_for_loss_backward(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    logits, labels, class_offsets, ctx.weight, ctx.ignore_index, _ = inputs
    ctx.save_for_backward(logits, output[1], labels, class_offsets)
    ctx.mark_non_differentiable(output[1])


def _loss_backward(ctx, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    logits, stats, labels, class_offsets = ctx.saved_tensors
    grad_logits = torch.ops.dshc_fast.class_softmax_loss_backward(
        grad_loss, logits, stats, labels, class_offsets, ctx.weight, ctx.ignore_index
    )
    return grad_logits, None, None, None, None, None


def _save_for_loss_backward_backward(ctx, inputs: tuple, output: Tensor) -> None:
    grad_loss, logits, _, labels, class_offsets, ctx.weight, ctx.ignore_index = inputs
    ctx.save_for_backward(grad_loss, logits, labels, class_offsets)


def _loss_backward_backward(ctx: Any, grad_grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_loss, logits, labels, class_offsets = ctx.saved_tensors
    gradients = gradient_vjp(
        grad_grad, grad_loss, logits, labels, class_offsets, ctx.weight, ctx.ignore_index
    )
    return *gradients, *[None] * 5


torch.library.register_autograd(
    "dshc_fast::class_softmax_loss", _loss_backward, setup_context=_save_for_loss_backward, lib=library
)
torch.library.register_autograd(
    "dshc_fast::class_softmax_loss_backward",
    _loss_backward_backward,
    setup_context=_save_for_loss_backward_backward,
    lib=library,
)
