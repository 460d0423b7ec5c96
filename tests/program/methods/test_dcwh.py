"""DCWH against its formula written out: values, gradients, stages, centers and their period, codes, refusals."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import a_pass, assert_half_is_computed_in_single, own_classes, three_classes

import dshc
from dshc.errors import InputError
from dshc.methods import DCWH, Spec, Step
from dshc.methods.class_means import nearer_to_another
from dshc.methods.dcwh import DCWHLoss

HOT = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1]], dtype=torch.uint8)


def naive(outputs, labels, centers, inverse_variance=0.5, cube=10.0, vertex=0.1, slack=1.1):
    """The loss by densities and sums; labels are lists of classes."""
    total = 0.0
    b, n_bits = outputs.shape
    for u, own in zip(outputs, labels, strict=True):
        density = [math.exp(-((u - center) ** 2).sum() * inverse_variance / 2) for center in centers]
        for c in own:
            total -= math.log(density[c] / sum(density)) / len(own) / b
        for x in u:
            outside = max(-slack - x, 0) + max(x - slack, 0)
            total += (cube * outside + vertex * ((1 if x > 0 else -1) - x) ** 2) / (b * n_bits)
    return total


def batch(b, n_bits, n_classes, seed, multihot):
    """Outputs, labels, centers, float64; outputs away from 0 and from the cube, where the loss has corners."""
    random = np.random.default_rng(seed)
    size = random.choice([random.uniform(0.1, 1.0), random.uniform(1.2, 1.6)], size=(b, n_bits))
    outputs = size * random.choice([-1, 1], size=(b, n_bits))
    labels = random.integers(0, 2 if multihot else n_classes, (b, n_classes) if multihot else b)
    centers = random.normal(size=(n_classes, n_bits))
    return tuple(map(torch.from_numpy, (outputs, labels, centers)))


def method_of(bits=4, kind="ids", n_classes=3, seed=0, **values):
    return DCWH(DCWH.Settings(bits=bits, **values), Spec(n_classes, kind, 5, seed=seed))


def step_of(labels, stage="establish", **values):
    return Step(labels=labels, items=torch.arange(len(labels)), stage=stage, **values)


def test_one_item_by_hand():
    outputs, centers = torch.tensor([[2.0, 0.5]]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    # Squared distances 1.25 and 11.25, so that log p is that of a gap of 10 / 4; outside of the cube by 0.9.
    class_wise = math.log(1 + math.exp(-2.5))
    establish, refine = class_wise + 10 * 0.9 / 2, 0.1 * (1 + 0.25) / 2
    ids = torch.tensor([0])
    assert DCWHLoss()(outputs, ids, centers).item() == pytest.approx(establish + refine, rel=1e-6)
    loss = DCWHLoss()(outputs, ids, centers, refine=False)
    assert loss.shape == () and loss.item() == pytest.approx(establish, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    inverse_variance=st.sampled_from([0.25, 0.5, 1.0]),
    cube=st.sampled_from([0.0, 10.0]),
    vertex=st.sampled_from([0.0, 0.1]),
    slack=st.sampled_from([1.0, 1.1]),
)
def test_the_loss_is_the_formula(multihot, b, n_bits, n_classes, seed, **weights):
    outputs, labels, centers = batch(b, n_bits, n_classes, seed, multihot)
    expected = naive(outputs.numpy(), own_classes(labels), centers.numpy(), **weights)
    loss = DCWHLoss(**weights)(outputs, labels, centers)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    expected -= naive(outputs.numpy(), [[]] * b, centers.numpy(), **{**weights, "cube": 0.0})
    without = DCWHLoss(**weights)(outputs, labels, centers, refine=False)
    assert without.item() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    single = DCWHLoss(**weights)(outputs.float(), labels, centers)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=examples(25))
@given(b=st.integers(1, 6), n_bits=st.integers(1, 9), multihot=st.booleans(), seed=st.integers(0, 10**6))
def test_order_does_not_matter_nor_which_side_of_a_bit_is_one(b, n_bits, multihot, seed):
    outputs, labels, centers = batch(b, n_bits, 4, seed, multihot)
    loss = DCWHLoss()(outputs, labels, centers).item()
    random = np.random.default_rng(seed)
    items, bits = random.permutation(b), random.permutation(n_bits)
    flip = torch.from_numpy(random.choice([-1.0, 1.0], size=n_bits))
    assert DCWHLoss()(outputs[items], labels[items], centers).item() == pytest.approx(loss, rel=1e-12)
    assert DCWHLoss()(outputs[:, bits], labels, centers[:, bits]).item() == pytest.approx(loss, rel=1e-12)
    assert DCWHLoss()(outputs * flip, labels, centers * flip).item() == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 0, 0]), HOT])
@pytest.mark.parametrize("refine", [False, True])
def test_gradients(labels, refine):
    outputs, _, centers = batch(4, 5, 3, 1, False)
    outputs.requires_grad_()
    centers.requires_grad_()
    loss = DCWHLoss()
    assert torch.autograd.gradcheck(
        lambda u, mu: loss(u, labels, mu, refine=refine), (outputs, centers), eps=1e-7
    )


def test_one_hot_labels_are_ids():
    outputs, ids, centers = batch(6, 4, 3, 2, False)
    loss = DCWHLoss()
    hot = loss(outputs, torch.eye(3)[ids], centers)
    assert hot.item() == pytest.approx(loss(outputs, ids, centers).item(), rel=1e-12)


def test_outputs_on_the_vertices_are_the_minimum_of_one_class():
    """Of more classes it is none: the likelihood grows on, and only the cube holds outputs back."""
    outputs = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], requires_grad=True)
    ids, centers = torch.zeros(2, dtype=torch.int64), torch.tensor([[0.3, 0.2]])
    loss = DCWHLoss()(outputs, ids, centers)
    loss.backward()
    assert loss.item() == 0 and not outputs.grad.any()
    # Without the vertices anything in the cube will do.
    inside = torch.tensor([[1.05, 0.0], [-0.2, -1.09]], requires_grad=True)
    loss = DCWHLoss()(inside, ids, centers, refine=False)
    loss.backward()
    assert loss.item() == 0 and not inside.grad.any()
    two = DCWHLoss()(outputs, ids, torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    assert torch.autograd.grad(two, outputs)[0].any()


def test_far_from_its_center_an_item_is_pulled_as_strongly_as_ever():
    """Where densities themselves are computed, they are 0 there, and their gradient with them."""
    outputs = torch.tensor([[-1e4, -1e4]], requires_grad=True)
    centers = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    DCWHLoss(cube=0.0)(outputs, torch.tensor([0]), centers, refine=False).backward()
    # p is 0 for its class and 1 for the other: (mu_1 - mu_0) / sigma^2.
    assert outputs.grad.tolist() == [[-1.0, -1.0]]


@pytest.mark.parametrize("labels", [torch.tensor([0, 2, 1, 1]), HOT])
def test_extreme_outputs_stay_finite(labels):
    outputs = torch.tensor([[1e4, -1e4], [0, 0], [-1e4, -1e4], [1e4, 0]], requires_grad=True)
    loss = DCWHLoss()(outputs, labels, torch.tensor([[1.0, 1], [0, 0], [1e4, -1]]))
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all()
    one = DCWHLoss()(outputs[:1], labels[:1], torch.zeros(3, 2))
    assert one.isfinite()


def test_half_precision_is_computed_in_single():
    outputs, ids, centers = batch(6, 8, 3, 3, False)
    assert_half_is_computed_in_single(lambda rows: DCWHLoss()(rows, ids, centers), outputs)


def test_stages():
    def lengths(epochs, **values):
        return [(stage.name, stage.epochs) for stage in method_of(**values).stages(epochs)]

    assert lengths(1) == [("establish", 1)]
    assert lengths(2) == [("establish", 1), ("refine", 1)]
    assert lengths(5) == [("establish", 3), ("refine", 2)]
    assert lengths(10, refine=0.2) == [("establish", 8), ("refine", 2)]
    assert lengths(4, refine=0.0) == [("establish", 4)] and lengths(4, refine=1.0) == [("refine", 4)]


def test_only_the_second_stage_has_the_term_of_the_vertices():
    outputs, ids, _ = batch(5, 4, 3, 4, False)
    method = method_of(vertex=0.3)
    establish, refine = (
        method.loss(outputs, step_of(ids, stage)).item() for stage in ("establish", "refine")
    )
    distance = (torch.where(outputs > 0, 1.0, -1.0) - outputs).square().mean().item()
    assert refine - establish == pytest.approx(0.3 * distance, rel=1e-6)
    expected = naive(outputs.numpy(), own_classes(ids), method.centers.double().numpy(), vertex=0.3)
    assert refine == pytest.approx(expected, rel=1e-6)


def test_centers_start_normal_and_of_the_seed():
    wide = method_of(64, n_classes=200).centers
    assert abs(wide.mean()) < 0.03 and wide.std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(method_of(seed=1).centers, method_of(seed=1).centers)
    assert not torch.equal(method_of(seed=1).centers, method_of(seed=2).centers)


@pytest.mark.parametrize("period", [1, 2, 3])
def test_centers_are_the_classes_means_every_period(period):
    method, asked, last = method_of(period=period), [], None
    ids = torch.tensor([0, 0, 2, 2, 2])
    start = method.centers.clone()
    for epoch in range(7):
        outputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(epoch))
        method.begin_epoch(a_pass(outputs, ids, epoch, asked))
        if epoch and epoch % period == 0:
            last = torch.stack([outputs[:2].mean(0), start[1], outputs[2:].mean(0)])  # class 1 keeps its own
        expected = start if last is None else last
        assert torch.allclose(method.centers, expected, atol=1e-6)
    assert asked == list(range(period, 7, period)), "a pass over all items is made only where it is needed"


def test_an_item_counts_for_the_centers_of_all_its_labels():
    method = method_of(kind="multi-hot")
    outputs = torch.randn(4, 4)
    method.begin_epoch(a_pass(outputs, HOT, 2))
    expected = [outputs[[0, 3]].mean(0), outputs[[1, 3]].mean(0), outputs[[1, 3]].mean(0)]
    assert torch.allclose(method.centers, torch.stack(expected), atol=1e-6)


def test_the_predicted_class_is_that_of_the_nearest_center():
    method = method_of()
    outputs = torch.randn(50, 4)
    assert torch.equal(method.predict(outputs), torch.cdist(outputs, method.centers).argmin(1))
    assert len(method.predict(outputs).unique()) == 3
    scores = method.class_scores(outputs).log_softmax(1)
    density = -torch.cdist(outputs, method.centers).square() / 4
    assert torch.allclose(scores, density.log_softmax(1), atol=1e-5)


def test_all_that_codes_and_predictions_need_is_in_the_state_dict():
    method, other = method_of(seed=1), method_of(seed=2)
    method.begin_epoch(a_pass(torch.randn(6, 4), torch.arange(6) % 3, 2))
    assert sorted(method.state_dict()) == ["centers", "head.bias", "head.weight"]
    assert method.training_state() == {}
    other.load_state_dict(method.state_dict())
    outputs, features = torch.randn(9, 4), torch.randn(9, 5)
    assert torch.equal(other.predict(outputs), method.predict(outputs))
    assert torch.equal(other.encode(other.head(features)), method.encode(method.head(features)))
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]


def test_nested_lengths_are_summed_and_share_their_centers():
    outputs, ids, _ = batch(6, 6, 3, 5, False)
    method = method_of(6, lengths="2,5")
    step = step_of(ids, "refine")
    parts = [DCWHLoss()(outputs[:, :n], ids, method.centers[:, :n]).item() for n in (2, 5, 6)]
    assert method.loss(outputs, step).item() == pytest.approx(sum(parts), rel=1e-6)
    short = method.shortened(5)
    assert torch.equal(short.centers, method.centers[:, :5])
    assert short.loss(outputs[:, :5], step).item() == pytest.approx(parts[1], rel=1e-6)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_two_processes_are_one_with_both_halves(kind):
    outputs, labels, _ = batch(8, 4, 3, 6, kind == "multi-hot")
    method, leaf = method_of(kind=kind), outputs.clone().requires_grad_()
    whole = method.loss(leaf, step_of(labels, "refine"))
    (expected,) = torch.autograd.grad(whole, leaf)
    parts = [
        method.loss(leaf[own], step_of(labels[own], "refine", own=own)) for own in (slice(0, 4), slice(4, 8))
    ]
    mean = torch.stack(parts).mean()
    assert mean.item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(torch.autograd.grad(mean, leaf)[0], expected)


def test_some_epochs_part_the_classes():
    torch.manual_seed(0)
    features, ids = three_classes()
    method = method_of(8)
    epochs, before = 10, nearer_to_another(method.head(features), ids, method.centers)
    (first, n_first), _ = [(stage.name, stage.epochs) for stage in method.stages(epochs)]
    for epoch in range(epochs):
        method.begin_epoch(a_pass(method.head(features).detach(), ids, epoch))
        for _ in range(30):
            method.zero_grad()
            method.loss(
                method.head(features), step_of(ids, first if epoch < n_first else "refine")
            ).backward()
            with torch.no_grad():
                for weight in method.parameters():
                    weight -= 0.05 * weight.grad
    outputs = method.head(features).detach()
    assert nearer_to_another(outputs, ids) == 0 < before
    assert torch.equal(method.predict(outputs), ids)
    bits = outputs > 0
    distances, alike = (bits[:, None] != bits).sum(2), ids[:, None] == ids
    assert distances[alike].max() < distances[~alike].min()
    assert outputs.abs().max() < 1.3, "the cube holds them"


def test_a_training_of_one_epoch(tmp_path):
    ids = np.arange(300) % 3
    features = np.random.default_rng(0).normal(size=(300, 6)) + 4 * np.eye(3, 6)[ids]
    features = features.astype(np.float32)
    np.savez(tmp_path / "items.npz", features=features, labels=ids)
    values = {"backbone": "identity", "width": None, "validation": 0.0, "device": "cpu", "threads": 1}
    run = dshc.train(
        str(tmp_path / "items.npz"),
        method="dcwh",
        bits=4,
        epochs=1,
        batch_size=20,
        out=str(tmp_path / "run"),
        on_event=lambda *_: None,
        **values,
    )
    assert run.hasher.encode(features).shape == (300, 1)
    assert (run.hasher.predict(features) == ids).mean() > 0.6
    assert torch.equal(run.hasher.method.centers, method_of(n_classes=3).centers), "they are of the start"


def test_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert DCWH.main_weight == "vertex" and DCWH.Settings().vertex == 0.1
    loss = method_of(inverse_variance=1.0, cube=2.0, vertex=3.0, slack=4.0).class_loss
    assert (loss.inverse_variance, loss.cube, loss.vertex, loss.slack) == (1, 2, 3, 4)
    torch.manual_seed(0)
    wide = DCWH(DCWH.Settings(bits=64), Spec(3, "ids", 400)).head
    assert wide.weight.std().item() == pytest.approx(math.sqrt(2 / 464), rel=0.03) and not wide.bias.any()


def test_refusals():
    loss, rows, ids = DCWHLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shapes \(b, L\) and \(C, L\), got \(2, 3\) and \(4, 2\)"):
        loss(rows, ids, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got \(1,\)"):
        loss(rows, ids[:1], torch.zeros(4, 3))
    for name in ("inverse_variance", "slack"):
        for value in (0.0, -1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"{name} must be more than 0 and finite"):
                DCWHLoss(**{name: value})
    for name in ("cube", "vertex"):
        for value in (-1.0, math.inf, math.nan):
            with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite"):
                DCWHLoss(**{name: value})
    for name, value, rule in (
        ("inverse_variance", 0.0, "more than 0"),
        ("cube", -1.0, "at least 0"),
        ("vertex", -1.0, "at least 0"),
        ("slack", 0.0, "more than 0"),
        ("period", 0, "at least 1"),
        ("refine", 1.5, "at least 0 and at most 1"),
    ):
        with pytest.raises(InputError, match=f"{name} must be {rule}"):
            DCWH.Settings(**{name: value})
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        method_of(kind="none", n_classes=0)
