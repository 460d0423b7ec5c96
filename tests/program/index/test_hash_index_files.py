"""The folder of an index: who may write it, what readers see, what is damaged, what other versions wrote, its size."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from index_model import N_BITS, Model, add_random, create, draw_codes

import dshc_fast
from dshc.errors import InputError
from dshc.index import HashIndex, manifest
from dshc.index.manifest import Manifest, Part, PartFile, write_manifest
from dshc.storage.disk import Disk

pytest.importorskip("pyarrow")
FORMAT_1 = Path(__file__).parent / "index_of_format_1"


def filled(path: Path, n: int = 60) -> Model:
    rng, model = np.random.default_rng(0), Model()
    with create(path, "text") as index:
        add_random(index, model, rng, n, [f"n{i}" for i in range(n)])
        index.remove(["n3", "n4"])
        model.remove(["n3", "n4"])
    return model


def test_one_writer_many_readers(tmp_path: Path) -> None:
    path, rng = tmp_path / "index", np.random.default_rng(0)
    model = filled(path)
    with HashIndex.open(path) as writer:
        with pytest.raises(InputError, match=f"is writing {path}"):
            HashIndex.open(path)
        script = "import sys, dshc; dshc.HashIndex.open(sys.argv[1])"
        other = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
        )
        assert other.returncode and f"another process ({os.getpid()} on " in other.stderr
        with HashIndex.open(path, read_only=True) as reader, HashIndex.open(path, read_only=True) as second:
            for change in (
                lambda: writer.add(draw_codes(rng, 5), list("abcde"), vectors=np.zeros((5, 3))),
                lambda: writer.remove(["n0", "n9", "a"]),
                lambda: writer.update(draw_codes(rng, 1), ["n1"], vectors=np.zeros((1, 3))),
                writer.compact,
            ):
                change()
                model.check(reader, rng)  # as it was when it was opened, though its files are gone
            assert second.refresh() and len(second) == len(writer) and not second.refresh()
            assert second.ids().tolist() == writer.ids().tolist()
            for change in (
                lambda: reader.add(draw_codes(rng, 1), ["x"]),
                lambda: reader.remove(["n1"]),
                lambda: reader.update(draw_codes(rng, 1), ["n1"]),
                lambda: reader.merge(second),
                lambda: reader.calibrate(draw_codes(rng, 1), [0]),
                reader.compact,
            ):
                with pytest.raises(InputError, match="was opened with read_only=True"):
                    change()
    HashIndex.open(path).close()  # the lock is free again
    with pytest.raises(InputError, match="the index is closed"):
        writer.search(draw_codes(rng, 1), 1)


def test_a_reader_while_parts_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its look at the manifest and at the parts: it looks again."""
    path = tmp_path / "index"
    model = filled(path)
    stale = manifest.read_manifest(path)
    with HashIndex.open(path) as writer:
        writer.compact()
        looks = iter([stale])
        real = manifest.read_manifest
        monkeypatch.setattr(
            "dshc.index.index_folder.read_manifest", lambda folder: next(looks, None) or real(folder)
        )
        with HashIndex.open(path, read_only=True) as reader:
            model.check(reader, np.random.default_rng(0))


def test_damage_is_refused_by_name(tmp_path: Path) -> None:
    """A changed byte anywhere is found by check; a cut file, or a changed header, when the index is opened."""
    path = tmp_path / "index"
    filled(path)
    rng = np.random.default_rng(1)
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != ".lock")
    assert {file.suffix for file in files} == {".json", ".arrow", ".safetensors"}
    for file in files:
        whole = file.read_bytes()
        for place in {0, len(whole) - 1, *rng.integers(0, len(whole), 25).tolist()}:
            changed = bytearray(whole)
            changed[place] ^= 1 << int(rng.integers(0, 8))
            file.write_bytes(changed)
            with pytest.raises((ValueError, FileNotFoundError), match=file.name):
                with HashIndex.open(path, read_only=True) as index:
                    index.check()
        for size in (0, 7, len(whole) - 1):
            file.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=f"{file.name}: damaged"):
                HashIndex.open(path, read_only=True)
        file.unlink()
        with pytest.raises(
            (ValueError, FileNotFoundError), match="damaged, it is missing|must be a code index"
        ):
            HashIndex.open(path, read_only=True)
        file.write_bytes(whole)
    with HashIndex.open(path, read_only=True) as index:
        index.check()


def test_a_damaged_part_is_not_copied(tmp_path: Path) -> None:
    """What a change rewrites is looked at first: else the checksum of the copy would call it sound."""
    path, rng = tmp_path / "index", np.random.default_rng(2)
    filled(path)
    part = next(
        p for p in (path / "parts").iterdir() if "removed" not in p.name and p.suffix == ".safetensors"
    )
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with HashIndex.open(path) as index:
        index.add(draw_codes(rng, 1), ["more"], vectors=np.zeros((1, 3)))  # too small to swallow it
        with pytest.raises(
            ValueError, match=f"{part.name}: damaged, its content does not match its checksum"
        ):
            index.compact()
        with pytest.raises(ValueError, match=f"{part.name}: damaged"):
            index.add(draw_codes(rng, 2000), [f"m{i}" for i in range(2000)], vectors=np.zeros((2000, 3)))
        assert len(index) == 59


def test_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "index"
    filled(path)
    content = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps(content | {"format": 2}))
    with pytest.raises(
        InputError, match=r"written by a newer version \(format 2\), this one reads up to format 1"
    ):
        HashIndex.open(path)
    (path / "index.json").write_text("[]")
    with pytest.raises(ValueError, match=r"index\.json: damaged, or no index"):
        HashIndex.open(path)
    with pytest.raises(FileNotFoundError, match="must be a code index"):
        HashIndex.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def of_format_1(path: Path) -> tuple[HashIndex, Model]:
    """What is in the committed index: additions, removals, an update, in several parts."""
    rng, model = np.random.default_rng(8), Model()
    index = create(path, "text")
    add_random(index, model, rng, 1500, [f"item {i} ä" for i in range(1500)])
    add_random(index, model, rng, 4, list("wxyz"))
    gone = [f"item {i} ä" for i in range(0, 90, 7)]
    index.remove(gone)
    model.remove(gone)
    add_random(index, model, rng, 2, ["x", "item 1 ä"], update=True)
    queries = draw_codes(rng, 20)
    index.calibrate(queries, rng.integers(0, 3, 20))
    return index, model


def test_an_index_of_the_first_format_opens(tmp_path: Path) -> None:
    """Written by the version that began the format, and committed."""
    index, model = of_format_1(tmp_path / "new")
    index.close()
    shutil.copytree(FORMAT_1, tmp_path / "old")
    with HashIndex.open(tmp_path / "old") as old, HashIndex.open(tmp_path / "new", read_only=True) as new:
        old.check()
        rng = np.random.default_rng(3)
        model.check(old, rng)
        assert old._manifest.precision == new._manifest.precision and old.layout == new.layout
        add_random(old, model, rng, 3, ["1", "2", "3"])
        model.check(old, rng)


@pytest.mark.deep
def test_a_thousand_million_codes(tmp_path: Path) -> None:
    """Opened and asked without being read: the file is a hole of 8 GB."""
    path, n = tmp_path / "index", 1_000_000_000
    HashIndex.create(path, bits=64).close()
    sparse_part(path, n)
    with HashIndex.open(path, read_only=True) as index:
        assert len(index) == n and n - 1 in index and n not in index
        assert index.get([0, n - 1]).codes.tolist() == [[0] * 8, [255] * 8]
        assert os.stat(path / "parts" / "0000000001.safetensors").st_blocks * 512 < 1 << 20
        found = index.search(np.full((1, 8), 255, np.uint8), 2, ids=[5, n - 1, n])
        assert found.ids.tolist() == [[n - 1, 5]] and found.distances.tolist() == [[0, 64]]


def sparse_part(path: Path, n: int) -> None:
    """An index of n codes of 64 bits, all 0 but the last, which take no room."""
    header = json.dumps(
        {
            "__metadata__": {"first_id": "0"},
            "codes": {"dtype": "U8", "shape": [n, 8], "data_offsets": [0, 8 * n]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    name = path / "parts" / "0000000001.safetensors"
    with name.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 8 * n)
        file.seek(-8, os.SEEK_END)
        file.write(b"\xff" * 8)
    part = Part("0000000001", n, PartFile(name.name, name.stat().st_size, "0" * 64))
    layout = manifest.read_manifest(path).layout
    write_manifest(path, Manifest(layout, 1, (part,), next_id=n), Disk())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "index"
    filled(path)
    os.chmod(path / "parts", 0o500)
    with HashIndex.open(path) as index, pytest.raises(PermissionError):
        index.add(draw_codes(np.random.default_rng(0), 1), ["x"])
    os.chmod(path / "parts", 0o700)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    codes = draw_codes(rng, 3)
    with create(tmp_path / "numbers") as index, create(tmp_path / "texts", "text") as texts:
        vectors = np.zeros((3, 3))
        for match, call in {
            r"codes must be a numpy array of uint8 \(packed codes\), got ndarray of float64": lambda: (
                index.add(vectors)
            ),
            r"codes of 12 bits must have shape \(n, 2\), got \(3, 3\)": lambda: index.add(
                np.zeros((3, 3), np.uint8)
            ),
            "padding bits of 0 .*reverse_bit_order": lambda: index.add(codes | 0xF0, vectors=vectors),
            "ids must name each of the 3 items, got 2": lambda: index.add(codes, [1, 2], vectors=vectors),
            "ids must differ, got 7 twice": lambda: index.add(codes, [7, 1, 7], vectors=vectors),
            "ids must differ, got 'a' twice": lambda: texts.add(codes, ["a", "b", "a"], vectors=vectors),
            "ids must be text in this index, got 1": lambda: texts.add(codes, [1, 2, 3], vectors=vectors),
            "ids must be a sequence, got a single text": lambda: texts.add(codes, "abc", vectors=vectors),
            "ids must be given": lambda: texts.add(codes, vectors=vectors),
            r"ids must be text that UTF-8 can hold": lambda: texts.add(
                codes, ["\ud800", "b", "c"], vectors=vectors
            ),
            "ids must be a sequence of int64": lambda: index.add(codes, ["a", "b", "c"], vectors=vectors),
            "ids must fit int64": lambda: index.add(
                codes, np.array([1, 2, 2**63], np.uint64), vectors=vectors
            ),
            r"vectors must be numbers of shape \(3, 3\), got none": lambda: index.add(codes),
            "vectors must be finite": lambda: index.add(codes, vectors=np.full((3, 3), np.nan)),
            "at most 65504": lambda: index.add(codes, vectors=np.full((3, 3), 1e6)),
            r"labels must be integers of shape \(3,\)": lambda: index.add(
                codes, vectors=vectors, labels=[1.0, 2, 3]
            ),
            "labels must lie in": lambda: index.add(codes, vectors=vectors, labels=[-2, 0, 0]),
            "metadata must have the columns year, got 'yaer' too": lambda: index.add(
                codes, vectors=vectors, metadata={"yaer": [1, 2, 3]}
            ),
            "metadata must have a row for each of the 3 items, got 2": lambda: index.add(
                codes, vectors=vectors, metadata={"year": [1, 2]}
            ),
            "metadata must fit the columns": lambda: index.add(
                codes, vectors=vectors, metadata={"year": ["a", "b", "c"]}
            ),
            "ids must be in the index, got 5": lambda: index.remove([5]),
            "ids must be in the index, got 6": lambda: index.get([6]),
            "ids must be in the index, got 8": lambda: index.update(codes, [8, 9, 10], vectors=vectors),
            "missing must be 'error' or 'add'": lambda: index.update(
                codes, [8, 9, 10], vectors=vectors, missing="x"
            ),
            r"k must be between 1 and 0 \(the items of the index\), got 1": lambda: index.search(codes, 1),
            "k must be an int, got float": lambda: index.search(codes, 1.0),
            "queries of 12 bits must have shape": lambda: index.search(np.zeros((1, 3), np.uint8), 1),
            "at least one variant": lambda: index.search(np.zeros((1, 0, 2), np.uint8), 1),
            "where must be a pyarrow.compute.Expression, got str": lambda: index.radius(
                codes, 1, where="year > 3"
            ),
            "must have the layout of .*, got another ids": lambda: index.merge(texts),
            "has no hasher": lambda: index.add_embeddings(vectors),
            "has no hasher;": lambda: index.search(vectors, 1),
        }.items():
            with pytest.raises((TypeError, InputError), match=match):
                call()
        assert len(index) == len(texts) == 0 and not os.listdir(tmp_path / "numbers" / "parts")
        index.add(codes, [1, 2, 3], vectors=vectors)
        with pytest.raises(
            InputError, match="ids must be new, got 2, which the index has; update replaces items"
        ):
            index.add(codes[:1], [2], vectors=vectors[:1])
        with pytest.raises(InputError, match="ids must differ, got one twice"):
            index.remove([1, 1])
        import pyarrow.compute as pc

        with pytest.raises(InputError, match=r"where must fit the metadata \(year\)"):
            index.radius(codes, 1, where=pc.field("month") > 3)
        with pytest.raises(InputError, match="this one has none"):
            with HashIndex.create(tmp_path / "bare", bits=N_BITS) as bare:
                bare.add(codes)
                bare.search(codes, 1, where=pc.field("year") > 3)
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        create(tmp_path / "numbers")
    for options, match in (
        ({"bits": 0}, "bits must be between 1 and 4096, got 0"),
        ({}, "bits must be given without a hasher"),
        ({"bits": 8, "ids": "int"}, "ids must be one of int64, text, got 'int'"),
        ({"bits": 8, "labels": "multi-hot"}, "class_names must name the columns"),
        ({"bits": 8, "class_names": ["a"]}, "class_names must go with labels"),
        ({"bits": 8, "vectors": "int8"}, "dimensions must be given with vectors"),
        ({"bits": 8, "metadata": {"year": "integer"}}, "must have a type of Arrow"),
    ):
        with pytest.raises(InputError, match=match):
            HashIndex.create(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_creation_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "index"
    (path / "parts").mkdir(parents=True)
    (path / ".lock").touch()
    (path / "index.json.tmp").write_text("{")
    create(path).close()
    with HashIndex.open(path) as index:
        assert len(index) == 0


def test_answers_are_those_of_the_core_after_a_fork(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    codes, queries = draw_codes(rng, 3000), draw_codes(rng, 4)
    want = dshc_fast.hamming_topk(queries, codes, 9)
    with HashIndex.create(tmp_path / "index", bits=N_BITS) as index:
        index.add(codes)
        index.search(queries, 9)
        child = os.fork()
        if not child:
            signal.alarm(120)  # a child that hangs must not hang the tests
            same = np.array_equal(index.search(queries, 9).ids, want.indices)
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
