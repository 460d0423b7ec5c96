"""Calls of the CPU ops past torch's dispatcher, which costs as much as a small search does, where nothing would see
them there: no compiler, no tracer, no dispatch or function mode, no transform of torch.func, no profiler. A tensor of
any other class than torch's own, or on another device, goes the usual way too. `torch.ops.dshc_fast.*` are the same
implementations (_ops.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._device import DeviceContext

from . import _ops
from ._arguments import has_memory
from ._prepared import Prepared
from ._shapes import wide_dtype as _wide_dtype


def _unknown(*_: object) -> bool:
    """In the place of a question that this torch does not answer: something may be watching."""
    return True


def _question(owner: object, *names: str) -> Callable[..., Any]:
    for name in names:
        owner = getattr(owner, name, None)
    return owner if callable(owner) else _unknown


_is_tracing = _question(torch._C, "_is_tracing")
_n_dispatch_modes = _question(torch._C, "_len_torch_dispatch_stack")
_n_function_modes = _question(torch._C, "_len_torch_function_stack")
_function_mode_at = _question(torch._C, "_get_function_stack_at")
_transform = _question(torch._C, "_functorch", "maybe_current_level")
_is_profiling = _question(torch._C, "_autograd", "_profiler_enabled")
_saving_hooks = _question(torch._C, "_autograd", "_top_saved_tensors_default_hooks")


def nothing_watches() -> bool:
    """Neither what may change a call nor what only looks on."""
    return _nothing_changes() and not (_n_function_modes() or _is_profiling())


def _nothing_changes() -> bool:
    """A default device is a mode too, which only says where new tensors lie."""
    if (
        torch.compiler.is_compiling()
    ):  # first: a compiler that reads this takes it for True, and reads nothing else
        return False
    n_modes = _n_function_modes()
    # No level is None, where one may be 0.
    return not (
        (n_modes and any(type(_function_mode_at(i)) is not DeviceContext for i in range(n_modes)))
        or _n_dispatch_modes()
        or _is_tracing()
        or _transform() is not None
    )


def run(name: str, first: Tensor, second: Tensor, *args: Any) -> Any:
    """The op's answer. No graph comes of it: for what autograd records, as losses do, call it without grad mode."""
    if nothing_watches() and _is_plain(first) and _is_plain(second):
        for value in args:
            if value is not None and type(value) not in _NO_TENSORS and not _is_plain(value):
                break
        else:
            return _CPU[name](first, second, *args)
    return _OPS[name](first, second, *args)


def reduced_loss(
    logits: Tensor, labels: Tensor, class_offsets: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """As of _ops.py; None where something changes what is called, or on another device: then the op is to be called."""
    if not (_nothing_changes() and _is_plain(logits) and _is_plain(labels) and _is_plain(class_offsets)):
        return None
    if _is_profiling():  # as it is without: by the ops there would be two passes, which take longer
        with torch.profiler.record_function("dshc_fast::class_softmax_loss_and_gradient"):
            return _ops.reduced_loss(logits, labels, class_offsets, *options)
    return _ops.reduced_loss(logits, labels, class_offsets, *options)


def on_one_gpu(logits: Tensor, labels: Tensor, class_offsets: Tensor) -> bool:
    """Whether torch's own tensors lie there, the logits as kernels read them, and nothing changes what is called."""
    tensors = logits, labels, class_offsets
    same = logits.is_cuda and all(
        type(t) is Tensor and t.device == logits.device and not t.is_neg() for t in tensors
    )
    return same and logits.is_contiguous() and _nothing_changes()


def is_seen_by_nobody(tensor: Tensor) -> bool:
    """Of what comes to a backward: whether it is a number in memory, and nothing changes what is called."""
    # Modes first, as above: a compiler reads no further.
    return _nothing_changes() and has_memory(tensor) and not tensor.is_neg()


def keeps_what_is_saved() -> bool:
    """Whether what a Function saves for backward stays where it is: hooks may move it away, or make it again."""
    return _saving_hooks(False) is None


def loss_gradient(grad_loss: Tensor, logits: Tensor, *saved: Any, room: Tensor | None = None) -> Tensor:
    """class_softmax_loss_backward of what forward has saved, in `room` if there is one. No graph comes of it."""
    plain = nothing_watches() and all(map(_is_plain, (grad_loss, logits, *saved[:3])))
    # No batch, of is_grads_batched=True; and what hooks of saved tensors gave back is of the dtypes it was.
    if plain and has_memory(grad_loss) and grad_loss.dtype == saved[0].dtype == _wide_dtype(logits.dtype):
        gradient = logits.new_empty(logits.shape) if room is None else room
        _ops.write_loss_gradient(gradient, grad_loss, logits, *saved)
        return gradient
    return torch.ops.dshc_fast.class_softmax_loss_backward(grad_loss, logits, *saved)


_NO_TENSORS = (str, int, bool, float)


def _is_plain(value: object) -> bool:
    """Whether an argument is no tensor of a class or device that the dispatcher would take elsewhere."""
    if type(value) is Tensor:
        return value.is_cpu and not value.is_neg()  # whose memory holds other signs
    if type(value) is Prepared:
        return value[0].is_cpu  # and all others with it
    return isinstance(value, (list, tuple)) and all(map(_is_plain, value))


_NAMES = (
    "hamming_distance",
    "hamming_topk",
    "asymmetric_topk",
    "hamming_radius",
    "hamming_histogram",
    "average_precision",
    "retrieval_metric",
    "class_softmax_loss",
)
_OPS = {name: getattr(torch.ops.dshc_fast, name).default for name in _NAMES}
_CPU = {name: getattr(_ops, f"_{name}") for name in _NAMES}
