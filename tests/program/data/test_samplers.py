"""Orders of an epoch: what comes how often, in which batch, and what is refused."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dshc.data.samplers import epoch_order

LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=60).map(torch.tensor)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(values: torch.Tensor, size: int) -> list[int]:
    return torch.bincount(values, minlength=size).tolist()


@given(n_items=st.integers(1, 300), seed=st.integers(0, 2**62))
def test_uniform_is_a_permutation_of_torch(n_items: int, seed: int) -> None:
    ours, theirs = random(seed), random(seed)
    assert torch.equal(epoch_order(n_items, ours, batch_size=3), torch.randperm(n_items, generator=theirs))
    assert torch.equal(ours.get_state(), theirs.get_state())


@given(labels=LABELS, seed=st.integers(0, 1000))
def test_balanced_has_classes_and_their_items_equally_often(labels: torch.Tensor, seed: int) -> None:
    order = epoch_order(len(labels), random(seed), labels=labels, sampler="balanced", batch_size=4)
    assert order.dtype == torch.int64 and order.shape == labels.shape
    often = [n for n in counts(labels[order], 7) if n]
    assert len(often) == len(labels.unique()) and max(often) - min(often) <= 1
    of_items = counts(order, len(labels))
    for label in labels.unique():
        each = [of_items[i] for i in torch.nonzero(labels == label)]
        assert max(each) - min(each) <= 1


def test_balanced_draws_the_classes_that_come_once_more() -> None:
    labels = torch.tensor([0, 1, 2, 2, 2])
    more: collections.Counter[int] = collections.Counter()
    generator = random()
    for _ in range(300):
        order = epoch_order(5, generator, labels=labels, sampler="balanced", batch_size=1)
        found = counts(labels[order], 3)
        more.update(label for label in range(3) if found[label] == 2)
    assert sum(more.values()) == 600 and all(160 < more[label] < 240 for label in range(3))


@st.composite
def blocks(draw: st.DrawFn) -> tuple[torch.Tensor, int, int]:
    labels = draw(LABELS)
    m = draw(st.integers(1, 6))
    most = min(len(labels.unique()), len(labels) // m)
    n_classes = draw(st.integers(1, max(most, 1)))
    return labels, m, m * n_classes


@given(given_=blocks(), seed=st.integers(0, 1000), sampler=st.sampled_from(["uniform", "balanced"]))
def test_per_class_batches(given_: tuple[torch.Tensor, int, int], seed: int, sampler: Any) -> None:
    labels, m, size = given_
    options = {"labels": labels, "per_class": m, "batch_size": size, "sampler": sampler}
    if size > len(labels):
        with pytest.raises(ValueError, match="batch_size must be at most the number of items"):
            epoch_order(len(labels), random(seed), **options)
        return
    order = epoch_order(len(labels), random(seed), **options)
    n_batches = len(labels) // size
    assert order.dtype == torch.int64 and order.shape == (n_batches * size,)
    sizes = counts(labels, 7)
    for batch in order.reshape(n_batches, size):
        rows = batch.reshape(-1, m)
        classes = labels[rows]
        assert (classes == classes[:, :1]).all()
        assert len(classes[:, 0].unique()) == size // m
        for label, row in zip(classes[:, 0].tolist(), rows, strict=True):
            assert len(row.unique()) == min(m, sizes[label])
    of_items = counts(order, len(labels))
    of_blocks = counts(labels[order][::m], 7)
    for label in labels.unique().tolist():
        each = [of_items[i] for i in torch.nonzero(labels == label)]
        assert max(each) - min(each) <= 1 and of_blocks[label] <= n_batches
    # Shares in proportion, rounded down or up, where no class is held back by coming once a batch at most.
    weights = np.array([(n if sampler == "uniform" else 1) if n else 0 for n in sizes])
    exact = weights * len(order) / m / weights.sum()
    if exact.max() < n_batches:
        assert (np.abs(np.array(of_blocks) - exact) < 1).all()


def test_no_item_twice_side_by_side_where_a_class_begins_anew() -> None:
    labels = torch.tensor([0] * 5 + [1] * 40)  # class 0 comes about as often as class 1
    for seed in range(10):
        options = {"labels": labels, "per_class": 3, "batch_size": 3, "sampler": "balanced"}
        rows = epoch_order(45, random(seed), **options).reshape(-1, 3)
        assert ((rows < 5).sum() > 15) and all(len(row.unique()) == 3 for row in rows)


@pytest.mark.parametrize("sampler", ["uniform", "balanced"])
def test_over_epochs_items_come_equally_often(sampler: Any) -> None:
    labels = torch.repeat_interleave(torch.arange(5), torch.tensor([3, 5, 9, 11, 13]))
    generator = random()
    total = torch.zeros(41, dtype=torch.int64)
    for _ in range(600):
        order = epoch_order(41, generator, labels=labels, per_class=4, batch_size=8, sampler=sampler)
        total += torch.bincount(order, minlength=41)
    share = total / (600 * 40)
    if sampler == "uniform":
        expected = torch.full((41,), 1 / 41)
    else:
        expected = 1 / 5 / torch.bincount(labels)[labels]
    assert (share / expected - 1).abs().max() < 0.12


def test_no_pair_of_classes_is_kept_apart() -> None:
    labels = torch.arange(8).repeat_interleave(12)
    generator = random()
    together = torch.zeros(8, 8, dtype=torch.int64)
    for _ in range(30):
        order = epoch_order(96, generator, labels=labels, per_class=4, batch_size=8)
        for batch in order.reshape(-1, 8):
            a, b = labels[batch[0]], labels[batch[4]]
            together[a, b] += 1
            together[b, a] += 1
    pairs = together[~torch.eye(8, dtype=torch.bool)]
    expected = 30 * 12 * 2 / 56
    assert pairs.min() > expected / 3 and pairs.max() < expected * 2


def test_a_class_that_is_most_of_all_comes_once_a_batch() -> None:
    labels = torch.tensor([0] * 90 + [1] * 4 + [2] * 3 + [3] * 3)
    order = epoch_order(100, random(), labels=labels, per_class=2, batch_size=4)
    assert [sorted(set(batch.tolist()))[0] for batch in labels[order].reshape(-1, 4)] == [0] * 25


@given(labels=LABELS, seed=st.integers(0, 100))
def test_the_same_generator_gives_the_same_order(labels: torch.Tensor, seed: int) -> None:
    for options in ({}, {"labels": labels, "sampler": "balanced"}, {"labels": labels, "per_class": 1}):
        orders = [epoch_order(len(labels), random(seed), batch_size=1, **options) for _ in range(2)]
        assert torch.equal(*orders)


def test_orders_pinned() -> None:
    """What a training of a seed depends on: a change here is a change of every such training."""
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    options = {"labels": labels, "batch_size": 4}
    found = [
        epoch_order(10, random(5), sampler="balanced", **options).tolist(),
        epoch_order(10, random(5), per_class=2, **options).tolist(),
    ]
    assert found == [[9, 7, 5, 4, 0, 8, 2, 9, 8, 6], [2, 0, 6, 7, 4, 3, 8, 9]]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"sampler": "balanced"}, ValueError, "sampler 'balanced' must be given labels"),
        ({"per_class": 2}, ValueError, "per_class=2 must be given labels"),
        (
            {"sampler": "balanced", "labels": torch.ones(6, 3, dtype=torch.uint8)},
            ValueError,
            "must be given one class per item, got several labels",
        ),
        (
            {"sampler": "balanced", "labels": torch.arange(5)},
            ValueError,
            r"labels must have shape \(6,\), got \(5,\)",
        ),
        ({"sampler": "balanced", "labels": torch.ones(6)}, TypeError, "integer type, got torch.float32"),
        ({"sampler": "even"}, ValueError, "sampler must be one of uniform, balanced, got 'even'"),
        ({"per_class": 3, "labels": torch.arange(6)}, ValueError, "multiple of per_class = 3, got 4"),
        ({"per_class": 0, "labels": torch.arange(6)}, ValueError, "per_class must be at least 1, got 0"),
        (
            {"per_class": 1, "labels": torch.arange(6) // 2},
            ValueError,
            "at most 3, .* each of 3 classes, got 4",
        ),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        epoch_order(6, random(), **{"batch_size": 4, **options})
