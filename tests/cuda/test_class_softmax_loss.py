"""CUDA kernels of the loss, run on the CPU by the interpreter (simt.py) in several orders of threads and blocks.

Losses are held to the bound of the CPU tests. Values that only Python checks (NaN, labels out of range, class offsets)
must not lead a kernel out of its buffers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from comparisons import (
    assert_close,
    assert_loss_error,
)
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import exact_gradient, exact_loss, plain_torch_loss, targets
from simt_kernels import FLOATS, Kernels, runs
from strategies import (
    make_codes,
    seeds,
)

# What a result may be off beside plain PyTorch's error, as in test_class_softmax_loss.py.
UNITS = {torch.float32: 2.0**-23, torch.float64: 2.0**-46, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def check_together(kernels: Kernels, logits: torch.Tensor, ids, offsets, weight: float) -> None:
    """Loss and gradient in one pass, and the gradient times what comes from above: of the same stats what they are
    apart, to the bit. Where a row lies decides which logits are added up first."""
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets, weight)
    rounding = 1e-13 if loss.dtype == np.float64 else 3e-6
    for n_kept in (None, 3):
        one, factor = np.ones(1, loss.dtype), loss.dtype.type(1.7)

        def apart(stats, above, n_kept=n_kept):
            of_rows = np.repeat(above / loss.dtype.type(n_kept or 1), len(ids))
            return kernels.class_softmax_loss_backward(of_rows, stats, logits, ids, offsets, weight)

        for inplace in (False, True):
            together = kernels.class_softmax_loss_and_gradient(
                logits, ids, offsets, weight, n_kept, inplace=inplace
            )
            for found, wanted in ((together[0], loss), (together[1], stats)):
                np.testing.assert_allclose(found, wanted, rtol=rounding, atol=rounding)
            assert same_bits(together[2], apart(together[1], one))
        there, rest = torch.full_like(logits, 7), (stats, logits, ids, offsets, weight, n_kept)
        assert torch.equal(kernels.class_softmax_loss_rescale(there, one, *rest), there)
        again = kernels.class_softmax_loss_rescale(there, one * factor, *rest)
        assert same_bits(again, apart(stats, one * factor))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Of NaNs, whose bits mean nothing, that they are in the same places."""
    a, b = (x.double().numpy() for x in (a, b))  # exact, with the sign of a zero
    return np.array_equal(a, b, equal_nan=True) and np.array_equal(
        np.signbit(a[a == 0]), np.signbit(b[b == 0])
    )


def check_loss(kernels: Kernels, logits: torch.Tensor, ids: np.ndarray, offsets: list[int], target) -> None:
    weight = 0.0 if target == "normalized" else target
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets, weight)
    ones = np.ones(len(ids), loss.dtype)
    gradient = kernels.class_softmax_loss_backward(ones, stats, logits, ids, offsets, weight)
    over = kernels.class_softmax_loss_backward(ones, stats, logits, ids, offsets, weight, inplace=True)
    assert torch.equal(over, gradient)
    check_together(kernels, logits, ids, offsets, weight)
    values = logits.double().numpy()
    loss_exact = exact_loss(values, ids, offsets, target)
    gradient_exact = exact_gradient(values, ids, offsets, target)
    leaf = logits.clone().requires_grad_()
    plain = plain_torch_loss(leaf, ids, offsets, target)
    (plain_gradient,) = torch.autograd.grad(plain.sum(), leaf)
    result = torch.float64 if logits.dtype == torch.float64 else torch.float32
    loss_unit = 8 * UNITS[result] * float(np.abs(loss_exact).max(initial=0))
    largest = max(
        float(targets(ids, offsets, target).max(initial=0)), float(np.abs(gradient_exact).max(initial=0))
    )
    assert_loss_error(loss, plain.detach(), loss_exact, loss_unit, "loss")
    assert_loss_error(
        gradient.double(),
        plain_gradient.double(),
        gradient_exact,
        8 * UNITS[logits.dtype] * largest,
        "gradient",
    )


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=9),
    n=st.integers(0, 9),
    scale=st.sampled_from((0.01, 1.0, 10.0, 100.0)),
    target=st.sampled_from(("normalized", 1 / 3, 1.0, 7.5)),
)
def test_class_softmax_loss(
    dtype, data, seed: int, sizes: list[int], n: int, scale: float, target, order: str
) -> None:
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    logits = torch.from_numpy(rng.standard_normal((n, offsets[-1])) * scale).to(dtype)
    check_loss(runs(order, data), logits, rng.integers(0, len(sizes), n), offsets, target)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "sizes", ([61] * 10, [1] * 7, [1], [512, 1], [1025], [5000], [1, 300, 2, 7]), ids=str
)
def test_class_softmax_loss_sizes(dtype, sizes: list[int], order: str) -> None:
    rng = np.random.default_rng(7)
    offsets = np.cumsum([0, *sizes]).tolist()
    logits = torch.from_numpy(rng.standard_normal((5, offsets[-1])) * 4).to(dtype)
    check_loss(runs(order, seed=1), logits, rng.integers(0, len(sizes), 5), offsets, "normalized")
    check_loss(runs(order), logits * 0 + 1e4, rng.integers(0, len(sizes), 5), offsets, "normalized")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "width", (2, 31, 33, 64, 65, 511, 514, 1023, 1024, 1026, 2049, 4095, 4097, 8192, 8205, 16_400)
)
def test_class_softmax_loss_widths(dtype, width: int, order: str) -> None:
    """Around a warp's registers, pairs of neighbours, a vector and what a block has under way; at any address."""
    rng = np.random.default_rng(width)
    offsets = [0, width] if width < 5 else [0, width // 3, width - 3, width]
    logits = torch.from_numpy(rng.standard_normal((3, width)) * 4).to(dtype)
    for seed in (0, 1, 2):  # at one place in four
        check_loss(runs(order, seed=seed), logits, np.array([0, 0, len(offsets) - 2]), offsets, "normalized")


@pytest.mark.parametrize(("dtype", "width"), ((torch.float32, 40_000), (torch.bfloat16, 60_001)), ids=str)
def test_rows_beyond_shared_memory(dtype, width: int) -> None:
    """Of which a part is read again."""
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((2, width)) * 4).to(dtype)
    check_together(runs("ascending"), logits, np.array([0, 1]), [0, width - 700, width], 0.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("width", (9, 310, 3000))
def test_class_softmax_loss_far_from_zero(dtype, width: int, order: str) -> None:
    """Up to the largest numbers, and the smallest."""
    rng = np.random.default_rng(width)
    offsets, ids = [0, 4, width - 2, width], np.array([0, 1, 2])
    for shift in (32_000.0, 32_767.0, 32_768.0, 60_000.0, 1e6, 1e30, 3.3e38, 1e300):
        for sign in (1, -1):
            values = np.array(sign * shift)
            if shift < 1e9:  # beyond, no float is so near
                values = values + rng.standard_normal((3, width)) * 4
            logits = torch.from_numpy(np.broadcast_to(values, (3, width)).copy()).to(dtype)
            if logits.isfinite().all():
                check_loss(runs(order), logits, ids, offsets, "normalized")


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("width", (1, 310, 3000))
def test_class_softmax_loss_of_a_certain_row(dtype, width: int, order: str) -> None:
    """One logit has all the probability, and it is the class's only one: loss and gradient are 0, and not nearly 0."""
    values = torch.tensor([1.7, -33.3, 0.0, 12_345.67, -40_000.0, 3e-5], dtype=torch.float64)
    logits = torch.full((len(values), width), -math.inf, dtype=torch.float64)
    logits[:, 0] = values
    logits, ids, offsets = (
        logits.to(dtype),
        np.zeros(len(values), np.int64),
        [0, 1, max(width, 2)][: 1 + min(width, 2)],
    )
    kernels = runs(order)
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets, 0.0)
    gradient = kernels.class_softmax_loss_backward(
        np.ones(len(ids), loss.dtype), stats, logits, ids, offsets, 0.0
    )
    assert not np.asarray(loss).any() and not gradient.double().numpy().any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    sizes=st.lists(st.one_of(st.integers(1, 60), st.just(700)), min_size=1, max_size=5),
    n=st.integers(0, 5),
    scale=st.sampled_from((1.0, 100.0, 1e4)),
)
def test_class_softmax_loss_in_parts(dtype, data, seed, sizes, n, scale, order: str) -> None:
    """Columns that come one part after the other: the loss and the gradient of whole rows, -inf in parts of them."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    ids = rng.integers(0, len(sizes), n)
    values = rng.standard_normal((n, offsets[-1])) * scale
    for row, label in zip(values, ids, strict=True):
        hidden = rng.random() < 0.5
        row[: offsets[label]] = -math.inf if hidden else row[: offsets[label]]
    logits = torch.from_numpy(values).to(dtype)
    kernels = runs(order, data)
    cuts = sorted(
        data.draw(st.sets(st.integers(1, max(1, offsets[-1] - 1)), max_size=4), label="cuts") - {offsets[-1]}
    )
    loss, stats = kernels.class_softmax_loss_in_parts(logits, ids, offsets, cuts)
    whole, whole_stats = kernels.class_softmax_loss(logits, ids, offsets)
    assert_close(loss.astype(np.float64), whole.astype(np.float64), 1e-13 if dtype == torch.float64 else 2e-6)
    assert (stats[:, 0] == whole_stats[:, 0]).all()
    assert_close(stats[:, 1].astype(np.float64), whole_stats[:, 1].astype(np.float64), 1e-5)
    ones = np.ones(n, loss.dtype)
    gradient = kernels.class_softmax_loss_backward(ones, whole_stats, logits, ids, offsets)
    for first, last in zip([0, *cuts], [*cuts, offsets[-1]], strict=True):
        part = kernels.class_softmax_loss_backward(
            ones, whole_stats, logits[:, first:last].contiguous(), ids, offsets, columns=(first, offsets[-1])
        )
        assert torch.equal(part, gradient[:, first:last])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_class_softmax_loss_special_rows(dtype, order: str) -> None:
    """Ignored rows and labels out of range count nowhere; infinities and NaN stay in their row."""
    kernels, offsets, inf = runs(order), [0, 3, 4, 9], math.inf
    logits = torch.zeros((9, 9), dtype=dtype)
    ids = np.array([0, -100, 3, -1, 2**40, 0, 0, 0, 0])
    logits[1, :] = math.nan  # ignored: whatever it holds
    logits[5, 4:] = -inf  # outside the run: probability 0
    logits[6, 1] = -inf  # inside the run
    logits[7, 8] = inf
    logits[8, 0] = math.nan
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets)
    assert np.isfinite(loss).tolist() == [True] * 6 + [False] * 3
    assert_close(loss[[0, 5]].astype(np.float64), np.log([9.0, 4.0]), 1e-6)
    assert not loss[1:5].any()
    logits[0] = torch.arange(9)
    check_together(kernels, logits, ids, offsets, 0.0)
    logits[0] = -inf
    check_together(kernels, logits, ids, offsets, 0.5)
    logits[0] = 0
    ones = np.ones(9, loss.dtype)
    gradient = kernels.class_softmax_loss_backward(ones, stats, logits, ids, offsets)
    assert gradient[[0, 1, 2, 3, 4, 5]].isfinite().all() and not gradient[1:5].any()
    assert not gradient[5, 4:].any()
    for row in range(9):  # the chain rule multiplies a row by its own factor
        scaled = kernels.class_softmax_loss_backward(
            np.where(np.arange(9) == row, 3, 0).astype(loss.dtype), stats, logits, ids, offsets
        )
        if row < 6:
            torch.testing.assert_close(scaled[row].double(), 3 * gradient[row].double(), rtol=1e-2, atol=1e-3)


@given(data=st.data(), seed=seeds())
def test_class_offsets_of_any_value_stay_inside(data, seed: int, order: str) -> None:
    """Offsets are not checked on a GPU; wrong ones give some answer, read from inside the logits."""
    rng = np.random.default_rng(seed)
    offsets = rng.choice([-(2**63), -1, 0, 1, 5, 8, 9, 10, 2**40, 2**63 - 1], 4)
    logits = torch.from_numpy(rng.standard_normal((4, 9))).float()
    kernels, ids = runs(order, data), rng.integers(-1, 5, 4)
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets)
    kernels.class_softmax_loss_backward(np.ones(4, np.float32), stats, logits, ids, offsets)
    centers = make_codes(rng, 3, 2)
    codes = kernels.center_codes_from_logits(logits, offsets, centers)
    assert {tuple(code) for code in codes.tolist()} <= {tuple(center) for center in centers.tolist()}
