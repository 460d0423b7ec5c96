"""RelaHash against the formula written out: positions relative to the batch, values, gradients, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import assert_half_is_computed_in_single, near_axes, step_of
from threads_as_processes import in_processes

from dshc import methods
from dshc.errors import InputError
from dshc.methods import Spec
from dshc.methods.orthohash import OrthoHashLoss
from dshc.methods.relahash import RelaHash, RelaHashLoss

LENGTHS = ("one", "batch", "paper")


def naive(outputs, labels, words, length, scale=8.0, margin=0.5):
    b, n_bits = outputs.shape
    centered = outputs - outputs.mean()
    gamma = {"one": 1, "batch": math.sqrt(b), "paper": math.sqrt(b * n_bits)}[length]
    star = gamma * centered / np.sqrt((centered**2).sum())
    totals = []
    for z, label in zip(star, labels, strict=True):
        own = np.flatnonzero(label) if np.ndim(label) else [label]
        logits = [scale * (z @ c / np.sqrt(c @ c) - margin * (k in own)) for k, c in enumerate(words)]
        total = max(logits) + math.log(sum(math.exp(x - max(logits)) for x in logits))
        if len(own):
            totals.append(sum(total - logits[c] for c in own) / len(own))
    return sum(totals) / max(len(totals), 1)


def batch(b, n_bits, seed, multihot, n_classes=4):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, n_classes)) if multihot else random.integers(0, n_classes, b)
    words = random.choice((-1, 1), (n_classes, n_bits)).astype(np.int8)
    return tuple(map(torch.from_numpy, (random.normal(size=(b, n_bits)), labels, words)))


def method_of(bits=8, kind="ids", **values):
    torch.manual_seed(0)
    return RelaHash(RelaHash.Settings(bits=bits, **values), Spec(4, kind, 5))


def test_two_items_by_hand():
    outputs = torch.tensor([[4.0, 2.0], [0.0, 2.0]], dtype=torch.float64)
    words = torch.tensor([[1, 1], [-1, 1]])
    # The mean is 2, what is left (2, 0) and (-2, 0), its norm sqrt(8): Z* is (1, 0) and (-1, 0) over sqrt(2).
    # Its inner products with (1, 1) and (-1, 1) over sqrt(2) are 1/2 and -1/2, and the other way round.
    for length, gamma in zip(LENGTHS, (1, math.sqrt(2), 2), strict=True):
        right = math.log(1 + math.exp(8 * (-gamma / 2 - (gamma / 2 - 0.5))))
        loss = RelaHashLoss(relative_length=length)(outputs, torch.tensor([0, 1]), words)
        assert loss.shape == () and loss.item() == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(30))
@given(b=st.integers(1, 6), n_bits=st.integers(2, 9), seed=st.integers(0, 10**6))
def test_the_loss_is_the_formula_written_out(length, multihot, b, n_bits, seed):
    outputs, labels, words = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), words.numpy().astype(float), length)
    loss = RelaHashLoss(relative_length=length)
    assert loss(outputs, labels, words).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = loss(outputs.float(), labels, words)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(0, 10**6), st.floats(-50, 50), st.floats(0.01, 100))
def test_shifts_scales_and_order_do_not_count(seed, shift, factor):
    outputs, labels, words = batch(5, 7, seed, True)
    loss = RelaHashLoss()(outputs, labels, words).item()
    random = torch.Generator().manual_seed(seed)
    items, bits = torch.randperm(5, generator=random), torch.randperm(7, generator=random)
    for other in (
        RelaHashLoss()(factor * outputs + shift, labels, words),
        RelaHashLoss()(outputs[items][:, bits], labels[items], words[:, bits]),
    ):
        assert other.item() == pytest.approx(loss, rel=1e-7, abs=1e-9)


def test_items_of_one_length_and_mean_0_have_orthohashs_loss():
    outputs, labels, words = batch(6, 8, 4, False)
    outputs = torch.cat([outputs, -outputs])
    outputs = outputs / outputs.norm(dim=1, keepdim=True)
    labels = torch.cat([labels, labels.flip(0)])
    ortho = OrthoHashLoss(8.0, 0.5)(outputs, labels, words)
    assert RelaHashLoss()(outputs, labels, words).item() == pytest.approx(ortho.item(), rel=1e-12)


def test_what_one_item_gains_in_length_the_others_lose():
    outputs, labels, words = batch(3, 6, 0, False)
    loss = RelaHashLoss()
    alone = torch.cat([outputs[:2], 10 * outputs[2:]])
    change = loss(alone, labels, words) - loss(outputs, labels, words)
    assert abs(change.item()) > 1e-3
    assert OrthoHashLoss()(alone, labels, words).item() == pytest.approx(
        OrthoHashLoss()(outputs, labels, words).item()
    )


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot, length):
    outputs, labels, words = batch(4, 5, 3, multihot)
    outputs.requires_grad_()
    loss = RelaHashLoss(3.0, 0.1, length)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, words), outputs)


def test_one_label_of_several_is_one_class_and_none_is_left_out_of_the_mean():
    outputs, labels, words = batch(6, 8, 1, False)
    hot = torch.eye(4, dtype=torch.uint8)[labels]
    assert RelaHashLoss()(outputs, labels, words).item() == pytest.approx(
        RelaHashLoss()(outputs, hot, words).item(), rel=1e-12
    )
    hot[2] = 0
    expected = naive(outputs.numpy(), hot.numpy(), words.numpy().astype(float), "batch")
    assert RelaHashLoss()(outputs, hot, words).item() == pytest.approx(expected, rel=1e-10)
    assert RelaHashLoss()(outputs, torch.zeros_like(hot), words).item() == 0


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_equal_outputs_have_no_position_and_no_gradient(value):
    outputs = torch.full((3, 4), value, requires_grad=True)
    loss = RelaHashLoss()(outputs, torch.tensor([0, 1, 1]), torch.ones(2, 4))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(1 + math.exp(4)), rel=1e-5) and not outputs.grad.any()


def test_extreme_outputs_and_one_item_stay_finite():
    for rows in ([[1e4, -1e4], [0.0, 0.0]], [[1e4, 0.0]], [[3.0, 3.0]]):
        outputs = torch.tensor(rows, requires_grad=True)
        loss = RelaHashLoss()(outputs, torch.tensor([0, 1])[: len(rows)], torch.tensor([[1, 1], [1, -1]]))
        loss.backward()
        assert loss.isfinite() and outputs.grad.isfinite().all()
    single = torch.tensor([[2.0]], requires_grad=True)
    RelaHashLoss()(single, torch.tensor([0]), torch.tensor([[1], [-1]])).backward()
    assert single.grad.tolist() == [[0]]


def test_half_precision_is_computed_in_single():
    outputs, labels, words = batch(4, 8, 3, True)
    assert_half_is_computed_in_single(lambda rows: RelaHashLoss()(rows, labels, words), outputs)


def test_several_lengths_are_added_up():
    outputs, labels, _ = batch(5, 12, 0, False)
    method = method_of(12, lengths="4,8")
    parts = [RelaHashLoss()(outputs[:, :n], labels, method.centers[:, :n]).item() for n in (4, 8, 12)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-12)
    features = torch.randn(9, 5)
    method.eval()
    assert torch.allclose(method.shortened(8).head(features), method.head(features)[:, :8])


@pytest.mark.parametrize("multihot", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
def test_processes_have_the_loss_and_gradient_of_one(multihot, length):
    outputs, labels, _ = batch(9, 8, 1, multihot)
    method = method_of(kind="multi-hot" if multihot else "ids", relative_length=length)
    whole = outputs.clone().requires_grad_()
    one = method.loss(whole, step_of(labels))
    one.backward()
    parts = outputs.clone().requires_grad_()

    def work(rank, gather):
        mine = slice(3 * rank, 3 * rank + 3)
        return method.loss(parts[mine], step_of(labels[mine], gather=gather, own=mine))

    losses = torch.stack(in_processes(3, work))
    losses.mean().backward()
    assert torch.allclose(losses, one.expand(3)) and torch.allclose(parts.grad, whole.grad)


def test_some_steps_end_near_the_centers():
    torch.manual_seed(0)
    features, labels = near_axes()
    for length in ("one", "batch"):
        method = method_of(8, relative_length=length)
        optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
        for _ in range(60):
            loss = method.loss(method.head(features), step_of(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        outputs = method.head(features).detach()
        assert torch.equal(method.predict(outputs), labels), length


def test_what_it_states():
    loss, values = RelaHashLoss(), RelaHash.Settings()
    assert (values.scale, values.margin, values.relative_length) == (8, 0.5, "batch")
    assert (loss.scale, loss.margin, loss.relative_length) == (8, 0.5, "batch")
    assert RelaHash.main_weight == "scale" and methods.get("relahash") is RelaHash
    method = method_of(scale=3.0, margin=0.4, relative_length="one")
    assert (method.center_loss.scale, method.center_loss.margin) == (3, 0.4)
    assert method.center_loss.relative_length == "one" and method.head[0].bias is None


def test_refusals():
    with pytest.raises(ValueError, match="relative_length must be one of one, batch, paper, got 'two'"):
        RelaHashLoss(relative_length="two")
    with pytest.raises(InputError, match="relative_length must be one of one, batch, paper, got 'two'"):
        RelaHash.Settings(relative_length="two")
    with pytest.raises(ValueError, match="scale must be more than 0 and finite, got 0.0"):
        RelaHashLoss(0.0)
    with pytest.raises(
        ValueError, match="own must say which of the 4 gathered rows are this process's 2, got"
    ):
        RelaHashLoss()(
            torch.zeros(2, 3),
            torch.zeros(2, dtype=torch.int64),
            torch.ones(4, 3),
            gather=lambda rows: torch.cat([rows, rows]).detach(),
        )
    with pytest.raises(ValueError, match="outputs and centers must have shapes"):
        RelaHashLoss()(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.ones(4, 5))
