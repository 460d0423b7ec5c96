"""DHN against a double loop over pairs: values, gradients, log cosh, processes, lengths, codes and refusals."""

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
from dshc.methods.dhn import DHN, DHNLoss, log_cosh


def shares(a, b):
    """Whether two items share a class (numbers) or a label (rows of 0 and 1)."""
    return bool((a * b).any()) if np.ndim(a) else a == b


def naive(outputs, labels, eta=0.01, items=None):
    """The mean over pairs of likelihood and both penalties; the penalty alone where there is no pair."""
    items = range(len(outputs)) if items is None else items
    penalty = [sum(math.log(math.cosh(abs(x) - 1)) for x in z) for z in outputs]
    losses = []
    for i in range(len(outputs)):
        for j in range(len(outputs)):
            if items[i] != items[j]:
                x = float(outputs[i] @ outputs[j])
                softplus = math.log1p(math.exp(-abs(x))) + max(x, 0)
                losses.append(softplus - shares(labels[i], labels[j]) * x)
    return sum(losses) / max(len(losses), 1) + 2 * eta * sum(penalty) / max(len(outputs), 1)


def batch(b, n_bits, seed, multihot):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(np.tanh(random.normal(size=(b, n_bits)))), torch.from_numpy(labels)


def method_of(bits=4, kind="ids", **values):
    return DHN(DHN.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_three_points_by_hand():
    outputs = torch.tensor([[1.0, 1.0], [1.0, 0.0], [-1.0, 0.5]])
    # Similar: rows 0 and 1, product 1. Others: 0 and 2 with -1/2, 1 and 2 with -1.
    likelihood = (2 * math.log1p(math.exp(-1)) + math.log1p(math.exp(-0.5))) / 3
    # |z| - 1 is -1 once and -1/2 once; every pair has two items, hence the 2.
    penalty = 2 * 3 * (math.log(math.cosh(1)) + math.log(math.cosh(0.5))) / 3
    loss = DHNLoss(3.0)(outputs, torch.tensor([4, 4, 1]))
    assert loss.shape == () and loss.item() == pytest.approx(likelihood + penalty, rel=1e-6)


def test_the_penalty_is_there_for_both_items_of_a_pair():
    """The paper's form: sum over pairs of q(z_i) + q(z_j), each item being in as many pairs as any other."""
    outputs, labels = batch(5, 3, 0, False)
    q = [sum(math.log(math.cosh(abs(x) - 1)) for x in z) for z in outputs.tolist()]
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    expected = sum(q[i] + q[j] for i, j in pairs) / len(pairs)
    found = (DHNLoss(1.0)(outputs, labels) - DHNLoss(0.0)(outputs, labels)).item()
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 8),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.01, 3.0]),
)
def test_the_loss_is_the_double_loops(multihot, b, n_bits, seed, eta):
    outputs, labels = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), eta)
    assert DHNLoss(eta)(outputs, labels).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    single = DHNLoss(eta)(outputs.float(), labels)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels = batch(6, 4, 3, multihot)
    outputs.requires_grad_()
    for items in (None, torch.tensor([0, 1, 2, 1, 4, 5])):
        assert torch.autograd.gradcheck(lambda z, items=items: DHNLoss(0.3)(z, labels, items=items), outputs)
    kind = "multi-hot" if multihot else "ids"
    assert torch.autograd.gradcheck(lambda u: method_of(kind=kind).loss(u, step_of(labels)), outputs)


def test_log_cosh_is_exact_near_0_and_never_overflows():
    values = torch.tensor([0.0, 1e-4, -0.3, 1, -5, 20, 1e4, -1e30], dtype=torch.float64)
    expected = [0, 5e-9, math.log(math.cosh(0.3)), math.log(math.cosh(1)), math.log(math.cosh(5))]
    expected += [20 - math.log(2), 1e4 - math.log(2), 1e30]
    assert log_cosh(values).tolist() == pytest.approx(expected, rel=1e-6)
    leaf = torch.tensor([0.0, 0.5, -3.0, 1e30], dtype=torch.float64, requires_grad=True)
    log_cosh(leaf).sum().backward()
    assert torch.allclose(leaf.grad, torch.tanh(leaf.detach()))


@settings(deadline=None, max_examples=examples(20))
@given(seed=st.integers(0, 10**6), multihot=st.booleans())
def test_neither_items_nor_bits_have_an_order(seed, multihot):
    outputs, labels = batch(7, 5, seed, multihot)
    random = np.random.default_rng(seed)
    items, bits = random.permutation(7), random.permutation(5)
    flips = torch.from_numpy(random.choice([-1.0, 1.0], 5))
    loss = DHNLoss()(outputs, labels).item()
    assert DHNLoss()(outputs[items], labels[items]).item() == pytest.approx(loss, rel=1e-12)
    assert DHNLoss()(outputs[:, bits] * flips, labels).item() == pytest.approx(loss, rel=1e-12)


def test_the_penalty_is_least_at_corners():
    corners = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    labels = torch.tensor([0, 1])
    penalty = DHNLoss(1.0)(corners, labels) - DHNLoss(0.0)(corners, labels)
    penalty.backward()
    assert penalty.item() == pytest.approx(0, abs=1e-6) and corners.grad.abs().max() < 1e-6
    inside = 0.9 * corners.detach()
    assert DHNLoss(1.0)(inside, labels) - DHNLoss(0.0)(inside, labels) > 0.01


def test_similar_rows_are_pulled_together_and_others_apart():
    outputs = torch.tensor([[0.5, 0.1], [0.5, 0.1]], requires_grad=True)
    for labels, sign in ((torch.tensor([0, 0]), -1), (torch.tensor([0, 1]), 1)):
        (gradient,) = torch.autograd.grad(DHNLoss(0.0)(outputs, labels), outputs)
        # (sigma - s) z_j: one pair, its mean over both orders.
        sigma = 1 / (1 + math.exp(-0.26))
        slope = sigma - (sign < 0)
        assert torch.allclose(gradient, slope * outputs.detach().flip(0))


def test_multi_hot_labels_of_one_class_are_the_class():
    outputs, ids = batch(8, 4, 0, False)
    hot = torch.nn.functional.one_hot(ids, 3).to(torch.uint8)
    assert torch.equal(DHNLoss()(outputs, ids), DHNLoss()(outputs, hot))
    none = torch.zeros(8, 3, dtype=torch.uint8)  # similar to none
    assert DHNLoss()(outputs, none).item() == DHNLoss()(outputs, torch.arange(8)).item()


@pytest.mark.parametrize("b", [0, 1])
def test_a_batch_without_pairs_has_the_penalty_alone(b):
    outputs = torch.full((b, 3), 0.5, requires_grad=True)
    loss = DHNLoss(1.0)(outputs, torch.zeros(b, dtype=torch.int64))
    loss.backward()
    assert loss.item() == pytest.approx(b * 2 * 3 * math.log(math.cosh(0.5)))
    assert torch.allclose(outputs.grad, torch.full((b, 3), -2 * math.tanh(0.5)))


def test_the_method_leaves_out_pairs_of_one_item_and_puts_tanh_on_outputs():
    outputs, labels = batch(4, 4, 2, False)
    items = torch.tensor([1, 1, 0, 2])
    loss = method_of(eta=0.2).loss(3 * outputs, step_of(labels, items))
    expected = naive(torch.tanh(3 * outputs).numpy(), labels.numpy(), 0.2, items.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("value", [0.0, 1e4, -1e30])
def test_outputs_of_0_and_large_ones_stay_finite(value):
    outputs = torch.full((3, 4), value, requires_grad=True)
    loss = method_of().loss(outputs, step_of(torch.tensor([0, 0, 1])))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()
    raw = torch.full((3, 4), value, requires_grad=True)  # the loss alone, without the tanh
    if abs(value) < 1e10:
        loss = DHNLoss()(raw, torch.tensor([0, 0, 1]))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(raw.grad).all()


def test_half_precision_is_computed_in_single():
    outputs, labels = batch(6, 8, 3, True)
    assert_half_is_computed_in_single(
        lambda rows: method_of(8, "multi-hot").loss(rows, step_of(labels)), 4 * outputs
    )


@pytest.mark.parametrize("multihot", [False, True])
def test_several_processes_have_the_loss_and_gradient_of_one(multihot):
    outputs, labels = batch(8, 4, 1, multihot)
    assert_processes_are_one(
        lambda rows, step: DHNLoss()(rows, step.labels, items=step.items, gather=step.gather),
        outputs,
        labels,
        items=torch.tensor([3, 0, 1, 7, 5, 3, 6, 2]),
        rel=1e-10,
    )


def test_several_lengths_are_a_sum_and_each_can_stand_alone():
    outputs, labels = batch(6, 8, 2, False)
    method = method_of(8, lengths="2,5")
    z = torch.tanh(outputs).numpy()
    expected = sum(naive(z[:, :n], labels.numpy()) for n in (2, 5, 8))
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(expected, rel=1e-10)
    for n in (2, 5, 8):
        alone = method.shortened(n).loss(outputs[:, :n], step_of(labels))
        assert alone.item() == pytest.approx(naive(z[:, :n], labels.numpy()), rel=1e-10)


def test_some_steps_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    features, labels = three_classes()
    method = method_of(8)
    losses = train(method, features, labels, torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9), 100)
    assert losses[-1] < losses[0] / 2
    assert_classes_are_parted(dshc_fast.unpack_codes(method.encode(method.head(features)), 8), labels)


def test_codes_and_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    rows = torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])
    assert method_of(3).encode(rows).tolist() == [[2], [5]]
    assert torch.equal(method_of(3).relaxed(rows), torch.tanh(rows))
    assert DHN.label_kinds == ("ids", "multi-hot") and DHN.quality is None and DHN.main_weight == "eta"
    assert method.predict(torch.zeros(1, 32)) is None and method.training_state() == {}
    assert sorted(method.state_dict()) == ["head.bias", "head.weight"]
    assert DHN.Settings().eta == DHNLoss().eta == 0.01 and method_of(eta=2.0).pair_loss.eta == 2
    wide = DHN(DHN.Settings(bits=64), Spec(3, "ids", 4096)).head
    assert wide.weight.std().item() == pytest.approx(0.01, rel=0.05) and not wide.bias.any()


def test_refusals():
    loss, rows, ids = DHNLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, C\), got \(1,\)"):
        loss(rows, ids[:1])
    with pytest.raises(ValueError, match=r"items must have shape \(2,\), got \(3,\)"):
        loss(rows, ids, items=torch.arange(3))
    for eta in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
            DHNLoss(eta)
    with pytest.raises(InputError, match="eta must be at least 0"):
        DHN.Settings(eta=-1.0)
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        DHN(DHN.Settings(), Spec(0, "none", 5))
