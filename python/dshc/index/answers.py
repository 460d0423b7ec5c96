"""What a search answers: the nearest items of each query, and how many more are as near as the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..storage import CodeFile, describe_label
from ..storage.code_files import check_same_code
from .code_index import CodeIndex
from .queries import Queries, names_of

__all__ = ["Answer", "Result", "Tied", "answer"]

_RESULTS_AT_ONCE = 1 << 20
"""Most results that are held at a time, whatever ``k``."""


@dataclass(frozen=True)
class Result:
    """An item that was found; ``distance`` is the overlap where that ranks; ``relevant`` None: not known."""

    rank: int
    distance: int
    index: int
    id: str
    label: str
    relevant: bool | None


@dataclass(frozen=True)
class Tied:
    """The tie at the end of an answer: of ``items`` at ``distance``, the last one shown, ``shown`` are shown."""

    distance: int
    items: int
    shown: int


@dataclass(frozen=True)
class Answer:
    """A query and its nearest items, sorted by (distance, index).

    ``predicted`` is the query's class by the method, None where it predicts none; ``right`` whether that is its
    label, None where either is not known. ``part`` and ``row`` say which query it is of those that were asked.
    """

    query: str
    label: str
    predicted: str | None
    right: bool | None
    n_bits: int
    score: str
    results: tuple[Result, ...]
    tied: Tied
    part: int = 0
    row: int = 0

    def line(self) -> str:
        """What stands below the results: ``cat.jpg: predicted cat, right; 4 of 20 items at distance 3 shown``."""
        unit = "distance" if self.score == "hamming" else self.score
        items = "item" if self.tied.items == 1 else "items"
        tied = f"{self.tied.shown} of {self.tied.items} {items} at {unit} {self.tied.distance} shown"
        if self.predicted is None:
            return f"{self.query}: {tied}"
        outcome = {None: "", True: ", right", False: f", wrong (its label: {self.label or 'none'})"}[
            self.right
        ]
        return f"{self.query}: predicted {self.predicted or 'no label'}{outcome}; {tied}"

    def to_dict(self) -> dict[str, object]:
        """Plain content for JSON; distances are named by the score."""
        results = [
            {
                "rank": result.rank,
                self.score: result.distance,
                "index": result.index,
                "id": result.id,
                "label": result.label,
                "relevant": result.relevant,
            }
            for result in self.results
        ]
        tied = {self.score: self.tied.distance, "items": self.tied.items, "shown": self.tied.shown}
        return {
            "query": self.query,
            "label": self.label,
            "predicted": self.predicted,
            "right": self.right,
            "n_bits": self.n_bits,
            "tied": tied,
            "results": results,
        }


def answer(
    index: CodeIndex,
    queries: Sequence[Queries],
    k: int,
    *,
    score: str | None = None,
    limit: int | None = None,
) -> Iterator[Answer]:
    """The ``k`` nearest items of each query, in the order of the queries; of the first ``limit`` only, if given.

    Searched some at a time, so that memory grows with neither ``k`` nor the number of queries. Raises ``ValueError``
    for a k out of range and for codes of another length, before anything is answered.
    """
    if not 1 <= k <= len(index):
        raise InputError(f"k must lie in 1..{len(index)} (the number of codes in the database), got {k}")
    for part in queries:
        check_same_code(part.codes, index.file)
    return _answers(index, queries, k, score or index.file.score, limit)


def _answers(
    index: CodeIndex, queries: Sequence[Queries], k: int, score: str, limit: int | None
) -> Iterator[Answer]:
    step = max(1, _RESULTS_AT_ONCE // k)
    left = sum(map(len, queries)) if limit is None else limit
    for number, (part, names) in enumerate(zip(queries, names_of(queries), strict=True)):
        relevant = _relevance(part.codes, index.file)
        for start in range(0, min(left, len(part)), step):
            codes = part.codes.codes[start : min(start + step, left)]
            found = index.search(codes, k, score=score)
            tied = index.count_at(codes, found.distances[:, -1], score=score)
            for at, (distances, indices) in enumerate(zip(found.distances, found.indices, strict=True)):
                row = start + at
                predicted, right = _predicted(part, row)
                last = Tied(int(distances[-1]), int(tied[at]), int((distances == distances[-1]).sum()))
                yield Answer(
                    query=names[row],
                    label=part.codes.label_of(row),
                    predicted=predicted,
                    right=right,
                    n_bits=index.file.n_bits,
                    score=score,
                    results=tuple(
                        Result(
                            rank,
                            int(distance),
                            int(i),
                            index.file.name_of(i),
                            index.file.label_of(i),
                            relevant(row, int(i)),
                        )
                        for rank, (distance, i) in enumerate(zip(distances, indices, strict=True), start=1)
                    ),
                    tied=last,
                    part=number,
                    row=row,
                )
        left -= min(left, len(part))


def _predicted(part: Queries, row: int) -> tuple[str | None, bool | None]:
    """The predicted class (the predicted labels, joined by commas), and whether it is the query's."""
    if part.predicted is None:
        return None, None
    text = describe_label(part.predicted[row], part.classes)
    if part.codes.labels is None:
        return text, None
    mine, theirs = _names(part.codes, row), _hot(part.predicted[row], part.classes)
    return text, mine == theirs if mine <= set(part.classes) else None


def _relevance(queries: CodeFile, database: CodeFile) -> Callable[[int, int], bool | None]:
    """Says of a query and an item whether they share a label; None where either has none, or where the query has one
    that the database does not know.

    Classes are told by their names; by their numbers where neither file names them.
    """
    if queries.labels is None or database.labels is None:
        return lambda query, item: None
    if queries.class_names == database.class_names and queries.labels.shape[1:] == database.labels.shape[1:]:
        asked, there = queries.labels, database.labels
        if asked.ndim == 2:
            return lambda query, item: bool((asked[query] & there[item]).any())
        return lambda query, item: (
            None if min(asked[query], there[item]) < 0 else bool(asked[query] == there[item])
        )
    if not queries.class_names or not database.class_names:
        return lambda query, item: None
    known = set(database.class_names)

    def by_name(query: int, item: int) -> bool | None:
        wanted, found = _names(queries, query), _names(database, item)
        return bool(wanted & found) if wanted <= known and "" not in found else None

    return by_name


def _names(file: CodeFile, item: int) -> set[str]:
    """The names of an item's classes; of those that have none, their numbers; of no class (-1) an empty text."""
    return set() if file.labels is None else _hot(file.labels[item], file.class_names)


def _hot(label: np.ndarray | int, names: Sequence[str]) -> set[str]:
    classes = np.flatnonzero(label) if np.ndim(label) else [label]
    return {describe_label(c, names) for c in classes}
