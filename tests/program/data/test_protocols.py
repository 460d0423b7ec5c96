"""Protocols: frozen, disjoint, covering, stratified, and of the sizes they promise."""

from __future__ import annotations

import lzma
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_items import cifar10_like, labelled
from real_sets import real

from dshc.data import Dataset, Split, describe_protocols, load, make_split, protocols
from dshc.data.protocols import _allocate

PARTS = ("query", "database", "train", "validation")


def arrays(split: Split) -> list[list[int]]:
    return [getattr(split, part).tolist() for part in PARTS]


# --- the named protocols


def test_names():
    named = (
        "published",
        "official",
        "cifar10-full",
        "cifar10-5k-59k",
        "cifar10-5k-54k",
        "nuswide-full",
        "nuswide-10500",
        "digits",
        "random",
        "all",
    )
    assert protocols() == named
    rows = describe_protocols()
    assert tuple(row[0] for row in rows) == named and all(text and source for _, text, source in rows)


# Frozen: a change of these numbers breaks every published split.
@pytest.mark.parametrize(
    ("seed", "validation", "checksum", "first_queries"),
    [
        (0, 0.1, "f31151df2555b011", [3, 6, 11, 14, 17, 20]),
        (1, 0.1, "c5b03bff4b5241d7", [4, 6, 11, 13, 21, 23]),
        (0, 0, "40cf01bb807ea60d", [3, 6, 11, 14, 17, 20]),
        (12345678901, 0.2, "b0c397e84cd0b3bd", [7, 8, 9, 12, 16, 17]),
    ],
)
def test_the_digits_are_frozen(seed, validation, checksum, first_queries):
    split = make_split(load("digits"), seed=seed, validation=validation)
    assert split.protocol == "digits" and split.query[:6].tolist() == first_queries
    assert split.checksum == checksum
    assert (len(split.query), len(split.database)) == (360, 1437)


def test_digits_sizes():
    data = load("digits")
    split = make_split(data)
    assert len(split.train) == 1293 and len(split.validation) == 144
    sizes = np.bincount(data.labels)
    taken = np.bincount(data.labels[split.query])
    assert (np.abs(taken - sizes / 5) < 1).all()


def test_cifar10_full_is_frozen_and_balanced():
    data = cifar10_like()
    split = make_split(data, "cifar10-full")
    assert split.checksum == "5531c752051ff71c"
    assert np.bincount(data.labels[split.query]).tolist() == [1000] * 10
    assert np.bincount(data.labels[split.database]).tolist() == [5000] * 10
    assert np.bincount(data.labels[split.train]).tolist() == [4500] * 10
    assert np.bincount(data.labels[split.validation]).tolist() == [500] * 10
    assert set(split.database) == set(split.train) | set(split.validation)


def test_cifar10_5k():
    data = cifar10_like()
    with_train, without = (make_split(data, f"cifar10-5k-{n}k", validation=0.2) for n in (59, 54))
    for part in ("query", "train", "validation"):
        assert (getattr(with_train, part) == getattr(without, part)).all()
    assert [len(getattr(with_train, part)) for part in PARTS] == [1000, 59000, 4000, 1000]
    assert len(without.database) == 54000
    trained = np.union1d(without.train, without.validation)
    assert np.bincount(data.labels[without.query]).tolist() == [100] * 10
    assert np.bincount(data.labels[trained]).tolist() == [500] * 10
    assert np.isin(trained, with_train.database).all() and not np.isin(trained, without.database).any()
    assert with_train.checksum != without.checksum


def test_the_papers_nuswide_settings():
    hot = (np.arange(13_000)[:, None] % np.arange(3, 8) == 0).astype(np.uint8)
    data, has = labelled(hot), hot.any(axis=1)
    full = make_split(data, "nuswide-full", validation=0)
    assert len(full.query) == 2100 and has[full.query].all() and full.dropped == 0
    assert np.array_equal(full.train, full.database) and not np.isin(full.query, full.database).any()
    assert len(full.database) == 13_000 - 2100
    assert not np.array_equal(make_split(data, "nuswide-full", seed=1, validation=0).query, full.query)
    with pytest.raises(
        ValueError,
        match="at least 12,600 items that have one for protocol nuswide-10500, got 13000 items of 5 labels",
    ):
        make_split(data, "nuswide-10500")
    data = labelled(np.concatenate([hot, np.ones((6_000, 5), np.uint8)]))
    some = make_split(data, "nuswide-10500", validation=0)
    whole = make_split(data, "nuswide-full", validation=0)
    assert np.array_equal(some.query, whole.query) and np.array_equal(some.database, whole.database)
    assert len(some.train) == 10_500 and data.labels[some.train].any(axis=1).all()
    assert np.isin(some.train, some.database).all()
    with pytest.raises(
        ValueError,
        match="must have several labels per item and at least .* items that have one for protocol nuswide-full, got ",
    ):
        make_split(labelled(np.arange(5000) % 3), "nuswide-full")


def test_official_takes_the_test_part_whatever_the_seed():
    mask = np.arange(100) % 4 == 3
    data = labelled(np.arange(100) % 5, test_mask=mask)
    first, second = make_split(data), make_split(data, seed=5)
    assert first.protocol == "official" and (first.query == np.flatnonzero(mask)).all()
    assert (first.query == second.query).all() and (first.database == np.flatnonzero(~mask)).all()
    assert first.validation.tolist() != second.validation.tolist() and first.checksum != second.checksum
    assert make_split(data, "random").query.tolist() != first.query.tolist()


def test_default_follows_the_set():
    labels = np.arange(20) % 2
    assert make_split(labelled(labels)).protocol == "random"
    assert make_split(labelled(labels, test_mask=np.arange(20) > 15)).protocol == "official"
    assert make_split(load("digits")).protocol == "digits"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"protocol": "mine"},
            ValueError,
            "protocol must be one of default, published, official, .*, got 'mine'",
        ),
        ({"protocol": "official"}, ValueError, "some: must have an official test part, got none"),
        (
            {"protocol": "digits"},
            ValueError,
            "some: protocol digits is for the 1,797 digits.*not 20 items of 2 classes",
        ),
        ({"protocol": "cifar10-full"}, ValueError, "some: .*6,000 items.*not 20 items"),
        ({"protocol": "cifar10-5k-59k"}, ValueError, "6,000 items"),
        ({"protocol": "cifar10-5k-54k"}, ValueError, "6,000 items"),
        ({"seed": -1}, ValueError, "seed must be .*, got -1"),
        ({"seed": 2**63}, ValueError, "seed must be"),
        ({"seed": 1.0}, TypeError, "seed must be an integer, got 1.0"),
        ({"seed": True}, TypeError, "seed must be an integer, got True"),
        ({"validation": 1.0}, ValueError, "validation must be .*, got 1.0"),
        ({"validation": -0.1}, ValueError, "validation must be .*, got -0.1"),
        ({"validation": float("nan")}, ValueError, "validation must be .*, got nan"),
        ({"validation": "10%"}, TypeError, "validation must be .*, got '10%'"),
        ({"train_per_class": 0}, ValueError, "train_per_class must be at least 1, got 0"),
        ({"train_per_class": 1.5}, TypeError, "train_per_class must be an integer, got 1.5"),
        ({"unseen_classes": -1}, ValueError, "unseen_classes must be at least 0, got -1"),
        ({"unseen_classes": True}, TypeError, "unseen_classes must be an integer, got True"),
        (
            {"unseen_classes": 1},
            ValueError,
            "unseen_classes must leave two of the 2 classes to train on, got 1",
        ),
    ],
)
def test_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        make_split(labelled(np.arange(20) % 2), **arguments)


def test_sets_that_cannot_be_split():
    with pytest.raises(
        ValueError, match="must have a class of two items, one to ask and one to find, got none"
    ):
        make_split(labelled(np.arange(4)))
    with pytest.raises(ValueError, match="leaves no query with a label"):
        make_split(labelled(np.zeros((9, 2), np.uint8)))
    hot = np.array([[0, 0]] * 4 + [[1, 0]] * 2, np.uint8)
    official = labelled(hot, test_mask=np.arange(6) >= 4)
    for more in ({}, {"train_per_class": 2}):
        with pytest.raises(
            ValueError, match="protocol official.* must leave training items with a label, got"
        ):
            make_split(official, **more)
    with pytest.raises(ValueError, match="some: protocol official leaves nothing to train on"):
        make_split(labelled(np.arange(4), test_mask=np.ones(4, bool)))


def test_items_without_labels_are_all_trained_on_and_found(tmp_path):
    bare = Dataset("bare", "features", np.zeros((3, 1), np.float32), None, ())
    split = make_split(bare)
    assert split.protocol == "all" and split.checksum == make_split(bare, "all", validation=0).checksum
    assert split.train.tolist() == split.database.tolist() == [0, 1, 2]
    assert len(split.query) == len(split.validation) == 0
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json", bare).checksum == split.checksum
    with pytest.raises(ValueError, match="split.json"):
        Split.load(tmp_path / "split.json", labelled(np.array([0, 1, 0])))
    with pytest.raises(ValueError, match="bare: must have labels for protocol random, got none"):
        make_split(bare, "random")
    with pytest.raises(ValueError, match="some: must have no labels for protocol all, got some"):
        make_split(labelled(np.arange(20) % 2), "all")


def test_queries_without_a_label_are_dropped_and_counted():
    labels = np.zeros((20, 3), np.uint8)
    labels[:, 0] = np.arange(20) % 5 > 0
    mask = np.arange(20) >= 10
    split = make_split(labelled(labels, test_mask=mask), validation=0.5)
    assert split.query.tolist() == [11, 12, 13, 14, 16, 17, 18, 19] and split.dropped == 2
    assert "2 queries without a label dropped" in split.summary()
    assert split.database.tolist() == list(range(10))
    # Selection needs queries too; training may learn from items without a label.
    assert labels[split.validation].any(axis=1).all() and {0, 5} <= set(split.train.tolist())


def test_the_summary_line():
    line = make_split(load("digits")).summary()
    assert line.startswith("protocol digits, seed 0, split ")
    assert line.endswith(": 360 queries, 1437 database, 1293 train, 144 validation")


# --- properties

seeds = st.integers(0, 2**63 - 1)
shares = st.sampled_from([0, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9, 0.99])


@st.composite
def single_label_sets(draw: st.DrawFn) -> Dataset:
    """2 to 6 classes of 1 to 30 items, in any order, with or without a test part."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=2, max_size=6).filter(lambda s: max(s) > 2))
    labels = draw(st.permutations(np.repeat(np.arange(len(sizes)), sizes).tolist()))
    mask = None
    if draw(st.booleans()):
        mask = np.zeros(len(labels), bool)
        mask[: draw(st.integers(1, len(labels) - 1))] = True
    return labelled(np.array(labels), test_mask=mask)


@st.composite
def multilabel_sets(draw: st.DrawFn) -> Dataset:
    rows = draw(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), min_size=6, max_size=60))
    rows[:2] = [[1, 0, 0]] * 2
    mask = np.arange(len(rows)) < 2 if draw(st.booleans()) else None
    return labelled(np.array(rows, np.uint8), test_mask=mask)


def split_or_none(data: Dataset, seed: int, share: float) -> Split | None:
    """None where every drawn query has no label: refused, and tested above."""
    try:
        return make_split(data, seed=seed, validation=share)
    except ValueError as error:
        assert "leaves no query" in str(error) and data.multilabel
        return None


@given(st.one_of(single_label_sets(), multilabel_sets()), seeds, shares)
def test_parts_are_disjoint_and_cover_the_set(data, seed, share):
    split = split_or_none(data, seed, share)
    if split is None:
        return
    query, database, train, validation = (set(part) for part in arrays(split))
    assert not query & (database | train | validation) and not train & validation
    assert database == train | validation
    assert len(query | database) + split.dropped == data.n_items
    for part in PARTS:
        values = getattr(split, part)
        assert values.dtype == np.int64 and (np.diff(values) > 0).all()


@given(st.one_of(single_label_sets(), multilabel_sets()), seeds, shares)
def test_the_same_seed_gives_the_same_arrays(data, seed, share):
    first, second = split_or_none(data, seed, share), split_or_none(data, seed, share)
    if first is not None:
        assert arrays(first) == arrays(second) and first.checksum == second.checksum and first == second
        assert hash(first) == hash(second)


@given(single_label_sets(), seeds, shares)
def test_queries_and_validation_are_stratified(data, seed, share):
    split = make_split(data, "random", seed=seed, validation=share)
    sizes = np.bincount(data.labels, minlength=data.n_classes)
    taken = np.bincount(data.labels[split.query], minlength=data.n_classes)
    assert (taken < sizes).all() and (np.abs(taken - sizes / 5) <= 1).all()
    pool = sizes - taken
    chosen = np.bincount(data.labels[split.validation], minlength=data.n_classes)
    assert (chosen < np.maximum(pool, 1)).all() and (np.abs(chosen - pool * share) <= 1).all()


@given(single_label_sets(), seeds)
def test_the_validation_share_moves_no_query(data, seed):
    splits = [make_split(data, seed=seed, validation=share) for share in (0, 0.1, 0.5)]
    assert len({tuple(s.query) for s in splits}) == 1 and len({tuple(s.database) for s in splits}) == 1
    assert not len(splits[0].validation)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12), st.fractions(0, 1).filter(lambda f: f < 1))
def test_allocate(sizes, share):
    counts = _allocate(np.array(sizes), share)
    for count, size in zip(counts.tolist(), sizes, strict=True):
        assert 0 <= count <= max(size - 1, 0)
        assert count in {int(size * share), int(size * share) + 1, size - 1, 0}
    if all(int(size * share) + 1 < size for size in sizes):  # no group is in danger of being taken whole
        assert counts.sum() == math.ceil(sum(sizes) * share)


def test_allocate_by_hand():
    # 7 x 0.2 = 1.4, 8 x 0.2 = 1.6, 6 x 0.2 = 1.2: 21 x 0.2 = 4.2 rounds up to 5; .6 then .4 are rounded up.
    assert _allocate(np.array([7, 8, 6]), Fraction(1, 5)).tolist() == [2, 2, 1]
    assert _allocate(np.array([5, 5, 5]), Fraction(1, 10)).tolist() == [1, 1, 0]
    assert _allocate(np.array([1, 1, 0]), Fraction(1, 5)).tolist() == [0, 0, 0]


def test_seeds_give_other_splits():
    data = load("digits")
    assert len({make_split(data, seed=seed).checksum for seed in range(20)}) == 20


def test_every_item_is_drawn_about_as_often():
    """1,000 seeds, 40 items of 2 classes, a fifth each: 200 times each, standard deviation 12.6."""
    data = labelled(np.arange(40) % 2)
    counts = np.zeros(40)
    for seed in range(1000):
        counts[make_split(data, seed=seed, validation=0).query] += 1
    assert counts.sum() == 8000 and np.abs(counts - 200).max() < 5 * 12.6


def test_another_process_gives_the_same_checksum():
    """Hash randomisation, thread counts and import order have no say."""
    program = "from dshc.data import load, make_split; print(make_split(load('digits'), seed=3).checksum)"
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": paths}
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == make_split(load("digits"), seed=3).checksum


# --- real sets


def test_the_real_fashion_mnist_split():
    data = load("fashion-mnist", root=real("fashion-mnist"))
    split = make_split(data)
    assert (split.protocol, split.checksum) == ("official", "91204211f8f1b102")
    assert [len(getattr(split, part)) for part in PARTS] == [10000, 60000, 54000, 6000]
    assert np.bincount(data.labels[split.validation]).tolist() == [600] * 10


def test_the_real_cifar10_split():
    """The labels and their official order are enough for the splits; the pixels take a minute to unpack."""
    packed = (real("cifar-10") / "labels.u8.xz").read_bytes()
    labels = np.frombuffer(lzma.decompress(packed), np.uint8).astype(np.int64)
    data = labelled(labels, "cifar10", np.arange(60000) >= 50000)
    found = {
        name: make_split(data, name).checksum for name in protocols() if name == "official" or "cifar" in name
    }
    assert found == {
        "official": "d9bbd74793867955",
        "cifar10-full": "6f8c1573e42a42e7",
        "cifar10-5k-59k": "a40b7b021dd75eda",
        "cifar10-5k-54k": "5b2449233c824592",
    }
