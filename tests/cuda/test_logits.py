"""CUDA kernels of the loss and of codes from logits, run on the CPU by the interpreter (simt.py) in several orders
of threads and blocks.

Codes are exact; losses are held to the bound of the CPU tests. Values that only Python checks (NaN, labels out of
range, class offsets) must not lead a kernel out of its buffers.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import (
    assert_close,
    assert_loss_error,
    assert_same_array,
)
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from loss_oracle import exact_gradient, exact_loss, plain_torch_loss, targets
from simt import ORDERS
from simt_kernels import EDGES, FEW, FLOATS, Kernels, runs
from strategies import (
    make_codes,
    seeds,
)


@pytest.fixture(params=ORDERS)
def order(request: pytest.FixtureRequest) -> str:
    return request.param


# ---- loss ----

# What a result may be off beside plain PyTorch's error, as in test_class_softmax_loss.py.
UNITS = {torch.float32: 2.0**-23, torch.float64: 2.0**-46, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


def check_loss(kernels: Kernels, logits: torch.Tensor, ids: np.ndarray, offsets: list[int], target) -> None:
    weight = 0.0 if target == "normalized" else target
    loss, stats = kernels.class_softmax_loss(logits, ids, offsets, weight)
    ones = np.ones(len(ids), loss.dtype)
    gradient = kernels.class_softmax_loss_backward(ones, stats, logits, ids, offsets, weight)
    over = kernels.class_softmax_loss_backward(ones, stats, logits, ids, offsets, weight, inplace=True)
    assert torch.equal(over, gradient)
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


# ---- codes from logits ----


def draw_logits(rng: np.random.Generator, shape: tuple[int, int], ties: bool, dtype) -> torch.Tensor:
    values = rng.integers(-2, 3, shape) if ties else rng.standard_normal(shape)
    return torch.from_numpy(values.astype(np.float64)).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.one_of(st.integers(1, 80), st.sampled_from(EDGES)),
    n_bytes=st.sampled_from((1, 3, 4, 8, 9, 16, 33)),
    ties=st.booleans(),
)
def test_codes_from_logits(
    dtype, data, seed: int, n: int, n_subclasses: int, n_bytes: int, ties: bool, order: str
) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.one_of(st.integers(1, n_subclasses), st.sampled_from((1, n_subclasses))), label="k")
    codebook = make_codes(
        rng, n_subclasses, n_bytes, data.draw(st.sampled_from(("random", "near", "sparse")))
    )
    logits = draw_logits(rng, (n, n_subclasses), ties, dtype)
    codes = runs(order, data).codes_from_logits(logits, codebook, k)
    assert_same_array(codes, oracles.codes_from_logits(logits.double().numpy(), codebook, k), np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.sampled_from((1, 2, 9)),
    n_subclasses=st.sampled_from((1, 7, 300, 383, 384, 385, 767, 768, 769, 1000, 1537, 5000, 9001)),
    k=st.integers(1, 8),
    kind=st.sampled_from(("normal", "ties", "rising", "falling", "equal", "masked", "nan")),
)
def test_few_best(dtype, data, seed, n, n_subclasses, k, kind, order: str) -> None:
    """k up to 8, by one warp a row and by several: the stable order of the values, NaN last."""
    rng = np.random.default_rng(seed)
    k = min(k, n_subclasses)
    values = rng.standard_normal((n, n_subclasses)) * 50
    if kind in ("rising", "falling"):
        values = np.sort(values, axis=1)[:, :: 1 if kind == "rising" else -1]
    elif kind == "ties":
        values = np.round(values / 40)
    elif kind == "equal":
        values[:] = seed % 3 - 1
    elif kind != "normal":
        values[rng.random(values.shape) < 0.9] = -math.inf if kind == "masked" else math.nan
        values[0] = -math.inf if kind == "masked" else math.nan
    logits = torch.from_numpy(values.copy()).to(dtype)
    rows = logits.double().numpy()
    columns = np.broadcast_to(np.arange(n_subclasses), rows.shape)
    rank = np.lexsort((columns, -np.where(np.isnan(rows), 0.0, rows), np.isnan(rows)), axis=1)
    kernels = runs(order, data)
    assert_same_array(kernels.top_subclasses(logits, k), rank[:, :k], np.int64)
    codebook = make_codes(rng, n_subclasses, 9)
    votes = (2 * oracles.bits(codebook)[rank[:, :k]].astype(int) - 1).sum(1)
    first = oracles.bits(codebook)[rank[:, 0]]
    wanted = np.packbits(np.where(votes == 0, first, votes > 0).astype(bool), axis=1, bitorder="little")
    assert_same_array(kernels.codes_from_logits(logits, codebook, k), wanted, np.uint8)
    # Columns that stand for other sub-classes.
    shuffled = rng.permuted(np.tile(np.arange(n_subclasses), (n, 1)), axis=1)
    rows_of_code = np.take_along_axis(shuffled, rank[:, :k], 1)
    votes = (2 * oracles.bits(codebook)[rows_of_code].astype(int) - 1).sum(1)
    first = oracles.bits(codebook)[rows_of_code[:, 0]]
    wanted = np.packbits(np.where(votes == 0, first, votes > 0).astype(bool), axis=1, bitorder="little")
    codes = kernels.codes_from_logits(logits, codebook, k, subclasses=shuffled)
    assert_same_array(codes, wanted, np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("k", (9, 129, *deep(40, 600)))
def test_many_best(dtype, k: int, order: str) -> None:
    """Columns of the k largest, in any order that keeps equal logits in the order of their columns."""
    rng = np.random.default_rng(k)
    logits = torch.from_numpy(np.round(rng.standard_normal((3, 600)) * 3)).to(dtype)
    values = logits.double().numpy()
    kernels = runs(order, seed=k)
    top = kernels.top_subclasses(logits, k)
    for row, found in enumerate(top):
        order_of_row = np.argsort(-values[row], kind="stable")[:k]
        assert (found[np.argsort(-values[row][found], kind="stable")] == order_of_row).all()
    codebook = make_codes(rng, 600, 4)
    shuffled = rng.permuted(np.tile(np.arange(600), (3, 1)), axis=1)
    for weighting in ("mean", "probability"):
        mapped = kernels.codes_from_logits(logits, codebook, k, weighting, subclasses=shuffled)
        for row in range(3):
            plain = kernels.codes_from_logits(logits[row : row + 1], codebook[shuffled[row]], k, weighting)
            assert_same_array(mapped[row : row + 1], plain, np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.integers(1, 80),
    n_bytes=st.sampled_from((1, 4, 9)),
    ties=st.booleans(),
)
def test_codes_from_logits_weighted(
    dtype, data, seed: int, n: int, n_subclasses: int, n_bytes: int, ties: bool, order: str
) -> None:
    """As the exact sum says, where it is farther from 0 than rounding; elsewhere either is right."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = make_codes(rng, n_subclasses, n_bytes)
    logits = draw_logits(rng, (n, n_subclasses), ties, dtype)
    codes = runs(order, data).codes_from_logits(logits, codebook, k, "probability")
    book, found = 2 * oracles.bits(codebook) - 1, oracles.bits(codes)
    values = logits.double().numpy().astype(np.longdouble)
    for row, top in zip(range(n), oracles.top_order(values), strict=True):
        weights = np.exp(values[row][top[:k]] - values[row].max())
        votes = (weights[:, None] * book[top[:k]]).sum(0) / weights.sum()
        clear = np.abs(votes) > (1e-13 if dtype == torch.float64 else 1e-5)
        assert (found[row] == (votes > 0))[clear].all()


def check_weighted(codes: np.ndarray, logits: torch.Tensor, codebook: np.ndarray, k: int) -> None:
    """As the exact sum says, where it is farther from 0 than rounding."""
    book, found = 2 * oracles.bits(codebook) - 1, oracles.bits(codes)
    values = logits.double().numpy().astype(np.longdouble)
    for row, top in zip(range(len(values)), oracles.top_order(values), strict=True):
        weights = np.exp(values[row][top[:k]] - values[row].max())
        votes = (weights[:, None] * book[top[:k]]).sum(0) / weights.sum()
        clear = np.abs(votes) > (1e-12 if logits.dtype == torch.float64 else 1e-5)
        assert (found[row] == (votes > 0))[clear].all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.sampled_from((1, 3, 7, 8, 15, 16, 17, 33)),
    n_subclasses=st.sampled_from((9, 31, 32, 33, 255, 256, 257, 310, 1025)),
    n_bytes=st.sampled_from((1, 3, 4, 7, 8, 9, 10, 12, 16, 33)),
    scale=st.sampled_from((0.01, 1.0, 30.0)),
    rounded=st.booleans(),
)
def test_codes_by_probability_sizes(
    dtype, data, seed, n, n_subclasses, n_bytes, scale, rounded, order: str
) -> None:
    """Around the tiles of the product and its blocks, by one warp a row and by all; some and all sub-classes."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.one_of(st.integers(9, n_subclasses), st.just(n_subclasses)), label="k")
    values = rng.standard_normal((n, n_subclasses)) * scale
    values = np.round(values * 2) if rounded else values
    values[rng.random(values.shape) < 0.1] = -math.inf if seed % 2 else 0.0
    values[:, seed % n_subclasses] = 1.0
    logits = torch.from_numpy(values).to(dtype)
    codebook = make_codes(rng, n_subclasses, n_bytes)
    codes = runs(order, data).codes_from_logits(logits, codebook, k, "probability")
    check_weighted(codes, logits, codebook, k)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("n", "n_pairs", "n_bytes"), ((2, 155, 8), (17, 50, 5), (1, 1500, 8), *deep((9, 2500, 10), (3, 40, 512)))
)
def test_codes_by_probability_cancel(dtype, n: int, n_pairs: int, n_bytes: int, order: str) -> None:
    """Every logit comes twice, with a code and its complement: all bits tie, and are those of the first."""
    rng = np.random.default_rng(n)
    codes = make_codes(rng, n_pairs, n_bytes)
    codebook, values = np.concatenate([codes, ~codes]), rng.standard_normal((n, n_pairs)) * 3
    shuffle = rng.permutation(2 * n_pairs)
    codebook = np.ascontiguousarray(codebook[shuffle])
    logits = torch.from_numpy(np.concatenate([values, values], 1)[:, shuffle]).to(dtype)
    found = runs(order, seed=n).codes_from_logits(logits, codebook, 2 * n_pairs, "probability")
    first = logits.double().numpy().argmax(1)
    assert_same_array(found, codebook[first], np.uint8)
    # The same where columns stand for other sub-classes, which is another kernel.
    columns = np.tile(np.arange(2 * n_pairs), (n, 1))
    found = runs(order, seed=n).codes_from_logits(
        logits, codebook, 2 * n_pairs, "probability", subclasses=columns
    )
    assert_same_array(found, codebook[first], np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("n_subclasses", "k", "mapped"), ((600, 301, False), (600, 301, True), (4200, 2101, False))
)
def test_codes_by_probability_of_ties_at_the_end(
    dtype, n_subclasses: int, k: int, mapped: bool, order: str
) -> None:
    """Of equal logits at the end of the k largest the lower columns count; -inf alone weighs as much as anything."""
    rng = np.random.default_rng(5)
    values = np.full((4, n_subclasses), 1.0)
    values[1:3, rng.permutation(n_subclasses)[:100]] = 2.0
    values[2, :50] = 0.0
    values[3] = -math.inf
    logits, codebook = torch.from_numpy(values).to(dtype), make_codes(rng, n_subclasses, 9)
    columns = np.tile(np.arange(n_subclasses), (4, 1)) if mapped else None
    codes = runs(order, seed=1).codes_from_logits(logits, codebook, k, "probability", subclasses=columns)
    check_weighted(codes[:3], logits[:3], codebook, k)
    votes = 2 * oracles.bits(codebook[:k]).astype(int).sum(0) - k  # odd: no tie
    for row in (0, 3):
        assert (oracles.bits(codes[row : row + 1])[0] == (votes > 0)).all()


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bytes", (1, 31, 32, 33, 64, 127, 256, 512))
def test_codes_from_logits_widths(n_bytes: int, order: str) -> None:
    rng = np.random.default_rng(n_bytes)
    codebook, logits = make_codes(rng, 60, n_bytes), torch.from_numpy(rng.standard_normal((3, 60))).float()
    for k in (1, 5, 60):
        codes = runs(order, seed=k).codes_from_logits(logits, codebook, k)
        assert_same_array(codes, oracles.codes_from_logits(logits.numpy(), codebook, k), np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_codes_from_logits_infinities(dtype, order: str) -> None:
    """-inf and +inf rank by value, NaN last; equal ones by index."""
    inf, nan = math.inf, math.nan
    codebook = np.array([[1], [2], [4], [8]], np.uint8)
    rows = [[-inf, 0, inf, 1], [inf, inf, 0, 1], [-inf] * 4, [nan, -inf, nan, 0], [0.0, -0.0, 0.0, -0.0]]
    logits = torch.tensor(rows, dtype=dtype)
    kernels = runs(order)
    assert kernels.codes_from_logits(logits, codebook, 1).tolist() == [[4], [1], [1], [8], [1]]
    together = kernels.codes_from_logits(logits, codebook, 3)
    assert together.tolist() == [[0]] * 5  # no bit has two votes of three
    kernels.codes_from_logits(logits, codebook, 4, "probability")  # no answer is promised, only no harm


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    sizes=st.lists(st.integers(1, 70), min_size=1, max_size=12),
    n=st.integers(0, 6),
    scale=st.sampled_from((0.1, 1.0, 30.0, 1e3)),
    n_bytes=st.sampled_from((1, 4, 8, 11)),
)
def test_center_codes_from_logits(
    dtype, data, seed: int, sizes: list[int], n: int, scale: float, n_bytes: int, order: str
) -> None:
    """The class chosen has the largest score, up to the rounding of the working precision."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    centers = make_codes(rng, len(sizes), n_bytes)
    centers[:, 0] = np.arange(len(sizes))  # codes tell the classes apart
    logits = torch.from_numpy(rng.standard_normal((n, offsets[-1])) * scale).to(dtype)
    codes = runs(order, data).center_codes_from_logits(logits, offsets, centers)
    assert_same_array(codes, centers[codes[:, 0]].reshape(n, n_bytes), np.uint8)
    unit = 1e-14 if dtype == torch.float64 else 1e-6
    for row, choice in zip(logits.double().numpy(), codes[:, 0], strict=True):
        scores = [oracles.log_sum_exp(row[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        assert scores[choice] >= max(scores) - unit * (abs(float(max(scores))) + 4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "sizes",
    (
        [31] * 10,
        [32, 33, 1, 2, 32, 32, 32, 32, 31, 33],
        [128, 129, 3, 384, 385, 1000],
        [1] * 30 + [5] * 33,
        [2] * 31 + [40] + [2] * 31,
        [1200],
        [300, 2, 2, 2, 2, 2, 300, 5] * 8,
    ),
    ids=str,
)
def test_center_codes_sizes(dtype, sizes: list[int], order: str) -> None:
    """Classes around what a warp holds and takes together, rows by one warp and by several."""
    rng = np.random.default_rng(len(sizes))
    offsets = np.cumsum([0, *sizes]).tolist()
    values = rng.standard_normal((9, offsets[-1])) * 3
    for row in range(9):  # the chosen class is clear, and any
        values[row, offsets[row * len(sizes) // 9] : offsets[row * len(sizes) // 9 + 1]] += 12
    values[8, offsets[-2] :] = math.nan
    logits = torch.from_numpy(values).to(dtype)
    centers = np.arange(2 * len(sizes), dtype=np.uint8).reshape(-1, 2)
    codes = runs(order, seed=1).center_codes_from_logits(logits, offsets, centers)
    for row, code in zip(logits.double().numpy(), codes, strict=True):
        scores = [oracles.log_sum_exp(row[a:b]) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        wanted = 0 if np.isnan(scores).all() else int(np.nanargmax(scores))
        assert code.tolist() == centers[wanted].tolist()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_center_codes_of_equal_classes(dtype, order: str) -> None:
    run = torch.linspace(-2, 2, 7, dtype=torch.float64).to(dtype)
    logits = torch.cat([run - 1, run, run, run])[None].repeat(4, 1)
    logits[1, :7] = run
    logits[2, 27] = 90
    logits[3, :] = -math.inf
    centers = np.array([[1], [2], [4], [8]], np.uint8)
    codes = runs(order).center_codes_from_logits(logits, [0, 7, 14, 21, 28], centers)
    assert codes.tolist() == [[2], [1], [8], [1]]
    logits[0, 7], logits[1, 0] = math.nan, math.inf
    codes = runs(order).center_codes_from_logits(logits[:2], [0, 7, 14, 21, 28], centers)
    assert codes.tolist() == [[4], [1]]  # a class with a NaN ranks last


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_center_codes_of_classes_with_nans_and_infinities(dtype, order: str) -> None:
    inf, nan = math.inf, math.nan
    rows = {
        (inf, nan, 1.0, 0.0): 2,
        (nan, 0.0, -inf, -inf): 2,
        (nan, nan, -inf, -inf): 2,
        (-inf, -inf, nan, inf): 1,
        (-inf, -inf, -inf, -inf): 1,
        (0.0, 1.0, inf, 0.0): 2,
        (nan, nan, nan, nan): 1,
    }
    centers = np.array([[1], [2]], np.uint8)
    codes = runs(order).center_codes_from_logits(torch.tensor([*rows], dtype=dtype), [0, 2, 4], centers)
    assert codes.flatten().tolist() == [*rows.values()]
