"""Sums over classes and the share of items nearer to another class, against loops."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.methods import class_means as module
from dshc.methods.class_means import class_means, class_sums, nearer_to_another


def items(n, n_bits, n_classes, seed, multihot):
    random = np.random.default_rng(seed)
    outputs = torch.from_numpy(random.normal(size=(n, n_bits)))
    size = (n, n_classes) if multihot else n
    return outputs, torch.from_numpy(random.integers(0, 2 if multihot else n_classes, size))


def own_classes(label):
    return [int(label)] if label.ndim == 0 else torch.nonzero(label).flatten().tolist()


@pytest.mark.parametrize("multihot", [False, True])
@pytest.mark.parametrize("chunk", [1 << 22, 7])
@settings(deadline=None, max_examples=examples(20))
@given(n=st.integers(0, 12), n_bits=st.integers(1, 5), n_classes=st.integers(1, 4), seed=st.integers(0, 999))
def test_sums_are_those_of_a_loop(multihot, chunk, n, n_bits, n_classes, seed):
    outputs, labels = items(n, n_bits, n_classes, seed, multihot)
    expected, numbers = np.zeros((n_classes, n_bits)), [0] * n_classes
    for row, label in zip(outputs.numpy(), labels, strict=True):
        for c in own_classes(label):
            expected[c] += row
            numbers[c] += 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        sums, counts = class_sums(outputs, labels, n_classes)
    assert sums.dtype == torch.float64 and np.allclose(sums, expected, rtol=1e-12, atol=1e-12)
    assert counts.tolist() == numbers
    means, there = class_means(outputs, labels, n_classes)
    assert there.tolist() == [number > 0 for number in numbers]
    assert np.allclose(means, [row / max(k, 1) for row, k in zip(expected, numbers, strict=True)])


def test_single_precision_is_added_up_in_double():
    outputs = torch.tensor([[1e8], [1.0], [-1e8]])
    assert class_sums(outputs, torch.zeros(3, dtype=torch.int64), 1)[0].item() == 1


def test_the_share_by_hand():
    centers = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]])
    outputs = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    # Nearer to class 1, and in the middle, which is not nearer; the last lies nearer to class 2.
    assert nearer_to_another(outputs, torch.tensor([0, 0, 0, 0]), centers) == 0.5
    hot = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.uint8)
    assert nearer_to_another(outputs, hot, centers) == 1 / 3  # the third; the last has no label
    assert math.isnan(nearer_to_another(outputs, torch.zeros_like(hot), centers))


def test_centers_are_the_means_where_none_are_given():
    # Means 1 and 7: of class 0 the item at 5 is nearer to that of class 2. Class 1 has no items, and no center at 0.
    outputs = torch.tensor([[-1.0], [-1.0], [5.0], [7.0]])
    labels = torch.tensor([0, 0, 0, 2])
    assert nearer_to_another(outputs, labels) == 0.25
    assert nearer_to_another(outputs, torch.eye(3, dtype=torch.uint8)[labels]) == 0.25


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(30))
@given(n=st.integers(1, 12), n_classes=st.integers(1, 4), seed=st.integers(0, 999), codes=st.booleans())
def test_the_share_is_that_of_a_loop(multihot, n, n_classes, seed, codes):
    outputs, labels = items(n, 3, n_classes, seed, multihot)
    outputs = outputs.sign() if codes else outputs  # codes are often equally far
    centers = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(n_classes, 3)))
    centers = centers.sign() if codes else centers
    found = []
    for row, label in zip(outputs, labels, strict=True):
        own = own_classes(label)
        far = [float((row - center).square().sum()) for center in centers]
        others = [d for c, d in enumerate(far) if c not in own]
        if own:
            found.append(bool(others) and min(others) < min(far[c] for c in own))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 7)
        share = nearer_to_another(outputs, labels, centers)
    assert share == pytest.approx(np.mean(found)) if found else math.isnan(share)


def test_refusals():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"outputs must have shape \(n, L\), got \(3,\)"):
        class_sums(rows[0], torch.zeros(3, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 4\), got \(2, 3\)"):
        class_sums(rows, torch.zeros(2, 3), 4)
    with pytest.raises(ValueError, match=r"centers must have shape \(C, 3\), got \(4, 2\)"):
        nearer_to_another(rows, torch.zeros(2, dtype=torch.int64), torch.zeros(4, 2))


def test_of_no_items_none_is_nearer_to_another():
    assert np.isnan(nearer_to_another(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
