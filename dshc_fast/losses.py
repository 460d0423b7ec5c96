"""The class soft-max loss of DSHC, of logits or of a linear layer whose logits never exist as a whole."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from . import _checks as checks
from . import _shapes as shapes
from ._arguments import wants_check
from ._arrays import Array, Kind, answer, as_tensor
from ._linear_gradients import LossAndGradients, serves
from ._linear_loss_transforms import LinearLoss
from ._linear_ops import default_chunk
from ._loss_formulas import kept_rows
from ._loss_function import ClassSoftmaxLossFunction, makes_gradient, reduced
from ._loss_transforms import Loss, is_transforming
from ._torch_threads import torch_steps
from .codes import as_layer, as_offsets

_op = torch.ops.dshc_fast
REDUCTIONS = ("none", "mean", "sum")


def _transformed_loss(
    logits: Tensor,
    labels: Tensor,
    offsets: Tensor,
    weight: float,
    ignore_index: int,
    check: bool | None,
    reduction: str,
) -> Tensor:
    # Sizes are those of a member of vmap's batch here, and of all members together in the op.
    shapes.check_class_softmax_loss(logits, labels, offsets)
    loss, _ = Loss.apply(logits, labels, offsets, weight, ignore_index, check)
    return reduced(loss, labels, ignore_index, reduction)


def target_weight_of(target: object) -> float:
    """0 stands for 1 / m_c in the op."""
    if isinstance(target, str):
        checks.check_choice(target, "target", ("normalized",))
        return 0.0
    not_numbers = (bool, np.bool_, Tensor, np.ndarray, np.complexfloating)
    if isinstance(target, not_numbers) or not hasattr(target, "__float__"):
        raise TypeError(f'target must be "normalized" or a number, got {type(target).__name__}')
    try:
        weight = float(target)
    except OverflowError:
        raise ValueError(
            'target must be "normalized" or a finite number > 0, got an integer beyond all floats'
        ) from None
    if not (math.isfinite(weight) and weight > 0):
        raise ValueError(f'target must be "normalized" or a finite number > 0, got {weight}')
    return weight


def _refuse_inplace(logits: Tensor) -> None:
    """Where a gradient over the logits would overwrite what is not theirs, or not lie where they do."""
    if not (logits.requires_grad and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return
    if is_transforming():  # which have no effect of inplace
        return
    if logits.is_leaf or (logits._base is not None and logits._base.is_leaf):
        raise ValueError(
            "logits must be the result of a computation with inplace=True, because the gradient is written over it, "
            "got a leaf of the graph or a view of one"
        )
    if not logits.is_contiguous():
        raise ValueError(
            "logits must be contiguous with inplace=True, because the gradient is written over them, "
            f"got strides {tuple(logits.stride())}"
        )


def _own(given: object, tensor: Tensor, differentiated: object) -> Tensor:
    """What backward reads. Of a tensor that changes in between torch knows, of an array it does not."""
    is_view = isinstance(given, np.ndarray) and isinstance(differentiated, Tensor)
    return tensor.clone() if is_view else tensor


def class_softmax_loss(
    logits: Kind,
    labels: Array,
    class_offsets: object,
    *,
    target: str | float = "normalized",
    reduction: str = "mean",
    ignore_index: int = -100,
    check: bool | None = None,
    inplace: bool = False,
) -> Kind:
    """Cross-entropy over sub-classes against the uniform target on the true class's run (DSHC, Luo et al.,
    eq. 2).

    The loss of a row is ``-sum_j y_j log p_j`` with p the soft-max over all sub-classes, y_j the target
    weight for the m_c sub-classes of the row's class and 0 elsewhere. The weights need not sum to one: the
    gradient is (sum y) p - y. Computed in float32 (float64 for float64 logits).

    Args:
        logits: (n, n_subclasses) float32, float64, float16 or bfloat16; sub-classes lie class by class.
        labels: (n,) class ids, any integer dtype.
        class_offsets: (n_classes + 1,) integers, rising from 0 to n_subclasses; list, numpy or torch.
        target: "normalized": each sub-class of the true class gets 1 / m_c; or the weight each of them gets
            (the paper: 1 / H).
        reduction: "none", "mean" (over rows that are not ignored; NaN when none is left) or "sum".
        ignore_index: rows with this label give loss 0 and gradient 0, whatever they hold.
        check: whether to check that labels name a class; None: on the CPU yes, on CUDA no.
        inplace: backward writes the gradient over the logits, so that no second tensor of their size exists.
            After ``backward()`` the logits hold it, so read them (accuracy, codes) before. Whatever else needs
            their values in backward raises torch's error about a variable modified in place: the function that
            made the logits if it keeps its result (exp, softmax; not linear), another loss of them whose turn
            comes later, a second ``backward()``. It is refused for leaves, views of leaves and logits that are
            not contiguous; it has no effect under ``create_graph=True``, ``torch.compile`` and transforms of
            ``torch.func``.

    The "mean" or "sum" of logits that need a gradient is computed together with it, in one pass, with one reading of
    the logits less. The first ``backward()`` hands that gradient on, to the last bit what two passes give. A factor
    from above (``(loss / 4).backward()``, a gradient scaler) and a later ``backward()`` have it computed anew, which
    makes the first one a pass too many. It is held from forward to backward, so use ``torch.no_grad()`` where no
    backward follows. Two passes it is in float16, with inplace=True, under transforms, compilers, modes that watch,
    saved-tensor hooks (as checkpoints have), with torch before 2.8, on CUDA with logits that are not contiguous, and
    where one of forward and backward is recorded into a CUDA graph without the other.

    Transforms of ``torch.func`` (grad, vjp, jvp, vmap, jacrev, hessian, ...) and forward-mode differentiation work,
    nested too. Under vmap the logits are those of a member of the batch, (n, n_subclasses), and `class_offsets` must be
    the same for all members (else ValueError). The members are computed in one call; the row in an error about a label
    is counted through all members.

    Returns:
        float32 (float64 for float64 logits), 0-d, or (n,) for "none"; on the CPU rows are added up in float64.
        -inf outside the true class's run is probability 0; other non-finite logits give a non-finite loss and no
        error, as gradient scalers expect.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import torch, dshc_fast
        >>> logits = torch.zeros(2, 5, requires_grad=True)
        >>> loss = dshc_fast.class_softmax_loss(logits, torch.tensor([0, 1]), [0, 2, 5])
        >>> loss.backward()
        >>> loss.item(), logits.grad[0]
        (1.6094379425048828, tensor([-0.1500, -0.1500,  0.1000,  0.1000,  0.1000]))
    """
    checks.check_choice(reduction, "reduction", REDUCTIONS)
    checks.check_flag(check, "check")
    checks.check_bool(inplace, "inplace")
    weight, ignore_index = target_weight_of(target), checks.as_ignore_index(ignore_index)
    logits_tensor, labels_tensor = as_tensor(logits, "logits"), as_tensor(labels, "labels")
    offsets = as_offsets(class_offsets, logits_tensor.device)
    labels_tensor, offsets = _own(labels, labels_tensor, logits), _own(class_offsets, offsets, logits)
    if inplace:
        _refuse_inplace(logits_tensor)
    if is_transforming():
        loss = _transformed_loss(
            logits_tensor, labels_tensor, offsets, weight, ignore_index, check, reduction
        )
    else:
        loss = ClassSoftmaxLossFunction.apply(
            logits_tensor, labels_tensor, offsets, weight, ignore_index, check, inplace, reduction,
            makes_gradient(logits_tensor, inplace, reduction),
        )  # fmt: skip
    return answer(loss, logits)


def class_softmax_linear_loss(
    features: Kind,
    weight: Array,
    bias: Array | None,
    labels: Array,
    class_offsets: object,
    *,
    target: str | float = "normalized",
    reduction: str = "mean",
    ignore_index: int = -100,
    chunk: int | None = None,
    check: bool | None = None,
) -> Kind:
    """`class_softmax_loss` of the logits ``features @ weight.T + bias``, which exist a chunk at a time.

    For many sub-classes: beside gradients of the layer's own size the memory is that of one chunk, (n, chunk)
    logits, however many sub-classes there are. Forward keeps three numbers per row from chunk to chunk (online
    log-sum-exp); backward multiplies each chunk out again and writes its gradient over it, one matrix product
    more than with whole logits. Up to `chunk` sub-classes the logits are one chunk; it is kept, and its gradient
    a second tensor. Without a `chunk` and for "mean" and "sum", forward makes the gradients too, where the weight
    needs one: from as many whole rows at a time as have 2^22 logits (on CUDA 2^25), with one matrix product less.
    They are kept until the first backward, in float32 or wider; a second one multiplies the logits out again. Not in
    float16, nor under ``torch.compile`` and transforms.

    Args:
        features: (n, n_features) float32, float64, float16 or bfloat16.
        weight: (n_subclasses, n_features), of the features' dtype. Under autocast all three are cast as
            ``torch.nn.functional.linear`` would, and gradients come in their own dtypes.
        bias: (n_subclasses,), of the features' dtype, or None.
        labels, class_offsets, target, reduction, ignore_index, check: as in `class_softmax_loss`.
        chunk: sub-classes at a time; None: 4096 on the CPU, on CUDA as many as make 2^25 logits, at least 4096.

    Returns:
        As `class_softmax_loss`, equal to it but for the rounding of products and of the sum over chunks.
        Gradients to features, weight and bias; second and forward-mode derivatives are right too, but go by the
        whole logits. For numpy features it is numpy, and holds no graph to a weight that is a tensor. Under vmap
        a batch of features is one call of more rows; a batch of weights (an ensemble) goes member by member.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.

    Example:
        >>> import torch, dshc_fast
        >>> features, weight = torch.ones(2, 3), torch.zeros(5, 3, requires_grad=True)
        >>> labels = torch.tensor([0, 1])
        >>> loss = dshc_fast.class_softmax_linear_loss(features, weight, None, labels, [0, 2, 5], chunk=2)
        >>> loss.backward()
        >>> loss.item(), weight.grad[:, 0]
        (1.6094379425048828, tensor([-0.0500, -0.0500,  0.0333,  0.0333,  0.0333]))
    """
    checks.check_choice(reduction, "reduction", REDUCTIONS)
    checks.check_flag(check, "check")
    target_weight, ignore_index = target_weight_of(target), checks.as_ignore_index(ignore_index)
    layer: tuple[Tensor, Tensor, Tensor | None]
    layer, chunk, dtype = as_layer(features, weight, bias, chunk)
    labels_tensor = as_tensor(labels, "labels")
    offsets = as_offsets(class_offsets, layer[0].device)
    labels_tensor, offsets = _own(labels, labels_tensor, features), _own(class_offsets, offsets, features)
    if labels_tensor.shape != layer[0].shape[:1]:  # said here, because what follows would speak of logits
        shapes.check_loss_labels(layer[0], "features", labels_tensor, offsets)
    checks.check_same_device(features=layer[0], labels=labels_tensor, class_offsets=offsets)
    if isinstance(features, np.ndarray):  # so is the answer, which holds no graph
        layer = layer[0].detach(), layer[1].detach(), None if layer[2] is None else layer[2].detach()
    is_transformed = is_transforming()
    if layer[1].shape[0] <= (chunk or default_chunk(layer[0])):
        with torch_steps():
            if is_transformed or layer[1].requires_grad:
                # An ignored row's gradient is 0, but 0 times a NaN among its features would be NaN in the weight's.
                if wants_check(check, labels_tensor):  # then ignored rows are the only ones without a loss
                    lost = (checks.signed_labels(labels_tensor) == ignore_index)[:, None]
                else:
                    lost = ~kept_rows(labels_tensor, offsets, ignore_index)
                layer = layer[0].masked_fill(lost, 0), layer[1], layer[2]
            logits = nn.functional.linear(*layer)
        arguments = logits, labels_tensor, offsets, target_weight, ignore_index, check
        if is_transformed:
            return answer(_transformed_loss(*arguments, reduction), features)
        made = makes_gradient(logits, False, reduction)
        return answer(ClassSoftmaxLossFunction.apply(*arguments, False, reduction, made), features)
    options = target_weight, ignore_index, chunk, dtype, check
    if (
        chunk is None
        and reduction != "none"
        and not is_transformed
        and serves(*layer, labels_tensor, offsets, dtype)
    ):
        found = LossAndGradients.apply(
            *layer, labels_tensor, offsets, target_weight, ignore_index, dtype, check, reduction
        )
        return answer(found, features)
    op = LinearLoss.apply if is_transformed else _op.class_softmax_linear_loss
    loss, _ = op(*layer, labels_tensor, offsets, *options)
    with torch_steps():
        loss = reduced(loss, labels_tensor, ignore_index, reduction)
    return answer(loss, features)
