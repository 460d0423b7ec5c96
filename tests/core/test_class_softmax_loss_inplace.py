"""class_softmax_loss(inplace=True): the gradient over the logits, and everything that must not go unnoticed then."""

from __future__ import annotations

import pytest
import torch

import dshc_fast

OFFSETS = [0, 3, 4, 9]
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
MODIFIED = "modified by an inplace operation"


def layer_and_labels(
    device: str, dtype=torch.float32, n: int = 7
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn((n, 5), generator=generator).to(dtype).to(device)
    weight = torch.randn((9, 5), generator=generator).to(dtype).to(device).requires_grad_()
    labels = torch.arange(n, device=device) % 3
    labels[n // 2] = -100
    return features, weight, labels


@pytest.mark.parametrize("reduction", ("none", "mean"))
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_same_gradient_over_the_logits(dtype, reduction: str, backend) -> None:
    features, weight, labels = layer_and_labels(backend.device, dtype)
    gradients = {}
    for inplace in (False, True):
        logits = torch.nn.functional.linear(features, weight)
        before, address, version = logits.detach().clone(), logits.data_ptr(), logits._version
        seen = []
        logits.register_hook(seen.append)
        loss = dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction=reduction, inplace=inplace)
        assert torch.equal(logits.detach(), before)  # forward changes nothing
        (gradients[inplace],) = torch.autograd.grad(loss.sum(), weight)
        assert (seen[0].data_ptr() == address) == inplace
        assert (logits._version == version) == (not inplace)
        assert torch.equal(logits.detach(), seen[0] if inplace else before)
    assert torch.equal(gradients[False], gradients[True])


def test_module(device: str) -> None:
    features, weight, labels = layer_and_labels(device)
    logits = torch.nn.functional.linear(features, weight)
    before = logits.detach().clone()
    dshc_fast.ClassSoftmaxLoss(OFFSETS, inplace=True).to(device)(logits, labels).backward()
    assert weight.grad is not None and not torch.equal(logits.detach(), before)


def test_leaves_and_views_of_them_are_refused(device: str) -> None:
    """Their memory is a parameter's, which a gradient must not replace."""
    _, _, labels = layer_and_labels(device)
    for make in (lambda leaf: leaf, lambda leaf: leaf.view(7, 9), lambda leaf: leaf[:]):
        leaf = torch.randn(7, 9, device=device, requires_grad=True)
        before = leaf.detach().clone()
        with pytest.raises(ValueError, match="logits must be the result of a computation.* got a leaf"):
            dshc_fast.class_softmax_loss(make(leaf), labels, OFFSETS, inplace=True)
        assert torch.equal(leaf.detach(), before)
        with torch.no_grad():  # nothing is to be written
            dshc_fast.class_softmax_loss(leaf, labels, OFFSETS, inplace=True)
    assert torch.equal(leaf.detach(), before)


def test_other_strides_are_refused(device: str) -> None:
    _, weight, labels = layer_and_labels(device)
    wide = torch.cat([weight, weight], dim=1)  # (9, 10)
    for logits in (wide[:, :7].t(), wide[:7, :9], wide[:7, :1].expand(7, 9)):
        with pytest.raises(ValueError, match="strides"):
            dshc_fast.class_softmax_loss(logits, labels, OFFSETS, inplace=True)
    with pytest.raises(ValueError, match="contiguous"):
        torch.ops.dshc_fast.class_softmax_loss_backward_(
            torch.ones(7, device=device), torch.zeros(9, 7, device=device).t(), torch.ones(7, 2, device=device), labels,
            torch.tensor(OFFSETS, device=device),
        )  # fmt: skip


def test_a_part_of_a_batch(device: str) -> None:
    """Rows of a larger result: its other rows stay, and its change is noticed."""
    features, weight, labels = layer_and_labels(device)
    whole = torch.nn.functional.linear(features, weight)
    before = whole.detach().clone()
    dshc_fast.class_softmax_loss(whole[:4], labels[:4], OFFSETS, inplace=True).backward()
    assert torch.equal(whole.detach()[4:], before[4:]) and whole._version == 1


def test_second_backward_is_noticed(device: str) -> None:
    features, weight, labels = layer_and_labels(device)
    loss = dshc_fast.class_softmax_loss(
        torch.nn.functional.linear(features, weight), labels, OFFSETS, inplace=True
    )
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=MODIFIED):
        loss.backward()


def test_a_producer_that_needs_its_result_is_noticed(device: str) -> None:
    features, weight, labels = layer_and_labels(device)
    logits = torch.nn.functional.linear(features, weight).exp()
    with pytest.raises(RuntimeError, match=MODIFIED):
        dshc_fast.class_softmax_loss(logits, labels, OFFSETS, inplace=True).backward()


def test_another_use_of_the_logits(device: str) -> None:
    """Either its turn comes before, and the gradient is the sum, or it is noticed; never a wrong gradient."""
    features, weight, labels = layer_and_labels(device)

    def both(inplace: bool, inplace_first: bool) -> torch.Tensor:
        logits = torch.nn.functional.linear(features, weight)
        terms = [lambda: logits.square().sum(),
                 lambda: dshc_fast.class_softmax_loss(logits, labels, OFFSETS, inplace=inplace)]  # fmt: skip
        total = sum(term() for term in (terms[::-1] if inplace_first else terms))
        return torch.autograd.grad(total, weight)[0]

    outcomes = []
    for inplace_first in (False, True):
        try:
            torch.testing.assert_close(both(True, inplace_first), both(False, inplace_first))
            outcomes.append("sum")
        except RuntimeError as error:
            assert MODIFIED in str(error)
            outcomes.append("noticed")
    assert sorted(outcomes) == ["noticed", "sum"]


def test_second_derivatives_stay_right(device: str) -> None:
    features, weight, labels = layer_and_labels(device, torch.float64)
    rows = features.clone().requires_grad_()

    def of_rows(rows: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(rows, weight.detach())
        return dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction="none", inplace=True)

    assert torch.autograd.gradgradcheck(of_rows, rows)


def test_compiled(device: str) -> None:
    """A compiler plans its own memory: the option has no effect, the gradient is right."""
    torch._dynamo.reset()
    features, weight, labels = layer_and_labels(device)

    def step(weight: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.linear(features, weight)
        return dshc_fast.class_softmax_loss(logits, labels, OFFSETS, inplace=True)

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    gradients = [torch.autograd.grad(function(weight), weight)[0] for function in (step, compiled)]
    torch.testing.assert_close(*gradients)


def test_opcheck(device: str) -> None:
    features, weight, labels = layer_and_labels(device)
    logits, offsets = (
        torch.nn.functional.linear(features, weight).detach(),
        torch.tensor(OFFSETS, device=device),
    )
    loss, stats = torch.ops.dshc_fast.class_softmax_loss(logits, labels, offsets)
    torch.library.opcheck(
        torch.ops.dshc_fast.class_softmax_loss_backward_.default,
        (torch.ones_like(loss), logits, stats, labels, offsets),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


def test_numpy_and_wrong_types() -> None:
    features, weight, labels = layer_and_labels("cpu")
    logits = torch.nn.functional.linear(features, weight).detach().numpy()
    before = logits.copy()
    dshc_fast.class_softmax_loss(logits, labels.numpy(), OFFSETS, inplace=True)
    assert (logits == before).all()
    with pytest.raises(TypeError, match="inplace"):
        dshc_fast.class_softmax_loss(logits, labels.numpy(), OFFSETS, inplace=1)
    with pytest.raises(TypeError, match="inplace"):
        dshc_fast.ClassSoftmaxLoss(OFFSETS, inplace=None)
