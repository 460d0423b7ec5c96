"""Exact search in code files: order, score, radius, items left out, and what is refused."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

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
    with pytest.raises(ValueError, match="10 bits.*9"):
        index.search(a_file(n_bits=10), 1)


def test_an_empty_database_is_refused(tmp_path: Path) -> None:
    empty = CodeFile(CODES[:0], 9)
    path = empty.save(tmp_path / "empty.safetensors")
    with pytest.raises(ValueError, match="empty.safetensors is empty"):
        CodeIndex.load(path)
