"""A code index at its edges: ids at both ends of int64, what is refused before it is kept, readers left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_hashers import a_hasher

from dshc.errors import InputError
from dshc.index import HashIndex, new_items

pyarrow = pytest.importorskip("pyarrow")

FAR = (2**62 + 5, -(2**62) - 2**61)


@pytest.mark.parametrize(
    "ids", [FAR, (2**63 - 1, -(2**63)), (5, 2**63 - 1, -(2**63), 0), (-(2**63), 2**63 - 1)]
)
def test_ids_that_lie_far_apart(tmp_path: Path, ids: tuple[int, ...]) -> None:
    """Their difference is no int64: what seems to ascend by it does not."""
    codes = np.arange(len(ids), dtype=np.uint8)[:, None]
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        assert index.add(codes, ids).tolist() == list(ids)
        for _ in range(3):
            index.update(codes, ids, missing="add")
        index.add(codes[:1], [77])
        assert len(index) == len(ids) + 1 and all(id in index for id in ids)
        with pytest.raises(InputError, match="ids must be new"):
            index.add(codes[:1], [ids[0]])
        index.compact()
        index.check()
    with HashIndex.open(tmp_path / "index") as index:
        np.testing.assert_array_equal(index.get(ids).codes, codes)
        assert index.remove(ids) == len(ids) and len(index) == 1


@pytest.mark.parametrize("n", (1, 2, 3, 40))
def test_random_ids_of_64_bits(tmp_path: Path, n: int) -> None:
    rng = np.random.default_rng(n)
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        added = []
        for _ in range(60):
            ids = rng.integers(-(2**63), 2**63 - 1, n)
            index.add(np.zeros((n, 1), np.uint8), ids)
            added += ids.tolist()
        assert all(id in index for id in added)
        index.compact()
        assert all(id in index for id in added)


def test_an_index_with_ids_out_of_order_is_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an earlier version wrote it: check says so, compact gives the keys that are missing."""
    codes = np.arange(2, dtype=np.uint8)[:, None]
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        with monkeypatch.context() as patch:
            patch.setattr(new_items, "is_ascending", lambda ids: True)
            patch.setattr("dshc.index.id_column.IdColumn.mended", lambda column: column)
            index.add(codes, FAR)
        assert FAR[0] not in index
        with pytest.raises(ValueError, match="its ids are not in the order .* compact the index"):
            index.check()
        index.compact()
        index.check()
        assert all(id in index for id in FAR)
        np.testing.assert_array_equal(index.get(FAR).codes, codes)


def test_a_reader_checks_an_index_that_has_changed(tmp_path: Path) -> None:
    codes = np.arange(6, dtype=np.uint8)[:, None]
    with HashIndex.create(tmp_path / "index", bits=8) as writer:
        writer.add(codes[:2])
        with HashIndex.open(tmp_path / "index", read_only=True) as reader:
            writer.add(codes[2:4])
            writer.compact()
            reader.check()
            with HashIndex.create(tmp_path / "other", bits=8) as other:
                other.add(codes[:1], [99])
                with pytest.raises(InputError, match=r"must be as it was when it was opened.*refresh\(\)"):
                    other.merge(reader)
                assert len(other) == 1
                reader.refresh()
                assert other.merge(reader) == 4
        (file,) = (tmp_path / "index" / "parts").glob("*.safetensors")
        file.unlink()
        with pytest.raises(ValueError, match=f"{file.name}: damaged, the file is gone"):
            writer.check()


def test_metadata_by_rows_names_what_it_does_not_know(tmp_path: Path) -> None:
    with HashIndex.create(tmp_path / "index", bits=8, metadata={"year": "int32"}) as index:
        codes = np.zeros((2, 1), np.uint8)
        with pytest.raises(InputError, match="must have the columns year, got 'yeer' too"):
            index.add(codes, metadata=[{"year": 5}, {"yeer": 6}])
        with pytest.raises(TypeError, match="metadata must be mappings, a row each, got int"):
            index.add(codes, metadata=[{"year": 5}, 5])
        for wrong in ({"year": [2**70, 1]}, {"year": ["\ud800", "a"]}):
            with pytest.raises(InputError, match="metadata must fit the columns"):
                index.add(codes, metadata=wrong)
        assert len(index) == 0
        index.add(codes, metadata=[{"year": 5}, {}])
        assert index.get([0, 1]).metadata["year"].to_pylist() == [5, None]


@pytest.mark.parametrize("kind", ("int8", "float16"))
@pytest.mark.parametrize("value", (np.inf, -np.inf, np.nan, 1e39))
def test_vectors_that_are_not_finite(tmp_path: Path, kind: str, value: float) -> None:
    with HashIndex.create(tmp_path / "index", bits=8, vectors=kind, dimensions=2) as index:
        codes, good = np.zeros((1, 1), np.uint8), np.ones((1, 2))
        with pytest.raises(InputError, match="vectors must be finite"):
            index.add(codes, vectors=np.array([[value, 1.0]]))
        index.add(codes, vectors=good)
        with pytest.raises(InputError, match="vectors must be finite in float32"):
            index.search(codes, 1, rescore=1, vectors=np.array([[value, 1.0]]))


def test_no_queries_of_several_variants(tmp_path: Path) -> None:
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        index.add(np.arange(4, dtype=np.uint8)[:, None])
        found = index.search(np.zeros((0, 2, 1), np.uint8), 3)
        assert found.ids.shape == found.distances.shape == (0, 3)


@pytest.mark.parametrize(
    ("layout", "error", "match"),
    [
        ({"vectors": "int8", "dimensions": 2.0}, TypeError, "dimensions must be an int, got float"),
        ({"labels": "ids", "class_names": "abc"}, TypeError, "class_names must be a sequence of names"),
        ({"labels": "ids", "class_names": [1, 2]}, TypeError, "class_names must be text, got 1"),
        (
            {"labels": "ids", "class_names": ["a", "b", "a"]},
            ValueError,
            "class_names must differ, got 'a' twice",
        ),
        ({"metadata": {"a": pyarrow.int32()}}, TypeError, "metadata must name columns"),
    ],
    ids=str,
)
def test_layouts_that_would_break_later(
    tmp_path: Path, layout: dict, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        HashIndex.create(tmp_path / "index", bits=8, **layout)
    assert not (tmp_path / "index").exists()


def test_labels_beyond_int64(tmp_path: Path) -> None:
    with HashIndex.create(tmp_path / "index", bits=8, labels="ids") as index:
        for value in (2**63 + 5, 2**64 - 1):
            with pytest.raises(InputError, match=f"labels must fit int64, got {value}"):
                index.add(np.zeros((1, 1), np.uint8), labels=np.array([value], np.uint64))


def test_labels_that_are_searched_for(tmp_path: Path) -> None:
    codes = np.arange(6, dtype=np.uint8)[:, None]
    with HashIndex.create(tmp_path / "index", bits=8, labels="ids") as index:
        index.add(codes, labels=np.arange(6) % 3)
        wanted = index.search(codes[:1], 4, label=[1, 2]).ids
        np.testing.assert_array_equal(index.search(codes[:1], 4, label=np.array([1, 2])).ids, wanted)
        assert (index.search(codes[:1], 4, label=[]).ids == -1).all()
        with pytest.raises(TypeError, match="label must be a name or a number, or several, got float"):
            index.search(codes[:1], 4, label=1.0)


def test_a_creation_that_was_cut_off_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the hasher is written, such as by a full disk; a folder that is called so is nobody's left-over."""
    hasher = a_hasher("dshc", "features")

    def full(self: Any, folder: Path) -> None:
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors.tmp").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(type(hasher), "save", full)
        with pytest.raises(OSError):
            HashIndex.create(tmp_path / "index", hasher=hasher)
    with HashIndex.create(tmp_path / "index", bits=8) as index:
        assert not (tmp_path / "index" / "hasher").exists() and len(index) == 0
    (tmp_path / "mine" / "hasher").mkdir(parents=True)
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        HashIndex.create(tmp_path / "mine", bits=8)
