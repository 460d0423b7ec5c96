"""class_softmax_linear_loss whose forward makes the gradients, by rows: against the op for columns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from linear_layers import DTYPES, cut_as_on_cuda, draw_layer, run
from torch._subclasses.fake_tensor import FakeTensorMode

import dshc_fast
from dshc_fast import _linear_gradients, _linear_ops


@pytest.fixture(params=("as on cuda", "cpu"))
def by_rows(request, monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Gradients made in forward, by a few rows at a time and sums in parts; the dtypes they were made in."""
    if request.param == "cpu":
        monkeypatch.setattr(_linear_ops, "CHUNK", 100)
        monkeypatch.setattr(_linear_ops, "ROW_LOGITS", 5000)
    else:
        cut_as_on_cuda(monkeypatch)
    monkeypatch.setattr(_linear_gradients, "ROW_STEP", 2)
    monkeypatch.setattr(_linear_gradients, "TILE", 8)
    monkeypatch.setattr(_linear_gradients, "TILES", 16)
    monkeypatch.setattr(_linear_gradients, "LEAST_PART", 16)
    calls, call = [], _linear_gradients._call

    def noted(*arguments):
        calls.append(arguments[7] or arguments[0].dtype)
        return call(*arguments)

    monkeypatch.setattr(_linear_gradients, "_call", noted)
    return calls


WIDTHS = (101, 293, 294, 640, 1001)


class Wrapped(torch.Tensor):
    """Another class over the same memory."""


def test_labels_of_other_kinds(by_rows) -> None:
    """A sign that is a bit, a class of its own: as plain ones."""
    torch.manual_seed(0)
    features, weight = torch.randn(30, 4), torch.randn(1001, 4, requires_grad=True)
    labels, offsets = torch.tensor([0, 2, 1, -100, 2]).repeat(6), torch.tensor([0, 10, 200, 1001])

    def loss_and_gradient(labels: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss = dshc_fast.class_softmax_linear_loss(features, weight, None, labels, offsets)
        return loss.detach(), torch.autograd.grad(loss, weight)[0]

    wanted = loss_and_gradient(labels, offsets)
    assert len(by_rows) == 1
    turned = [torch._neg_view(-each) for each in (labels, offsets)]
    for given in ((turned[0], offsets), (labels, turned[1]), (labels.as_subclass(Wrapped), offsets)):
        for a, b in zip(loss_and_gradient(*given), wanted, strict=True):
            torch.testing.assert_close(torch.Tensor(a), b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("reduction", ("mean", "sum"))
@pytest.mark.parametrize("n_subclasses", WIDTHS)
def test_gradients_in_forward(dtype, reduction: str, n_subclasses: int, by_rows) -> None:
    """As by the op for columns, in float64 to its last digits; each row's factor, and what comes from above."""
    rng = np.random.default_rng(n_subclasses)
    for n, with_bias, target in ((51, True, "normalized"), (50, False, 0.3), (61, True, 1.0)):
        layer = draw_layer(rng, n, [n_subclasses], dtype, "cpu", with_bias, d=11)
        offsets = [0, n_subclasses // 3, n_subclasses - 1, n_subclasses]
        labels = torch.from_numpy(rng.integers(0, 3, n))
        labels[::7] = -100
        layer[0][0] = math.nan  # of an ignored row
        options = {"reduction": reduction, "target": target}

        def loss(*args, chunk, options=options):
            return -2.5 * dshc_fast.class_softmax_linear_loss(*args, chunk=chunk, **options)

        del by_rows[:]
        ours = run(lambda *args: loss(*args, chunk=None), layer, labels, offsets)
        fused = dtype != torch.float16 and n_subclasses > _linear_ops.default_chunk(layer[0])
        assert by_rows == ([dtype] if fused else [])
        wide = [t if t is None else t.double() for t in layer]
        wanted = run(lambda *args: loss(*args, chunk=90), wide, labels, offsets)
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 3e-3}[
            dtype
        ]
        assert (ours[0] - wanted[0]).abs() <= tolerance * wanted[0].abs()
        for gradient, right in zip(ours[1], wanted[1], strict=True):
            assert gradient.dtype == dtype and gradient.shape == right.shape
            assert (gradient.double() - right).abs().max() <= tolerance * right.abs().max()


def test_gradients_in_forward_of_some(by_rows) -> None:
    """Those of the weight with any of the others; without it, and without gradients, as ever."""
    rng = np.random.default_rng(6)
    layer = draw_layer(rng, 51, [301], torch.float64, "cpu")
    labels, offsets = torch.from_numpy(rng.integers(0, 2, 51)), [0, 100, 301]
    _, everything = run(dshc_fast.class_softmax_linear_loss, layer, labels, offsets, chunk=90)
    for wanted in ((1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 0, 1)):
        leaves = [t.clone().requires_grad_(bool(flag)) for t, flag in zip(layer, wanted, strict=True)]
        del by_rows[:]
        dshc_fast.class_softmax_linear_loss(*leaves, labels, offsets).backward()
        assert len(by_rows) == wanted[1]
        for leaf, flag, right in zip(leaves, wanted, everything, strict=True):
            assert (leaf.grad is not None) == bool(flag)
            if flag:
                torch.testing.assert_close(leaf.grad, right)
    del by_rows[:]
    with torch.no_grad():
        dshc_fast.class_softmax_linear_loss(*leaves, labels, offsets)
    dshc_fast.class_softmax_linear_loss(*leaves, labels, offsets, reduction="none")
    dshc_fast.class_softmax_linear_loss(*leaves, labels, offsets, chunk=200)
    of_weight = torch.func.grad(dshc_fast.class_softmax_linear_loss, argnums=1)
    of_weight(*layer, labels, offsets)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(leaf) for leaf in leaves]
        loss = dshc_fast.class_softmax_linear_loss(*fakes, mode.from_tensor(labels), torch.tensor(offsets))
        assert loss.shape == ()
    assert by_rows == []


def test_gradients_in_forward_again(by_rows) -> None:
    """A second backward, second derivatives, autocast, a layer changed in between, rows that all are ignored."""
    rng = np.random.default_rng(7)
    layer = draw_layer(rng, 51, [110], torch.float64, "cpu", d=3)
    leaves = [t.clone().requires_grad_() for t in layer]
    labels, offsets = torch.from_numpy(rng.integers(0, 2, 51)), [0, 40, 110]

    def loss(*leaves, labels=labels, **options):
        return dshc_fast.class_softmax_linear_loss(*leaves, labels, offsets, **options)

    value = loss(*leaves)
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    for again, once in zip(torch.autograd.grad(3 * value, leaves), first, strict=True):
        torch.testing.assert_close(again, 3 * once)
    factors = torch.tensor([3.0, -1.0])  # of a batch of gradients from above
    value = loss(*leaves)
    for batch, once in zip(
        torch.autograd.grad(value, leaves, factors.to(value.dtype), is_grads_batched=True), first, strict=True
    ):
        torch.testing.assert_close(batch, torch.stack([3 * once, -once]))
    second = []
    for chunk in (None, 60):
        gradients = torch.autograd.grad(loss(*leaves, chunk=chunk).square(), leaves, create_graph=True)
        second.append(torch.autograd.grad(sum(g.square().sum() for g in gradients), leaves))
    torch.testing.assert_close(*second)
    torch.testing.assert_close(first, torch.autograd.grad(loss(*leaves, chunk=60), leaves))
    del by_rows[:]
    short = [t.detach().float().requires_grad_() for t in layer]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = loss(*short)
    assert by_rows == [torch.bfloat16] and low.dtype == torch.float32
    for gradient, right in zip(torch.autograd.grad(low, short), first, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient.double() - right).abs().max() <= 3e-2 * right.abs().max()
    value = loss(*leaves)
    with torch.no_grad():
        leaves[1].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    nothing = loss(*leaves, labels=torch.full_like(labels, -100))
    assert nothing.isnan()
    assert not any(g.any() for g in torch.autograd.grad(nothing, leaves))
    with pytest.raises(ValueError, match=r"labels\[0\] must be a class id"):
        loss(*leaves, labels=labels + 7, check=True)


def test_compiled_autograd_gives_them_once_too(by_rows) -> None:
    """It runs backward with a ctx that is not the one of forward."""
    compiled_autograd = pytest.importorskip("torch._dynamo.compiled_autograd")
    layer = draw_layer(np.random.default_rng(5), 12, [640], torch.float32, "cpu", True, d=11)
    labels, offsets = torch.arange(12) % 3, [0, 200, 300, 640]
    for tensor in layer:
        tensor.requires_grad_()
    loss = dshc_fast.class_softmax_linear_loss(*layer, labels, offsets)
    wanted = torch.autograd.grad(loss, layer)
    loss = dshc_fast.class_softmax_linear_loss(*layer, labels, offsets)
    assert by_rows == [torch.float32] * 2
    for factor in (3.0, 1.0, 1.0):
        with compiled_autograd._enable(lambda graph: graph):
            (factor * loss).backward(retain_graph=True)
        for tensor, right in zip(layer, wanted, strict=True):
            torch.testing.assert_close(tensor.grad, factor * right, rtol=1e-4, atol=1e-6)
            tensor.grad.zero_()
            tensor.grad = None
