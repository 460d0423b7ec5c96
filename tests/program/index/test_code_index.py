"""Exact search in code files: order, score, radius, items left out, and what is refused."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dshc.index.code_index
from dshc.index import CodeIndex
from dshc.storage import CodeFile

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"
CODES = np.array([[0b00000011, 0b1], [0b00000111, 0b0], [0b11110000, 0b1], [0b00000011, 0b1]], np.uint8)


def a_file(**changes: object) -> CodeFile:
    fields = {
        "codes": CODES,
        "n_bits": 9,
        "labels": np.array([0, 1, 2, 0]),
        "class_names": ("cat", "dog", "sea"),
    }
    return CodeFile(**{**fields, **changes})


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = MANUAL.read_text(encoding="utf-8").split("In Python:")[1].split("```python")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(compile(example, "docs/evaluation.md", "exec"), names)
    assert names["found"].indices[:, 0].tolist() == [0, 1, 2, 3, 4]
    found = doctest.testmod(dshc.index.code_index)
    assert found.failed == 0 < found.attempted


def test_search_is_sorted_by_distance_then_index() -> None:
    index = CodeIndex(a_file())
    found = index.search(CODES[:1], 4)
    assert found.indices.tolist() == [[0, 3, 1, 2]]
    assert found.distances.tolist() == [[0, 0, 2, 6]]
    for k in (1, 2, 3):
        assert index.search(CODES[:1], k).indices.tolist() == [[0, 3, 1, 2][:k]]


def test_search_takes_the_score_of_the_file() -> None:
    index = CodeIndex(a_file(score="overlap"))
    found = index.search(CODES[:1], 4)
    assert found.distances.tolist() == [[3, 3, 2, 1]]
    assert found.indices.tolist() == [[0, 3, 1, 2]]
    assert index.search(CODES[:1], 1, score="hamming").distances.tolist() == [[0]]


def test_search_by_code_file_and_within_a_radius() -> None:
    index = CodeIndex(a_file())
    near = index.within(a_file(), 2)
    assert near.offsets.tolist() == [0, 3, 6, 7, 10]
    assert near.indices.tolist()[:3] == [0, 3, 1]
    assert len(index) == 4


def test_search_with_items_left_out() -> None:
    found = CodeIndex(a_file()).search(CODES[:1], 2, allowed=np.array([False, True, True, True]))
    assert found.indices.tolist() == [[3, 1]]


@pytest.mark.parametrize("k", [0, 5, -1])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="k"):
        CodeIndex(a_file()).search(CODES, k)


def test_wrong_queries_are_refused() -> None:
    index = CodeIndex(a_file())
    with pytest.raises(TypeError, match="queries must be a numpy array of uint8"):
        index.search(CODES.astype(np.int64), 1)
    with pytest.raises(ValueError, match=r"queries must have shape \(n, 2\) for codes of 9 bits"):
        index.search(CODES[:, :1], 1)
    padded = CODES.copy()
    padded[0, 1] |= 0b10
    with pytest.raises(ValueError, match=r"queries must have padding bits of 0 \(from bit 9 on\), got some"):
        index.search(padded, 1)
    with pytest.raises(ValueError, match="10 bits.*9"):
        index.search(a_file(n_bits=10), 1)


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    empty = CodeFile(CODES[:0], 9)
    path = empty.save(tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match="empty.safetensors: must hold at least one code, got none"):
        CodeIndex.load(path)


@st.composite
def sets_of_codes(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """A code length, few enough different codes that ties are long, and queries; both packed."""
    n_bits = draw(st.sampled_from([1, 3, 8, 9, 17, 64, 70]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pool = rng.integers(0, 2, (draw(st.integers(1, 6)), n_bits), np.uint8)
    database = pool[rng.integers(0, len(pool), draw(st.integers(1, 60)))]
    queries = np.concatenate([pool, rng.integers(0, 2, (draw(st.integers(0, 4)), n_bits), np.uint8)])
    return n_bits, *(np.packbits(bits, axis=1, bitorder="little") for bits in (queries, database))


def counted(queries: np.ndarray, database: np.ndarray, distances: np.ndarray, score: str) -> list[int]:
    """The items at each distance, one by one."""
    pairs = queries[:, None] ^ database[None] if score == "hamming" else queries[:, None] & database[None]
    matrix = np.unpackbits(pairs, axis=2).sum(axis=2, dtype=np.int64)
    return [int((row == distance).sum()) for row, distance in zip(matrix, distances, strict=True)]


@given(sets_of_codes(), st.sampled_from(["hamming", "overlap"]), st.data())
def test_counts_at_a_distance(
    case: tuple[int, np.ndarray, np.ndarray], score: str, data: st.DataObject
) -> None:
    n_bits, queries, database = case
    index = CodeIndex(CodeFile(database, n_bits, score=score))
    k = data.draw(st.integers(1, len(database)))
    distances = index.search(queries, k).distances[:, -1]
    found = index.count_at(queries, distances)
    assert found.dtype == np.int64
    assert found.tolist() == counted(queries, database, distances, score)
    assert (found >= (index.search(queries, k).distances == distances[:, None]).sum(axis=1)).all()
    drawn = np.array(
        data.draw(st.lists(st.integers(-2, n_bits + 9), min_size=len(queries), max_size=len(queries)))
    )
    assert index.count_at(queries, drawn).tolist() == counted(queries, database, drawn, score)


def test_counts_over_many_queries_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    database, queries = rng.integers(0, 4, (50, 1), np.uint8), rng.integers(0, 4, (23, 1), np.uint8)
    index, distances = CodeIndex(CodeFile(database, 2)), rng.integers(0, 3, 23)
    allowed = rng.random((23, 50)) < 0.5
    whole, some = index.count_at(queries, distances), index.count_at(queries, distances, allowed=allowed)
    monkeypatch.setattr(dshc.index.code_index, "_HISTOGRAM_CELLS", 50)
    assert index.count_at(queries, distances).tolist() == whole.tolist()
    assert index.count_at(queries, distances, allowed=allowed).tolist() == some.tolist()
    for q in range(23):
        assert some[q] == index.count_at(queries[q : q + 1], distances[q : q + 1], allowed=allowed[q])[0]
    assert index.count_at(queries[:0], distances[:0]).shape == (0,)


def test_counts_refuse_what_does_not_fit() -> None:
    index = CodeIndex(a_file())
    with pytest.raises(ValueError, match=r"distances must have shape \(1,\), got \(2,\)"):
        index.count_at(CODES[:1], np.array([0, 1]))
    for wrong in ([0], np.array([0.0])):
        with pytest.raises(TypeError, match="distances must be a numpy array of integers"):
            index.count_at(CODES[:1], wrong)
    with pytest.raises(ValueError, match="queries must have shape"):
        index.count_at(CODES[:1, :1], np.array([0]))
