"""Answers of a search: names, relevance, predictions and the tie at their end, against a search written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dshc.index.answers
from dshc.index import CodeIndex
from dshc.index.answers import Answer, answer
from dshc.index.queries import Queries, names_of, pick_queries, read_queries
from dshc.index.search_page import write_search_page
from dshc.storage import CodeFile

CODES = np.array([[0b000], [0b001], [0b001], [0b111], [0b000]], np.uint8)


def a_file(**changes: object) -> CodeFile:
    fields = {
        "codes": CODES,
        "n_bits": 3,
        "labels": np.array([0, 0, 1, 2, 1]),
        "class_names": ("cat", "dog", "sea"),
    }
    return CodeFile(**{**fields, **changes})


def asked(file: CodeFile, **more: object) -> Queries:
    return Queries(file, tuple(f"from here: {file.name_of(i)}" for i in range(len(file))), **more)


def only(answers: object) -> Answer:
    (found,) = answers
    return found


@given(st.integers(0, 2**32 - 1), st.sampled_from(["hamming", "overlap"]), st.data())
def test_answers_are_a_search_written_out(seed: int, score: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    n, n_query = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 7))
    k, limit = data.draw(st.integers(1, n)), data.draw(st.none() | st.integers(0, 9))
    database, queries = rng.integers(0, 8, (n, 1), np.uint8), rng.integers(0, 8, (n_query, 1), np.uint8)
    cut = data.draw(st.integers(1, n_query))
    parts = [asked(CodeFile(part, 3)) for part in (queries[:cut], queries[cut:]) if len(part)]
    index = CodeIndex(CodeFile(database, 3, ids=tuple(f"item {i}" for i in range(n))))
    found = list(answer(index, parts, k, score=score, limit=limit))
    assert len(found) == min(n_query, n_query if limit is None else limit)
    for query, got in zip(queries, found, strict=False):
        both = query ^ database if score == "hamming" else query & database
        distances = np.unpackbits(both, axis=1).sum(axis=1).tolist()
        order = sorted(range(n), key=lambda i: (distances[i] if score == "hamming" else -distances[i], i))[:k]
        assert [(r.rank, r.index, r.distance, r.id) for r in got.results] == [
            (rank, i, distances[i], f"item {i}") for rank, i in enumerate(order, start=1)
        ]
        last = distances[order[-1]]
        assert (got.tied.distance, got.tied.items) == (last, distances.count(last))
        assert got.tied.shown == sum(distances[i] == last for i in order)
        assert got.score == score and got.predicted is None and got.right is None
    assert [(got.part, got.row) for got in found] == [
        (p, row) for p, part in enumerate(parts) for row in range(len(part))
    ][: len(found)]


def test_few_results_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    index, parts = CodeIndex(a_file()), [asked(a_file()), asked(a_file())]
    whole = [[list(answer(index, parts, 2, limit=limit))] for limit in (None, 0, 3, 7)]
    monkeypatch.setattr(dshc.index.answers, "_RESULTS_AT_ONCE", 5)
    assert [[list(answer(index, parts, 2, limit=limit))] for limit in (None, 0, 3, 7)] == whole


@pytest.mark.parametrize("k", [0, 6, -1])
def test_wrong_cuts_are_refused_at_once(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k must lie in 1\.\.5 .*got {k}"):
        answer(CodeIndex(a_file()), [asked(a_file())], k)
    with pytest.raises(ValueError, match="4 bits"):
        answer(CodeIndex(a_file()), [asked(CodeFile(CODES, 4))], 1)


def test_the_tie_at_the_end_is_told() -> None:
    index = CodeIndex(a_file())
    query = [asked(CodeFile(np.array([[0]], np.uint8), 3, ids=("q",)))]
    lines = [only(answer(index, query, k)).line() for k in range(1, 6)]
    assert lines == [
        "q: 1 of 2 items at distance 0 shown",
        "q: 2 of 2 items at distance 0 shown",
        "q: 1 of 2 items at distance 1 shown",
        "q: 2 of 2 items at distance 1 shown",
        "q: 1 of 1 item at distance 3 shown",
    ]
    assert only(answer(index, query, 3, score="overlap")).line() == "q: 3 of 5 items at overlap 0 shown"
    assert only(answer(index, query, 1)).to_dict()["tied"] == {"hamming": 0, "items": 2, "shown": 1}


def test_what_is_predicted_is_told() -> None:
    index, names = CodeIndex(a_file()), ("cat", "dog", "sea")
    file = a_file(codes=CODES[:3], labels=np.array([0, 1, 2]))
    part = asked(file, predicted=np.array([0, 2, 2]), classes=names)
    found = list(answer(index, [part], 1))
    assert [(got.predicted, got.right) for got in found] == [("cat", True), ("sea", False), ("sea", True)]
    assert found[0].line() == "0: predicted cat, right; 1 of 2 items at distance 0 shown"
    assert found[1].line() == "1: predicted sea, wrong (its label: dog); 1 of 2 items at distance 0 shown"
    # Labels of other classes are neither right nor wrong; without labels nothing is.
    other = a_file(codes=CODES[:1], labels=np.array([0]), class_names=("bird",))
    bare = CodeFile(CODES[:1], 3)
    for file in (other, bare):
        got = only(answer(index, [asked(file, predicted=np.array([1]), classes=names)], 1))
        assert (got.predicted, got.right) == ("dog", None)
        assert got.line() == "0: predicted dog; 1 of 2 items at distance 0 shown"


def test_several_labels_are_predicted() -> None:
    hot = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0]], np.uint8)
    file = a_file(codes=CODES[:3], labels=hot)
    predicted = np.array([[1, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    index = CodeIndex(a_file(labels=np.eye(3, dtype=np.uint8)[[0, 0, 1, 2, 1]]))
    found = list(answer(index, [asked(file, predicted=predicted, classes=file.class_names)], 5))
    assert [(got.predicted, got.right) for got in found] == [
        ("cat, dog", True),
        ("dog, sea", False),
        ("", True),
    ]
    assert "predicted no label, right" in found[2].line()
    assert [[r.relevant for r in got.results].count(True) for got in found] == [4, 1, 0]


def test_relevance_goes_by_the_names_of_classes() -> None:
    index = CodeIndex(a_file())

    def relevant(**changes: object) -> list[bool | None]:
        file = a_file(codes=CODES[:1], **changes)
        return [r.relevant for r in only(answer(index, [asked(file)], 5)).results]

    by_index = [0, 4, 1, 2, 3]
    dogs = [a_file().labels[i] == 1 for i in by_index]
    assert relevant(labels=np.array([1])) == dogs
    assert relevant(labels=np.array([0]), class_names=("dog",)) == dogs, "a folder with fewer classes"
    assert relevant(labels=np.array([[1, 0]], np.uint8), class_names=("dog", "sea")) == dogs, "several labels"
    assert relevant(labels=np.array([0]), class_names=("bird",)) == [None] * 5
    assert relevant(labels=np.array([1]), class_names=()) == [None] * 5, "numbers of who knows which classes"
    assert relevant(labels=None) == [None] * 5


def test_names_tell_queries_of_several_sources_apart() -> None:
    one = Queries(CodeFile(CODES[:2], 3, ids=("a.jpg", "b.jpg")), ("x/a.jpg", "x/b.jpg"))
    two = Queries(CodeFile(CODES[:2], 3, ids=("a.jpg", "c.jpg")), ("y/a.jpg", "y/c.jpg"))
    assert names_of([one]) == [("a.jpg", "b.jpg")]
    assert names_of([one, two]) == [("x/a.jpg", "b.jpg"), ("y/a.jpg", "c.jpg")]
    same = Queries(CodeFile(CODES[:2], 3, ids=("a", "a")), ("f: a", "f: a"))
    assert names_of([same]) == [("a", "a")], "a file that repeats its ids"
    apart = Queries(CodeFile(CODES[:2], 3, ids=("a", "a")), ("x/a", "y/a"))
    assert names_of([apart]) == [("x/a", "y/a")]


def test_codes_are_picked_by_number() -> None:
    file = a_file(ids=tuple("abcde"))
    picked = pick_queries(file, [3, 0, 3])
    assert picked.codes.codes.tolist() == [[7], [0], [7]] and picked.codes.ids == ("d", "a", "d")
    assert picked.codes.labels.tolist() == [2, 0, 2] and picked.predicted is None
    assert pick_queries(a_file(), [4]).codes.ids == ("4",)
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=rf"--item must lie in 0\.\.4, got {wrong}"):
            pick_queries(file, [0, wrong])


def test_code_files_are_read_without_a_run(tmp_path: Path) -> None:
    paths = [str(a_file(ids=tuple(ids)).save(tmp_path / f"{ids}.safetensors")) for ids in ("abcde", "vwxyz")]
    parts = read_queries(paths, None)
    assert [part.codes.ids for part in parts] == [tuple("abcde"), tuple("vwxyz")]
    assert parts[0].origins[0] == f"{paths[0]}: a"
    with pytest.raises(ValueError, match=r"photo.jpg: .*--run RUN"):
        read_queries([paths[0], "photo.jpg"], None)


def test_a_page_without_pictures(tmp_path: Path) -> None:
    index = CodeIndex(a_file(ids=("<b>", "\x1b[31m", "c", "\u202ed", "e")))
    parts = [asked(a_file(codes=CODES[:1], labels=np.array([0]), ids=("<script>\udcff",)))]
    found = list(answer(index, parts, 5))
    path = write_search_page(tmp_path / "new" / "page.html", index, parts, found, None, more=2)
    page = path.read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;b&gt;" in page and "&lt;script&gt;\\udcff" in page
    assert "\x1b" not in page and "\u202e" not in page and "\\x1b[31m" in page
    assert "1 of 1 item at distance 3 shown" in page and "2 more queries are not shown" in page
    assert "5 codes of 3 bits" in page and "told by their names" in page


def test_a_page_shows_so_many_results_and_says_so(tmp_path: Path) -> None:
    many = CodeFile(np.zeros((150, 1), np.uint8), 3, ids=tuple(f"item-{i}." for i in range(150)))
    parts = [asked(CodeFile(np.zeros((1, 1), np.uint8), 3))]
    index = CodeIndex(many)
    page = write_search_page(
        tmp_path / "p.html", index, parts, list(answer(index, parts, 150)), None
    ).read_text()
    assert "item-99." in page and "item-100." not in page
    assert "the first 100 of 150 results are shown" in page
