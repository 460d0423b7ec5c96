"""OrthoHash against a soft-max written out: values, gradients, several labels, batch normalisation, lengths."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import (
    assert_half_is_computed_in_single,
    assert_processes_are_one,
    near_axes,
    step_of,
    train,
)
from torch.nn.functional import cross_entropy

from dshc import methods
from dshc.errors import InputError
from dshc.methods import Spec
from dshc.methods.orthohash import OrthoHash, OrthoHashLoss, margin_losses


def naive(outputs, labels, words, scale, margin):
    totals = []
    for u, label in zip(outputs, labels, strict=True):
        own = np.flatnonzero(label) if np.ndim(label) else [label]
        cosines = [u @ c / np.sqrt((u @ u) * (c @ c)) for c in words]
        logits = [scale * (cos - margin * (c in own)) for c, cos in enumerate(cosines)]
        total = math.log(sum(math.exp(x) for x in logits))
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
    return OrthoHash(OrthoHash.Settings(bits=bits, **values), Spec(4, kind, 5))


def test_one_item_by_hand():
    outputs, words = torch.tensor([[3.0, 4.0]], dtype=torch.float64), torch.tensor([[1, 1], [1, -1]])
    # The cosines are 7 and -1 over 5 sqrt(2).
    root = 5 * math.sqrt(2)
    logits = 8 * (7 / root - 0.2), 8 * -1 / root
    expected = math.log(1 + math.exp(logits[1] - logits[0]))
    loss = OrthoHashLoss()(outputs, torch.tensor([0]), words)
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 6),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 8.0]),
    margin=st.sampled_from([0.0, 0.3]),
)
def test_the_loss_is_the_soft_max_written_out(multihot, b, n_bits, seed, scale, margin):
    outputs, labels, words = batch(b, n_bits, seed, multihot)
    expected = naive(outputs.numpy(), labels.numpy(), words.numpy().astype(float), scale, margin)
    loss = OrthoHashLoss(scale, margin)
    assert loss(outputs, labels, words).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    single = loss(outputs.float(), labels, words)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_for_one_class_it_is_torchs_cross_entropy():
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 3, 3, 1, 2])
    own = torch.eye(4, dtype=torch.float64)[labels]
    expected = cross_entropy(3 * (logits - 0.4 * own), labels, reduction="none")
    assert torch.allclose(margin_losses(logits, labels, 3.0, 0.4), expected)
    assert torch.equal(margin_losses(logits, own.byte(), 3.0, 0.4), margin_losses(logits, labels, 3.0, 0.4))


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(0, 10**6))
def test_lengths_of_outputs_order_and_sides_do_not_count(seed):
    outputs, labels, words = batch(5, 7, seed, True)
    loss = OrthoHashLoss()(outputs, labels, words).item()
    random = torch.Generator().manual_seed(seed)
    items, bits = torch.randperm(5, generator=random), torch.randperm(7, generator=random)
    classes, side = torch.randperm(4, generator=random), torch.tensor([1, -1, 1, -1, -1, 1, 1])
    longer = torch.tensor([[1.0], [7.0], [0.3], [20.0], [1e3]])
    for other in (
        OrthoHashLoss()(outputs * longer, labels, words),
        OrthoHashLoss()(outputs[items][:, bits], labels[items], words[:, bits]),
        OrthoHashLoss()(outputs, labels[:, classes], words[classes]),
        OrthoHashLoss()(outputs * side, labels, words * side),
    ):
        assert other.item() == pytest.approx(loss, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    outputs, labels, words = batch(4, 5, 3, multihot)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: OrthoHashLoss(3.0, 0.1)(u, labels, words), outputs)
    method = method_of(5, "multi-hot" if multihot else "ids")
    assert torch.autograd.gradcheck(lambda u: method.loss(u, step_of(labels)), outputs)


def test_at_its_center_nothing_pulls_where_centers_are_opposite():
    words = torch.tensor([[1, -1, 1], [-1, 1, -1]])
    outputs = (2.5 * words).double().requires_grad_()
    OrthoHashLoss()(outputs, torch.tensor([0, 1]), words).backward()
    assert torch.allclose(outputs.grad, torch.zeros_like(outputs), atol=1e-12)


def test_items_without_labels_are_left_out():
    outputs, labels, words = batch(5, 6, 2, True)
    labels[:, 0] = 1
    labels[3] = 0
    kept = [0, 1, 2, 4]
    outputs.requires_grad_()
    loss = OrthoHashLoss()(outputs, labels, words)
    loss.backward()
    assert loss.item() == pytest.approx(OrthoHashLoss()(outputs[kept], labels[kept], words).item(), rel=1e-12)
    assert not outputs.grad[3].any() and outputs.grad[kept].any(1).all()
    assert OrthoHashLoss()(outputs, torch.zeros_like(labels), words).item() == 0


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4], [0.0, 0.0], [1e-30, 0.0]], requires_grad=True)
    loss = OrthoHashLoss()(outputs, torch.tensor([0, 1, 1]), torch.tensor([[1, 1], [1, -1]]))
    loss.backward()
    # Cosines 0 and 1; a row without a direction has 0 and 0.
    wrong, none = math.log(1 + math.exp(8 * 1.2)), math.log(1 + math.exp(8 * 0.2))
    assert loss.item() == pytest.approx((wrong + 2 * none) / 3, rel=1e-5)
    assert outputs.grad.isfinite().all() and not outputs.grad[1:].any()


def test_half_precision_is_computed_in_single():
    outputs, labels, words = batch(4, 8, 3, True)
    assert_half_is_computed_in_single(lambda rows: OrthoHashLoss()(rows, labels, words), outputs)


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_several_lengths_are_added_up(kind):
    outputs, labels, _ = batch(5, 12, 0, kind == "multi-hot")
    method = method_of(12, kind, lengths="4,8")
    parts = [OrthoHashLoss()(outputs[:, :n], labels, method.centers[:, :n]).item() for n in (4, 8, 12)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(parts), rel=1e-12)


def test_a_shorter_method_has_its_part_of_the_batch_normalisation():
    method = method_of(12, lengths="4,8")
    features = torch.randn(20, 5, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        method.head(features)
    method.eval()
    short = method.shortened(8)
    assert not short.training and torch.allclose(short.head(features), method.head(features)[:, :8])
    assert short.head[1].num_batches_tracked == 3


def test_the_head_balances_bits():
    method = method_of(32)
    features = 7 + torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    outputs = method.head(features)
    assert torch.allclose(outputs.mean(0), torch.zeros(32), atol=1e-5)
    assert method.head[0].bias is None and method.head[0].weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_processes_have_the_loss_and_gradient_of_one():
    outputs, labels, _ = batch(8, 8, 1, True)
    labels[5:7] = 0
    method = method_of(kind="multi-hot")
    assert_processes_are_one(method.loss, outputs, labels)


def test_some_steps_end_near_the_centers():
    torch.manual_seed(0)
    features, labels = near_axes()
    method = method_of(8)
    train(method, features, labels, torch.optim.Adam(method.parameters(), lr=0.05), 100)
    outputs = method.head(features).detach()
    assert torch.equal(method.predict(outputs), labels)
    assert (outputs > 0).eq(method.centers[labels] > 0).float().mean() > 0.85


def test_what_it_states():
    loss, values = OrthoHashLoss(), OrthoHash.Settings()
    assert (values.scale, values.margin) == (loss.scale, loss.margin) == (8, 0.2)
    assert OrthoHash.main_weight == "scale" and methods.get("orthohash") is OrthoHash
    method = method_of(scale=3.0, margin=0.4)
    assert (method.center_loss.scale, method.center_loss.margin) == (3, 0.4)


def test_refusals():
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="scale must be more than 0 and finite, got"):
            OrthoHashLoss(scale)
    for margin in (-0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="margin must be at least 0 and finite, got"):
            OrthoHashLoss(8.0, margin)
    with pytest.raises(InputError, match="scale must be more than 0, got 0.0"):
        OrthoHash.Settings(scale=0.0)
    with pytest.raises(InputError, match="margin must be at least 0, got -1.0"):
        OrthoHash.Settings(margin=-1.0)
    with pytest.raises(ValueError, match="outputs and centers must have shapes"):
        OrthoHashLoss()(torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.ones(4, 3))
