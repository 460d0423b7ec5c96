"""`class_softmax_linear_loss` and its gradients in one pass over the rows.

_linear_ops.py goes chunk by chunk of columns; what a chunk's gradient needs of the others is known only at the end of
forward, so that backward multiplies the logits out again: four matrix products of a size. A chunk of rows has all its
logits at once. Where the loss is a mean or a sum, the gradient of each row is known up to one factor for all, which
comes in backward: forward makes the gradients of the layer as well, by three products, and backward multiplies by the
factor (the way of Liger-Kernel's fused linear cross-entropy).

The gradient of the weight is added up over the chunks of rows, in float32 where products are in bfloat16. Products of
the logits' gradient and the weight have few outputs a chunk and long sums: on a GPU they are cut into parts of the
sum, so that every multiprocessor has some.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from . import _arguments as arguments
from . import _checks as checks
from . import _cuda_ops as on_cuda
from . import _linear_ops as linear_ops
from . import _shapes as shapes
from ._direct import _is_tracing, _n_dispatch_modes
from ._logit_arguments import ClassSoftmax
from ._loss_formulas import kept_rows, n_kept_rows, summed, without_lost_rows

_op = torch.ops.dshc_fast
ROW_STEP = 64
TILE, TILES = 128, 128  # of a matrix product: outputs of a block, squared; blocks wanted
MOST_PARTS, LEAST_PART = 16, 1024  # of its sum


def _is_watched() -> bool:
    return torch.compiler.is_compiling() or bool(_n_dispatch_modes() or _is_tracing())


def serves(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    class_offsets: Tensor,
    dtype: torch.dtype | None,
) -> bool:
    """Whether forward can make the gradients as well, and something will want them.

    Not in float16: gradient scalers enlarge the loss so that its gradients can be written in it at all, and their
    factor comes in backward. Not where a compiler or tracer looks on, which is to see the registered ops.
    """
    if _is_watched():
        return False
    if not (torch.is_grad_enabled() and weight.requires_grad and features.shape[0]):
        return False
    if (dtype or features.dtype) == torch.float16:
        return False
    tensors = features, weight, bias, labels, class_offsets
    return all(t is None or type(t) in (Tensor, nn.Parameter) for t in tensors)


@functools.cache
def _adds_to_wide(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch adds products of a short dtype to a float32 matrix."""
    short = torch.zeros((16, 16), dtype=dtype, device=device)
    total = torch.zeros((16, 16), dtype=torch.float32, device=device)
    try:
        torch.mm(short, short, out_dtype=torch.float32, out=total)
        torch.addmm(total, short, short, out_dtype=torch.float32, out=total)
    except (TypeError, RuntimeError):
        return False
    return True


def _add_product(total: Tensor, a: Tensor, b: Tensor, is_first: bool) -> None:
    """total = a @ b, or total += a @ b; `total` in the dtype of the loss."""
    if total.dtype == a.dtype:
        torch.mm(a, b, out=total) if is_first else total.addmm_(a, b)
    elif _adds_to_wide(a.dtype, a.device):
        if is_first:
            torch.mm(a, b, out_dtype=total.dtype, out=total)
        else:
            torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total.copy_(a @ b) if is_first else total.add_(a @ b)


def _long_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b, by parts of the sum where there are few outputs; `out` in the dtype of the loss."""
    (n, length), n_columns = a.shape, b.shape[1]
    tiles = -(-n // TILE) * -(-n_columns // TILE)
    n_parts = min(MOST_PARTS, TILES // tiles if tiles else 1) if arguments.on_cuda(a) else 1
    part = length // max(n_parts, 1) // linear_ops.CUDA_MULTIPLE * linear_ops.CUDA_MULTIPLE
    if n_parts < 2 or part < LEAST_PART:
        torch.mm(a, b, out=out) if out.dtype == a.dtype else out.copy_(a @ b)
        return
    cut = n_parts * part
    parts_of_a = a[:, :cut].unflatten(1, (n_parts, part)).transpose(0, 1)
    of_parts = torch.bmm(parts_of_a, b[:cut].unflatten(0, (n_parts, part)))
    total = of_parts.sum(0, dtype=shapes.wide_dtype(a.dtype))
    if cut < length:
        total += a[:, cut:] @ b[cut:]
    out.copy_(total)


def _loss_and_gradients(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    class_offsets: Tensor,
    target: float,
    ignore_index: int,
    dtype: torch.dtype | None,
    check: bool | None,
    n_kept: Tensor | None,
    wanted: tuple[bool, ...],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Loss of each row, stats, and the gradients of the loss's sum (over n_kept): None where not wanted."""
    loss, stats = shapes.class_softmax_linear_loss(
        features, weight, bias, labels, class_offsets, target, ignore_index, None, dtype
    )
    n, n_subclasses = features.shape[0], weight.shape[0]
    on_gpu = arguments.on_cuda(features)
    if arguments.wants_check(check, labels):
        on_cuda.check_label_values(labels, class_offsets, ignore_index, n_subclasses)
    elif not on_gpu:
        checks.check_offset_values(class_offsets, n_subclasses)
    dtype = dtype or features.dtype
    x, w, b = features.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    # Their addresses are taken past the dispatcher, which would look for a sign that is a bit.
    labels, class_offsets = labels.resolve_neg(), class_offsets.resolve_neg()
    labels, class_offsets = checks.signed_labels(labels), class_offsets.to(torch.int64)
    if wanted[1]:  # an ignored row's gradient is 0, but 0 times a NaN among its features would be NaN
        x = without_lost_rows(x, kept_rows(labels, class_offsets, ignore_index))
    width = linear_ops.rounded_up(n_subclasses, linear_ops.CUDA_MULTIPLE if on_gpu else 1)
    if added := width - n_subclasses:  # columns that count nowhere, as in Layer
        w = nn.functional.pad(w, (0, 0, 0, added))
        b = None if b is None else nn.functional.pad(b, (0, added))
        class_offsets = class_offsets.clamp(max=n_subclasses)
    most = linear_ops.CUDA_LOGITS if on_gpu else linear_ops.ROW_LOGITS
    n_chunks = -(-n // max(most // width, 1))
    step = -(-n // n_chunks)
    if most >= ROW_STEP * width:  # else a step of whole tiles would be many times what was asked for
        step = linear_ops.rounded_up(step, ROW_STEP)
    step = min(step, n)
    memory = x.new_empty((step * width,))
    in_features = loss.new_empty(x.shape) if wanted[0] else None
    in_weight = loss.new_empty((n_subclasses, x.shape[1])) if wanted[1] else None
    in_bias = loss.new_zeros((n_subclasses,)) if wanted[2] else None
    for first in range(0, n, step):
        rows = slice(first, min(first + step, n))
        logits = memory[: (rows.stop - first) * width].view(rows.stop - first, width)
        if b is None:
            torch.mm(x[rows], w.t(), out=logits)
        else:
            torch.addmm(b, x[rows], w.t(), out=logits)
        if added:
            logits[:, n_subclasses:].fill_(-torch.inf)
        task = ClassSoftmax(logits, labels[rows], class_offsets, target, ignore_index)
        task.to_loss_and_gradient(n_kept, loss[rows], stats[rows])
        gradient = logits[:, :n_subclasses]
        if in_features is not None:
            _long_product(logits, w, in_features[rows])
        if in_weight is not None:
            _add_product(in_weight, gradient.t(), x[rows], first == 0)
        if in_bias is not None:
            in_bias += gradient.sum(0, dtype=in_bias.dtype)
    return loss, stats, [in_features, in_weight, in_bias]


_on_cpu = linear_ops.as_it_is(_loss_and_gradients)
_on_gpu = on_cuda.on_first_tensor(_on_cpu)


def _call(features: Tensor, *rest: Any) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    return (_on_gpu if features.is_cuda else _on_cpu)(features, *rest)


def _is_recorded_with(ctx, features: Tensor) -> bool:
    """Whether backward is recorded into the CUDA graph that forward is in, or neither into one."""
    return not features.is_cuda or on_cuda.capture_id(features) == ctx.capture


class LossAndGradients(torch.autograd.Function):
    """The reduced loss. What forward keeps beside the layer are gradients of the layer's size, which the first backward
    multiplies in place and hands on, so that there is no second set of them; one after it goes by the op."""

    @staticmethod
    def forward(
        ctx,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        class_offsets: Tensor,
        target: float,
        ignore_index: int,
        dtype: torch.dtype | None,
        check: bool | None,
        reduction: str,
    ) -> Tensor:
        n_kept = n_kept_rows(labels, ignore_index) if reduction == "mean" else None
        loss, stats, gradients = _call(
            features, weight, bias, labels, class_offsets, target, ignore_index, dtype, check, n_kept,
            ctx.needs_input_grad[:3],
        )  # fmt: skip
        ctx.save_for_backward(features, weight, bias, stats, labels, class_offsets, n_kept)
        ctx.made = [gradients]
        ctx.capture = on_cuda.capture_id(features) if features.is_cuda else 0
        ctx.options = target, ignore_index, None, dtype
        return summed(loss, n_kept)

    @staticmethod
    def backward(ctx, grad_loss: Tensor) -> tuple[Any, ...]:
        *inputs, n_kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled() or not ctx.made or _is_watched():
            of_rows = (grad_loss if n_kept is None else grad_loss / n_kept).expand(inputs[0].shape[0])
            found = _op.class_softmax_linear_loss_backward(of_rows, *inputs, *ctx.options, wanted)
            results = [g if is_wanted else None for g, is_wanted in zip(found, wanted, strict=True)]
        elif arguments.has_memory(grad_loss) and _is_recorded_with(ctx, inputs[0]):
            gradients = ctx.made.pop()  # of a list, as in _loss_function.py
            is_one = grad_loss.is_cpu and bool(grad_loss == 1)
            results = [
                None if g is None else (g if is_one else g.mul_(grad_loss)).to(tensor.dtype)
                for g, tensor in zip(gradients, inputs[:3], strict=True)
            ]
        else:  # it stands for a batch (is_grads_batched=True), or would change what a graph made that is not its own
            results = [
                None if g is None else (g * grad_loss).to(tensor.dtype)
                for g, tensor in zip(ctx.made[0], inputs[:3], strict=True)
            ]
        return *results, *[None] * 7
