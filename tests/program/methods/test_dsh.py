"""DSH against a double loop over pairs: values, gradients, margins, processes, lengths, codes and refusals."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import (
    assert_classes_are_parted,
    assert_half_is_computed_in_single,
    assert_processes_are_one,
    step_of,
    three_classes,
    train,
)

import dshc_fast
from dshc.errors import InputError
from dshc.methods import Spec
from dshc.methods.dsh import DSH, DSHLoss


def shares(a, b):
    """Whether two items share a class (numbers) or a label (rows of 0 and 1)."""
    return bool((a * b).any()) if np.ndim(a) else a == b


def naive(outputs, labels, eta=0.01, margin=None, items=None):
    """Equation 4, pair by pair, over the number of pairs; the regularizer alone where there is none."""
    items = range(len(outputs)) if items is None else items
    margin = 2 * len(outputs[0]) if margin is None else margin
    distance = [sum(abs(abs(x) - 1) for x in u) for u in outputs]
    total, pairs = 0.0, 0
    for i in range(len(outputs)):
        for j in range(i + 1, len(outputs)):
            if items[i] == items[j]:
                continue
            square = sum((x - y) ** 2 for x, y in zip(outputs[i], outputs[j], strict=True))
            total += (square if shares(labels[i], labels[j]) else max(margin - square, 0)) / 2
            pairs += 1
    return total / max(pairs, 1) + 2 * eta * sum(distance) / max(len(outputs), 1)


def batch(b, n_bits, seed, multihot):
    """Outputs float64 and labels; about half of the dissimilar pairs are within the margin."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(random.normal(size=(b, n_bits))), torch.from_numpy(labels)


def method_of(bits=4, kind="ids", **values):
    return DSH(DSH.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_three_points_by_hand():
    outputs = torch.tensor([[1.0, 2.0], [1.0, -0.5], [-1.0, 2.0]])
    # Rows 0 and 1 are similar: 2.5^2 / 2. Others, m = 4: 0 and 2 at 4, nothing; 1 and 2 at 10.25, nothing.
    # ||u| - 1|: 1, 1/2 and 1; a pair has two of them, so that an item counts twice: 2 * 0.01 * 2.5 / 3.
    expected = 6.25 / 2 / 3 + 0.02 * 2.5 / 3
    loss = DSHLoss()(outputs, torch.tensor([4, 4, 1]))
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-6)
    # With m = 12 the others count too: 8 / 2 and 1.75 / 2.
    wide = DSHLoss(margin=12.0)(outputs, torch.tensor([4, 4, 1]))
    assert wide.item() == pytest.approx(expected + (4 + 0.875) / 3, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 8),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.01, 3.0]),
    margin=st.sampled_from([None, 0.0, 5.0]),
)
def test_the_loss_is_the_double_loops(multihot, b, n_bits, seed, eta, margin):
    outputs, labels = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), eta, margin)
    assert DSHLoss(eta, margin)(outputs, labels).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    single = DSHLoss(eta, margin)(outputs.float(), labels)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
def test_the_gradient_is_that_of_the_value(multihot):
    outputs, labels = batch(6, 4, 3, multihot)
    outputs.requires_grad_()
    for items in (None, torch.tensor([0, 1, 2, 1, 4, 5])):
        for margin in (None, 1.0):
            loss = DSHLoss(0.3, margin)
            assert torch.autograd.gradcheck(
                lambda u, loss=loss, items=items: loss(u, labels, items=items), outputs
            )


def test_the_gradient_by_hand():
    """Equations 5 to 7: all of it, not the half that the authors' code has for the terms over pairs."""
    outputs = torch.tensor([[0.5, 1.0], [2.0, 1.0], [0.0, 0.0]], requires_grad=True)
    DSHLoss(0.0)(outputs, torch.tensor([0, 0, 1])).backward()
    # Similar: u_0 - u_1 = (-1.5, 0). Others: 0 and 2 at 1.25 < 4 are pushed by -(u_0 - u_2); 1 and 2 are beyond it.
    assert torch.allclose(outputs.grad * 3, torch.tensor([[-1.5 - 0.5, -1], [1.5, 0], [0.5, 1]]))


@settings(deadline=None, max_examples=examples(20))
@given(seed=st.integers(0, 10**6), multihot=st.booleans())
def test_neither_items_nor_bits_have_an_order(seed, multihot):
    outputs, labels = batch(7, 5, seed, multihot)
    random = np.random.default_rng(seed)
    items, bits = random.permutation(7), random.permutation(5)
    flips = torch.from_numpy(random.choice([-1.0, 1.0], 5))
    loss = DSHLoss()(outputs, labels).item()
    assert DSHLoss()(outputs[items], labels[items]).item() == pytest.approx(loss, rel=1e-12)
    assert DSHLoss()(outputs[:, bits] * flips, labels).item() == pytest.approx(loss, rel=1e-12)


def test_the_minimum_is_codes_that_differ_in_half_of_their_bits():
    """d^2 is 4 per bit that differs, and m is 2 L."""
    labels = torch.tensor([0, 0, 1])
    codes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, -1, -1]], requires_grad=True)
    loss = DSHLoss()(codes, labels)
    loss.backward()
    assert loss.item() == 0 and not codes.grad.any()
    nearer = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, -1]])
    assert DSHLoss()(nearer, labels).item() == pytest.approx(2 * 4 / 2 / 3)


def test_multi_hot_labels_of_one_class_are_the_class():
    outputs, ids = batch(8, 4, 0, False)
    hot = torch.nn.functional.one_hot(ids, 3).to(torch.uint8)
    assert torch.equal(DSHLoss()(outputs, ids), DSHLoss()(outputs, hot))
    # An item without labels is similar to none, not even to another without.
    none = torch.zeros(8, 3, dtype=torch.uint8)
    assert DSHLoss()(outputs, none).item() == DSHLoss()(outputs, torch.arange(8)).item()


@pytest.mark.parametrize("b", [0, 1])
def test_a_batch_without_pairs_has_the_regularizer_alone(b):
    outputs = torch.full((b, 3), 0.5, requires_grad=True)
    loss = DSHLoss(1.0)(outputs, torch.zeros(b, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 3 * b and torch.equal(outputs.grad, torch.full((b, 3), -2.0))


def test_an_item_does_not_meet_itself():
    outputs, labels = batch(5, 3, 0, False)
    items = torch.tensor([7, 2, 7, 3, 2])
    loss = method_of(3).loss(outputs, step_of(labels, items))
    assert loss.item() == pytest.approx(naive(outputs.numpy(), labels.numpy(), items=items.tolist()))
    twice = DSHLoss(0.0)(outputs[[0, 0]], torch.tensor([0, 1]), items=torch.tensor([3, 3]))
    assert twice.item() == 0  # though its "labels" differ


@pytest.mark.parametrize("value", [0.0, 1e4])
@pytest.mark.parametrize("same", [True, False])
def test_outputs_of_0_and_large_ones_stay_finite(value, same):
    outputs = torch.full((3, 4), value, requires_grad=True)
    labels = torch.zeros(3, dtype=torch.int64) if same else torch.arange(3)
    loss = DSHLoss()(outputs, labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


def test_half_precision_is_computed_in_single():
    outputs, labels = batch(6, 8, 3, True)
    assert_half_is_computed_in_single(
        lambda rows: method_of(8, "multi-hot").loss(rows, step_of(labels)), outputs
    )


@pytest.mark.parametrize("multihot", [False, True])
def test_several_processes_have_the_loss_and_gradient_of_one(multihot):
    outputs, labels = batch(8, 4, 1, multihot)
    assert_processes_are_one(
        lambda rows, step: DSHLoss()(rows, step.labels, items=step.items, gather=step.gather),
        outputs,
        labels,
        items=torch.tensor([3, 0, 1, 7, 5, 3, 6, 2]),
        rel=1e-10,
    )


@pytest.mark.parametrize("margin", [None, 7.0])
def test_several_lengths_are_a_sum_and_each_can_stand_alone(margin):
    outputs, labels = batch(6, 8, 2, False)
    method = method_of(8, lengths="2,5", margin=margin)
    expected = sum(naive(outputs[:, :n].numpy(), labels.numpy(), margin=margin) for n in (2, 5, 8))
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(expected, rel=1e-10)
    for n in (2, 5, 8):
        alone = method.shortened(n).loss(outputs[:, :n], step_of(labels))
        assert alone.item() == pytest.approx(naive(outputs[:, :n].numpy(), labels.numpy(), margin=margin))


def test_some_steps_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    features, labels = three_classes()
    method = method_of(8)
    losses = train(method, features, labels, torch.optim.Adam(method.parameters(), lr=0.05), 100)
    assert losses[-1] < losses[0] / 5
    assert_classes_are_parted(dshc_fast.unpack_codes(method.encode(method.head(features)), 8), labels)


def test_codes_and_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]
    assert DSH.label_kinds == ("ids", "multi-hot") and DSH.quality is None and DSH.main_weight == "eta"
    assert method.predict(torch.zeros(1, 32)) is None and method.training_state() == {}
    assert sorted(method.state_dict()) == ["head.bias", "head.weight"]
    assert DSH.Settings().eta == DSHLoss().eta == 0.01 and method_of(eta=2.0).pair_loss.eta == 2


def test_refusals():
    loss, rows, ids = DSHLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, C\), got \(1,\)"):
        loss(rows, ids[:1])
    with pytest.raises(ValueError, match=r"items must have shape \(2,\), got \(3,\)"):
        loss(rows, ids, items=torch.arange(3))
    for value in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
            DSHLoss(value)
        with pytest.raises(ValueError, match="margin must be at least 0 and finite"):
            DSHLoss(margin=value)
    for name in ("eta", "margin"):
        with pytest.raises(InputError, match=f"{name} must be at least 0"):
            DSH.Settings(**{name: -1.0})
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        DSH(DSH.Settings(), Spec(0, "none", 5))
