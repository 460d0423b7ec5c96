"""class_softmax_linear_loss: values and gradients against the formula in long double, at every size of a chunk."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from callers import to_torch
from hypothesis import given
from hypothesis import strategies as st
from linear_layers import DTYPES, check, cut_as_on_cuda, draw_layer, run
from strategies import seeds

import dshc_fast
from dshc_fast import _linear_ops, reference

OFFSETS = [0, 3, 4, 9]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    seed=seeds(),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=9),
    n=st.integers(0, 9),
    chunk=st.one_of(st.none(), st.integers(1, 200)),
    target=st.sampled_from(("normalized", 1 / 3, 1.0)),
    with_bias=st.booleans(),
)
def test_random(dtype, seed, sizes, n, chunk, target, with_bias, backend) -> None:
    rng = np.random.default_rng(seed)
    layer = draw_layer(rng, n, sizes, dtype, backend.device, with_bias)
    offsets = np.cumsum([0, *sizes]).tolist()
    check(layer, rng.integers(0, len(sizes), n), offsets, target, chunk=chunk)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (1, 7, 64, 1000, 5000))
@pytest.mark.parametrize("sizes", ([31] * 10, [1] * 70, [1], [700], [1, 300, 2, 7]), ids=str)
def test_sizes(dtype, chunk: int, sizes: list[int], device: str) -> None:
    """Runs within a chunk and over many of them; fewer sub-classes than a chunk; one class; one sub-class."""
    rng = np.random.default_rng(len(sizes))
    layer = draw_layer(rng, 17, sizes, dtype, device, d=11)
    check(layer, rng.integers(0, len(sizes), 17), np.cumsum([0, *sizes]).tolist(), "normalized", chunk=chunk)


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_as_on_cuda(monkeypatch)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (None, 7, 64, 100))
@pytest.mark.parametrize("n_subclasses", (1, 7, 8, 101, 293, 294, 295, 640, 1001))
def test_chunks_of_cuda(dtype, chunk: int | None, n_subclasses: int, as_on_cuda) -> None:
    """A last chunk that is filled up to a multiple of eight columns; the class at its end, and one that is not."""
    rng = np.random.default_rng(n_subclasses)
    sizes = [n_subclasses] if n_subclasses == 1 else [n_subclasses // 2, n_subclasses - n_subclasses // 2]
    for n, with_bias in ((17, True), (17, False), (51, True), (0, True)):
        layer = draw_layer(rng, n, sizes, dtype, "cpu", with_bias, d=11)
        labels = rng.integers(0, len(sizes), n)
        check(layer, labels, np.cumsum([0, *sizes]).tolist(), "normalized", chunk=chunk)


def test_widths_of_cuda(as_on_cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal chunks of a step's multiples where nobody chose; else the ones asked for; the last one filled up."""

    def widths(n: int, n_subclasses: int, chunk: int | None) -> tuple[list[int], int]:
        layer = _linear_ops.Layer(torch.zeros(n, 2), torch.zeros(n_subclasses, 2), None, chunk, None)
        parts = [layer.part_of_weight(*part) for part in layer.chunks()]
        assert layer.width == sum(len(part) for part in parts)
        assert all(
            layer.logits(*part).shape == (n, len(rows))
            for part, rows in zip(layer.chunks(), parts, strict=True)
        )
        return [last - first for first, last in layer.chunks()], layer.width

    assert widths(50, 301, None) == ([128, 128, 45], 304)  # four chunks of 100, rounded up, are three
    assert widths(10, 901, None) == ([512, 389], 904)
    assert widths(10, 300, None) == ([300], 304)
    assert widths(50, 301, 150) == ([150, 150, 1], 308)
    assert widths(0, 301, None) == ([301], 304)
    monkeypatch.setattr(_linear_ops, "CHUNK", 4096)
    monkeypatch.setattr(_linear_ops, "CUDA_LOGITS", 1 << 25)
    assert widths(4096, 30_100, None) == ([7552, 7552, 7552, 7444], 30_104)
    assert widths(2048, 65_000, None) == ([16_256] * 3 + [16_232], 65_000)


@pytest.mark.parametrize("n_subclasses", (9, 301))
def test_infinite_features_in_filled_chunks(n_subclasses: int, as_on_cuda) -> None:
    """Columns that count nowhere take no value from the features; wrong offsets, unchecked, do not reach them."""
    layer = [torch.ones(3, 1), torch.arange(1.0, n_subclasses + 1)[:, None], None]
    layer[0][1] = -math.inf
    codebook = torch.arange(n_subclasses, dtype=torch.int32).view(torch.uint8).view(n_subclasses, 4)
    codes = dshc_fast.codes_from_features(*layer, codebook, 1, check=True)
    assert codes.view(torch.int32).flatten().tolist() == [n_subclasses - 1, 0, n_subclasses - 1]
    everything = torch.tensor([0, n_subclasses + 4])
    labels, options = torch.zeros(3, dtype=torch.int64), (0.0, -100, None, None, False)
    loss, _ = torch.ops.dshc_fast.class_softmax_linear_loss(*layer, labels, everything, *options)
    right = dshc_fast.class_softmax_loss(layer[0] @ layer[1].t(), labels, [0, n_subclasses], reduction="none")
    torch.testing.assert_close(loss, right, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n_subclasses", (1000, 1003))
@pytest.mark.parametrize("reduction", ("none", "mean"))
def test_small_default_chunks(dtype, n_subclasses: int, reduction: str, device: str, monkeypatch) -> None:
    """What a device does by itself with many sub-classes, at sizes of a test: several chunks, of columns or of rows."""
    monkeypatch.setattr(_linear_ops, "CHUNK", 100)
    monkeypatch.setattr(_linear_ops, "CUDA_LOGITS", 70_000)
    rng = np.random.default_rng(n_subclasses)
    layer = draw_layer(rng, 300, [n_subclasses], dtype, device, d=24)
    offsets = [0, 300, n_subclasses - 1, n_subclasses]
    labels = to_torch(rng.integers(0, 3, 300), device)
    labels[::7] = -100
    wide = [t.double() for t in layer]
    ours = run(dshc_fast.class_softmax_linear_loss, layer, labels, offsets, reduction=reduction)
    whole = run(
        dshc_fast.class_softmax_linear_loss, wide, labels, offsets, reduction=reduction, chunk=n_subclasses
    )
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    for found, right in zip([ours[0], *ours[1]], [whole[0], *whole[1]], strict=True):
        assert (found.double() - right).abs().max() <= tolerance * right.abs().max()


def test_default_chunk(device: str) -> None:
    """More sub-classes than the default chunk, by the same figures as the whole logits."""
    rng = np.random.default_rng(3)
    sizes = [101] * 60
    layer = draw_layer(rng, 5, sizes, torch.float64, device)
    offsets, labels = np.cumsum([0, *sizes]).tolist(), to_torch(rng.integers(0, 60, 5), device)
    ours = run(dshc_fast.class_softmax_linear_loss, layer, labels, offsets)
    whole = run(
        lambda x, w, b, *rest: dshc_fast.class_softmax_loss(torch.nn.functional.linear(x, w, b), *rest),
        layer, labels, offsets,
    )  # fmt: skip
    torch.testing.assert_close(ours, whole)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (1, 2, 4, 9))
def test_extreme_logits(dtype, chunk: int, backend) -> None:
    """Logits of ±1e4 in any order of chunks: a later chunk with a far larger logit takes the sum over."""
    rng = np.random.default_rng(8)
    for shift in (0.0, 1e4, -1e4):
        logits = rng.choice([-1e4, 1e4, 0.0, 1.0], (9, 20)) if shift == 0 else np.full((9, 20), shift)
        layer = [torch.eye(20), torch.from_numpy(logits), torch.zeros(9)]
        layer = [t.to(dtype).to(backend.device) for t in layer]
        check(layer, rng.integers(0, 3, 20), OFFSETS, "normalized", chunk=chunk)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (1, 2, 5, 9))
def test_minus_infinity_on_all_but_one_class(dtype, chunk: int, backend) -> None:
    """A bias of -inf is probability 0, through whole chunks of it: the loss and the gradients of the class alone."""
    rng = np.random.default_rng(9)
    for true_class in range(3):
        first, last = OFFSETS[true_class], OFFSETS[true_class + 1]
        layer = draw_layer(rng, 5, [9], dtype, backend.device)
        layer[2][[j for j in range(9) if not first <= j < last]] = -math.inf
        labels = torch.full((5,), true_class, device=backend.device)
        loss, gradients = run(
            dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS, reduction="none", chunk=chunk
        )
        alone = [layer[0], layer[1][first:last], layer[2][first:last]]
        wanted, of_alone = run(
            dshc_fast.class_softmax_linear_loss, alone, labels * 0, [0, last - first], reduction="none"
        )
        rough = {"rtol": 2e-2, "atol": 2e-2} if dtype in (torch.bfloat16, torch.float16) else {}
        torch.testing.assert_close(loss, wanted, **rough)
        torch.testing.assert_close(gradients[0], of_alone[0], **rough)
        for gradient, part in zip(gradients[1:], of_alone[1:], strict=True):
            torch.testing.assert_close(gradient[first:last], part, **rough)
            assert not gradient[:first].any() and not gradient[last:].any()
        other = torch.full((5,), (true_class + 1) % 3, device=backend.device)
        loss = dshc_fast.class_softmax_linear_loss(*layer, other, OFFSETS, reduction="none", chunk=chunk)
        assert not loss.isfinite().any()  # -inf inside the true run


@pytest.mark.parametrize("chunk", (1, 4, 9))
def test_non_finite_gives_non_finite(chunk: int, backend) -> None:
    for at in (0, 3, 8):
        for value in (math.inf, math.nan):
            layer = draw_layer(np.random.default_rng(1), 3, [9], torch.float32, backend.device)
            layer[2][at] = value
            labels = torch.zeros(3, dtype=torch.int64, device=backend.device)
            loss = dshc_fast.class_softmax_linear_loss(*layer, labels, OFFSETS, reduction="none", chunk=chunk)
            assert not loss.isfinite().any(), (at, value)


@pytest.mark.parametrize("chunk", (2, 9))
def test_ignored_and_unchecked_rows(chunk: int, backend) -> None:
    """Ignored rows give loss 0 and no gradient, whatever they hold; unchecked labels out of range likewise."""
    rng = np.random.default_rng(4)
    layer = draw_layer(rng, 6, [9], torch.float64, backend.device)
    labels = torch.tensor([0, -100, 2, 1, -100, 2], device=backend.device)
    kept = labels != -100
    loss, gradients = run(
        dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS, reduction="none", chunk=chunk
    )
    alone = [layer[0][kept], *layer[1:]]
    wanted, of_alone = run(
        dshc_fast.class_softmax_linear_loss, alone, labels[kept], OFFSETS, reduction="none", chunk=chunk
    )
    assert not loss[~kept].any() and not gradients[0][~kept].any()
    torch.testing.assert_close(loss[kept], wanted)
    torch.testing.assert_close([gradients[0][kept], *gradients[1:]], of_alone)
    mean = dshc_fast.class_softmax_linear_loss(*layer, labels, OFFSETS, chunk=chunk)
    torch.testing.assert_close(mean, wanted.mean())
    everything = torch.full_like(labels, -100)
    assert dshc_fast.class_softmax_linear_loss(*layer, everything, OFFSETS, chunk=chunk).isnan()
    wrong = torch.where(kept, labels, 10**12)
    again, _ = run(
        dshc_fast.class_softmax_linear_loss, layer, wrong, OFFSETS, reduction="none", chunk=chunk, check=False
    )
    assert torch.equal(again, loss)
    with pytest.raises(ValueError, match=r"labels\[1\]"):
        dshc_fast.class_softmax_linear_loss(*layer, wrong, OFFSETS, chunk=chunk, check=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (2, 9))
def test_empty_batch(dtype, chunk: int, backend) -> None:
    layer = draw_layer(np.random.default_rng(1), 0, [9], dtype, backend.device)
    labels = torch.empty(0, dtype=torch.int64, device=backend.device)
    loss, gradients = run(
        dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS, reduction="sum", chunk=chunk
    )
    assert loss == 0 and gradients[0].shape == (0, 6)
    assert not gradients[1].any() and not gradients[2].any()
    assert dshc_fast.class_softmax_linear_loss(*layer, labels, OFFSETS, chunk=chunk).isnan()


@pytest.mark.parametrize("with_bias", (True, False))
@pytest.mark.parametrize("chunk", (1, 4, 9))
@pytest.mark.parametrize("reduction", ("mean", "none"))
def test_gradcheck(with_bias: bool, chunk: int, reduction: str, device: str) -> None:
    layer = draw_layer(np.random.default_rng(5), 4, [9], torch.float64, device, with_bias, d=3)
    leaves = [t.requires_grad_() for t in layer if t is not None]
    labels = torch.tensor([0, 2, -100, 1], device=device)

    def loss(x, w, b=None):
        return dshc_fast.class_softmax_linear_loss(x, w, b, labels, OFFSETS, reduction=reduction, chunk=chunk)

    torch.autograd.gradcheck(loss, leaves)
    torch.autograd.gradgradcheck(loss, leaves)


@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
def test_gradients_of_some(wanted: tuple[int, int, int], device: str) -> None:
    """Only what is asked for; second derivatives too."""
    layer = draw_layer(np.random.default_rng(6), 4, [9], torch.float64, device)
    labels = torch.tensor([0, 2, 1, 1], device=device)
    _, everything = run(dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS, chunk=4)
    for tensor, flag in zip(layer, wanted, strict=True):
        tensor.requires_grad_(bool(flag))
    loss = dshc_fast.class_softmax_linear_loss(*layer, labels, OFFSETS, chunk=4)
    asked = [t for t, flag in zip(layer, wanted, strict=True) if flag]
    found = torch.autograd.grad(loss, asked, create_graph=True)
    for gradient, right in zip(found, [g for g, f in zip(everything, wanted, strict=True) if f], strict=True):
        torch.testing.assert_close(gradient, right)
    second = torch.autograd.grad(sum(g.square().sum() for g in found), asked)
    whole = reference.class_softmax_linear_loss(*layer, labels, torch.tensor(OFFSETS, device=device))
    first = torch.autograd.grad(whole, asked, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(sum(g.square().sum() for g in first), asked))


@pytest.mark.parametrize("kind", (torch.bfloat16, torch.float16), ids=str)
@pytest.mark.parametrize("chunk", (4, 9))
def test_autocast(kind, chunk: int, device: str) -> None:
    """Products as F.linear's under autocast; the loss in float32, gradients in the parameters' dtype."""
    rng = np.random.default_rng(7)
    layer = draw_layer(rng, 5, [9], torch.float32, device)
    labels = to_torch(rng.integers(0, 3, 5), device)
    leaves = [t.clone().requires_grad_() for t in layer]
    with torch.autocast(device, dtype=kind):
        loss = dshc_fast.class_softmax_linear_loss(*leaves, labels, OFFSETS, chunk=chunk)
        logits = torch.nn.functional.linear(*layer)
        assert loss.dtype == torch.float32 and logits.dtype == kind
        torch.testing.assert_close(loss, dshc_fast.class_softmax_loss(logits, labels, OFFSETS))
        wide = [t.double() for t in layer]
        assert dshc_fast.class_softmax_linear_loss(*wide, labels, OFFSETS, chunk=chunk).dtype == torch.float64
    loss.backward()
    _, exact = run(dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS)
    for leaf, gradient in zip(leaves, exact, strict=True):
        assert leaf.grad.dtype == torch.float32
        torch.testing.assert_close(leaf.grad, gradient, rtol=3e-2, atol=1e-2)
    with torch.autocast(device, dtype=kind):  # backward under autocast of what was computed without it
        loss, inside = run(
            dshc_fast.class_softmax_linear_loss, [t.double() for t in layer], labels, OFFSETS, chunk=chunk
        )
        assert all(gradient.dtype == torch.float64 for gradient in inside)


def test_module(device: str) -> None:
    """The head stays an nn.Linear of the model's own; the offsets move with the module."""
    module = dshc_fast.ClassSoftmaxLinearLoss(
        OFFSETS, target=0.5, reduction="sum", ignore_index=7, chunk=4
    ).to(device)
    head = torch.nn.Linear(6, 9, device=device)
    features, labels = torch.randn(5, 6, device=device), torch.tensor([0, 7, 2, 1, 1], device=device)
    loss = module(features, head.weight, head.bias, labels)
    wanted = dshc_fast.class_softmax_loss(
        head(features), labels, OFFSETS, target=0.5, reduction="sum", ignore_index=7
    )
    torch.testing.assert_close(loss, wanted)
    assert "class_offsets" in dict(module.named_buffers())


def test_strides(device: str) -> None:
    rng = np.random.default_rng(10)
    layer = draw_layer(rng, 5, [9], torch.float64, device)
    labels = to_torch(rng.integers(0, 3, 5), device)
    views = [
        layer[0].t().contiguous().t(),
        torch.stack([layer[1]] * 2, 2)[:, :, 0],
        torch.stack([layer[2]] * 3, 1)[:, 1],
    ]
    for chunk in (4, 9):
        ours = run(dshc_fast.class_softmax_linear_loss, layer, labels, OFFSETS, chunk=chunk)
        torch.testing.assert_close(
            run(dshc_fast.class_softmax_linear_loss, views, labels, OFFSETS, chunk=chunk), ours
        )


MEMORY = """
import sys, torch, dshc_fast
from pathlib import Path
torch.set_num_threads(1)
n, chunk = 2048, int(sys.argv[1])
features, weight = torch.randn(n, 4), torch.randn(65_000, 4, requires_grad=True)
labels, offsets = torch.arange(n) % 100, list(range(0, 65_001, 650))
codes = torch.zeros(65_000, 8, dtype=torch.uint8)
def resident(what):
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[what].split()[0])
def step(rows):
    layer = features[:rows], weight, None
    dshc_fast.class_softmax_linear_loss(*layer, labels[:rows], offsets, chunk=chunk).backward()
    dshc_fast.codes_from_features(*layer, codes, 5, chunk=chunk)
step(2)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
step(n)
print(1024 * (resident("VmHWM") - before))
"""


@pytest.mark.deep
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak of memory")
def test_memory_of_a_chunk() -> None:
    """532 MB of logits never exist: the process grows by less than an eighth of them; by more for one chunk."""
    grown = []
    for chunk in (2048, 65_000):
        command = [sys.executable, "-c", MEMORY, str(chunk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        grown.append(int(done.stdout))
    logits = 2048 * 65_000 * 4
    assert grown[0] < logits / 8 and grown[1] > logits
