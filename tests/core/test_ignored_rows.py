"""An ignored row gives loss 0 and gradient 0, whatever it holds: NaN and infinities among its features and logits, and
in what comes from above, reach neither the other rows' gradients nor the weight's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import dshc_fast

OFFSETS = [0, 3, 4, 9]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
BAD = (math.nan, math.inf, -math.inf)


def draw(device: str, dtype) -> tuple[list[torch.Tensor], torch.Tensor]:
    rng = np.random.default_rng(1)
    shapes = (6, 5), (9, 5), (9,)
    layer = [torch.from_numpy(rng.standard_normal(shape)).to(dtype).to(device) for shape in shapes]
    return layer, torch.tensor([0, -100, 2, 1, -100, 2], device=device)


def gradients(layer: list[torch.Tensor], labels: torch.Tensor, **options) -> list[torch.Tensor]:
    leaves = [t.clone().requires_grad_() for t in layer]
    loss = dshc_fast.class_softmax_linear_loss(*leaves, labels, OFFSETS, **options)
    return [loss.detach(), *torch.autograd.grad(loss.sum(), leaves)]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("chunk", (2, None))
def test_linear_loss(chunk: int | None, dtype, bad: float, backend) -> None:
    layer, labels = draw(backend.device, dtype)
    clean, spoilt = layer[0].clone(), layer[0].clone()
    clean[labels == -100], spoilt[labels == -100] = 0, bad
    for options in ({}, {"reduction": "none"}, {"check": False}):
        wanted = gradients([clean, *layer[1:]], labels, chunk=chunk, **options)
        found = gradients([spoilt, *layer[1:]], labels, chunk=chunk, **options)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert not found[1][labels == -100].any() and found[2].isfinite().all()


@pytest.mark.parametrize("chunk", (2, None))
def test_labels_that_are_no_class_and_unchecked(chunk: int | None, backend) -> None:
    layer, labels = draw(backend.device, torch.float64)
    layer[0][labels == -100] = math.nan
    wanted = gradients(layer, labels, chunk=chunk, reduction="sum")
    for other in (-1, 3, 10**12):
        wrong = torch.where(labels == -100, other, labels)
        found = gradients(layer, wrong, chunk=chunk, reduction="sum", check=False)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("chunk", (2, None))
def test_second_derivatives(chunk: int | None, device: str) -> None:
    layer, labels = draw(device, torch.float64)
    answers = []
    for bad in (0.0, math.nan):
        layer[0][labels == -100] = bad
        leaves = [t.clone().requires_grad_() for t in layer]
        loss = dshc_fast.class_softmax_linear_loss(*leaves, labels, OFFSETS, chunk=chunk)
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        answers.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    assert not answers[1][0][labels == -100].any()
    torch.testing.assert_close(*answers)


def test_second_derivatives_in_the_logits(device: str) -> None:
    _, labels = draw(device, torch.float64)
    answers = []
    for bad in (0.0, math.nan):
        logits = torch.linspace(-1, 1, 54, dtype=torch.float64, device=device).view(6, 9)
        above = torch.arange(6.0, dtype=torch.float64, device=device)
        logits[labels == -100] = above[labels == -100] = bad
        leaves = [logits.requires_grad_(), above.requires_grad_()]
        loss = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none")
        (first,) = torch.autograd.grad(loss, logits, above, create_graph=True)
        answers.append(torch.autograd.grad(first.square().sum(), leaves))
        assert not answers[-1][0][labels == -100].any()
    torch.testing.assert_close(*answers)


@pytest.mark.parametrize("chunk", (2, None))
def test_transforms(chunk: int | None) -> None:
    layer, labels = draw("cpu", torch.float64)
    answers = []
    for bad in (0.0, math.nan):
        layer[0][labels == -100] = bad

        def loss(*layer):
            return dshc_fast.class_softmax_linear_loss(*layer, labels, OFFSETS, chunk=chunk)

        tangents = [t.clone() for t in layer]
        answers.append(
            (
                torch.func.grad(loss, argnums=(0, 1, 2))(*layer),
                torch.func.jvp(loss, tuple(layer), tuple(tangents)),
            )
        )
    torch.testing.assert_close(*answers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("chunk", (2, None))
def test_in_a_cuda_graph(chunk: int | None) -> None:
    """Nothing waits for the device: forward and backward are captured, and replayed with other labels."""
    layer, labels = draw("cuda", torch.float32)
    layer[0][labels == -100] = math.nan
    leaves = [t.clone().requires_grad_() for t in layer]
    offsets = torch.tensor(OFFSETS, device="cuda")
    static = labels.clone()

    def step():
        loss = dshc_fast.class_softmax_linear_loss(*leaves, static, offsets, chunk=chunk)
        return loss, *torch.autograd.grad(loss, leaves)

    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    for new in (labels, torch.where(labels == 2, 0, labels)):
        static.copy_(new)
        graph.replay()
        wanted = gradients(layer, new, chunk=chunk)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert found[2].isfinite().all()
