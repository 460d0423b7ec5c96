"""The mean over triplets against a triple loop: values, gradients, which triplets there are, chunks, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from threads_as_processes import in_processes

from dshc.errors import InputError
from dshc.methods import PerClass, Spec
from dshc.methods.dtsh import DTSH
from dshc.methods.sdsh import SDSH
from dshc.methods.triplets import triplet_mean


def likelihood(gaps):
    """softplus(1 - gap): no two triplets cost the same."""
    return torch.nn.functional.softplus(1 - gaps), -torch.sigmoid(1 - gaps)


def linear(gaps):
    return gaps.clone(), torch.ones_like(gaps)


def share(a, b):
    return bool((a * b).any()) if np.ndim(a) else bool(a == b)


def triplets(labels, items=None):
    """All (q, p, n): p shares with q and is another item, n shares nothing with q."""
    b = len(labels)
    items = range(b) if items is None else items
    return [
        (q, p, n)
        for q in range(b)
        for p in range(b)
        if share(labels[q], labels[p]) and items[q] != items[p]
        for n in range(b)
        if not share(labels[q], labels[n])
    ]


def naive(rows, labels, items=None):
    found = triplets(labels, items)
    gaps = [float(rows[q] @ rows[p] - rows[q] @ rows[n]) for q, p, n in found]
    return sum(math.log1p(math.exp(1 - gap)) for gap in gaps) / max(len(found), 1)


def batch(b, n_bits, seed, multihot):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(random.normal(size=(b, n_bits))), torch.from_numpy(labels)


def test_two_triplets_by_hand():
    rows = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0]])
    # (0, 1, 2): 2 - 0; (1, 0, 2): 2 - 3. Item 2 is alone and has no positive.
    assert triplet_mean(rows, torch.tensor([5, 5, 1]), linear).item() == pytest.approx((2 - 1) / 2)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(0, 9),
    n_bits=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    chunk=st.sampled_from([1, 200, 1 << 21]),
)
def test_the_mean_is_the_triple_loops(multihot, b, n_bits, seed, chunk):
    rows, labels = batch(b, n_bits, seed, multihot)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dshc.methods.triplets._CHUNK", chunk)
        value = triplet_mean(rows, labels, likelihood)
    expected = naive(rows.numpy(), labels.numpy())
    assert value.shape == () and value.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    single = triplet_mean(rows.float(), labels, likelihood)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
@pytest.mark.parametrize("chunk", [1 << 21, 60])
def test_gradients(multihot, chunk, monkeypatch):
    monkeypatch.setattr("dshc.methods.triplets._CHUNK", chunk)
    rows, labels = batch(7, 3, 5, multihot)
    rows.requires_grad_()
    items = torch.tensor([0, 1, 2, 1, 4, 5, 0])
    assert torch.autograd.gradcheck(lambda u: triplet_mean(u, labels, likelihood), rows)
    assert torch.autograd.gradcheck(lambda u: 3 * triplet_mean(u, labels, likelihood, items=items), rows)


def test_an_item_is_not_its_own_positive():
    rows, labels = batch(6, 3, 0, False)
    labels[:] = torch.tensor([0, 0, 0, 1, 1, 2])
    items = [7, 7, 2, 3, 3, 4]
    value = triplet_mean(rows, labels, likelihood, items=torch.tensor(items))
    # Query 2 has both rows of item 7, these have it alone; items 3 and 4 are alone.
    assert len(triplets(labels.numpy(), items)) == 4 * 3
    assert value.item() == pytest.approx(naive(rows.numpy(), labels.numpy(), items), rel=1e-10)


def test_an_item_without_labels_is_a_negative_and_no_query():
    labels = torch.tensor([[1, 0], [1, 0], [0, 0]], dtype=torch.uint8)
    rows = torch.tensor([[1.0, 0], [2.0, 1.0], [0.5, 3.0]])
    assert triplets(labels.numpy()) == [(0, 1, 2), (1, 0, 2)]
    assert triplet_mean(rows, labels, linear).item() == pytest.approx(((2 - 0.5) + (2 - 4)) / 2)


@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(0, dtype=torch.int64),
        torch.tensor([3]),
        torch.tensor([1, 1, 1]),
        torch.tensor([0, 1, 2]),
        torch.zeros(3, 2, dtype=torch.uint8),
        torch.ones(3, 2, dtype=torch.uint8),
    ],
)
def test_without_a_triplet_there_is_no_loss(labels):
    rows = torch.ones(len(labels), 4, requires_grad=True)
    value = triplet_mean(rows, labels, lambda gaps: (torch.full_like(gaps, math.inf), torch.ones_like(gaps)))
    value.backward()
    assert value.item() == 0 and rows.grad.shape == rows.shape and not rows.grad.any()


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(20))
@given(seed=st.integers(0, 10**6))
def test_the_order_of_items_and_of_bits_does_not_count(multihot, seed):
    rows, labels = batch(8, 4, seed, multihot)
    random = np.random.default_rng(seed)
    order, bits = random.permutation(8), random.permutation(4)
    one, other = rows.clone().requires_grad_(), rows[order][:, bits].clone().requires_grad_()
    values = [triplet_mean(one, labels, likelihood), triplet_mean(other, labels[order], likelihood)]
    for value in values:
        value.backward()
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-12, abs=1e-15)
    assert torch.allclose(one.grad[order][:, bits], other.grad, rtol=1e-10, atol=1e-14)


def test_one_hot_labels_are_class_ids():
    rows, labels = batch(9, 4, 3, False)
    hot = torch.nn.functional.one_hot(labels, 3)
    assert triplet_mean(rows, labels, likelihood).item() == triplet_mean(rows, hot, likelihood).item()


def test_no_more_triplets_than_a_chunk_are_there_at_once(monkeypatch):
    rows, labels = batch(12, 4, 1, False)
    sizes = []

    def loss(gaps):
        sizes.append(gaps.numel())
        return likelihood(gaps)

    whole = triplet_mean(rows, labels, loss)
    assert len(sizes) == 1
    sizes.clear()
    monkeypatch.setattr("dshc.methods.triplets._CHUNK", 2 * 12 * 12)
    assert triplet_mean(rows, labels, loss).item() == pytest.approx(whole.item(), rel=1e-12)
    assert len(sizes) > 1 and max(sizes) == 2 * 12 * 12


@pytest.mark.parametrize("multihot", [False, True])
@pytest.mark.parametrize("n_processes", [2, 3])
def test_several_processes_have_the_loss_and_gradient_of_one(multihot, n_processes):
    rows, labels = batch(12, 4, 1, multihot)
    items = torch.tensor([3, 0, 1, 7, 5, 3, 6, 2, 8, 9, 0, 10])
    whole = rows.clone().requires_grad_()
    one = triplet_mean(whole, labels, likelihood, items=items)
    one.backward()
    b = 12 // n_processes

    def work(rank, gather):
        own = slice(rank * b, (rank + 1) * b)
        part = rows[own].clone().requires_grad_()
        value = triplet_mean(part, labels[own], likelihood, items=items[own], gather=gather, own=own)
        value.backward()
        return value.item(), part.grad

    values, gradients = zip(*in_processes(n_processes, work), strict=True)
    assert sum(values) / n_processes == pytest.approx(one.item(), rel=1e-12)
    assert len(set(values)) == n_processes  # each has its own queries
    assert torch.allclose(torch.cat(gradients) / n_processes, whole.grad, rtol=1e-10)


def test_half_precision_is_computed_in_single():
    rows, labels = batch(8, 16, 3, True)
    half = rows.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = triplet_mean(half, labels, likelihood)
    value.backward()
    assert value.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert value.item() == triplet_mean(half.detach().float(), labels, likelihood).item()


@pytest.mark.parametrize("method", [DTSH, SDSH])
def test_batches_of_many_classes_hold_groups(method):
    def sampling(n_classes, kind="ids", **values):
        return method(method.Settings(**values), Spec(n_classes, kind, 5)).sampling

    assert sampling(31) is None and sampling(32) == PerClass(8)
    assert sampling(3, items_per_class=4) == sampling(100, items_per_class=4) == PerClass(4)
    assert sampling(100, "multi-hot") is None
    with pytest.raises(InputError, match="items_per_class must be at least 2"):
        method.Settings(items_per_class=1)  # no positive would be left


@pytest.mark.parametrize("method", [DTSH, SDSH])
def test_the_head_starts_as_large_whatever_the_features(method):
    for n_features, deviation in ((4096, 0.01), (1024, 0.02)):
        torch.manual_seed(0)
        head = method(method.Settings(bits=64), Spec(3, "ids", n_features)).head
        assert head.weight.std().item() == pytest.approx(deviation, rel=0.05) and not head.bias.any()


def test_refusals():
    rows, ids = torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        triplet_mean(rows[0], ids, likelihood)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, C\), got \(1,\)"):
        triplet_mean(rows, ids[:1], likelihood)
    with pytest.raises(ValueError, match=r"items must have shape \(2,\), got \(3,\)"):
        triplet_mean(rows, ids, likelihood, items=torch.arange(3))
    with pytest.raises(
        ValueError, match=r"own must say which of the 4 gathered rows are this process's 2, got slice"
    ):
        triplet_mean(rows, ids, likelihood, gather=lambda own: torch.cat([own, own]))
