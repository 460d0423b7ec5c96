"""`native.cuda` without a GPU: what the Python side of the CUDA ops hands over, answered by the CPU ops."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from dshc_fast import (
    _arguments,
    _cuda_loss_ops,
    _cuda_metric_ops,
    _cuda_ops,
    _logit_arguments,
    _native,
)


def parameters(function: Callable) -> list[str]:
    """The names of a native function's parameters, from its docstring."""
    return re.findall(r"(\w+): ", function.__doc__.splitlines()[0])


N_QUERY, MOST_QUERIES = 6, 4096


def at(address: int, dtype: torch.dtype, n: int) -> torch.Tensor:
    """The n items of host memory at an address."""
    return torch.frombuffer((ctypes.c_byte * (n * dtype.itemsize)).from_address(address), dtype=dtype)


def radius_in_two_calls(name: str, pairs: object, radius: int, *arguments: int) -> None:
    """The CPU finds and keeps what the GPU counts first and fills in then."""
    search = _native.native.RadiusSearch(pairs, radius, 1)
    n = search.n_found()
    offsets = torch.full((MOST_QUERIES + 1,), -1)
    indices, distances = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.int32)
    search.write(offsets.data_ptr(), indices.data_ptr(), distances.data_ptr(), 1)
    offsets = offsets[offsets >= 0]  # as many as there are queries, and one
    if name == "hamming_radius_count":
        at(arguments[0], torch.int64, len(offsets) - 1).copy_(offsets.diff())
        return
    said, given, to_indices, to_distances, _workspace = arguments
    assert said == n and torch.equal(at(given, torch.int64, len(offsets)), offsets)
    at(to_indices, torch.int64, n).copy_(indices)
    at(to_distances, torch.int32, n).copy_(distances)


def gradient_anew(task: object, stats: int, grad_loss: int, n_kept: int, grad_logits: int) -> None:
    dtype = torch.float64 if _arguments.DTYPE_CODES[torch.float64] == task.dtype else torch.float32
    above = at(grad_loss, dtype, 1) if grad_loss else torch.ones(1, dtype=dtype)
    if grad_loss and above == 1:
        return
    of_rows = (above / at(n_kept, torch.int64, 1) if n_kept else above).repeat(task.n)
    _native.native.class_softmax_loss_backward(task, stats, of_rows.data_ptr(), grad_logits, 1)


def loss_then_gradient(task: object, n_kept: int, loss: int, stats: int, grad_logits: int) -> None:
    _native.native.class_softmax_loss(task, 0, loss, stats, False, 1)
    gradient_anew(task, stats, 0, n_kept, grad_logits)


class OnTheCpu:
    """Answers as `native.cuda` does, by the CPU ops: addresses are addresses of host memory here."""

    capture = 0

    def capture_id(self, device: int, stream: int) -> int:
        assert (device, stream) == (0, 0)
        return OnTheCpu.capture

    def __init__(self) -> None:
        self.kernels: list[int] = []  # those that top-k was asked for

    def __getattr__(self, name: str) -> Callable:
        if name.endswith("_workspace_bytes"):
            return lambda *arguments: 16
        native = _native.native

        def call(*arguments: object) -> None:
            assert arguments[-2:] == (0, 0), "device and stream come last"
            if native.CUDA:
                names = parameters(getattr(native.cuda, name))
                assert len(arguments) == len(names) and names[-2:] == ["device", "stream"], name
            if name.startswith("hamming_radius"):
                return radius_in_two_calls(name, *arguments[:-2])
            if name == "class_softmax_loss_and_gradient":
                return loss_then_gradient(*arguments[:-2])
            if name == "class_softmax_loss_rescale":
                return gradient_anew(*arguments[:-2])
            wanted = parameters(getattr(native, name))
            given = list(arguments[:-2])
            if name.startswith(("hamming_topk", "asymmetric_topk", "average_precision", "retrieval_metric")):
                given.pop()  # the workspace
            if name == "retrieval_metric":
                assert given.pop(6) == 70  # labels of a multi-hot row, which size the workspace
            if name == "hamming_topk":
                self.kernels.append(given.pop(2))
            getattr(native, name)(
                *given, *({"first_row": 0, "check": False, "n_threads": 1}[w] for w in wanted[len(given) :])
            )

        return call


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test ends the CUDA implementations take host tensors."""
    fake = SimpleNamespace(CUDA=True, cuda=OnTheCpu())
    for module in (_cuda_ops, _cuda_loss_ops, _cuda_metric_ops):
        monkeypatch.setattr(module, "native", fake)
        monkeypatch.setattr(module, "place", lambda tensor: (0, 0))
    on_the_cpu = SimpleNamespace(**{**vars(_native.native), "cuda": OnTheCpu()})
    for module in (_arguments, _logit_arguments):
        monkeypatch.setattr(module, "place", lambda tensor: (0, 0))
        monkeypatch.setattr(module, "on_cuda", lambda tensor: True)
        monkeypatch.setattr(module, "native", on_the_cpu)
