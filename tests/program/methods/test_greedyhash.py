"""GreedyHash against its formula: values, the gradient that passes the sign, predictions, codes, refusals."""

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
from dshc.methods import GreedyHash, Spec
from dshc.methods.classifiers import cross_entropy_loss
from dshc.methods.greedyhash import GreedyHashLoss, straight_through_sign

HOT = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)


def naive(outputs, labels, weight, bias, eta):
    """The loss by loops; labels are numbers or rows of 0 and 1."""
    b, n_bits = outputs.shape
    total = 0.0
    for u, label in zip(outputs, labels, strict=True):
        code = [1 if x > 0 else -1 for x in u]
        scores = [
            sum(w * x for w, x in zip(row, code, strict=True)) + c
            for row, c in zip(weight, bias, strict=True)
        ]
        if np.ndim(label) == 0:
            total += math.log(sum(math.exp(s) for s in scores)) - scores[label]
        else:
            chances = [1 / (1 + math.exp(-s)) for s in scores]
            total -= sum(math.log(p if y else 1 - p) for p, y in zip(chances, label, strict=True)) / len(
                label
            )
        total += eta * sum(abs(abs(x) - 1) ** 3 for x in u) / n_bits
    return total / b


def batch(b, n_bits, n_classes, seed, multihot):
    """Outputs, labels and a classifier, float64."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2 if multihot else n_classes, (b, n_classes) if multihot else b)
    layer = nn.Linear(n_bits, n_classes).double().requires_grad_(False)
    layer.weight.copy_(torch.from_numpy(random.normal(size=(n_classes, n_bits))))
    layer.bias.copy_(torch.from_numpy(random.normal(size=n_classes)))
    return torch.from_numpy(2 * random.normal(size=(b, n_bits))), torch.from_numpy(labels), layer


def method_of(bits=4, kind="ids", **values):
    return GreedyHash(GreedyHash.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_one_item_by_hand():
    outputs = torch.tensor([[3.0, -0.5]])
    seen = []

    def classifier(codes):
        seen.append(codes.tolist())
        return torch.tensor([[math.log(3), 0.0]])

    loss = GreedyHashLoss(0.1)(outputs, torch.tensor([0]), classifier)
    assert seen == [[[1, -1]]]
    assert loss.shape == () and loss.item() == pytest.approx(
        math.log(4 / 3) + 0.1 * (8 + 1 / 8) / 2, rel=1e-6
    )


def test_the_gradient_passes_the_sign_unchanged():
    outputs = torch.tensor([[2.0, -0.1, 0.0]], requires_grad=True)
    code = straight_through_sign(outputs)
    assert code.tolist() == [[1, -1, -1]]
    code.backward(torch.tensor([[5.0, 6.0, 7.0]]))
    assert outputs.grad.tolist() == [[5, 6, 7]]


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_the_loss_is_the_formula(multihot, b, n_bits, n_classes, seed, eta):
    outputs, labels, layer = batch(b, n_bits, n_classes, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), layer.weight.numpy(), layer.bias.numpy(), eta)
    loss = GreedyHashLoss(eta)(outputs, labels, layer)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-11)
    single = GreedyHashLoss(eta)(outputs.float(), labels, layer.float())
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=examples(25))
@given(b=st.integers(1, 6), n_bits=st.integers(1, 9), multihot=st.booleans(), seed=st.integers(0, 10**6))
def test_order_does_not_matter_nor_which_side_of_a_bit_is_one(b, n_bits, multihot, seed):
    outputs, labels, layer = batch(b, n_bits, 4, seed, multihot)
    loss = GreedyHashLoss()(outputs, labels, layer).item()
    random = np.random.default_rng(seed)
    items, bits = random.permutation(b), torch.from_numpy(random.permutation(n_bits))
    flip = torch.from_numpy(random.choice([-1.0, 1.0], size=n_bits))
    near = {"rel": 1e-10, "abs": 1e-12}
    assert GreedyHashLoss()(outputs[items], labels[items], layer).item() == pytest.approx(loss, **near)
    other = GreedyHashLoss()(outputs[:, bits], labels, lambda code: layer(code[:, bits.argsort()]))
    assert other.item() == pytest.approx(loss, **near)
    other = GreedyHashLoss()(outputs * flip, labels, lambda code: layer(code * flip))
    assert other.item() == pytest.approx(loss, **near)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 0, 0]), HOT])
def test_the_gradient_is_that_by_the_code_and_that_of_the_penalty(labels):
    outputs, _, layer = batch(4, 5, 3, 1, False)
    outputs.requires_grad_()
    (found,) = torch.autograd.grad(GreedyHashLoss(0.3)(outputs, labels, layer), outputs)
    u = outputs.detach()
    code = torch.where(u > 0, 1.0, -1.0).double().requires_grad_()
    (by_code,) = torch.autograd.grad(cross_entropy_loss(layer(code), labels), code)
    penalty = 0.3 * 3 * (u.abs() - 1).square() * (u.abs() - 1).sign() * u.sign() / u.numel()
    assert by_code.any() and torch.allclose(found, by_code + penalty)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 0, 0]), HOT])
def test_gradients_of_the_classifier_and_of_the_penalty(labels):
    outputs, _, layer = batch(4, 5, 3, 1, False)
    layer.requires_grad_()
    loss = GreedyHashLoss(0.3)
    assert torch.autograd.gradcheck(lambda *_: loss(outputs, labels, layer), (layer.weight, layer.bias))
    # Where the classifier does not look the loss is a plain function of the outputs.
    blind = lambda code: torch.zeros(len(code), 3, dtype=code.dtype)  # noqa: E731
    assert torch.autograd.gradcheck(lambda u: loss(u, labels, blind), outputs.requires_grad_())


def test_the_penalty_is_least_at_signs():
    outputs = torch.tensor([[1.0, -1.0]], requires_grad=True)
    loss = GreedyHashLoss(1.0)(outputs, torch.tensor([0]), lambda code: torch.zeros(1, 1))
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 1, 1]), HOT])
def test_extreme_outputs_stay_finite(labels):
    outputs = torch.tensor([[1e4, -1e4], [0, 0], [-1e4, -1e4], [1e4, 0]], requires_grad=True)
    layer = nn.Linear(2, 3)
    loss = GreedyHashLoss()(outputs, labels, layer)
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all() and layer.weight.grad.isfinite().all()
    assert GreedyHashLoss()(outputs[1:2], labels[1:2], layer).isfinite()


def test_half_precision_is_computed_in_single():
    outputs, ids, layer = batch(6, 8, 3, 3, False)
    layer = layer.float()
    assert_half_is_computed_in_single(lambda rows: GreedyHashLoss()(rows, ids, layer), outputs)


def test_predictions_are_of_the_codes():
    outputs = torch.randn(50, 4)
    outputs[0] = 0
    codes = torch.where(outputs > 0, 1.0, -1.0)
    method, hot = method_of(), method_of(kind="multi-hot")
    assert torch.equal(method.predict(outputs), method.classifier(4)(codes).argmax(1))
    assert torch.equal(hot.predict(outputs), hot.classifier(4)(codes) > 0)
    bits = np.unpackbits(method.encode(outputs).numpy(), axis=1, count=4, bitorder="little")
    assert np.array_equal(bits, (outputs > 0).numpy())


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_nested_lengths_are_summed(kind):
    outputs, labels, _ = batch(6, 6, 3, 5, kind == "multi-hot")
    outputs, method = outputs.float(), method_of(6, kind, lengths="2,5")
    parts = [GreedyHashLoss()(outputs[:, :n], labels, method.classifier(n)).item() for n in (2, 5, 6)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-6)
    short = method.shortened(5)
    assert short.loss(outputs[:, :5], step_of(labels)).item() == pytest.approx(parts[1], rel=1e-6)


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
    train(method, features, labels, torch.optim.SGD(method.parameters(), lr=0.1), 300)
    outputs = method.head(features).detach()
    assert torch.equal(method.predict(outputs).long(), labels.long())
    assert_classes_are_parted(outputs > 0, ids)
    assert (outputs.abs() - 1).abs().mean() < 0.5, "the penalty keeps outputs near their signs"


def test_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert GreedyHash.main_weight == "eta" and GreedyHash.Settings().eta == method.class_loss.eta == 0.1
    assert method_of(eta=1.0).class_loss.eta == 1
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]


def test_refusals():
    loss, rows, ids = GreedyHashLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids, nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got \(1,\)"):
        loss(rows, ids[:1], nn.Linear(3, 4))
    for eta in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
            GreedyHashLoss(eta)
    with pytest.raises(InputError, match="eta must be at least 0"):
        GreedyHash.Settings(eta=-1.0)
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        GreedyHash(GreedyHash.Settings(), Spec(0, "none", 5))
