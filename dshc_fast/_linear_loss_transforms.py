"""`class_softmax_linear_loss` under torch.func and forward-mode differentiation, and its second derivatives.

As in _loss_transforms.py. Loss and gradients go chunk by chunk; what few ask for, forward-mode derivatives and those of
the gradients, goes by the whole logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ._loss_formulas import gradient_jvp, gradient_vjp, kept_rows, without_lost_rows
from ._loss_transforms import as_batch, as_rows, logit_gradient, loss_tangent, refuse_batched_offsets

_op = torch.ops.dshc_fast


def _cast(dtype: torch.dtype | None, *tensors: Tensor | None) -> list[Tensor | None]:
    return [t if t is None or dtype is None else t.to(dtype) for t in tensors]


def _each_of_batch(function: Callable, info: Any, in_dims: Sequence, inputs: Sequence) -> list[Any]:
    """The results for the members of a batch, one after the other."""
    return [
        function(
            *(
                value.select(dim, i) if isinstance(value, Tensor) and dim is not None else value
                for value, dim in zip(inputs, in_dims, strict=True)
            )
        )
        for i in range(info.batch_size)
    ]


class LinearLoss(torch.autograd.Function):
    """Loss of each row, and the stats that backward reads."""

    @staticmethod
    def forward(
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        class_offsets: Tensor,
        target: float,
        ignore_index: int,
        chunk: int | None,
        dtype: torch.dtype | None,
        check: bool | None,
    ) -> tuple[Tensor, Tensor]:
        return _op.class_softmax_linear_loss(
            features, weight, bias, labels, class_offsets, target, ignore_index, chunk, dtype, check
        )

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.target, ctx.ignore_index, ctx.chunk, ctx.dtype, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors[:3], output[1], *tensors[3:])
        ctx.save_for_forward(*tensors[:3], output[1], *tensors[3:])

    @staticmethod
    def backward(ctx, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *wanted, _, _, _, _, _, _, _ = ctx.needs_input_grad
        gradients = LinearGradient.apply(
            grad_loss, *ctx.saved_tensors, ctx.target, ctx.ignore_index, ctx.chunk, ctx.dtype, tuple(wanted)
        )
        return *(g if is_wanted else None for g, is_wanted in zip(gradients, wanted, strict=True)), *[
            None
        ] * 7

    @staticmethod
    def jvp(
        ctx,
        features_tangent: Tensor | None,
        weight_tangent: Tensor | None,
        bias_tangent: Tensor | None,
        *_: None,
    ) -> tuple[Tensor, None]:
        features, weight, bias, stats, labels, class_offsets = ctx.saved_tensors
        layer = _cast(ctx.dtype, features, weight, bias)
        tangents = _cast(ctx.dtype, features_tangent, weight_tangent, bias_tangent)
        return loss_tangent(
            _logits_tangent(layer, tangents),
            linear(*layer),
            stats,
            labels,
            class_offsets,
            ctx.target,
            ctx.ignore_index,
        ), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        features, weight, bias, labels, *rest = inputs
        refuse_batched_offsets(in_dims[4])
        if in_dims[1] is None and in_dims[2] is None:
            n_batch = info.batch_size
            features, labels = (as_rows(n_batch, inputs[i], in_dims[i]) for i in (0, 3))
            found = LinearLoss.apply(features, weight, bias, labels, *rest)
            return tuple(as_batch(n_batch, rows) for rows in found), (0, 0)
        found = _each_of_batch(LinearLoss.apply, info, in_dims, inputs)
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0, 0)


def _logits_tangent(layer: Sequence[Tensor | None], tangents: Sequence[Tensor | None]) -> Tensor:
    """How the logits change with the layer; None: a tangent is 0."""
    (features, weight, _), (in_features, in_weight, in_bias) = layer, tangents
    parts = [] if in_features is None else [in_features @ weight.t()]
    parts += [] if in_weight is None else [features @ in_weight.t()]
    parts += [] if in_bias is None else [in_bias.expand(features.shape[0], -1)]
    return sum(parts[1:], parts[0]) if parts else features.new_zeros((features.shape[0], weight.shape[0]))


class LinearGradient(torch.autograd.Function):
    """Gradients of `LinearLoss` in features, weight and bias; empty where not wanted."""

    @staticmethod
    def forward(
        grad_loss: Tensor,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stats: Tensor,
        labels: Tensor,
        class_offsets: Tensor,
        target: float,
        ignore_index: int,
        chunk: int | None,
        dtype: torch.dtype | None,
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _op.class_softmax_linear_loss_backward(
            grad_loss, features, weight, bias, stats, labels, class_offsets, target, ignore_index, chunk, dtype, wanted
        )  # fmt: skip

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        *tensors, ctx.target, ctx.ignore_index, _, ctx.dtype, ctx.wanted = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx, *above: Tensor) -> tuple[Tensor | None, ...]:
        found = layer_gradient_vjp(
            above, *ctx.saved_tensors, ctx.target, ctx.ignore_index, ctx.dtype, ctx.wanted
        )
        return *found, *[None] * 8

    @staticmethod
    def jvp(ctx, *tangents: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        grad_loss, features, weight, bias, stats, labels, class_offsets = ctx.saved_tensors
        kept = kept_rows(labels, class_offsets, ctx.ignore_index)
        layer = _cast(ctx.dtype, without_lost_rows(features, kept), weight, bias)
        in_layer = list(tangents[1:4])
        if in_layer[0] is not None:
            in_layer[0] = without_lost_rows(in_layer[0], kept)
        in_layer = _cast(ctx.dtype, *in_layer)
        logits, options = linear(*layer), (labels, class_offsets, ctx.target, ctx.ignore_index)
        gradient = logit_gradient(grad_loss, logits, stats, *options)
        change = gradient_jvp(tangents[0], _logits_tangent(layer, in_layer), grad_loss, logits, *options)
        of_features, of_weight = change @ layer[1], change.t() @ layer[0]
        of_features = of_features if in_layer[1] is None else of_features + gradient @ in_layer[1]
        of_weight = of_weight if in_layer[0] is None else of_weight + gradient.t() @ in_layer[0]
        results = [of_features, of_weight, change.sum(0)]
        return tuple(
            features.new_zeros((0,)) if tensor is None or not is_wanted else result.to(tensor.dtype)
            for result, tensor, is_wanted in zip(results, (features, weight, bias), ctx.wanted, strict=True)
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Each member has gradients of its own in weight and bias, so one call for all would mix them."""
        refuse_batched_offsets(in_dims[6])
        found = _each_of_batch(LinearGradient.apply, info, in_dims, inputs)
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True)), (0, 0, 0)


def layer_gradient_vjp(
    above: Sequence[Tensor],
    grad_loss: Tensor,
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stats: Tensor,
    labels: Tensor,
    class_offsets: Tensor,
    target: float,
    ignore_index: int,
    dtype: torch.dtype | None,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What `above`, the gradients of G W, G' X and the column sums of G, gives in `grad_loss` and in the layer; G is
    the gradient in the logits, and (None) above what is not wanted comes nothing."""
    with torch.autocast(features.device.type, enabled=False):
        kept = kept_rows(labels, class_offsets, ignore_index)
        x, w, b = _cast(dtype, without_lost_rows(features, kept), weight, bias)
        logits, options = linear(x, w, b), (labels, class_offsets, target, ignore_index)
        gradient = logit_gradient(grad_loss, logits, stats, *options)
        of_features, of_weight, of_bias = (
            above[i].to(x.dtype) if wanted[i] and not (i == 2 and bias is None) else None for i in range(3)
        )
        of_features = None if of_features is None else without_lost_rows(of_features, kept)
        of_gradient = _logits_tangent((x, w, b), (of_features, of_weight, of_bias))
        in_loss, in_logits = gradient_vjp(of_gradient, grad_loss, logits, *options)
        in_features, in_weight = in_logits @ w, in_logits.t() @ x
        in_features = in_features if of_weight is None else in_features + gradient @ of_weight
        in_weight = in_weight if of_features is None else in_weight + gradient.t() @ of_features
        return (
            in_loss,
            without_lost_rows(in_features, kept).to(features.dtype),
            in_weight.to(weight.dtype),
            None if bias is None else in_logits.sum(0).to(bias.dtype),
        )
