"""DPN against a loop over labels and bits: values, gradients, several labels, centers that follow, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import assert_half_is_computed_in_single, assert_processes_are_one, near_axes, step_of

from dshc import methods
from dshc.errors import InputError
from dshc.methods import Pass, Spec
from dshc.methods.dpn import DPN, DPNLoss


def naive(outputs, labels, words, margin):
    """The mean over items with labels of the sum over their labels and all bits."""
    totals = []
    for u, label in zip(outputs, labels, strict=True):
        own = np.flatnonzero(label) if np.ndim(label) else [label]
        if len(own):
            totals.append(sum(max(margin - x * t, 0) for c in own for x, t in zip(u, words[c], strict=True)))
    return sum(totals) / max(len(totals), 1)


def batch(b, n_bits, seed, multihot, n_classes=4):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, n_classes)) if multihot else random.integers(0, n_classes, b)
    words = random.choice((-1, 1), (n_classes, n_bits)).astype(np.int8)
    return tuple(map(torch.from_numpy, (random.normal(size=(b, n_bits)), labels, words)))


def method_of(bits=8, kind="ids", **values):
    return DPN(DPN.Settings(bits=bits, **values), Spec(4, kind, 5))


def test_three_bits_by_hand():
    outputs, words = (
        torch.tensor([[0.25, 3.0, -0.5], [1.0, 1.0, 1.0]]),
        torch.tensor([[1, 1, 1], [-1, 1, -1]]),
    )
    # First item, first class: .75, 0 (beyond the margin), 1.5. Second item, second class: 2, 0, 2.
    loss = DPNLoss()(outputs, torch.tensor([0, 1]), words)
    assert loss.shape == () and loss.item() == pytest.approx((2.25 + 4) / 2)
    assert DPNLoss(2.0)(outputs[:1], torch.tensor([0]), words).item() == pytest.approx(1.75 + 2.5)
    # Both labels: the bit that both want is 1 costs nothing twice.
    both = DPNLoss()(outputs[:1], torch.tensor([[1, 1]]), words)
    assert both.item() == pytest.approx(2.25 + (1.25 + 0 + 0.5))


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    margin=st.sampled_from([0.1, 1.0, 3.0]),
)
def test_the_loss_is_the_loops(multihot, b, n_bits, seed, margin):
    outputs, labels, words = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), words.numpy().astype(float), margin)
    assert DPNLoss(margin)(outputs, labels, words).item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    single = DPNLoss(margin)(outputs.float(), labels, words)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(0, 10**6))
def test_order_of_items_and_bits_and_the_side_of_a_bit_do_not_count(seed):
    outputs, labels, words = batch(5, 7, seed, True)
    loss = DPNLoss()(outputs, labels, words).item()
    random = torch.Generator().manual_seed(seed)
    items, bits = torch.randperm(5, generator=random), torch.randperm(7, generator=random)
    side = torch.tensor([1, -1, 1, -1, -1, 1, 1])
    moved = DPNLoss()(outputs[items][:, bits], labels[items], words[:, bits])
    turned = DPNLoss()(outputs * side, labels, words * side)
    assert moved.item() == pytest.approx(loss, rel=1e-12) and turned.item() == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels, words = batch(4, 5, 3, multihot)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: DPNLoss(0.7)(u, labels, words), outputs)
    method = method_of(5, "multi-hot" if multihot else "ids")
    assert torch.autograd.gradcheck(lambda u: method.loss(u, step_of(labels)), outputs)


def test_beyond_the_margin_nothing_pulls():
    words = torch.tensor([[1, -1, 1], [1, 1, 1]])
    outputs = (1.01 * words).requires_grad_()
    loss = DPNLoss()(outputs, torch.tensor([0, 1]), words)
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()


def test_one_label_of_several_is_one_class_and_none_is_left_out():
    outputs, labels, words = batch(6, 8, 1, False)
    hot = torch.eye(4, dtype=torch.uint8)[labels]
    assert DPNLoss()(outputs, labels, words).item() == pytest.approx(
        DPNLoss()(outputs, hot, words).item(), rel=1e-12
    )
    hot[2] = 0
    outputs.requires_grad_()
    loss = DPNLoss()(outputs, hot, words)
    loss.backward()
    kept = [0, 1, 3, 4, 5]
    assert loss.item() == pytest.approx(DPNLoss()(outputs[kept], labels[kept], words).item(), rel=1e-12)
    assert not outputs.grad[2].any() and outputs.grad[0].any()
    assert DPNLoss()(outputs, torch.zeros_like(hot), words).item() == 0


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = DPNLoss()(outputs, torch.tensor([0]), torch.tensor([[1, 1, 1]]))
    loss.backward()
    assert loss.item() == pytest.approx(1e4 + 2) and outputs.grad.tolist() == [[0, -1, -1]]


def test_half_precision_is_computed_in_single():
    outputs, labels, words = batch(4, 8, 3, True)
    assert_half_is_computed_in_single(lambda rows: DPNLoss()(rows, labels, words), outputs)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_several_lengths_are_added_up(kind):
    outputs, labels, _ = batch(5, 12, 0, kind == "multi-hot")
    method = method_of(12, kind, lengths="4,8")
    parts = [DPNLoss()(outputs[:, :n], labels, method.centers[:, :n]).item() for n in (4, 8, 12)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-12)
    assert method.shortened(8).loss(outputs[:, :8], step_of(labels)).item() == pytest.approx(
        parts[1], rel=1e-12
    )


def test_processes_have_the_loss_and_gradient_of_one():
    outputs, labels, _ = batch(8, 8, 1, True)
    labels[5:7] = 0
    method = method_of(kind="multi-hot")
    assert_processes_are_one(method.loss, outputs, labels)


# Centers that follow


def look(outputs, labels, epoch):
    return Pass(lambda: outputs, lambda: outputs, labels, torch.Generator(), epoch=epoch)


def test_centers_follow_the_mean_codes_of_their_classes():
    method = method_of(3, update_every=2)
    before = method.centers.clone()
    outputs = torch.tensor([[5.0, -1, 1], [-0.1, -1, 1], [-0.1, 1, 1], [1, 1, 1], [-1, 1, 1]])
    labels = torch.tensor([0, 0, 0, 1, 1])
    for epoch in (0, 1, 3):
        method.begin_epoch(look(outputs, labels, epoch))
        assert torch.equal(method.centers, before)
    method.begin_epoch(look(outputs, labels, 2))
    # Codes count, not outputs; the tied bit and the classes without items stay.
    assert method.centers.tolist() == [[-1, -1, 1], [int(before[1, 0]), 1, 1], *before[2:].tolist()]
    assert method.centers.dtype == torch.int8 and (method.centers.abs() == 1).all()
    assert torch.equal(method.state_dict()["centers"], method.centers)

    still = method_of(3)
    still.begin_epoch(look(outputs, labels, 2))
    assert torch.equal(still.centers, before)


def test_an_item_counts_for_each_of_its_labels():
    method = method_of(2, "multi-hot", update_every=1)
    method.begin_epoch(look(torch.tensor([[1.0, -1]]), torch.tensor([[1, 0, 1, 0]], dtype=torch.uint8), 1))
    assert method.centers[[0, 2]].tolist() == [[1, -1]] * 2


def test_some_steps_end_beyond_the_margin():
    torch.manual_seed(0)
    features, labels = near_axes()
    method = method_of(8)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    for _ in range(100):
        loss = method.loss(method.head(features), step_of(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    outputs = method.head(features).detach()
    assert loss.item() < 0.05 and torch.equal(outputs > 0, method.centers[labels] > 0)
    assert torch.equal(method.predict(outputs), labels)


def test_what_it_states():
    assert DPN.Settings().margin == DPNLoss().margin == 1 and DPN.main_weight == "margin"
    assert method_of(margin=0.3).center_loss.margin == 0.3 and methods.get("dpn") is DPN


def test_refusals():
    for margin in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="margin must be more than 0 and finite, got"):
            DPNLoss(margin)
    with pytest.raises(InputError, match="margin must be more than 0, got 0.0"):
        DPN.Settings(margin=0.0)
    with pytest.raises(InputError, match="update_every must be at least 1, got 0"):
        DPN.Settings(update_every=0)
    with pytest.raises(ValueError, match="labels must have shape"):
        DPNLoss()(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), torch.ones(4, 3))
