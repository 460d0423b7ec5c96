"""vMF against its formula written out: values, gradients, directions and their period, codes, refusals."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import (
    a_pass,
    assert_half_is_computed_in_single,
    assert_processes_are_one,
    own_classes,
    step_of,
)
from torch.nn.functional import normalize

from dshc.errors import InputError
from dshc.methods import VMF, Spec
from dshc.methods.class_means import nearer_to_another
from dshc.methods.vmf import VMFLoss

HOT = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)


def naive(outputs, labels, directions, kappa):
    """The loss by densities and sums; labels are lists of classes."""
    total = 0.0
    for u, own in zip(outputs, labels, strict=True):
        z = u / math.sqrt(sum(x * x for x in u))
        density = [math.exp(kappa * float(z @ mu)) for mu in directions]
        total -= sum(math.log(density[c] / sum(density)) for c in own) / max(len(own), 1)
    return total / len(outputs)


def batch(b, n_bits, n_classes, seed, multihot):
    """Outputs, labels, directions, float64."""
    random = np.random.default_rng(seed)
    outputs = random.normal(size=(b, n_bits)) * random.uniform(0.1, 10, size=(b, 1))
    labels = random.integers(0, 2 if multihot else n_classes, (b, n_classes) if multihot else b)
    directions = normalize(torch.from_numpy(random.normal(size=(n_classes, n_bits))))
    return torch.from_numpy(outputs), torch.from_numpy(labels), directions


def method_of(bits=4, kind="ids", n_classes=3, seed=0, **values):
    return VMF(VMF.Settings(bits=bits, **values), Spec(n_classes, kind, 5, seed=seed))


def test_one_item_by_hand():
    outputs, directions = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    # Cosines 0.6 and -0.8; a gap of 1.4 kappa.
    loss = VMFLoss(2.0)(outputs, torch.tensor([0]), directions)
    assert loss.shape == () and loss.item() == pytest.approx(math.log(1 + math.exp(-2.8)), rel=1e-6)
    loss = VMFLoss(2.0)(outputs, torch.tensor([1]), directions)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(2.8)), rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    kappa=st.sampled_from([0.5, 15.0, 60.0]),
)
def test_the_loss_is_the_formula(multihot, b, n_bits, n_classes, seed, kappa):
    outputs, labels, directions = batch(b, n_bits, n_classes, seed, multihot)
    expected = naive(outputs.numpy(), own_classes(labels), directions.numpy(), kappa)
    loss = VMFLoss(kappa)(outputs, labels, directions)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    single = VMFLoss(kappa)(outputs.float(), labels, directions)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=examples(25))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    multihot=st.booleans(),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-2, 3.0, 1e3]),
)
def test_neither_order_nor_length_nor_a_rotation_counts(b, n_bits, multihot, seed, scale):
    outputs, labels, directions = batch(b, n_bits, 4, seed, multihot)
    loss = VMFLoss()(outputs, labels, directions).item()
    random = np.random.default_rng(seed)
    items = random.permutation(b)
    turn, _ = torch.linalg.qr(torch.from_numpy(random.normal(size=(n_bits, n_bits))))
    near = {"rel": 1e-9, "abs": 1e-12}
    assert VMFLoss()(outputs[items], labels[items], directions).item() == pytest.approx(loss, **near)
    assert VMFLoss()(scale * outputs, labels, directions).item() == pytest.approx(loss, **near)
    assert VMFLoss()(outputs @ turn, labels, directions @ turn).item() == pytest.approx(loss, **near)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 0, 0]), HOT])
def test_gradients(labels):
    outputs, _, directions = batch(4, 5, 3, 1, False)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: VMFLoss(3.0)(u, labels, directions), outputs)
    # Lengths do not count: no gradient along an output.
    (gradient,) = torch.autograd.grad(VMFLoss(3.0)(outputs, labels, directions), outputs)
    assert gradient[0].any() and (gradient * outputs).sum(1).abs().max() < 1e-12


def test_one_hot_labels_are_ids():
    outputs, ids, directions = batch(6, 4, 3, 2, False)
    hot = VMFLoss()(outputs, torch.eye(3)[ids], directions)
    assert hot.item() == pytest.approx(VMFLoss()(outputs, ids, directions).item(), rel=1e-12)


def test_the_minimum_of_two_classes_is_on_their_axis():
    directions = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    outputs = torch.tensor([[3.0, 0, 0], [-0.5, 0, 0]], requires_grad=True)
    loss = VMFLoss(2.0)(outputs, torch.tensor([0, 1]), directions)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-5)
    assert outputs.grad.abs().max() < 1e-6
    aside = (outputs.detach() + 0.1).requires_grad_()
    assert torch.autograd.grad(VMFLoss(2.0)(aside, torch.tensor([0, 1]), directions), aside)[0].norm() > 1e-3


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 1, 1]), HOT])
def test_outputs_of_any_length_and_of_none(labels):
    outputs = torch.tensor([[1e4, -1e4], [0, 0], [1e-4, 0], [1e-30, 0]], requires_grad=True)
    loss = VMFLoss()(outputs, labels, normalize(torch.tensor([[1.0, 1], [0, 1], [1, -1]])))
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all()
    assert not outputs.grad[[1, 3]].any(), "what has no direction is not turned"
    assert VMFLoss()(outputs[1:2], labels[1:2], torch.eye(3, 2)).isfinite()


def test_half_precision_is_computed_in_single():
    outputs, ids, directions = batch(6, 8, 3, 3, False)
    assert_half_is_computed_in_single(lambda rows: VMFLoss()(rows, ids, directions), outputs)


def test_directions_start_random_and_of_the_seed():
    start = method_of(64, n_classes=200).directions(64)
    assert torch.allclose(start.norm(dim=1), torch.ones(200)) and start.mean(0).norm() < 0.2
    assert torch.equal(method_of(seed=1).directions(4), method_of(seed=1).directions(4))
    assert not torch.equal(method_of(seed=1).directions(4), method_of(seed=2).directions(4))


@pytest.mark.parametrize("period", [1, 2, 3])
def test_directions_are_of_the_classes_sums_every_period(period):
    method, asked, last = method_of(period=period, n_classes=4), [], None
    ids = torch.tensor([0, 0, 2, 2, 2, 3, 3])
    start = method.directions(4).clone()
    for epoch in range(7):
        outputs = torch.randn(7, 4, generator=torch.Generator().manual_seed(epoch))
        outputs[6] = -2 * outputs[5]  # of equal length these cancel out
        method.begin_epoch(a_pass(outputs, ids, epoch, asked))
        if epoch % period == 0:
            z = outputs / outputs.norm(dim=1, keepdim=True)
            last = torch.stack([z[:2].sum(0), start[1], z[2:5].sum(0), start[3]])
            last = last / last.norm(dim=1, keepdim=True)
        assert torch.allclose(method.directions(4), last, atol=1e-6)
    assert asked == list(range(0, 7, period)), "a pass over all items is made only where it is needed"


def test_an_item_counts_for_the_directions_of_all_its_labels():
    method = method_of(kind="multi-hot")
    outputs = torch.randn(4, 4)
    method.begin_epoch(a_pass(outputs, HOT, 0))
    z = normalize(outputs)
    expected = [z[[0, 3]].sum(0), z[[1, 3]].sum(0), z[[1, 3]].sum(0)]
    assert torch.allclose(method.directions(4), normalize(torch.stack(expected)), atol=1e-6)


def test_the_predicted_class_is_that_of_the_nearest_direction():
    method = method_of()
    outputs = torch.randn(50, 4) * torch.rand(50, 1)
    nearest = torch.cdist(normalize(outputs), method.directions(4)).argmin(1)
    assert torch.equal(method.predict(outputs), nearest) and len(nearest.unique()) == 3


def test_all_that_codes_and_predictions_need_is_in_the_state_dict():
    method, other = method_of(seed=1), method_of(seed=2)
    method.begin_epoch(a_pass(torch.randn(6, 4), torch.arange(6) % 3, 2))
    assert sorted(method.state_dict()) == ["directions_4", "head.bias", "head.weight"]
    assert method.training_state() == {}
    other.load_state_dict(method.state_dict())
    outputs, features = torch.randn(9, 4), torch.randn(9, 5)
    assert torch.equal(other.predict(outputs), method.predict(outputs))
    assert torch.equal(other.encode(other.head(features)), method.encode(method.head(features)))
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]


def test_nested_lengths_are_summed_and_have_directions_of_their_own():
    outputs, ids = batch(6, 6, 3, 5, False)[0], torch.arange(6) % 3
    method = method_of(6, lengths="2,5")
    method.begin_epoch(a_pass(outputs, ids, 0))
    for n in (2, 5, 6):
        alone = method_of(n)
        alone.begin_epoch(a_pass(outputs[:, :n], ids, 0))
        assert torch.equal(method.directions(n), alone.directions(n))
    assert not torch.allclose(normalize(method.directions(6)[:, :2]), method.directions(2), atol=1e-3)
    parts = [VMFLoss()(outputs[:, :n], ids, method.directions(n)).item() for n in (2, 5, 6)]
    assert method.loss(outputs, step_of(ids)).item() == pytest.approx(sum(parts), rel=1e-6)
    short = method.shortened(5)
    assert torch.equal(short.directions(5), method.directions(5))
    assert sorted(short.state_dict()) == ["directions_5", "head.bias", "head.weight"]


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_two_processes_are_one_with_both_halves(kind):
    outputs, labels, _ = batch(8, 4, 3, 6, kind == "multi-hot")
    assert_processes_are_one(method_of(kind=kind).loss, outputs, labels)


def test_some_epochs_part_the_classes():
    torch.manual_seed(0)
    ids = torch.arange(3).repeat(10)
    # Far from the origin all directions are alike at first.
    features = torch.eye(3)[ids] @ torch.randn(3, 5) + 0.1 * torch.randn(30, 5) + 2
    method = method_of(8)
    losses = []
    for epoch in range(10):
        method.begin_epoch(a_pass(method.head(features).detach(), ids, epoch))
        for _ in range(10):
            loss = method.loss(method.head(features), step_of(ids))
            method.zero_grad()
            loss.backward()
            losses.append(loss.item())
            with torch.no_grad():
                for weight in method.parameters():
                    weight -= 0.1 * weight.grad
    outputs = normalize(method.head(features).detach())
    assert losses[-1] < losses[0] / 10
    assert nearer_to_another(outputs, ids) == 0 and torch.equal(method.predict(outputs), ids)
    bits = outputs > 0
    distances, alike = (bits[:, None] != bits).sum(2), ids[:, None] == ids
    assert distances[alike].max() < distances[~alike].min()


def test_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert VMF.main_weight == "kappa" and VMF.Settings().kappa == method.class_loss.kappa == 15
    assert method_of(kappa=3.0).class_loss.kappa == 3


def test_refusals():
    loss, rows, ids = VMFLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shapes \(b, L\) and \(C, L\), got \(2, 3\) and \(4, 2\)"):
        loss(rows, ids, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got \(1,\)"):
        loss(rows, ids[:1], torch.zeros(4, 3))
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="kappa must be more than 0 and finite"):
            VMFLoss(value)
    for name, value, rule in (("kappa", 0.0, "more than 0"), ("period", 0, "at least 1")):
        with pytest.raises(InputError, match=f"{name} must be {rule}"):
            VMF.Settings(**{name: value})
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        method_of(kind="none", n_classes=0)
