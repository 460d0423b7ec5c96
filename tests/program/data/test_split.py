"""Split: what its checksum sees, and files that are whole or refused by name."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from dshc.data import Dataset, Split, load, make_split

PARTS = ("query", "database", "train", "validation")


def labelled(labels: np.ndarray, name: str = "some", test_mask: np.ndarray | None = None) -> Dataset:
    n_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    inputs = np.zeros((len(labels), 1), np.float32)
    return Dataset(name, "features", inputs, labels, tuple(f"c{i}" for i in range(n_classes)), test_mask)


def arrays(split: Split) -> list[list[int]]:
    return [getattr(split, part).tolist() for part in PARTS]


def test_the_checksum_sees_labels_order_and_roles():
    labels = np.arange(40) % 4
    base = make_split(labelled(labels))
    other = labels.copy()
    other[[0, 1]] = other[[1, 0]]
    assert make_split(labelled(other)).checksum != base.checksum
    assert make_split(labelled(labels), validation=0.2).checksum != base.checksum
    assert make_split(labelled(labels, name="another name")).checksum == base.checksum
    with pytest.raises(ValueError, match="was made for other labels than those of some"):
        base.check(labelled(other))
    with pytest.raises(ValueError, match="some: must have 40 items as split .* has, got 20"):
        base.check(labelled(labels[:20]))
    base.check(labelled(labels))


def test_save_and_load(tmp_path):
    data = load("digits")
    split = make_split(data, seed=4)
    path = tmp_path / "run" / "split.json"
    assert split.save(path) == path and [p.name for p in path.parent.iterdir()] == ["split.json"]
    found = Split.load(path, data)
    assert found == split and arrays(found) == arrays(split) and found.summary() == split.summary()
    assert json.loads(path.read_text())["schema"] == "dshc.split/1"
    with pytest.raises(
        ValueError, match="split.json: refused as a split.*some: must have 1797 items as split .* has, got 8"
    ):
        Split.load(path, labelled(np.arange(8) % 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["query"].__setitem__(0, c["query"][0] + 1), "checksum|rising|queries are in"),
        (lambda c: c["train"].pop(), "the checksum must be"),
        (lambda c: c.update(seed=1), "the checksum must be"),
        (lambda c: c.update(protocol="random"), "the checksum must be"),
        (lambda c: c.update(dropped=1), "the checksum must be"),
        (lambda c: c.update(labels_digest="0" * 64), "the checksum must be"),
        (lambda c: c.update(checksum="0" * 16), "got 0000"),
        (lambda c: c.update(validation=c["query"][:3]), "3 queries are in validation too"),
        (lambda c: c.update(validation=c["train"][:3]), "3 items are in both train and validation"),
        (
            lambda c: c.update(database=c["database"] + [c["query"][-1] + 10**6]),
            "rising item numbers below 1797",
        ),
        (lambda c: c.update(query=[]), "query is empty"),
        (lambda c: c.update(query=["1"]), "query holds something else"),
        (lambda c: c.update(query=[-1]), "query holds something else"),
        (lambda c: c.update(query=[2**70]), "query holds something else"),
        (lambda c: c.update(query="1 2 3"), "query must be list, got str"),
        (lambda c: c.update(seed=True), "seed must be int, got bool"),
        (lambda c: c.update(extra=1), "fields extra are missing or unknown"),
        (lambda c: c.pop("train"), "fields train are missing or unknown"),
        (lambda c: c.update(schema="dshc.split/9"), "schema must be 'dshc.split/1', got 'dshc.split/9'"),
    ],
)
def test_a_changed_file_is_refused_by_name(change, message, tmp_path):
    path = make_split(load("digits")).save(tmp_path / "split.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"split.json: refused as a split, .*({message})"):
        Split.load(path)


def test_a_damaged_file_is_refused_by_name(tmp_path):
    path = make_split(load("digits")).save(tmp_path / "split.json")
    whole = path.read_bytes()
    for data in (b"", whole[:100], whole[:-3], b"[1, 2]", b"null", b"\xff\xfe\x00", b"no json"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="split.json: "):
            Split.load(path)
    with pytest.raises(ValueError, match="none.json: the split cannot be read"):
        Split.load(tmp_path / "none.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = make_split(load("digits")).save(tmp_path / "split.json")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        make_split(load("digits"), seed=1).save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
