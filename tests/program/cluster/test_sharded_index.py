"""Shards in one process: lists, answers, and what is refused. tests/services has the same over nodes of Ray."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shard_cases import check_answers, make_shards

import dshc
from dshc.cluster import ShardedIndex, read_shards
from dshc.errors import InputError
from dshc.index import HashIndex
from dshc.storage import CodeFile


@pytest.mark.parametrize("n_bits", [30, 64, 130])
@pytest.mark.parametrize("score", ["hamming", "overlap"])
def test_answers(tmp_path: Path, n_bits: int, score: str) -> None:
    shards = make_shards(tmp_path, n_bits=n_bits, score=score, several=score == "overlap")
    with ShardedIndex(None, shards.paths, check=True, unique_ids=True) as index:
        assert (len(index), index.n_bits, index.score) == (len(shards.codes), n_bits, score)
        check_answers(index, shards)


def test_evaluate(tmp_path: Path) -> None:
    shards = make_shards(tmp_path)
    database = CodeFile(shards.codes, 64, shards.labels, class_names=shards.queries.class_names)
    conventions = dshc.Conventions(k=50, ks=(5, 100), ties="worst", denominator="min")
    want = dshc.evaluate(shards.queries, database, conventions=conventions)
    with ShardedIndex(None, shards.paths) as index:
        found = index.evaluate(shards.queries, conventions=conventions)
    assert found.mean_ap == pytest.approx(want.mean_ap, abs=1e-12)
    assert found.standard_error == pytest.approx(want.standard_error, abs=1e-12)
    assert found.by_ties == pytest.approx(want.by_ties, abs=1e-12)
    assert found.at_k == pytest.approx(want.at_k, abs=1e-12)
    np.testing.assert_array_equal(found.pairs, want.pairs)
    np.testing.assert_array_equal(found.relevant_pairs, want.relevant_pairs)
    for one, two in zip(found.curves, want.curves, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)
    assert found.line() == want.line()
    found.save(tmp_path / "numbers.json", per_query=True)
    document = json.loads((tmp_path / "numbers.json").read_text())
    assert document["mean_average_precision"]["value"] == found.mean_ap
    assert document["missing_shards"] == [] and len(document["average_precision"]) == 7
    with ShardedIndex(None, shards.paths) as index:
        with pytest.raises(InputError, match="ties over shards must be one of expected, best, worst"):
            index.evaluate(shards.queries, conventions=dshc.Conventions(ties="index"))
        with pytest.raises(InputError, match="metrics must be left out over shards.*got ndcg@10"):
            index.evaluate(shards.queries, conventions=dshc.Conventions(metrics=("ndcg@10",)))
        with pytest.raises(InputError, match="labels of the queries must be given"):
            index.evaluate(shards.queries.codes)


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = make_shards(tmp_path / "shards", n_shards=3)
    folder = tmp_path / "shards"
    assert [shard.path for shard in read_shards(folder)] == shards.paths
    rows = [{"path": Path(path).name, "place": 2 - place} for place, path in enumerate(shards.paths)]
    turned = folder / "turned.json"
    turned.write_text(json.dumps(rows))
    assert [shard.path for shard in read_shards(turned)] == shards.paths[::-1]
    (folder / "shards.json").write_text(json.dumps({"shards": [Path(shards.paths[1]).name]}))
    assert [shard.path for shard in read_shards(folder)] == shards.paths[1:2]
    monkeypatch.chdir(folder)
    assert [shard.path for shard in read_shards([Path(shards.paths[2]).name])] == shards.paths[2:]
    assert [shard.path for shard in read_shards(shards.paths[1])] == shards.paths[1:2]  # one index is a shard


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must name at least one shard"),
        ('["a", "./a"]', "must name each shard once, got .*/a twice"),
        ('[{"path": "a", "place": 1}]', "places must be 0 to 0, each once, got"),
        ('[{"path": "a", "place": 0}, "b"]', "places must be 0 to 1, each once, got"),
        ('[{"path": "a", "n_items": -1}]', "each shard must be a path, or have a path and whole numbers"),
        ("[7]", "each shard must be a path, or have a path and whole numbers"),
        ('{"shard": []}', "must be a JSON list of shards, or an object with one, got NoneType"),
        ("{", "must be a JSON list of shards, it cannot be read"),
    ],
)
def test_lists_that_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_shards(path)
    with pytest.raises(InputError, match="shards: must name at least one shard"):
        read_shards([])
    with pytest.raises(InputError, match=f"{tmp_path}: must name at least one shard"):
        read_shards(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone: no such file"):
        read_shards(tmp_path / "gone")


def test_shards_that_do_not_go_together(tmp_path: Path) -> None:
    def saved(name: str, n_bits: int = 16, **fields: object) -> str:
        codes = np.zeros((3, (n_bits + 7) // 8), np.uint8)
        return str(CodeFile(codes, n_bits, **fields).save(tmp_path / f"{name}.safetensors"))

    first = saved("first", model="one", ids=("a", "b", "c"))
    for name, fields, message in (
        ("bits", {"n_bits": 12}, "bits.safetensors: must have the bits of .*first.safetensors, 16, got 12"),
        ("score", {"score": "overlap"}, "must have the score of .*, hamming, got overlap"),
        ("model", {"model": "two"}, "model.safetensors: must have the codes of the model of .*first"),
    ):
        with pytest.raises(InputError, match=message):
            ShardedIndex(None, [first, saved(name, **fields)])
    twice = saved("twice", ids=("d", "c", "e"))
    with ShardedIndex(None, [first, twice]) as index:
        assert len(index) == 6
    with pytest.raises(
        InputError, match="ids must differ from each other, got 'c' twice, in .*first.* and .*twice"
    ):
        ShardedIndex(None, [first, twice], unique_ids=True)
    with pytest.raises(InputError, match="bare.safetensors: must hold ids to be compared"):
        ShardedIndex(None, [first, saved("bare")], unique_ids=True)
    with ShardedIndex(None, [first, twice]) as index:
        with pytest.raises(
            InputError, match=r"first.safetensors: must hold labels \(ids, as the queries\), got none"
        ):
            index.average_precision(np.zeros((1, 2), np.uint8), np.array([0]))
        for queries, k, message in (
            (np.zeros((1, 3), np.uint8), 1, r"queries must have shape \(n, 2\) for codes of 16 bits"),
            (np.zeros((1, 2), np.uint8), 7, r"k must be between 1 and 6 \(the items of all shards\), got 7"),
        ):
            with pytest.raises(InputError, match=message):
                index.search(queries, k)
        with pytest.raises(InputError, match="radius must be between 0 and 16"):
            index.radius(np.zeros((1, 2), np.uint8), 17)
        with pytest.raises(TypeError, match="queries must be a numpy array of uint8"):
            index.search(np.zeros((1, 2)), 1)
    with pytest.raises(InputError, match="the sharded index is closed"):
        index.search(np.zeros((1, 2), np.uint8), 1)


def test_shards_that_cannot_be_had(tmp_path: Path) -> None:
    shards = make_shards(tmp_path, n_shards=3)
    sizes = [1, None, None]
    with ShardedIndex(None, shards.paths) as index:
        sizes = np.diff(index.starts).tolist()
    listed = tmp_path / "shards.json"
    listed.write_text(
        json.dumps([{"path": p, "n_items": n} for p, n in zip(shards.paths, sizes, strict=True)])
    )
    last = Path(shards.paths[2])
    content = last.read_bytes()
    last.write_bytes(content[:-1] + b"\xff")
    with ShardedIndex(None, listed):
        pass  # opening compares no checksums
    with pytest.raises(InputError, match="1 of 3 shards cannot be had.*02.safetensors: damaged, its content"):
        ShardedIndex(None, listed, check=True)
    last.write_bytes(content[:-9])
    with pytest.raises(InputError, match="02.safetensors: damaged"):
        ShardedIndex(None, listed)
    last.unlink()
    with pytest.raises(InputError, match="02.safetensors: no such file"):
        ShardedIndex(None, listed)
    with ShardedIndex(None, listed, partial=True) as index:
        found = index.search(shards.queries, 5)
        assert found.missing == (str(last),) and len(index) == len(shards.codes)
        np.testing.assert_array_equal(found.indices < sizes[0] + sizes[1], True)
        evaluation = index.evaluate(shards.queries)
        assert evaluation.missing == (str(last),) and "PARTIAL, without " in evaluation.line()
        with pytest.warns(UserWarning, match="average precision without .*02.safetensors"):
            index.average_precision(shards.queries)
    with pytest.raises(InputError, match="its list .* must say its n_items"):
        ShardedIndex(None, shards.paths, partial=True)
    CodeFile(np.zeros((2, 8), np.uint8), 64).save(last)
    with pytest.raises(InputError, match=f"must hold {sizes[2]} items, as its list says, got 2"):
        ShardedIndex(None, listed)


def test_shards_without_items(tmp_path: Path) -> None:
    HashIndex.create(tmp_path / "empty", bits=8).close()
    CodeFile(np.zeros((0, 1), np.uint8), 8).save(tmp_path / "none.safetensors")
    for name in ("empty", "none.safetensors"):
        with pytest.raises(InputError, match=f"{name}: must hold at least one item, got none"):
            ShardedIndex(None, [tmp_path / name])
    (tmp_path / "text.txt").write_text("no shard at all")
    with pytest.raises(InputError, match="text.txt: (damaged|must be a code file)"):
        ShardedIndex(None, [tmp_path / "text.txt"])


def test_addresses() -> None:
    for address in ("somewhere", "host:", ":1", "ray://host", "host:99999", ""):
        with pytest.raises(InputError, match="address must be auto, local, HOST:PORT or ray://HOST:PORT"):
            dshc.cluster.Connection(address)
    with pytest.raises(TypeError, match="address must be a text, got int"):
        dshc.cluster.Connection(7)


def test_ray_is_not_imported_before_it_is_asked_for() -> None:
    code = "import sys, dshc.cluster; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    shards = make_shards(tmp_path, n_shards=1)
    with pytest.raises(ImportError, match=r"a cluster needs Ray; pip install 'dshc-fast\[cluster\]'"):
        ShardedIndex("local", shards.paths)


def test_a_link_is_no_other_shard(tmp_path: Path) -> None:
    CodeFile(np.zeros((10, 1), np.uint8), 8).save(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="b.safetensors twice .as .*a.safetensors, too"):
        ShardedIndex(None, tmp_path)
    with ShardedIndex(None, [tmp_path / "b.safetensors"]) as index:
        assert index.ids(np.array([0, -1])).tolist() == [0, None]
        with pytest.raises(InputError, match="indices must be below 10, the number of items, got 10"):
            index.ids(np.array([[3, 10]]))
        with pytest.raises(InputError, match="queries must have a class each, 1 of 2 have none"):
            index.evaluate(np.zeros((2, 1), np.uint8), np.array([0, -1]))
