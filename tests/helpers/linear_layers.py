"""Cases of class_softmax_linear_loss: layers, the loss and its gradients, and what they are held to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from callers import to_torch
from comparisons import assert_loss_error
from loss_oracle import exact_gradient, exact_loss, plain_torch_loss

import dshc_fast
from dshc_fast import _arguments, _linear_ops

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
UNITS = {torch.float32: 2.0**-23, torch.float64: 2.0**-46, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def run(function, layer: list[torch.Tensor | None], labels, offsets, **options):
    """(loss, gradients of features, weight and, where there is one, bias) on fresh leaves."""
    leaves = [t if t is None else t.detach().clone().requires_grad_() for t in layer]
    loss = function(*leaves, labels, offsets, **options)
    loss.sum().backward()
    return loss.detach(), [leaf.grad for leaf in leaves if leaf is not None]


def plain(features, weight, bias, labels, offsets, **options):
    logits = torch.nn.functional.linear(features, weight, bias)
    return plain_torch_loss(logits, labels.cpu().numpy(), offsets, **options)


def draw_layer(
    rng: np.random.Generator, n: int, sizes: list[int], dtype, device: str, with_bias: bool = True, d: int = 6
):
    m = sum(sizes)
    values = rng.standard_normal((n, d)), rng.standard_normal((m, d)), rng.standard_normal(m)
    layer = [torch.from_numpy(v).to(dtype).to(device) for v in values]
    return layer if with_bias else [*layer[:2], None]


def check(layer, labels: np.ndarray, offsets: list[int], target, **options) -> None:
    """At most twice the error of plain PyTorch's whole logits in the same dtype, and a few roundings."""
    device, dtype = layer[0].device.type, layer[0].dtype
    device_labels = to_torch(labels, device)
    exact = [None if t is None else t.detach().double().cpu().numpy().astype(np.longdouble) for t in layer]
    x, w, b = exact
    logits = x @ w.T + (0 if b is None else b)
    in_logits = exact_gradient(logits, labels, offsets, target)
    wanted = [exact_loss(logits, labels, offsets, target), in_logits @ w, in_logits.T @ x]
    wanted += [] if b is None else [in_logits.sum(0)]
    ours = run(
        dshc_fast.class_softmax_linear_loss,
        layer,
        device_labels,
        offsets,
        target=target,
        reduction="none",
        **options,
    )
    theirs = run(plain, layer, device_labels, offsets, target=target)
    assert ours[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    scales = [np.abs(logits).max(initial=1) * (1 if target == "normalized" else 20 * target)]
    scales += [
        np.abs(in_logits).max(initial=0) * float(np.abs(v).max(initial=1)) * len(labels) for v in (w, x, 1)
    ]
    names = ("loss", "features", "weight", "bias")
    for mine, other, right, scale, name in zip(
        [ours[0], *ours[1]], [theirs[0], *theirs[1]], wanted, scales, names, strict=False
    ):
        assert mine.shape == right.shape and (name == "loss" or mine.dtype == dtype), name
        assert_loss_error(mine.double().cpu(), other.double().cpu(), right, UNITS[dtype] * float(scale), name)


def cut_as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks as on a GPU, of smaller sizes; kernels and products are the CPU's."""
    monkeypatch.setattr(_arguments, "on_cuda", lambda tensor: True)
    monkeypatch.setattr(_linear_ops, "CHUNK", 100)
    monkeypatch.setattr(_linear_ops, "CUDA_LOGITS", 5000)
