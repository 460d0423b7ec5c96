"""class_softmax_loss: values and gradients against the formula in long double."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from callers import to_torch, twin_loss
from comparisons import assert_loss_error
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import exact_gradient, exact_loss, plain_torch_loss, targets
from strategies import seeds, strided_views

import dshc_fast

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# What a result may be off beside plain PyTorch's error: one unit; float64, the rule's yardstick, gets 64.
UNITS = {torch.float32: 2.0**-23, torch.float64: 2.0**-46, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}
TARGETS = ("normalized", 1 / 3, 1.0, 7.5)


def loss_and_gradient(logits: torch.Tensor, labels, offsets, function=None, weights=None, **options):
    """(per-row or reduced loss, gradient) of the op on a fresh leaf."""
    leaf = logits.detach().clone().requires_grad_()
    loss = (function or dshc_fast.class_softmax_loss)(leaf, labels, offsets, **options)
    (loss if weights is None else loss * weights).sum().backward()
    return loss.detach(), leaf.grad


def check(
    logits: torch.Tensor, labels: np.ndarray, offsets: list[int], target="normalized", units: int = 1
) -> None:
    """Loss and gradient, native and twin, at most twice plain PyTorch's error and `units` roundings off."""
    device_labels = to_torch(labels, logits.device.type)
    given_values = logits.detach().double().cpu().numpy()
    loss_exact = exact_loss(given_values, labels, offsets, target)
    gradient_exact = exact_gradient(given_values, labels, offsets, target)
    leaf = logits.detach().clone().requires_grad_()
    plain = plain_torch_loss(leaf, labels, offsets, target)
    (plain_gradient,) = torch.autograd.grad(plain.sum(), leaf)
    result = torch.float64 if logits.dtype == torch.float64 else torch.float32
    loss_unit = units * UNITS[result] * float(np.abs(loss_exact).max(initial=0))
    # The gradient is a difference: what is rounded is y and (Σy)·p.
    gradient_unit = (
        units
        * UNITS[logits.dtype]
        * max(
            float(targets(labels, offsets, target).max(initial=0)),
            float(np.abs(gradient_exact).max(initial=0)),
        )
    )
    for name, function in (("native", dshc_fast.class_softmax_loss), ("reference", twin_loss)):
        loss, gradient = loss_and_gradient(
            logits, device_labels, offsets, function, target=target, reduction="none"
        )
        assert loss.dtype == result and loss.shape == (len(labels),)
        assert gradient.dtype == logits.dtype and gradient.shape == logits.shape
        assert_loss_error(loss.cpu(), plain.detach().cpu(), loss_exact, loss_unit, f"{name} loss")
        assert_loss_error(
            gradient.double().cpu(),
            plain_gradient.double().cpu(),
            gradient_exact,
            gradient_unit,
            f"{name} gradient",
        )


def test_by_hand(backend) -> None:
    """Equal logits, classes of 1 and 3 sub-classes: log 4 times Σy; gradient (Σy)·p − y."""
    logits, labels = torch.zeros((2, 4), device=backend.device), torch.tensor([0, 1], device=backend.device)
    loss, gradient = loss_and_gradient(logits, labels, [0, 1, 4], reduction="none")
    torch.testing.assert_close(loss.cpu(), torch.full((2,), math.log(4)))
    torch.testing.assert_close(
        gradient.cpu(), torch.tensor([[-0.75, 0.25, 0.25, 0.25], [0.25, -1 / 12, -1 / 12, -1 / 12]])
    )
    loss, gradient = loss_and_gradient(logits, labels, [0, 1, 4], target=0.5, reduction="none")
    torch.testing.assert_close(loss.cpu(), torch.tensor([math.log(4) / 2, 1.5 * math.log(4)]))
    torch.testing.assert_close(
        gradient.cpu(), torch.tensor([[-0.375, 0.125, 0.125, 0.125], [0.375, -0.125, -0.125, -0.125]])
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("target", TARGETS)
@given(
    seed=seeds(),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=9),
    n=st.integers(0, 9),
    scale=st.sampled_from((0.01, 1.0, 10.0, 100.0)),
)
def test_random(dtype, target, seed: int, sizes: list[int], n: int, scale: float, backend) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    logits = torch.from_numpy(rng.standard_normal((n, offsets[-1])) * scale).to(dtype).to(backend.device)
    check(
        logits, rng.integers(0, len(sizes), n), offsets, target, units=8
    )  # few rows: plain PyTorch may be lucky


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "sizes", ([31] * 10, [61] * 10, [101] * 100, [1] * 7, [1], [5000], [1, 300, 2, 7]), ids=str
)
def test_shapes_met(dtype, sizes: list[int], backend) -> None:
    """DSHC's own sizes (C·(C·H+1)), one class, one sub-class each, and runs of very unequal length."""
    rng = np.random.default_rng(7)
    offsets = np.cumsum([0, *sizes]).tolist()
    logits = torch.from_numpy(rng.standard_normal((17, offsets[-1])) * 4).to(dtype).to(backend.device)
    check(logits, rng.integers(0, len(sizes), 17), offsets)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_extreme_logits(dtype, backend) -> None:
    """±1e4 and a common shift neither overflow nor lose the answer."""
    rng = np.random.default_rng(8)
    offsets = [0, 3, 4, 9]
    logits = torch.from_numpy(rng.choice([-1e4, 1e4, 0.0, 1.0], (40, 9))).to(dtype).to(backend.device)
    check(logits, rng.integers(0, 3, 40), offsets)
    check((logits * 0 + 1e4).to(dtype), rng.integers(0, 3, 40), offsets)
    if dtype in (torch.float32, torch.float64, torch.bfloat16):
        big = (logits * 1e30).to(dtype)
        loss, gradient = loss_and_gradient(
            big, to_torch(rng.integers(0, 3, 40), backend.device), offsets, reduction="none"
        )
        assert not loss.isnan().any() and gradient.isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_minus_infinity_outside_the_run(dtype, backend) -> None:
    """Probability 0 there: finite loss, gradient 0 at those places, the rest as without them."""
    rng = np.random.default_rng(9)
    logits = torch.from_numpy(rng.standard_normal((5, 9))).to(dtype).to(backend.device)
    labels = to_torch(np.array([0, 0, 0, 0, 0]), backend.device)
    masked = logits.clone()
    masked[:, 5:] = -math.inf
    masked[0, 3:] = -math.inf
    loss, gradient = loss_and_gradient(masked, labels, [0, 3, 4, 9], reduction="none")
    assert loss.isfinite().all() and gradient.isfinite().all()
    assert (gradient[masked == -math.inf] == 0).all()
    kept = masked[1:, :5]
    alone, gradient_alone = loss_and_gradient(kept, labels[1:], [0, 3, 4, 5], reduction="none")
    torch.testing.assert_close(loss[1:], alone, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient[1:, :5], gradient_alone)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_non_finite_gives_non_finite(dtype, backend) -> None:
    """-inf inside the run, +inf or NaN anywhere: no error, a non-finite loss; other rows are untouched."""
    bad = [(0, -math.inf), *((at, value) for at in (0, 2, 3, 8) for value in (math.inf, math.nan))]
    for at, value in bad:
        logits = torch.zeros((3, 9), dtype=dtype, device=backend.device)
        logits[1, at] = value
        labels = torch.zeros(3, dtype=torch.int64, device=backend.device)
        loss, gradient = loss_and_gradient(logits, labels, [0, 3, 4, 9], reduction="none")
        assert loss.isfinite().tolist() == [True, False, True], (at, value)
        assert gradient[[0, 2]].isfinite().all()
        assert not dshc_fast.class_softmax_loss(logits, labels, [0, 3, 4, 9]).isfinite()
    logits = torch.full((1, 9), -math.inf, dtype=dtype, device=backend.device)
    assert not dshc_fast.class_softmax_loss(logits, labels[:1], [0, 3, 4, 9]).isfinite()


@pytest.mark.parametrize("which", range(4))
def test_strides(which: int, backend) -> None:
    rng = np.random.default_rng(10)
    values = rng.standard_normal((7, 9)).astype(np.float32)
    labels = rng.integers(0, 3, 7)
    view = strided_views(values)[which].to(backend.device)
    loss = dshc_fast.class_softmax_loss(
        view, to_torch(labels, backend.device), [0, 3, 4, 9], reduction="none"
    )
    plain = dshc_fast.class_softmax_loss(
        to_torch(values, backend.device), to_torch(labels, backend.device), [0, 3, 4, 9], reduction="none"
    )
    assert torch.equal(loss, plain)
    base = view.detach().requires_grad_()
    dshc_fast.class_softmax_loss(
        base, to_torch(labels, backend.device), [0, 3, 4, 9], reduction="sum"
    ).backward()
    leaf = to_torch(values, backend.device).requires_grad_()
    dshc_fast.class_softmax_loss(
        leaf, to_torch(labels, backend.device), [0, 3, 4, 9], reduction="sum"
    ).backward()
    assert torch.equal(base.grad, leaf.grad)
