"""Fewer items to train on than a protocol has: some per class, none of some classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_items import cifar10_like, labelled

from dshc.data import Dataset, make_split
from dshc.errors import InputError


def test_fewer_items_per_class_are_among_more_and_leave_queries_and_database_alone():
    data = cifar10_like()
    whole = make_split(data, "cifar10-5k-59k", seed=2)
    before: set[int] = set()
    for n in (1, 10, 50, 500):
        split = make_split(data, "cifar10-5k-59k", seed=2, train_per_class=n)
        assert (split.query == whole.query).all() and (split.database == whole.database).all()
        pool = np.concatenate([split.train, split.validation])
        assert np.bincount(data.labels[pool]).tolist() == [n] * 10 and before <= set(pool.tolist())
        assert len(split.validation) == (n if n > 1 else 0) and split.checksum != whole.checksum
        assert split.protocol == f"cifar10-5k-59k, {n} training items per class"
        before = set(pool.tolist())
    # All there are: the items of the protocol.
    assert (np.union1d(split.train, split.validation) == np.union1d(whole.train, whole.validation)).all()
    assert (
        split.train.tolist() != make_split(data, "cifar10-5k-59k", seed=3, train_per_class=500).train.tolist()
    )


def test_a_class_that_has_fewer_gives_all_it_has():
    data = labelled(np.array([0] * 50 + [1] * 5))
    split = make_split(data, validation=0, train_per_class=9)
    assert np.bincount(data.labels[split.train]).tolist() == [9, 4] and len(split.database) == 44


@given(st.integers(0, 2**32), st.integers(1, 12), st.floats(0.05, 0.6))
def test_every_label_gets_so_many_items_or_all_there_are(seed, n_per_class, share):
    labels = (np.random.default_rng(seed).random((120, 6)) < share).astype(np.uint8)
    labels[:12] = np.eye(6, dtype=np.uint8)[np.arange(12) % 6]
    data = labelled(labels)
    split = make_split(data, seed=seed, train_per_class=n_per_class)
    pool = np.concatenate([split.train, split.validation])
    there = labels[split.database].sum(0)
    assert (labels[pool].sum(0) >= np.minimum(there, n_per_class)).all() and labels[pool].any(1).all()
    # Each adds to a label that has too few.
    assert len(pool) <= n_per_class * 6 and np.isin(pool, split.database).all()


def test_unseen_classes_are_asked_and_found_but_not_trained_on():
    data = cifar10_like()
    whole = make_split(data, "cifar10-full", seed=1)
    split = make_split(data, "cifar10-full", seed=1, unseen_classes=2)
    assert (split.query == whole.query).all() and (split.database == whole.database).all()
    seen = np.unique(data.labels[split.train])
    assert len(seen) == 8 and np.isin(data.labels[split.validation], seen).all()
    assert split.protocol == "cifar10-full, 2 classes unseen in training"
    drawn = {
        tuple(np.unique(data.labels[make_split(data, "random", seed=s, unseen_classes=2).train]))
        for s in range(9)
    }
    assert len(drawn) > 3
    both = make_split(data, "cifar10-full", seed=1, unseen_classes=1, train_per_class=5)
    assert both.protocol == "cifar10-full, 1 class unseen in training, 5 training items per class"
    assert (
        sorted(np.bincount(data.labels[np.union1d(both.train, both.validation)], minlength=10))
        == [0] + [5] * 9
    )
    # With the same seed the classes of one are among those of two.
    assert set(seen) < set(np.unique(data.labels[both.train]))


def test_unseen_classes_of_items_with_several_labels_or_none_are_refused():
    with pytest.raises(
        InputError, match="some: items must be of one class each for unseen_classes, got several"
    ):
        make_split(labelled(np.ones((9, 2), np.uint8)), unseen_classes=1)
    bare = Dataset("bare", "features", np.zeros((3, 1), np.float32), None, ())
    for values in ({"unseen_classes": 1}, {"train_per_class": 1}):
        with pytest.raises(
            ValueError, match="bare: must have labels for train_per_class and unseen_classes, got none"
        ):
            make_split(bare, **values)
