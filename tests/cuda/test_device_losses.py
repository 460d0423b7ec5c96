"""Losses, and codes of logits and layers, as test_device.py on a GPU: at size, recorded into graphs, under autocast."""

from __future__ import annotations

import pytest
import torch
from device_only import OFFSETS, need_a_device, random_codes

import dshc_fast

need_a_device()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("n", "m"), [(256, 310), (1024, 310), (65, 1025), (64, 30_100), (33, 65_001)])
def test_loss_and_codes_at_size(dtype: torch.dtype, n: int, m: int) -> None:
    """Rows in registers and long rows, at every alignment: losses and gradients to rounding, codes to the bit."""
    generator = torch.Generator().manual_seed(m)
    logits = (3 * torch.randn((n, m), generator=generator)).to(dtype)
    labels, offsets = torch.arange(n) % 5, torch.linspace(0, m, 6).long()
    results = {}
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).requires_grad_()
        for inplace in (False, True):
            loss = dshc_fast.class_softmax_loss(
                leaf * 1, labels.to(device), offsets.to(device), reduction="none", inplace=inplace
            )
            gradient = torch.autograd.grad(loss.sum(), leaf)[0]
            results[device, inplace] = loss.detach().cpu(), gradient.float().cpu()
        assert all(
            torch.equal(a, b) for a, b in zip(results[device, False], results[device, True], strict=True)
        )
    unit = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(results["cuda", False][0], results["cpu", False][0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(results["cuda", False][1], results["cpu", False][1], rtol=unit, atol=1e-6)
    codebook = random_codes(m, 8, 6)
    for k in (1, 2, 5, 8, 9, 31):
        codes = dshc_fast.codes_from_logits(logits.cuda(), codebook.cuda(), k)
        assert torch.equal(codes.cpu(), dshc_fast.codes_from_logits(logits, codebook, k)), k


def test_layer_at_size() -> None:
    """A head of 30,100 sub-classes in chunks: the figures of the whole logits, with none of their memory."""
    torch.manual_seed(0)
    features, layer = torch.randn(512, 128, device="cuda"), torch.nn.Linear(128, 30_100, device="cuda")
    labels, offsets = torch.arange(512, device="cuda") % 100, torch.arange(101, device="cuda") * 301
    parameters = list(layer.parameters())
    whole = dshc_fast.class_softmax_loss(layer(features), labels, offsets)
    wanted = torch.autograd.grad(whole, parameters)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = dshc_fast.class_softmax_linear_loss(features, *parameters, labels, offsets, chunk=2048)
    found = torch.autograd.grad(loss, parameters)
    assert torch.cuda.max_memory_allocated() - before < 512 * 30_100 * 4 / 2
    torch.testing.assert_close(loss, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    codebook = random_codes(30_100, 8, 6).cuda()
    logits = layer(features).detach()
    for k in (1, 5, 20):  # the product of a chunk may round otherwise: a few near ties at most
        codes = dshc_fast.codes_from_features(features, *parameters, codebook, k, chunk=2048)
        different = (codes != dshc_fast.codes_from_logits(logits, codebook, k)).any(1)
        assert int(different.sum()) <= 5


def test_layer_is_capturable() -> None:
    """Loss, gradients and codes of a layer in chunks: no synchronisation, and one CUDA graph."""
    torch.manual_seed(0)
    features, layer = torch.randn(9, 16, device="cuda"), torch.nn.Linear(16, 100, device="cuda")
    labels, offsets = torch.arange(9, device="cuda") % 3, torch.tensor(OFFSETS, device="cuda")
    codebook = random_codes(100, 8, 4).cuda()

    def step() -> list[torch.Tensor]:
        loss = dshc_fast.class_softmax_linear_loss(features, *layer.parameters(), labels, offsets, chunk=32)
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        codes = dshc_fast.codes_from_features(features, *layer.parameters(), codebook, 5, chunk=32)
        return [loss.detach(), *gradients, codes]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = step()
    features.copy_(features.flip(0))
    graph.replay()
    torch.cuda.synchronize()
    for replayed, now in zip(answers, step(), strict=True):
        torch.testing.assert_close(replayed, now)


@pytest.mark.parametrize("layer", [False, True])
def test_forward_and_backward_in_graphs(layer: bool) -> None:
    """In one graph, or each in its own, which are replayed as often as one likes: what backward changes of what forward
    made may not meet its next replay."""
    torch.manual_seed(0)
    labels, offsets = torch.arange(9, device="cuda") % 3, torch.tensor(OFFSETS, device="cuda")
    inputs = [torch.randn(9, 100, device="cuda", requires_grad=True)]
    if layer:
        inputs = [
            torch.randn(9, 16, device="cuda", requires_grad=True),
            *torch.nn.Linear(16, 100, device="cuda").parameters(),
        ]
    above = torch.tensor(3.0, device="cuda")

    def loss_of() -> torch.Tensor:
        if layer:
            return dshc_fast.class_softmax_linear_loss(*inputs, labels, offsets)
        return dshc_fast.class_softmax_loss(inputs[0], labels, offsets)

    wanted = torch.autograd.grad(loss_of(), inputs, above)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.autograd.grad(loss_of(), inputs, above)
    torch.cuda.current_stream().wait_stream(stream)
    together, forward, backward = (torch.cuda.CUDAGraph() for _ in range(3))
    with torch.cuda.graph(together):
        of_one = torch.autograd.grad(loss_of(), inputs, above)
    with torch.cuda.graph(forward):
        loss = loss_of()
    with torch.cuda.graph(backward, pool=forward.pool()):
        of_two = torch.autograd.grad(loss, inputs, above, retain_graph=True)
    for _ in range(2):
        together.replay()
        forward.replay()
        for _ in range(2):
            backward.replay()
            torch.cuda.synchronize()
            for a, b, c in zip(of_one, of_two, wanted, strict=True):
                torch.testing.assert_close(a, c)
                torch.testing.assert_close(b, c)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_training(dtype: torch.dtype) -> None:
    """Autocast and a gradient scaler: the loss falls, and an infinite logit skips a step instead of raising."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 100, device="cuda")
    loss_of = dshc_fast.ClassSoftmaxLoss(OFFSETS).cuda()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    inputs, labels = torch.randn(64, 16, device="cuda"), torch.arange(64, device="cuda") % 3
    losses = []
    for step in range(20):
        with torch.autocast("cuda", dtype=dtype):
            logits = layer(inputs)
            loss = loss_of(logits * (float("inf") if step == 5 else 1.0), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert all(torch.isfinite(p).all() for p in layer.parameters())
    assert losses[-1] < losses[0]
