"""``dshc index``: from a run or from codes to an index that is searched, changed and looked after."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import N_FEATURES, dshc, dshc_fails, dshc_ok, write_embeddings

from dshc import HashIndex
from dshc.index import sources
from dshc.storage import CodeFile

pa = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index-run")
    source = write_embeddings(folder / "items.npz")
    dshc_ok("train", source, "--out", folder / "run", "--epochs", 4, "--bits", 12, "--no-report")
    return folder / "run"


def rows(output: str) -> list[list[str]]:
    return [line.split("\t") for line in output.splitlines() if line.count("\t") == 4][1:]


def test_of_a_run(run: Path, tmp_path: Path) -> None:
    index, more = tmp_path / "index", write_embeddings(tmp_path / "more.npz", seed=5)
    columns = ("--metadata", "year=int32", "--metadata", "camera=string")
    dshc_ok("index", "create", index, "--run", run, "--vectors", "float16", *columns)
    n_database = int(dshc_ok("index", "add", index, run).split(" items added")[0].split()[-1])
    with HashIndex.open(index, read_only=True) as opened:
        assert len(opened) == n_database and opened.radius_for(0.5) >= 0
        first = opened.ids()[0]
        assert opened.layout.class_names == opened.hasher.class_names
    assert "0 items added" in dshc_ok("index", "add", index, run)
    # The same ids from another file: passed over, or encoded anew, with metadata.
    years = tmp_path / "years.csv"
    years.write_text("id,year,other\nitem-0,1999,x\nitem-1,2005,y\n")
    there = dshc_ok("index", "add", index, more, "--metadata", years)
    assert f"{120 - n_database} items added, {n_database} were there already; 120 in all" in there
    assert "120 items added; 120 in all" in dshc_ok(
        "index", "add", index, more, "--metadata", years, "--overwrite"
    )
    found = rows(dshc_ok("index", "search", index, "--id", "item-0", "--where", "year < 2010", "-k", 5))
    assert sorted(row[3] for row in found) == ["item-0", "item-1"]
    nearest = rows(dshc_ok("index", "search", index, more, "-k", 1, "--rescore", 120, "--metric", "l2"))
    assert [row[3] for row in nearest] == [f"item-{i}" for i in range(120)]
    labelled = rows(dshc_ok("index", "search", index, "--id", first, "--radius", 12, "--label", 2))
    assert {row[4] for row in labelled} == {"2"} and len(labelled) == 40
    assert "has a precision of 0.5 or more" in dshc_ok(
        "index", "search", index, "--id", first, "--precision", 0.5
    )
    lines = dshc_ok("index", "search", index, more, "-k", 2, "--json").splitlines()
    assert len(lines) == 120 and json.loads(lines[3])["results"][0].keys() == {
        "rank",
        "hamming",
        "id",
        "label",
    }
    assert "2 items removed; 118 left" in dshc_ok("index", "remove", index, "item-7", "item-8")
    assert "118 items in one part" in dshc_ok("index", "compact", index)
    assert "sound, 118 items of 12 bits" in dshc_ok("index", "check", index)
    facts = json.loads(dshc_ok("index", "info", index, "--json"))
    assert facts["items"] == 118 and facts["vectors"] == f"float16 x {N_FEATURES}"
    assert "camera=string" in dshc_ok("index", "info", index)


def test_of_codes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (30, 2), dtype=np.uint8)
    CodeFile(codes, 16, ids=tuple(map(str, range(30))), labels=np.arange(30) % 3).save(
        tmp_path / "a.safetensors"
    )
    CodeFile(codes[:4], 16).save(tmp_path / "b.safetensors")
    CodeFile(codes[:, :1], 8).save(tmp_path / "c.safetensors")
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--bits", 16, "--ids", "int64", "--labels", "ids")
    for index in (first, second):
        dshc_ok("index", "create", index, *options)
    dshc_ok("index", "add", first, tmp_path / "a.safetensors")
    assert "4 items added; 34 in all" in dshc_ok("index", "add", first, tmp_path / "b.safetensors")
    dshc_ok("index", "add", second, tmp_path / "a.safetensors")
    assert "ids must be new, got 0, which both indexes have" in dshc_fails("index", "merge", first, second)
    dshc_ok("index", "remove", first, *range(30))
    assert "30 items added" in dshc_ok("index", "merge", first, second)
    found = rows(dshc_ok("index", "search", first, tmp_path / "b.safetensors", "-k", 2))
    assert {(row[3], row[2]) for row in found} >= {("30", "0"), ("31", "0"), ("0", "0"), ("1", "0")}
    for arguments, match in (
        (
            ("add", first, tmp_path / "c.safetensors"),
            "must hold codes of 16 bits ranked by hamming, as the index, got 8",
        ),
        (("add", first, tmp_path / "a.npz"), "has no hasher"),
        (("remove", first, "x"), "ids must be integers in this index, got 'x'"),
        (("remove", first, "999"), "ids must be in the index, got 999"),
        (("search", first), "give a QUERY"),
        (
            ("search", first, "--id", "1", "-k", "3", "--radius", "2"),
            "give one of --k, --radius and --precision",
        ),
        (("search", first, "--id", "1", "--precision", "0.9"), "no precision is known yet"),
        (
            ("search", first, "--id", "1", "--where", "year > 3"),
            "must name columns of the metadata (none), got 'year'",
        ),
        (("search", first, "--id", "1", "--rescore", "3"), "rescore must go with an index that has vectors"),
        (("search", tmp_path / "no", "--id", "1"), "must be a code index"),
        (("create", first, "--bits", "8"), "must be a new or an empty folder"),
        (("create", tmp_path / "new"), "bits must be given without a hasher"),
        (("create", tmp_path / "new", "--bits", "8", "--metadata", "year"), "--metadata must read NAME=TYPE"),
        (
            ("add", first, tmp_path / "a.safetensors", "--metadata", tmp_path / "m.csv"),
            "metadata must go with an index",
        ),
    ):
        assert match in dshc_fails("index", *arguments)


def test_items_without_ids_are_added_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted, the same command begins anew: none of them is there twice. Typed again it says what it does."""
    monkeypatch.setattr(sources, "BLOCK", 10)
    codes = np.random.default_rng(0).integers(0, 256, (35, 2), dtype=np.uint8)
    CodeFile(codes, 16, labels=np.arange(35) % 3).save(tmp_path / "c.safetensors")
    index = tmp_path / "index"
    dshc_ok("index", "create", index, "--bits", 16, "--ids", "int64", "--labels", "ids")

    def stop(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with HashIndex.open(index) as opened:
        source = sources.read_source(opened, str(tmp_path / "c.safetensors"))
        with pytest.raises(KeyboardInterrupt):
            sources.add_source(opened, source, on_items=stop)
        assert len(opened) == 0
    told = dshc_ok("index", "add", index, tmp_path / "c.safetensors")
    assert "35 items added; 35 in all" in told
    assert "items without ids were numbered 0 to 34; added again, they would be there twice" in told
    with HashIndex.open(index, read_only=True) as opened:
        items = opened.get(range(35))
        np.testing.assert_array_equal(items.codes, codes)
        np.testing.assert_array_equal(items.labels, np.arange(35) % 3)
    assert "35 items added; 70 in all" in dshc_ok("index", "add", index, tmp_path / "c.safetensors")


def test_metadata_that_a_file_lacks_is_said_and_kept(tmp_path: Path) -> None:
    codes = np.arange(8, dtype=np.uint8)[:, None]
    CodeFile(codes, 8, ids=tuple("abcdefgh")).save(tmp_path / "c.safetensors")
    (tmp_path / "whole.csv").write_text(
        "id,year,camera\n" + "".join(f"{i},{2000 + n},C{n}\n" for n, i in enumerate("abcdefgh"))
    )
    (tmp_path / "short.csv").write_text("id,year\na,1990\n")
    index, other = tmp_path / "index", tmp_path / "other"
    for path in (index, other):
        dshc_ok(
            "index",
            "create",
            path,
            "--bits",
            8,
            "--ids",
            "text",
            "--metadata",
            "year=int32",
            "--metadata",
            "camera=string",
        )
    told = dshc_ok("index", "add", other, tmp_path / "c.safetensors", "--metadata", tmp_path / "short.csv")
    assert (
        "short.csv: has no row of 7 of the 8 items and has no column camera, so that their metadata is null"
        in told
    )
    told = dshc_ok("index", "add", index, tmp_path / "c.safetensors", "--metadata", tmp_path / "whole.csv")
    assert "null" not in told
    CodeFile(np.arange(9, dtype=np.uint8)[:, None], 8, ids=tuple("hgfedcbax")).save(
        tmp_path / "d.safetensors"
    )
    dshc_ok("index", "add", index, tmp_path / "d.safetensors", "--overwrite")
    with HashIndex.open(index, read_only=True) as opened:
        rows_of = opened.get(list("abhx")).metadata.to_pylist()
        assert opened.get(["a"]).codes[0, 0] == 7
    assert [row["year"] for row in rows_of] == [2000, 2001, 2007, None]
    assert [row["camera"] for row in rows_of] == ["C0", "C1", "C7", None]


def test_one_vector_is_one_query(run: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    dshc_ok("index", "create", index, "--run", run)
    dshc_ok("index", "add", index, run)
    features = np.random.default_rng(0).standard_normal((1, N_FEATURES)).astype(np.float32)
    np.save(tmp_path / "one.npy", features[0])
    np.save(tmp_path / "row.npy", features)
    alone, among = (
        rows(dshc_ok("index", "search", index, tmp_path / name, "-k", 3)) for name in ("one.npy", "row.npy")
    )
    assert [row[1:] for row in alone] == [row[1:] for row in among] and len(alone) == 3
    np.save(tmp_path / "short.npy", features[0, 1:])
    assert "items must be features of shape" in dshc_fails("index", "search", index, tmp_path / "short.npy")


def test_the_group_alone_shows_its_help() -> None:
    code, output = dshc("index")
    assert code == 2 and "Commands" in output and "dshc: " not in output


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    with HashIndex.create(index, bits=8, ids="int64") as opened:

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(opened._disk, "write", full, raising=False)
        monkeypatch.setattr("dshc.index.changes.changed", full)
        with pytest.raises(OSError, match="No space left on device") as error:
            opened.add(np.zeros((1, 1), np.uint8))
        assert error.value.filename == str(index)


def test_a_model_that_does_not_fit(run: Path, tmp_path: Path) -> None:
    source = write_embeddings(tmp_path / "items.npz", seed=1)
    dshc_ok(
        "train", source, "--out", tmp_path / "other", "--epochs", 1, "--bits", 12, "--no-report", "--seed", 9
    )
    dshc_ok("index", "create", tmp_path / "index", "--run", run)
    dshc_ok("encode", tmp_path / "other", source, "--out", tmp_path / "codes.safetensors")
    for theirs in (tmp_path / "codes.safetensors", tmp_path / "other"):
        assert "must hold codes of the model" in dshc_fails("index", "add", tmp_path / "index", theirs)
    np.save(tmp_path / "wide.npy", np.zeros((3, N_FEATURES + 1), np.float32))
    assert "items must be features of shape" in dshc_fails(
        "index", "add", tmp_path / "index", tmp_path / "wide.npy"
    )
    (tmp_path / "index" / "hasher" / "model.safetensors").write_bytes(b"")
    assert "not the hasher that the index was created with" in dshc_fails(
        "index", "check", tmp_path / "index"
    )


def test_the_help_lists_the_commands() -> None:
    code, output = dshc("index", "--help")
    assert code == 0 and all(
        name in output for name in ("create", "add", "remove", "search", "compact", "merge")
    )
