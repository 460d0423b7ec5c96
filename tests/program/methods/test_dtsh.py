"""DTSH against a triple loop: values, gradients, margin and weight, lengths, processes, codes and refusals."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import step_of
from threads_as_processes import in_processes

from dshc.errors import InputError
from dshc.methods import Spec, Step
from dshc.methods.dtsh import DTSH, DTSHLoss


def share(a, b):
    return bool((a * b).any()) if np.ndim(a) else bool(a == b)


def naive(u, labels, eta, margin):
    total, count, b = 0.0, 0, len(u)
    for q in range(b):
        for p in range(b):
            for n in range(b):
                if p != q and share(labels[q], labels[p]) and not share(labels[q], labels[n]):
                    behind = margin - (float(u[q] @ u[p]) / 2 - float(u[q] @ u[n]) / 2)
                    total += math.log1p(math.exp(-abs(behind))) + max(behind, 0)
                    count += 1
    distance = sum((x - (1 if x > 0 else -1)) ** 2 for row in u for x in row)
    return total / max(count, 1) + eta * distance / b


def batch(b, n_bits, seed, multihot):
    """Outputs float64, away from 0 where signs jump, and labels."""
    random = np.random.default_rng(seed)
    outputs = random.normal(size=(b, n_bits))
    outputs += 0.1 * np.where(outputs > 0, 1, -1)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(outputs), torch.from_numpy(labels)


def method_of(bits=4, kind="ids", **values):
    return DTSH(DTSH.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_one_triplet_by_hand():
    outputs = torch.tensor([[1.0, 1.0], [3.0, 1.0], [1.0, -1.0]])
    labels = torch.tensor([[1, 0], [1, 0], [0, 1]])
    # Queries 0 and 1: theta to each other is 2, to item 2 it is 0 and 1. alpha is 1.
    expected = (math.log1p(math.exp(-(2 - 0 - 1))) + math.log1p(math.exp(-(2 - 1 - 1)))) / 2
    # Distance from signs: 4, of item 1 alone; the mean over 3 items.
    loss = DTSHLoss(0.3)(outputs, labels)
    assert loss.shape == () and loss.item() == pytest.approx(expected + 0.3 * 4 / 3, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 8),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.0044, 2.0]),
    margin=st.sampled_from([None, 0.0, 3.0]),
)
def test_the_loss_is_the_triple_loops(multihot, b, n_bits, seed, eta, margin):
    outputs, labels = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), eta, n_bits / 2 if margin is None else margin)
    assert DTSHLoss(eta, margin)(outputs, labels).item() == pytest.approx(expected, rel=1e-10, abs=1e-13)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels = batch(7, 4, 5, multihot)
    outputs.requires_grad_()
    for loss in (DTSHLoss(), DTSHLoss(0.0, 1.0), DTSHLoss(5.0)):
        assert torch.autograd.gradcheck(lambda u, loss=loss: loss(u, labels), outputs)


def test_the_gradient_of_a_query_is_the_papers():
    """(sigma - 1) (u_p - u_n) / 2, where the query is in no other triplet."""
    outputs = torch.tensor([[0.5, -2.0], [1.5, 0.5], [-1.0, 0.3]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 1]])  # of items 0 and 1 only the first has a negative
    DTSHLoss(0.0)(outputs, labels).backward()
    u = outputs.detach()
    gap = float(u[0] @ u[1] - u[0] @ u[2]) / 2 - 1
    sigma = 1 / (1 + math.exp(-gap))
    # Query 2 has item 1 as positive and item 0 as negative.
    other = 1 / (1 + math.exp(-(float(u[2] @ u[1] - u[2] @ u[0]) / 2 - 1)))
    expected = ((sigma - 1) * (u[1] - u[2]) / 2 - (other - 1) * u[2] / 2) / 2
    assert torch.allclose(outputs.grad[0], expected)


def test_codes_without_triplets_are_a_minimum():
    outputs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    loss = DTSHLoss(7.0)(outputs, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()
    assert DTSHLoss(7.0)(2 * outputs, torch.tensor([0, 1])).item() == pytest.approx(
        14
    )  # the distance is left


def test_the_distance_from_signs_can_be_left_out():
    outputs, labels = batch(6, 3, 2, False)
    assert DTSHLoss(0.0)(outputs, labels).item() == pytest.approx(
        DTSHLoss()(outputs, labels).item() - naive(outputs.numpy(), np.zeros(6), 0.0044, 0), rel=1e-10
    )


def test_one_hot_labels_are_class_ids():
    outputs, labels = batch(9, 4, 3, False)
    hot = torch.nn.functional.one_hot(labels, 3)
    assert DTSHLoss()(outputs, labels).item() == DTSHLoss()(outputs, hot).item()


@pytest.mark.parametrize("size", [1e4, 0.0])
def test_extreme_outputs_stay_finite(size):
    outputs = size * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
    outputs.requires_grad_()
    loss = DTSHLoss()(outputs, torch.tensor([0, 0, 1]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


def test_half_precision_is_computed_in_single():
    outputs, labels = batch(8, 16, 3, True)
    half = outputs.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = DTSHLoss()(half, labels)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert loss.item() == DTSHLoss()(half.detach().float(), labels).item()


def test_lengths_are_added_up_each_with_its_own_margin():
    outputs, labels = batch(8, 6, 4, False)
    nested = method_of(6, lengths="2,4").loss(outputs, step_of(labels))
    each = [DTSHLoss()(outputs[:, :bits], labels) for bits in (2, 4, 6)]
    assert nested.item() == pytest.approx(sum(loss.item() for loss in each), rel=1e-10)
    short = method_of(6, lengths="2,4").shortened(4)
    assert short.loss(outputs[:, :4], step_of(labels)).item() == each[1].item()


def test_a_shorter_method_has_the_first_bits():
    method, features = method_of(6, lengths="4"), torch.randn(5, 5)
    short = method.shortened(4)
    assert torch.allclose(short.head(features), method.head(features)[:, :4], atol=1e-6)
    fixed = method_of(6, lengths="4", margin=1.5).shortened(4)
    assert fixed.triplet_loss.margin == 1.5


@pytest.mark.parametrize("multihot", [False, True])
def test_several_processes_have_the_loss_and_gradient_of_one(multihot):
    outputs, labels = batch(8, 4, 1, multihot)
    items = torch.tensor([3, 0, 1, 7, 5, 3, 6, 2])
    method = method_of(kind="multi-hot" if multihot else "ids", eta=1.0)
    whole = outputs.clone().requires_grad_()
    one = method.loss(whole, Step(labels=labels, items=items))
    one.backward()

    def work(rank, gather):
        own = slice(4 * rank, 4 * rank + 4)
        part = outputs[own].clone().requires_grad_()
        loss = method.loss(part, Step(labels=labels[own], items=items[own], gather=gather, own=own))
        loss.backward()
        return loss.item(), part.grad

    losses, gradients = zip(*in_processes(2, work), strict=True)
    assert sum(losses) / 2 == pytest.approx(one.item(), rel=1e-12)
    assert torch.allclose(torch.cat(gradients) / 2, whole.grad, rtol=1e-10)


def test_some_steps_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(10)
    features = torch.eye(3)[labels] @ torch.randn(3, 5) + 0.1 * torch.randn(30, 5)
    method = method_of(8)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(100):
        loss = method.loss(method.head(features), step_of(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    bits = np.unpackbits(method.encode(method.head(features).detach()).numpy(), axis=1).astype(int)
    distances = torch.from_numpy((bits[:, None] != bits).sum(2))
    alike = labels[:, None] == labels
    assert distances[alike].max() < distances[~alike].min()


def test_codes_and_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]
    assert DTSH.label_kinds == ("ids", "multi-hot") and DTSH.quality is None and DTSH.main_weight == "eta"
    assert DTSH.Settings().eta == DTSHLoss().eta == 0.0044 and DTSH.Settings().margin is None
    assert round(100 / 22_500, 4) == 0.0044


def test_refusals():
    for name, value in (("eta", -1.0), ("eta", math.inf), ("margin", -0.5), ("margin", math.nan)):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite"):
            DTSHLoss(**{name: value})
    for name in ("eta", "margin"):
        with pytest.raises(InputError, match=f"{name} must be at least 0"):
            DTSH.Settings(**{name: -1.0})
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        DTSHLoss()(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no labels"
    ):
        DTSH(DTSH.Settings(), Spec(0, "none", 5))
