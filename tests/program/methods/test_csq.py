"""CSQ against the paper's form, bit by bit: values, gradients, several labels, lengths, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import (
    assert_half_is_computed_in_single,
    assert_processes_are_one,
    near_axes,
    step_of,
    train,
)

from dshc import methods
from dshc.errors import InputError
from dshc.methods import Spec
from dshc.methods.centers import target_codes
from dshc.methods.csq import CSQ, CSQLoss


def naive(outputs, targets, eta):
    """BCE of (h + 1) / 2 and (c + 1) / 2, and the distance from signs, as the paper has them."""
    total = 0.0
    for u, c in zip(outputs.ravel(), targets.ravel(), strict=True):
        h = math.tanh(u)
        p, t = (h + 1) / 2, (c + 1) / 2
        total += -t * math.log(p) - (1 - t) * math.log(1 - p) + eta * (abs(h) - 1) ** 2
    return total / outputs.size


def batch(b, n_bits, seed, multihot, n_classes=4):
    """Outputs float64, labels, each with at least one, centers and ties."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, b)
    if multihot:
        labels = np.eye(n_classes, dtype=np.int64)[labels] | random.integers(0, 2, (b, n_classes))
    words = random.choice((-1, 1), (n_classes + 1, n_bits)).astype(np.int8)
    outputs = random.normal(size=(b, n_bits))
    return tuple(map(torch.from_numpy, (outputs, labels, words[1:], words[0])))


def method_of(bits=8, kind="ids", n_classes=4, **values):
    return CSQ(CSQ.Settings(bits=bits, **values), Spec(n_classes, kind, 5))


def test_two_bits_by_hand():
    outputs, words = torch.tensor([[1.0, -2.0]]), torch.tensor([[1, 1], [-1, 1]])
    # The second class: -1 and 1, the first bit is wrong by 1 and the second by 2.
    likelihood = math.log(1 + math.exp(2)) + math.log(1 + math.exp(4))
    distance = (1 - math.tanh(1)) ** 2 + (1 - math.tanh(2)) ** 2
    loss = CSQLoss(0.5)(outputs, torch.tensor([1]), words)
    assert loss.shape == () and loss.item() == pytest.approx((likelihood + 0.5 * distance) / 2, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.05, 3.0]),
)
def test_the_loss_is_the_papers(multihot, b, n_bits, seed, eta):
    outputs, labels, words, ties = batch(b, n_bits, seed, multihot)
    targets = target_codes(labels, words, ties)
    expected = naive(outputs.numpy(), targets.numpy(), eta)
    assert CSQLoss(eta)(outputs, labels, words, ties=ties).item() == pytest.approx(expected, rel=1e-10)
    single = CSQLoss(eta)(outputs.float(), labels, words, ties=ties)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(0, 10**6))
def test_order_of_items_and_bits_and_the_side_of_a_bit_do_not_count(seed):
    outputs, labels, words, ties = batch(5, 7, seed, True)
    loss = CSQLoss()(outputs, labels, words, ties=ties).item()
    random = torch.Generator().manual_seed(seed)
    items, bits = torch.randperm(5, generator=random), torch.randperm(7, generator=random)
    moved = CSQLoss()(outputs[items][:, bits], labels[items], words[:, bits], ties=ties[bits])
    side = torch.tensor([1, -1, 1, -1, -1, 1, 1])
    turned = CSQLoss()(outputs * side, labels, words * side, ties=ties * side)
    assert moved.item() == pytest.approx(loss, rel=1e-12) and turned.item() == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels, words, ties = batch(4, 5, 3, multihot)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: CSQLoss(0.7)(u, labels, words, ties=ties), outputs)
    kind = "multi-hot" if multihot else "ids"
    assert torch.autograd.gradcheck(lambda u: method_of(5, kind).loss(u, step_of(labels)), outputs)


def test_one_label_of_several_is_one_class():
    outputs, labels, words, ties = batch(6, 8, 1, False)
    hot = torch.eye(4, dtype=torch.uint8)[labels]
    assert CSQLoss()(outputs, labels, words) == CSQLoss()(outputs, hot, words, ties=ties)


def test_items_without_labels_are_left_out():
    outputs, labels, words, ties = batch(5, 6, 2, True)
    labels[3] = 0
    kept = torch.tensor([0, 1, 2, 4])
    outputs.requires_grad_()
    loss = CSQLoss()(outputs, labels, words, ties=ties)
    loss.backward()
    assert loss.item() == pytest.approx(
        CSQLoss()(outputs[kept], labels[kept], words, ties=ties).item(), rel=1e-12
    )
    assert not outputs.grad[3].any() and outputs.grad[kept].all()
    assert CSQLoss()(outputs, torch.zeros_like(labels), words).item() == 0


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    words = torch.tensor([[1, -1, 1], [1, -1, 1]])
    loss = CSQLoss()(outputs, torch.tensor([0, 1]), words)
    loss.backward()
    # The first item is right and costs nothing, the second is wrong by 1e4 on two bits; the third bit is undecided.
    assert loss.item() == pytest.approx((2 * 2e4 + 2 * math.log(2) + 2 * 0.05) / 6, rel=1e-6)
    assert outputs.grad.isfinite().all() and not outputs.grad[0, :2].any() and outputs.grad[1].any()


def test_half_precision_is_computed_in_single():
    outputs, labels, words, ties = batch(4, 8, 3, True)
    assert_half_is_computed_in_single(lambda rows: CSQLoss()(rows, labels, words, ties=ties), 3 * outputs)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_several_lengths_are_added_up(kind):
    outputs, labels, _, _ = batch(5, 12, 0, kind == "multi-hot")
    method = method_of(12, kind, lengths="4,8")
    total = sum(
        CSQLoss()(outputs[:, :n], labels, method.centers[:, :n], ties=method.ties[:n]).item()
        for n in (4, 8, 12)
    )
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(total, rel=1e-12)
    short = method.shortened(8)
    expected = CSQLoss()(outputs[:, :8], labels, method.centers[:, :8], ties=method.ties[:8])
    assert short.loss(outputs[:, :8], step_of(labels)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_processes_have_the_loss_and_gradient_of_one():
    outputs, labels, _, _ = batch(8, 8, 1, True)
    labels[5:7] = 0  # of four rows of the second process two count
    method = method_of(kind="multi-hot")
    assert_processes_are_one(method.loss, outputs, labels)


def test_some_steps_end_near_the_centers():
    torch.manual_seed(0)
    features, labels = near_axes()
    method = method_of(8)
    train(method, features, labels, torch.optim.Adam(method.parameters(), lr=0.1), 100)
    outputs = method.head(features).detach()
    assert torch.equal(outputs > 0, method.centers[labels] > 0) and torch.equal(
        method.predict(outputs), labels
    )
    relaxed = method.relaxed(outputs)
    assert torch.equal(relaxed, torch.tanh(outputs)) and relaxed.abs().max() <= 1


def test_what_is_predicted_is_the_likeliest():
    outputs, _, _, _ = batch(30, 8, 5, False)
    method = method_of()
    likelihoods = [[naive(u[None].numpy(), c[None].numpy(), 0) for c in method.centers] for u in outputs]
    assert method.predict(outputs).tolist() == np.argmin(likelihoods, axis=1).tolist()


def test_what_it_states():
    assert CSQ.Settings().centers == "separated" and CSQ.Settings().eta == CSQLoss().eta == 0.05
    assert CSQ.main_weight == "eta" and CSQ.label_kinds == ("ids", "multi-hot")
    assert method_of(16, centers="hadamard", n_classes=20).centers.sum(1).tolist() == [
        16,
        *[0] * 15,
        -16,
        0,
        0,
        0,
    ]
    assert method_of(eta=0.3).center_loss.eta == 0.3
    assert methods.get("csq") is CSQ


def test_refusals():
    for eta in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite, got"):
            CSQLoss(eta)
    with pytest.raises(InputError, match="eta must be at least 0, got -0.5"):
        CSQ.Settings(eta=-0.5)
    with pytest.raises(ValueError, match="outputs and centers must have shapes"):
        CSQLoss()(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(2, 4))
    with pytest.raises(ValueError, match="first 8 bits, got equal ones of classes 0 and 8"):
        method_of(16, n_classes=9, centers="hadamard", lengths="8")
