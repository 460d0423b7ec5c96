"""Ops on the logits of a linear layer, features @ weight.T + bias, of which a chunk of columns exists at a time.

Matrix products are torch's (oneDNN or MKL, cuBLAS), the rest the native kernels', which read rows in parts
(csrc/core/class_softmax_loss.h, codes_from_logits.h). Forward keeps three numbers per row from chunk to chunk; backward
computes each chunk of logits again and writes the gradient over it. One implementation for both devices; how wide
chunks are is each device's own (`default_chunk`, `Layer`). Means and sums on a GPU: _linear_gradients.py.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from . import _arguments as arguments
from . import _checks as checks
from . import _cuda_ops as on_cuda
from . import _shapes as shapes
from ._linear_loss_transforms import layer_gradient_vjp
from ._logit_arguments import ClassSoftmax, top_subclasses, write_codes
from ._loss_formulas import kept_rows, without_lost_rows
from ._ops import library
from ._torch_threads import torch_steps

CHUNK = 4096  # columns; wide enough for a matrix product's full pace on the CPU
# On a GPU what is launched for a chunk costs time of its own, and products want 100 output tiles and more: chunks of
# some 33 million logits (64 MiB in 16 bits), of at least CHUNK columns. Products whose rows do not begin at 16 bytes go
# at less than half the pace, so that widths are multiples: of the last chunk, by columns that count nowhere, and of the
# others, where nobody asked for a width.
CUDA_LOGITS = 1 << 25
# At a time on the CPU where rows do not need each other: 16 MiB, which a third-level cache holds in part.
ROW_LOGITS = 1 << 22
CUDA_MULTIPLE, CUDA_STEP = 8, 64


def default_chunk(features: Tensor) -> int:
    """Columns at a time where nobody says how many."""
    if not arguments.on_cuda(features):
        return CHUNK
    return max(CHUNK, CUDA_LOGITS // max(features.shape[0], 1))


_LAYER = "Tensor features, Tensor weight, Tensor? bias"
_OPTIONS = "float target=0.0, int ignore_index=-100, SymInt? chunk=None, ScalarType? dtype=None"
SCHEMAS = {
    "class_softmax_linear_loss": f"({_LAYER}, Tensor labels, Tensor class_offsets, {_OPTIONS}, bool? check=None) "
    "-> (Tensor, Tensor)",
    # Gradients of features, weight and bias; empty where not `wanted`.
    "class_softmax_linear_loss_backward": f"(Tensor grad_loss, {_LAYER}, Tensor stats, Tensor labels, "
    f"Tensor class_offsets, {_OPTIONS}, bool[3] wanted=True) -> (Tensor, Tensor, Tensor)",
    "codes_from_features": f'({_LAYER}, Tensor codebook, SymInt k, str weighting="mean", SymInt? chunk=None, '
    "ScalarType? dtype=None, bool? check=None) -> Tensor",
}


def as_it_is(op: Callable) -> Callable:
    """The op with autocast off: it says itself what products are made in."""

    @functools.wraps(op)  # with the op's signature
    def call(first: Tensor, *args: object, **kwargs: object) -> object:
        with torch.autocast(first.device.type, enabled=False), torch_steps():
            return op(first, *args, **kwargs)

    return call


def rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class Layer:
    """The linear layer, cut into chunks of columns; products in `dtype` (None: that of the features). A chunk's
    memory is used again for the next one.

    On a GPU chunks are of equal width where nobody chose it, and the last one may have up to seven columns more than
    the layer, which count nowhere. `width` is that of all chunks. With `most_logits` memory is for `n_rows` rows at a
    time (`of_rows`): blocks of about equal size, whose chunks are at most so many logits, or one row.
    """

    def __init__(
        self,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        chunk: int | None,
        dtype: torch.dtype | None,
        most_logits: int | None = None,
    ) -> None:
        self.dtype = dtype or features.dtype
        self.features, self.weight, self.bias = features.to(self.dtype), weight, bias
        self.n, self.n_subclasses = features.shape[0], weight.shape[0]
        self.chunk = min(chunk or default_chunk(features), self.n_subclasses)
        self.width = self.n_subclasses
        if arguments.on_cuda(features):
            if chunk is None:
                n_chunks = -(-self.n_subclasses // self.chunk)
                self.chunk = min(rounded_up(-(-self.n_subclasses // n_chunks), CUDA_STEP), self.n_subclasses)
            before = (self.n_subclasses - 1) // self.chunk * self.chunk
            self.width = before + rounded_up(self.n_subclasses - before, CUDA_MULTIPLE)
        in_memory = rounded_up(self.chunk, CUDA_MULTIPLE)
        self.n_rows = self.n
        if most_logits is not None:
            n_blocks = -(-self.n // max(most_logits // in_memory, 1))
            self.n_rows = max(-(-self.n // max(n_blocks, 1)), 1)
        self.memory = self.features.new_empty((self.n_rows * in_memory,))

    def of_rows(self, first: int, last: int) -> Layer:
        """The layer of these rows, in the same memory and the same chunks."""
        part = copy.copy(self)
        part.features, part.n = self.features[first:last], last - first
        return part

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Columns [first, last) of each chunk, those that count nowhere left out."""
        for first in range(0, self.n_subclasses, self.chunk):
            yield first, min(first + self.chunk, self.n_subclasses)

    def _added(self, last: int) -> int:
        return self.width - self.n_subclasses if last == self.n_subclasses else 0

    def part_of_weight(self, first: int, last: int) -> Tensor:
        """The rows behind the logits of a chunk; zeros behind columns that count nowhere."""
        part, added = self.weight[first:last].to(self.dtype), self._added(last)
        return torch.nn.functional.pad(part, (0, 0, 0, added)) if added else part

    def logits(self, first: int, last: int, part: Tensor | None = None, behind: float = -torch.inf) -> Tensor:
        """Of columns [first, last), and `behind` those of the layer: -inf has no probability and gradient 0.
        `part`: of the weight, if it is at hand."""
        part = self.part_of_weight(first, last) if part is None else part
        rows = self.memory[: self.n * part.shape[0]].view(self.n, part.shape[0])
        added = self._added(last)
        if self.bias is None:
            torch.mm(self.features, part.t(), out=rows)
        else:
            bias = self.bias[first:last].to(self.dtype)
            bias = torch.nn.functional.pad(bias, (0, added)) if added else bias
            torch.addmm(bias, self.features, part.t(), out=rows)
        if added:  # after the product, where infinite features would have made them NaN
            rows[:, last - first :].fill_(behind)
        return rows


# ---- loss ----


def _as_the_kernels_read(layer: Layer, labels: Tensor, class_offsets: Tensor) -> tuple[Tensor, Tensor]:
    labels, class_offsets = checks.signed_labels(labels), class_offsets.to(torch.int64)
    if layer.width != layer.n_subclasses:  # unchecked offsets stay before the columns that count nowhere
        class_offsets = class_offsets.clamp(max=layer.n_subclasses)
    return labels, class_offsets


def _class_softmax_linear_loss(
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
    loss, stats = shapes.class_softmax_linear_loss(
        features, weight, bias, labels, class_offsets, target, ignore_index, chunk, dtype
    )
    layer = Layer(features, weight, bias, chunk, dtype)
    if not arguments.on_cuda(features):
        checks.check_offset_values(class_offsets, layer.n_subclasses)
    elif check:
        on_cuda.check_label_values(labels, class_offsets, ignore_index, layer.n_subclasses)
    labels, class_offsets = _as_the_kernels_read(layer, labels, class_offsets)
    carry = features.new_empty((layer.n, 3), dtype=torch.float64)
    for first, last in layer.chunks():
        task = ClassSoftmax(
            layer.logits(first, last),
            labels,
            class_offsets,
            target,
            ignore_index,
            (first, layer.width),
        )
        task.add_columns(carry, loss, stats, check is not False and first == 0)
    return loss, stats


def _class_softmax_linear_loss_backward(
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
    grad_features, grad_weight, grad_bias = shapes.class_softmax_linear_loss_backward(
        grad_loss,
        features,
        weight,
        bias,
        stats,
        labels,
        class_offsets,
        target,
        ignore_index,
        chunk,
        dtype,
        wanted,
    )
    shapes.class_softmax_linear_loss(
        features, weight, bias, labels, class_offsets, target, ignore_index, chunk, dtype
    )
    layer = Layer(features, weight, bias, chunk, dtype)
    shapes.check_stats(grad_loss, stats, layer.n, layer.dtype)
    if not arguments.on_cuda(features):
        checks.check_offset_values(class_offsets, layer.n_subclasses)
    labels, class_offsets = _as_the_kernels_read(layer, labels, class_offsets)
    grad_loss, stats = grad_loss.contiguous(), stats.contiguous()
    if wanted[1]:  # an ignored row's gradient is 0, but 0 times a NaN among its features would be NaN
        features = without_lost_rows(layer.features, kept_rows(labels, class_offsets, ignore_index))
    # Chunks are added up in float32 where logits are shorter: as many roundings as chunks would show.
    sum_features = features.new_zeros(grad_features.shape, dtype=shapes.wide_dtype(layer.dtype))
    for first, last in layer.chunks():
        part = layer.part_of_weight(first, last)
        gradient = layer.logits(first, last, part)
        ClassSoftmax(gradient, labels, class_offsets, target, ignore_index, (first, layer.width)).to_gradient(
            grad_loss, stats
        )
        if wanted[0]:
            if sum_features.dtype == layer.dtype:
                sum_features.addmm_(gradient, part)
            else:
                sum_features.add_(gradient @ part)
        if wanted[1]:
            rows = grad_weight[first:last]
            if grad_weight.dtype == layer.dtype:
                torch.mm(gradient[:, : last - first].t(), features, out=rows)
            else:
                rows.copy_(gradient[:, : last - first].t() @ features)
        if wanted[2] and bias is not None:
            grad_bias[first:last] = gradient.sum(0)[: last - first]
    return sum_features.to(grad_features.dtype) if wanted[0] else grad_features, grad_weight, grad_bias


# ---- codes ----


def _codes_from_features(
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
    codes = shapes.codes_from_features(features, weight, bias, codebook, k, weighting, chunk, dtype)
    on_gpu = arguments.on_cuda(features)
    layer = Layer(features, weight, bias, chunk, dtype, CUDA_LOGITS if on_gpu else ROW_LOGITS)
    if layer.n_rows < layer.n:  # which all blocks read
        layer.weight = weight.to(layer.dtype)
    check = arguments.wants_check(check, features)
    for first in range(0, layer.n, layer.n_rows):
        last = min(first + layer.n_rows, layer.n)
        rows = layer.of_rows(first, last)
        _write_codes_of_rows(rows, codebook, k, weighting, codes[first:last], check, first)
    return codes


def _write_codes_of_rows(
    layer: Layer, codebook: Tensor, k: int, weighting: str, codes: Tensor, check: bool, first_row: int
) -> None:
    # The best of each chunk, one beside the other: equal logits stand in the order of their sub-classes, as they do
    # in the whole row. So the best of these are those of the row, and of a part of them likewise: where they would
    # become wider than a chunk they are chosen from in between.
    on_gpu = arguments.on_cuda(codes)
    best: list[Tensor] = []
    subclasses: list[Tensor] = []
    for first, last in layer.chunks():
        rows = layer.logits(first, last, behind=torch.nan)  # NaN ranks below all others; -inf is one of them
        if check and on_gpu:
            arguments.refuse_nan(rows[:, : last - first], "logits", first_row)
        top = top_subclasses(rows, min(k, last - first), check and not on_gpu, first_row)
        best.append(rows.gather(1, top))
        subclasses.append(top + first)
        if sum(part.shape[1] for part in best) > max(layer.chunk, 2 * k):
            both, numbers = torch.cat(best, 1), torch.cat(subclasses, 1)
            top = top_subclasses(both, k, check, first_row)
            best, subclasses = [both.gather(1, top)], [numbers.gather(1, top)]
    write_codes(torch.cat(best, 1), codebook, k, weighting, torch.cat(subclasses, 1), codes, check, first_row)


# ---- registration ----


for _name, _schema in SCHEMAS.items():
    library.define(_name + _schema, tags=(torch.Tag.pt2_compliant_tag,))
    _op = as_it_is(globals()[f"_{_name}"])
    library.impl(_name, _op, "CPU")
    library.impl(_name, on_cuda.on_first_tensor(_op), "CUDA")
    torch.library.register_fake(f"dshc_fast::{_name}", getattr(shapes, _name), lib=library)


def _save(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    features, weight, bias, labels, class_offsets, *ctx.options, _ = inputs
    ctx.save_for_backward(features, weight, bias, output[1], labels, class_offsets)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[:3]
    gradients = torch.ops.dshc_fast.class_softmax_linear_loss_backward(
        grad_loss, *ctx.saved_tensors, *ctx.options, wanted
    )
    return (
        *(gradient if is_wanted else None for gradient, is_wanted in zip(gradients, wanted, strict=True)),
        *[None] * 7,
    )


# The gradient's own gradients, which few ask for, go by the whole logits.
def _save_for_double_backward(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.target, ctx.ignore_index, _, ctx.dtype, ctx.wanted = inputs
    ctx.save_for_backward(*tensors)


def _double_backward(ctx, *above: Tensor) -> tuple[Tensor | None, ...]:
    found = layer_gradient_vjp(above, *ctx.saved_tensors, ctx.target, ctx.ignore_index, ctx.dtype, ctx.wanted)
    return *found, *[None] * 8


torch.library.register_autograd(
    "dshc_fast::class_softmax_linear_loss", _backward, setup_context=_save, lib=library
)
torch.library.register_autograd(
    "dshc_fast::class_softmax_linear_loss_backward",
    _double_backward,
    setup_context=_save_for_double_backward,
    lib=library,
)
