"""The cross-entropy baseline: its loss, what the classifier sees, predictions, codes, refusals."""

import math

import numpy as np
import pytest
import torch
from method_cases import (
    assert_half_is_computed_in_single,
    assert_processes_are_one,
    step_of,
    three_classes,
    train,
)
from torch import nn

from dshc.methods import CrossEntropy, Spec
from dshc.methods.cross_entropy import CrossEntropyLoss

HOT = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)
IDS = torch.tensor([0, 2, 0, 0])


def method_of(bits=4, kind="ids", **values):
    return CrossEntropy(CrossEntropy.Settings(bits=bits, **values), Spec(3, kind, 5))


def labels_of(kind):
    return IDS if kind == "ids" else HOT


def outputs_of(n_bits=5, n=4):
    return torch.randn(n, n_bits, dtype=torch.float64, generator=torch.Generator().manual_seed(n_bits))


def test_two_classes_by_hand():
    layer = nn.Linear(2, 2)
    layer.load_state_dict({"weight": torch.tensor([[1.0, 0], [0, 2.0]]), "bias": torch.tensor([0.5, 0])})
    outputs = torch.tensor(
        [[1.0, -0.25]]
    )  # scores 1.5 and -0.5, of the outputs as they are, not of their signs
    loss = CrossEntropyLoss()(outputs, torch.tensor([1]), layer)
    assert loss.shape == () and loss.item() == pytest.approx(math.log(1 + math.exp(2)), rel=1e-6)
    loss = CrossEntropyLoss()(outputs, torch.tensor([[1, 1]]), layer)
    expected = (math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(0.5))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [IDS, HOT])
def test_the_loss_is_a_mean_over_items(labels):
    outputs, layer = outputs_of(), nn.Linear(5, 3).double()
    each = [CrossEntropyLoss()(outputs[i : i + 1], labels[i : i + 1], layer).item() for i in range(4)]
    assert CrossEntropyLoss()(outputs, labels, layer).item() == pytest.approx(np.mean(each), rel=1e-12)
    order = torch.tensor([2, 0, 3, 1])
    other = CrossEntropyLoss()(outputs[order], labels[order], layer)
    assert other.item() == pytest.approx(np.mean(each), rel=1e-12)


@pytest.mark.parametrize("labels", [IDS, HOT])
def test_gradients(labels):
    outputs, layer = outputs_of().requires_grad_(), nn.Linear(5, 3).double()
    assert torch.autograd.gradcheck(
        lambda u, *_: CrossEntropyLoss()(u, labels, layer), (outputs, layer.weight, layer.bias)
    )


@pytest.mark.parametrize("labels", [IDS, HOT])
def test_extreme_outputs_stay_finite(labels):
    outputs = torch.tensor([[1e4, -1e4], [0, 0], [-1e4, -1e4], [1e4, 0]], requires_grad=True)
    layer = nn.Linear(2, 3)
    loss = CrossEntropyLoss()(outputs, labels, layer)
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all() and layer.weight.grad.isfinite().all()


def test_half_precision_is_computed_in_single():
    layer = nn.Linear(5, 3)
    assert_half_is_computed_in_single(lambda rows: CrossEntropyLoss()(rows, IDS, layer), outputs_of())


def test_predictions_are_of_the_outputs_and_codes_are_their_signs():
    outputs = torch.randn(50, 4)
    method, hot = method_of(), method_of(kind="multi-hot")
    assert torch.equal(method.predict(outputs), method.classifier(4)(outputs).argmax(1))
    assert torch.equal(hot.predict(outputs), hot.classifier(4)(outputs) > 0)
    bits = np.unpackbits(method.encode(outputs).numpy(), axis=1, count=4, bitorder="little")
    assert np.array_equal(bits, (outputs > 0).numpy())
    assert torch.equal(method.relaxed(outputs), outputs)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_nested_lengths_are_summed(kind):
    outputs, labels, method = outputs_of(6).float(), labels_of(kind), method_of(6, kind, lengths="2,5")
    parts = [CrossEntropyLoss()(outputs[:, :n], labels, method.classifier(n)).item() for n in (2, 5, 6)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-6)
    short = method.shortened(5)
    assert short.loss(outputs[:, :5], step_of(labels)).item() == pytest.approx(parts[1], rel=1e-6)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_two_processes_are_one_with_both_halves(kind):
    method = method_of(kind=kind).double()
    classifier = method.classifier(4).weight
    assert_processes_are_one(method.loss, outputs_of(4), labels_of(kind), parameters=[classifier])


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_some_steps_tell_the_classes(kind):
    torch.manual_seed(0)
    features, ids = three_classes()
    labels = ids if kind == "ids" else torch.eye(3, dtype=torch.uint8)[ids]
    method = method_of(8, kind)
    train(method, features, labels, torch.optim.SGD(method.parameters(), lr=0.5), 200)
    outputs = method.head(features).detach()
    assert torch.equal(method.predict(outputs).long(), labels.long())
    bits = outputs > 0
    distances, alike = (bits[:, None] != bits).sum(2).float(), ids[:, None] == ids
    assert distances[alike].mean() < distances[~alike].mean() / 2


def test_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert CrossEntropy.main_weight is None
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]


def test_refusals():
    loss, rows, ids = CrossEntropyLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids, nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got \(1,\)"):
        loss(rows, ids[:1], nn.Linear(3, 4))
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        CrossEntropy(CrossEntropy.Settings(), Spec(0, "none", 5))
