"""class_softmax_loss: reductions, ignored rows, incoming gradients, gradcheck, empty batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from callers import to_torch, twin_loss

import dshc_fast

OFFSETS = [0, 3, 4, 9]


def batch(device: str, n: int = 6, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    logits = torch.randn((n, 9), generator=generator, dtype=torch.float64).to(dtype)
    return logits.to(device), (torch.arange(n) % 3).to(device)


@pytest.mark.parametrize("target", ("normalized", 0.25))
@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_gradcheck(reduction: str, target, backend) -> None:
    logits, labels = batch(backend.device)
    labels[2] = -100
    logits.requires_grad_()
    torch.autograd.gradcheck(
        lambda z: dshc_fast.class_softmax_loss(z, labels, OFFSETS, target=target, reduction=reduction),
        (logits,),
    )


def test_reductions(backend) -> None:
    logits, labels = batch(backend.device)
    rows = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none")
    for function in (dshc_fast.class_softmax_loss, twin_loss):
        torch.testing.assert_close(function(logits, labels, OFFSETS, reduction="sum"), rows.sum())
        torch.testing.assert_close(function(logits, labels, OFFSETS), rows.mean())
        assert function(logits, labels, OFFSETS).shape == ()


@pytest.mark.parametrize("ignore_index", (-100, 1, 255, -(2**40)))
def test_ignored_rows(ignore_index: int, backend) -> None:
    """Loss 0 and gradient 0, whatever the row holds; the mean is over the rest."""
    logits, labels = batch(backend.device)
    labels = torch.where(labels == 1, torch.tensor(ignore_index, device=labels.device), labels)
    kept = labels != ignore_index
    logits[1] = torch.tensor([math.nan, math.inf, -math.inf] * 3, dtype=logits.dtype)
    alone = dshc_fast.class_softmax_loss(logits[kept], labels[kept], OFFSETS, reduction="none")
    for function in (dshc_fast.class_softmax_loss, twin_loss):
        for reduction in ("none", "sum", "mean"):
            leaf = logits.clone().requires_grad_()
            loss = function(leaf, labels, OFFSETS, reduction=reduction, ignore_index=ignore_index)
            loss.sum().backward()
            assert (leaf.grad[~kept] == 0).all() and leaf.grad.isfinite().all()
            if reduction == "none":
                assert (loss[~kept] == 0).all()
                torch.testing.assert_close(loss[kept], alone)
            else:
                torch.testing.assert_close(loss, getattr(alone, reduction)())


def test_all_rows_ignored(backend) -> None:
    """The mean of nothing is NaN, as torch does; the sum 0; the gradient of an ignored row 0."""
    logits, _ = batch(backend.device)
    labels = torch.full((6,), -100, device=backend.device)
    for function in (dshc_fast.class_softmax_loss, twin_loss):
        assert function(logits, labels, OFFSETS).isnan()
        assert function(logits, labels, OFFSETS, reduction="sum") == 0
        leaf = logits.clone().requires_grad_()
        function(leaf, labels, OFFSETS, reduction="sum").backward()
        assert (leaf.grad == 0).all()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64, torch.bfloat16, torch.float16), ids=str)
def test_empty_batch(dtype: torch.dtype, backend) -> None:
    logits = torch.empty((0, 9), dtype=dtype, device=backend.device, requires_grad=True)
    labels = torch.empty(0, dtype=torch.int64, device=backend.device)
    rows = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none")
    assert rows.shape == (0,) and rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert dshc_fast.class_softmax_loss(logits, labels, OFFSETS).isnan()
    loss = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="sum")
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 9)


def test_incoming_gradient(backend) -> None:
    """Per-row weights, a scaled loss and a second use of the graph's output all reach the logits."""
    logits, labels = batch(backend.device)
    weights = torch.linspace(-2, 3, 6, dtype=torch.float64, device=backend.device)
    one = logits.clone().requires_grad_()
    (dshc_fast.class_softmax_loss(one, labels, OFFSETS, reduction="none") * weights).sum().backward()
    two = logits.clone().requires_grad_()
    dshc_fast.class_softmax_loss(two, labels, OFFSETS, reduction="sum").backward()
    torch.testing.assert_close(one.grad, two.grad * weights[:, None])
    three = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(three, labels, OFFSETS)
    (1024 * loss).backward(retain_graph=True)
    torch.testing.assert_close(three.grad, two.grad * 1024 / 6)
    loss.backward()
    torch.testing.assert_close(three.grad, two.grad * 1025 / 6)


def test_expanded_incoming_gradient(backend) -> None:
    """sum() hands back an expanded, stride-0 gradient."""
    logits, labels = batch(backend.device)
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    dshc_fast.class_softmax_loss(one, labels, OFFSETS, reduction="none").sum().backward()
    dshc_fast.class_softmax_loss(two, labels, OFFSETS, reduction="sum").backward()
    torch.testing.assert_close(one.grad, two.grad)


def test_gradient_of_a_gradient_scaler(backend) -> None:
    """A scaled float16 loss that overflows gives non-finite gradients, no error: the scaler relies on it."""
    logits, labels = batch(backend.device, dtype=torch.float16)
    leaf = logits.clone().requires_grad_()
    (dshc_fast.class_softmax_loss(leaf, labels, OFFSETS) * 1e8).backward()
    assert leaf.grad.dtype == torch.float16 and not leaf.grad.isfinite().all()


def test_as_cross_entropy_with_single_runs(backend) -> None:
    """One sub-class a class is the ordinary cross entropy."""
    logits, labels = batch(backend.device)
    labels = torch.tensor([0, 8, -100, 3, 5, 7], device=backend.device)
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(ours, labels, list(range(10)))
    expected = torch.nn.functional.cross_entropy(plain, labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, plain.grad)


def test_offset_forms(backend) -> None:
    """A list, a tuple, numpy of any integer dtype, or a tensor."""
    logits, labels = batch(backend.device)
    plain = dshc_fast.class_softmax_loss(logits, labels, OFFSETS)
    for offsets in (
        tuple(OFFSETS),
        np.array(OFFSETS),
        np.array(OFFSETS, np.int32),
        np.array(OFFSETS, np.uint8),
        torch.tensor(OFFSETS, device=backend.device),
        torch.tensor(OFFSETS, dtype=torch.int32, device=backend.device),
    ):
        assert torch.equal(dshc_fast.class_softmax_loss(logits, labels, offsets), plain)


@pytest.mark.parametrize("dtype", (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64), ids=str)
def test_label_dtypes(dtype: torch.dtype, backend) -> None:
    logits, labels = batch(backend.device)
    plain = dshc_fast.class_softmax_loss(logits, labels, OFFSETS)
    assert torch.equal(dshc_fast.class_softmax_loss(logits, labels.to(dtype), OFFSETS), plain)
    strided = torch.stack([labels, labels + 1], 1).to(dtype)[:, 0]
    assert torch.equal(dshc_fast.class_softmax_loss(logits, strided, OFFSETS), plain)


def test_unchecked_labels_stay_in_bounds(backend) -> None:
    """check=False: labels out of range read nothing outside; the good rows are right."""
    logits, labels = batch(backend.device)
    good = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none")
    wrong = labels.clone()
    wrong[[1, 2, 3]] = torch.tensor([3, -7, 10**12], device=backend.device)
    leaf = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(leaf, wrong, OFFSETS, reduction="none", check=False)
    loss.sum().backward()
    assert torch.equal(loss[[0, 4, 5]], good[[0, 4, 5]]) and leaf.grad.shape == logits.shape


def test_no_gradient_wanted(device: str) -> None:
    logits, labels = batch(device)
    with torch.no_grad():
        assert not dshc_fast.class_softmax_loss(logits.requires_grad_(), labels, OFFSETS).requires_grad
    assert dshc_fast.class_softmax_loss(logits, labels, OFFSETS).requires_grad
    with torch.inference_mode():
        dshc_fast.class_softmax_loss(logits.detach(), labels, OFFSETS)


def test_many_rows(backend) -> None:
    """More rows than one thread's share: each row alone gives the same bits."""
    rng = np.random.default_rng(11)
    logits = to_torch(rng.standard_normal((3001, 9)).astype(np.float32), backend.device)
    labels = to_torch(rng.integers(0, 3, 3001), backend.device)
    rows = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none")
    for at in (0, 1, 1500, 2999, 3000):
        one = dshc_fast.class_softmax_loss(
            logits[at : at + 1], labels[at : at + 1], OFFSETS, reduction="none"
        )
        assert torch.equal(one, rows[at : at + 1])


def test_numpy_has_no_gradient_but_a_value() -> None:
    logits, labels = batch("cpu")
    value = dshc_fast.class_softmax_loss(logits.numpy(), labels.numpy(), OFFSETS)
    assert not isinstance(value, torch.Tensor)
    assert float(value) == float(dshc_fast.class_softmax_loss(logits, labels, OFFSETS))
    rows = dshc_fast.class_softmax_loss(logits.numpy(), labels.numpy(), OFFSETS, reduction="none")
    assert isinstance(rows, np.ndarray) and rows.dtype == np.float64


@pytest.mark.parametrize("target", ["normalized", 0.5])
def test_second_derivatives(target: str | float) -> None:
    """Gradients of gradients, ignored rows included, as torch's own formula has them."""
    torch.manual_seed(0)
    logits = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, -100, 1])

    def loss(z: torch.Tensor) -> torch.Tensor:
        return dshc_fast.class_softmax_loss(z, labels, [0, 3, 4, 9], target=target, reduction="none")

    assert torch.autograd.gradgradcheck(loss, logits)


@pytest.mark.parametrize("layer", (False, True))
@pytest.mark.parametrize("factor", (1.0, 2.0))
def test_arrays_that_change_before_backward(factor: float, layer: bool) -> None:
    """A loader uses its arrays again; the gradient is that of the labels and offsets that forward saw."""
    torch.manual_seed(0)
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(6, 6)
    labels, offsets = np.array([0, 1, 1, 0]), np.array([0, 2, 6])

    def loss_of() -> torch.Tensor:
        if layer:
            return factor * dshc_fast.class_softmax_linear_loss(x, weight, None, labels, offsets, chunk=2)
        return factor * dshc_fast.class_softmax_loss(x, labels, offsets)

    wanted = torch.autograd.grad(loss_of(), x)[0]
    loss = loss_of()
    labels[:], offsets[1:] = 1 - labels, (2**40, 2**41)
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], wanted, rtol=0, atol=0)


def test_uint64_labels_do_not_wrap() -> None:
    """2^64 - 100 is no class, and not the -100 it would become as int64."""
    labels = torch.tensor([2**64 - 100], dtype=torch.uint64)
    with pytest.raises(ValueError, match="labels"):
        dshc_fast.class_softmax_loss(torch.zeros(1, 9), labels, [0, 3, 4, 9])
    good = torch.tensor([1], dtype=torch.uint64)
    expected = dshc_fast.class_softmax_loss(torch.zeros(1, 9), torch.tensor([1]), [0, 3, 4, 9])
    assert dshc_fast.class_softmax_loss(torch.zeros(1, 9), good, [0, 3, 4, 9]) == expected
