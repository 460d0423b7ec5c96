"""HashNet against a double loop over pairs: weights, values, gradients, the continuation, codes and refusals."""

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
from dshc.methods import Spec, Step
from dshc.methods.hashnet import HashNet, HashNetLoss
from dshc.methods.similarity import jaccard


def agreement(a, b):
    """Jaccard index of two rows of 0 and 1; of two numbers, whether they are equal."""
    if not np.ndim(a):
        return float(a == b)
    return (a & b).sum() / max((a | b).sum(), 1)


def naive(outputs, labels, alpha, items=None):
    """The paper's form: the mean over pairs of weights |S| / |S1|, |S| / |S0| times the likelihood."""
    items = range(len(outputs)) if items is None else items
    pairs = [(i, j) for i in range(len(outputs)) for j in range(len(outputs)) if items[i] != items[j]]
    similar = [agreement(labels[i], labels[j]) > 0 for i, j in pairs]
    total = 0.0
    for (i, j), s in zip(pairs, similar, strict=True):
        weight = len(pairs) / (sum(similar) if s else len(pairs) - sum(similar))
        weight *= agreement(labels[i], labels[j]) if s else 1
        x = alpha * float(outputs[i] @ outputs[j])
        total += weight * (math.log1p(math.exp(-abs(x))) + max(x, 0) - s * x)
    return total / max(len(pairs), 1)


def batch(b, n_bits, seed, multihot):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(np.tanh(random.normal(size=(b, n_bits)))), torch.from_numpy(labels)


def method_of(bits=4, kind="ids", **values):
    return HashNet(HashNet.Settings(bits=bits, **values), Spec(3, kind, 5))


def test_three_points_by_hand():
    outputs = torch.tensor([[1.0, 1.0], [1.0, 0.0], [-1.0, 0.5]])
    # Similar: rows 0 and 1, product 1. Others: 0 and 2 with -1/2, 1 and 2 with -1. alpha is 10 / 2.
    expected = math.log1p(math.exp(-5)) + (math.log1p(math.exp(-2.5)) + math.log1p(math.exp(-5))) / 2
    loss = HashNetLoss()(outputs, torch.tensor([4, 4, 1]))
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-5)


def test_jaccard_by_hand():
    rows = torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)
    expected = [[1, 1 / 3, 0, 2 / 3], [1 / 3, 1, 0, 2 / 3], [0, 0, 0, 0], [2 / 3, 2 / 3, 0, 1]]
    assert torch.allclose(jaccard(rows, rows), torch.tensor(expected))
    assert jaccard(torch.tensor([0, 2]), torch.tensor([2, 1, 0])).tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(2, 8),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    alpha=st.sampled_from([None, 0.1, 30.0]),
)
def test_the_loss_is_the_double_loops(multihot, b, n_bits, seed, alpha):
    outputs, labels = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), alpha or 10 / n_bits)
    assert HashNetLoss(alpha)(outputs, labels).item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    single = HashNetLoss(alpha)(outputs.float(), labels)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels = batch(6, 4, 3, multihot)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda h: HashNetLoss()(h, labels), outputs)
    items = torch.tensor([0, 1, 2, 1, 4, 5])
    assert torch.autograd.gradcheck(lambda h: HashNetLoss(2.0)(h, labels, items=items), outputs)
    kind = "multi-hot" if multihot else "ids"
    step = Step(labels=labels, items=torch.arange(6), iteration=1000)
    assert torch.autograd.gradcheck(lambda u: method_of(kind=kind).loss(u, step), outputs)


def test_an_item_does_not_meet_itself():
    outputs, labels = batch(5, 3, 0, False)
    items = torch.tensor([7, 2, 7, 3, 2])
    loss = HashNetLoss(1.0)(outputs, labels, items=items)
    expected = naive(outputs.numpy(), labels.numpy(), 1.0, items.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([0, 0, 0]),
        torch.tensor([0, 1, 2]),
        torch.ones(3, 2, dtype=torch.uint8),
        torch.zeros(3, 2, dtype=torch.uint8),
        torch.eye(3, dtype=torch.uint8),
    ],
)
def test_only_similar_or_only_other_pairs(labels):
    outputs = torch.tensor([[0.5, -0.5], [0.9, 0.1], [-1.0, 1.0]], requires_grad=True)
    loss = HashNetLoss()(outputs, labels)
    loss.backward()
    expected = naive(outputs.detach().numpy(), labels.numpy(), 5.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5) and torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("b", [0, 1])
def test_a_batch_without_pairs_has_no_loss(b):
    outputs = torch.zeros(b, 3, requires_grad=True)
    loss = HashNetLoss()(outputs, torch.zeros(b, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()


def test_one_pair():
    outputs = torch.tensor([[1.0], [-1.0]])
    assert HashNetLoss()(outputs, torch.tensor([0, 0])).item() == pytest.approx(10, rel=1e-4)
    assert HashNetLoss()(outputs, torch.tensor([0, 1])).item() == pytest.approx(math.exp(-10), rel=1e-3)


@pytest.mark.parametrize("multihot", [False, True])
def test_several_processes_have_the_loss_and_gradient_of_one(multihot):
    outputs, labels = batch(8, 4, 1, multihot)
    assert_processes_are_one(
        lambda rows, step: HashNetLoss()(rows, step.labels, items=step.items, gather=step.gather),
        outputs,
        labels,
        items=torch.tensor([3, 0, 1, 7, 5, 3, 6, 2]),
        rel=1e-10,
    )


def test_beta_grows_in_stairs():
    method = method_of()
    assert [method.beta(t) for t in (0, 199)] == [1, 1]
    assert method.beta(200) == method.beta(399) == pytest.approx(math.sqrt(2))
    assert method.beta(10_000) == pytest.approx(math.sqrt(51))
    quick = method_of(gamma=1.0, power=2.0, beta_every=3)
    assert [quick.beta(t) for t in range(7)] == [1, 1, 1, 16, 16, 16, 49]


def test_steps_change_the_loss_and_nothing_else_does():
    outputs, labels = batch(6, 4, 2, False)
    method, resumed = method_of(), method_of()

    def loss(method, iteration):
        return method.loss(outputs, Step(labels=labels, items=torch.arange(6), iteration=iteration)).item()

    early = [loss(method, t) for t in (0, 199, 200, 4000)]
    assert early[0] == early[1] and len(set(early)) == 3
    assert loss(resumed, 4000) == early[3] and loss(method, 0) == early[0]
    assert method.training_state() == {} and sorted(method.state_dict()) == ["head.bias", "head.weight"]
    for value, t in zip(early, (0, 0, 200, 4000), strict=True):
        sharp = torch.tanh(outputs * math.sqrt(1 + 0.005 * t))
        assert value == pytest.approx(naive(sharp.numpy(), labels.numpy(), 2.5), rel=1e-10)


def test_the_method_leaves_out_pairs_of_one_item():
    outputs, labels = batch(4, 4, 2, False)
    items = torch.tensor([1, 1, 0, 2])
    loss = method_of().loss(outputs, Step(labels=labels, items=items))
    expected = naive(torch.tanh(outputs).numpy(), labels.numpy(), 2.5, items.tolist())
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_half_precision_is_computed_in_single():
    outputs, labels = batch(6, 8, 3, True)
    step = step_of(labels, iteration=1000)
    assert_half_is_computed_in_single(lambda rows: method_of(8, "multi-hot").loss(rows, step), 4 * outputs)


def test_large_outputs_stay_finite():
    outputs = torch.tensor([[1e30, -1e30], [-1e30, 1e30], [1e30, 1e30]], requires_grad=True)
    loss = method_of(2).loss(outputs, Step(labels=torch.tensor([0, 0, 1]), items=torch.arange(3)))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize("alpha", [None, 0.4])
def test_several_lengths_are_a_sum_each_with_its_alpha(alpha):
    outputs, labels = batch(6, 8, 2, False)
    method = method_of(8, lengths="2,5", alpha=alpha, alpha_bits=3.0)
    step = Step(labels=labels, items=torch.arange(6), iteration=400)
    sharp = torch.tanh(method.beta(400) * outputs).numpy()
    parts = {n: naive(sharp[:, :n], labels.numpy(), alpha or 3 / n) for n in (2, 5, 8)}
    assert method.loss(outputs, step).item() == pytest.approx(sum(parts.values()), rel=1e-10)
    for n, part in parts.items():
        assert method.shortened(n).loss(outputs[:, :n], step).item() == pytest.approx(part, rel=1e-10)


def test_the_main_weight_means_the_same_for_every_length():
    assert HashNet.main_weight == "alpha_bits" and HashNet.Settings().alpha_bits == 10
    outputs, labels = batch(5, 6, 0, False)
    for n in (2, 6):
        expected = naive(outputs[:, :n].numpy(), labels.numpy(), 3 / n)
        assert HashNetLoss(alpha_bits=3.0)(outputs[:, :n], labels).item() == pytest.approx(
            expected, rel=1e-10
        )


def test_some_steps_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    features, labels = three_classes()
    method = method_of(8, beta_every=10)
    losses = train(
        method,
        features,
        labels,
        torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9),
        60,
        lambda t: {"iteration": t},
    )
    assert losses[-1] < losses[0] / 2
    assert_classes_are_parted(dshc_fast.unpack_codes(method.encode(method.head(features)), 8), labels)


def test_codes_and_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]
    assert HashNet.label_kinds == ("ids", "multi-hot") and HashNet.quality is None
    assert method.predict(torch.zeros(1, 32)) is None
    assert method_of(alpha=0.5).pair_loss.alpha == 0.5 and method.pair_loss.alpha is None
    wide = HashNet(HashNet.Settings(bits=64), Spec(3, "ids", 400)).head
    assert wide.weight.std().item() == pytest.approx(0.01, rel=0.05) and not wide.bias.any()


def test_refusals():
    loss, rows, ids = HashNetLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        loss(rows[0], ids)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, C\), got \(1,\)"):
        loss(rows, ids[:1])
    with pytest.raises(ValueError, match=r"items must have shape \(2,\), got \(3,\)"):
        loss(rows, ids, items=torch.arange(3))
    for alpha in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="alpha must be more than 0 and finite"):
            HashNetLoss(alpha)
        with pytest.raises(ValueError, match="alpha_bits must be more than 0 and finite"):
            HashNetLoss(alpha_bits=alpha)
    for name, value, rule in (
        ("alpha", 0.0, "more than 0"),
        ("alpha_bits", 0.0, "more than 0"),
        ("gamma", -1.0, "at least 0"),
        ("power", -1.0, "at least 0"),
        ("beta_every", 0, "at least 1"),
    ):
        with pytest.raises(InputError, match=f"{name} must be {rule}"):
            HashNet.Settings(**{name: value})
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no labels"
    ):
        HashNet(HashNet.Settings(), Spec(0, "none", 5))
