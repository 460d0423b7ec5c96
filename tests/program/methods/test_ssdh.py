"""SSDH against its three terms written out: values, gradients, several labels, predictions, codes, refusals."""

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
from torch import nn

from dshc.errors import InputError
from dshc.methods import SSDH, Spec
from dshc.methods.ssdh import SSDHLoss, margin_regression

HOT = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)


def naive(outputs, labels, weight, bias, forcing=1.0, balance=1.0):
    """The loss by loops over items, classes and bits; labels are numbers or rows of 0 and 1."""
    b, n_bits = outputs.shape
    first = second = third = 0.0
    for u, label in zip(outputs, labels, strict=True):
        a = [1 / (1 + math.exp(-x)) for x in u]
        scores = [
            sum(w * x for w, x in zip(row, a, strict=True)) + c for row, c in zip(weight, bias, strict=True)
        ]
        if np.ndim(label) == 0:
            first += math.log(sum(math.exp(s) for s in scores)) - scores[label]
        else:
            for s, y in zip(scores, label, strict=True):
                beyond = s >= 1 if y else s <= 0
                first += 0 if beyond else (y - s) ** 2 / 2
        second -= sum((x - 0.5) ** 2 for x in a) / (2 * n_bits)
        third += (sum(a) / n_bits - 0.5) ** 2 / 2
    return (first + forcing * second + balance * third) / b


def batch(b, n_bits, n_classes, seed, multihot):
    """Outputs, labels and a classifier, float64."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2 if multihot else n_classes, (b, n_classes) if multihot else b)
    layer = nn.Linear(n_bits, n_classes).double().requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(random.normal(size=(n_classes, n_bits))))
    layer.bias.copy_(torch.from_numpy(random.normal(size=n_classes)))
    return torch.from_numpy(2 * random.normal(size=(b, n_bits))), torch.from_numpy(labels), layer


def method_of(bits=4, kind="ids", **values):
    return SSDH(SSDH.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_one_item_by_hand():
    # Activations 3/4 and 1/2; their mean is 5/8.
    outputs = torch.tensor([[math.log(3), 0.0]])
    scores = torch.tensor([[math.log(3), 0.0]])
    loss = SSDHLoss(2.0, 3.0)(outputs, torch.tensor([0]), lambda _: scores)
    e1, e2, e3 = math.log(4 / 3), -(1 / 16) / 4, (1 / 8) ** 2 / 2
    assert loss.shape == () and loss.item() == pytest.approx(e1 + 2 * e2 + 3 * e3, rel=1e-6)
    seen = []
    SSDHLoss()(outputs, torch.tensor([0]), lambda a: (seen.append(a), scores)[1])
    assert torch.allclose(seen[0], torch.tensor([[0.75, 0.5]])), "the classifier is on top of the sigmoids"


def test_several_labels_by_hand():
    scores = torch.tensor([[0.4, 1.7, -2.0, 0.3], [0.0, 1.0, 0.0, 2.0]])
    labels = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]])
    # 0.6 short of 1, beyond it, beyond 0, 0.3 short of it; then on the spot thrice, and 2 too much.
    assert margin_regression(scores, labels).item() == pytest.approx((0.36 + 0.09 + 4) / 4, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    forcing=st.sampled_from([0.0, 1.0, 5.0]),
    balance=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_the_loss_is_the_formula(multihot, b, n_bits, n_classes, seed, **weights):
    outputs, labels, layer = batch(b, n_bits, n_classes, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), layer.weight.numpy(), layer.bias.numpy(), **weights)
    assert SSDHLoss(**weights)(outputs, labels, layer).item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    single = SSDHLoss(**weights)(outputs.float(), labels, layer.float())
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=examples(25))
@given(b=st.integers(1, 6), n_bits=st.integers(1, 9), multihot=st.booleans(), seed=st.integers(0, 10**6))
def test_order_does_not_matter_nor_which_side_of_all_bits_is_one(b, n_bits, multihot, seed):
    outputs, labels, layer = batch(b, n_bits, 4, seed, multihot)
    loss = SSDHLoss()(outputs, labels, layer).item()
    random = np.random.default_rng(seed)
    items, bits = random.permutation(b), torch.from_numpy(random.permutation(n_bits))
    near = {"rel": 1e-10, "abs": 1e-12}
    assert SSDHLoss()(outputs[items], labels[items], layer).item() == pytest.approx(loss, **near)
    other = SSDHLoss()(outputs[:, bits], labels, lambda a: layer(a[:, bits.argsort()]))
    assert other.item() == pytest.approx(loss, **near)
    other = SSDHLoss()(-outputs, labels, lambda a: layer(1 - a))
    assert other.item() == pytest.approx(loss, **near)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 0, 0]), HOT])
def test_gradients(labels):
    outputs, _, layer = batch(4, 5, 3, 1, False)
    layer.requires_grad_()
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda u, *_: SSDHLoss(2.0, 3.0)(u, labels, layer), (outputs, layer.weight, layer.bias)
    )


def test_forcing_drives_activations_away_from_a_half_and_balance_evens_them():
    outputs = torch.tensor([[0.5, -0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    a = outputs.detach().sigmoid()
    slope = a * (1 - a)
    flat = lambda a: torch.zeros(len(a), 1, dtype=a.dtype)  # noqa: E731
    ids = torch.tensor([0])
    (gradient,) = torch.autograd.grad(SSDHLoss(1.0, 0.0)(outputs, ids, flat), outputs)
    assert torch.allclose(gradient, -(a - 0.5) / 4 * slope)  # -(a - 1/2) / (B L), away from 1/2
    (gradient,) = torch.autograd.grad(SSDHLoss(0.0, 1.0)(outputs, ids, flat), outputs)
    assert torch.allclose(gradient, (a.mean() - 0.5) / 4 * slope)  # all down, for most are up


def test_even_bits_at_a_half_are_where_nothing_pulls():
    outputs = torch.zeros(2, 4, requires_grad=True)
    loss = SSDHLoss()(outputs, torch.tensor([0, 0]), lambda a: torch.zeros(2, 1))
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()
    # Sharp and even codes have the least that the two terms can have.
    sharp = torch.tensor([[60.0, -60.0], [-60.0, 60.0]])
    loss = SSDHLoss()(sharp, torch.tensor([0, 0]), lambda a: torch.zeros(2, 1))
    assert loss.item() == pytest.approx(-1 / 8)
    uneven = SSDHLoss()(sharp.abs(), torch.tensor([0, 0]), lambda a: torch.zeros(2, 1))
    assert uneven.item() == pytest.approx(0)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 1, 1]), HOT])
def test_extreme_outputs_stay_finite(labels):
    outputs = torch.tensor([[1e4, -1e4], [0, 0], [-1e4, -1e4], [1e4, 0]], requires_grad=True)
    layer = nn.Linear(2, 3)
    loss = SSDHLoss()(outputs, labels, layer)
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all() and layer.weight.grad.isfinite().all()
    assert SSDHLoss()(outputs[1:2], labels[1:2], layer).isfinite()


def test_half_precision_is_computed_in_single():
    outputs, ids, layer = batch(6, 8, 3, 3, False)
    layer = layer.float()
    assert_half_is_computed_in_single(lambda rows: SSDHLoss()(rows, ids, layer), outputs)


def test_predictions_and_codes_are_of_the_activations():
    outputs = torch.randn(50, 4)
    method = method_of()
    scores = method.classifier(4)(outputs.sigmoid())
    assert torch.equal(method.predict(outputs), scores.argmax(1))
    hot = method_of(kind="multi-hot")
    with torch.no_grad():
        hot.classifier(4).weight.mul_(5)
    scores = hot.classifier(4)(outputs.sigmoid())
    predicted = hot.predict(outputs)
    # Nearer to the target 1 than to the target 0.
    assert torch.equal(predicted, (scores - 1).abs() < scores.abs()) and 0 < predicted.float().mean() < 1
    bits = np.unpackbits(method.encode(outputs).numpy(), axis=1, count=4, bitorder="little")
    assert np.array_equal(bits, (outputs.sigmoid() > 0.5).numpy())
    assert torch.allclose(method.relaxed(outputs), 2 * outputs.sigmoid() - 1, atol=1e-6)
    method.set_transform(thresholds=torch.full((4,), 0.7))
    assert torch.equal(method.relaxed(outputs) > 0, outputs > 0.7)
    assert torch.equal(method.predict(outputs), method.classifier(4)(outputs.sigmoid()).argmax(1))


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_nested_lengths_are_summed(kind):
    outputs, labels, _ = batch(6, 6, 3, 5, kind == "multi-hot")
    outputs, method = outputs.float(), method_of(6, kind, lengths="2,5")
    parts = [SSDHLoss()(outputs[:, :n], labels, method.classifier(n)).item() for n in (2, 5, 6)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-6)
    short = method.shortened(5)
    assert short.loss(outputs[:, :5], step_of(labels)).item() == pytest.approx(parts[1], rel=1e-6)
    assert list(short.classifiers) == ["5"] and torch.equal(short.head.weight, method.head.weight[:5])


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_two_processes_are_one_with_both_halves(kind):
    outputs, labels, _ = batch(8, 4, 3, 6, kind == "multi-hot")
    method = method_of(kind=kind).double()
    assert_processes_are_one(method.loss, outputs, labels, parameters=[method.classifier(4).weight])


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_some_steps_part_the_classes(kind):
    torch.manual_seed(0)
    features, ids = three_classes()
    labels = ids if kind == "ids" else torch.eye(3, dtype=torch.uint8)[ids]
    method = method_of(8, kind)
    train(method, features, labels, torch.optim.SGD(method.parameters(), lr=0.3), 300)
    outputs = method.head(features).detach()
    assert torch.equal(method.predict(outputs).long(), labels.long())
    assert_classes_are_parted(outputs > 0, ids)


def test_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert SSDH.main_weight == "forcing" and SSDH.Settings().forcing == SSDH.Settings().balance == 1
    loss = method_of(forcing=2.0, balance=3.0).class_loss
    assert (loss.forcing, loss.balance) == (2, 3)
    torch.manual_seed(0)
    wide = SSDH(SSDH.Settings(bits=64), Spec(100, "ids", 1024))
    assert wide.head.weight.std().item() == pytest.approx(0.02, rel=0.03) and not wide.head.bias.any()
    assert wide.classifier(64).weight.std().item() == pytest.approx(0.2, rel=0.05)
    assert not wide.classifier(64).bias.any() and wide.parameter_groups() == []
    assert method.encode(torch.zeros(1, 32)).tolist() == [[0, 0, 0, 0]], "an activation of 1/2 is no bit"


def test_refusals():
    loss, rows, ids = SSDHLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    layer = nn.Linear(3, 4)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids, layer)
    for labels in (ids[:1], HOT[:2]):
        with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got"):
            loss(rows, labels, layer)
    with pytest.raises(ValueError, match=r"labels must be multi-hot, of shape \(b, C\), got \(2,\)"):
        margin_regression(rows, ids)
    for name in ("forcing", "balance"):
        for value in (-1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite"):
                SSDHLoss(**{name: value})
        with pytest.raises(InputError, match=f"{name} must be at least 0"):
            SSDH.Settings(**{name: -1.0})
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        SSDH(SSDH.Settings(), Spec(0, "none", 5))
