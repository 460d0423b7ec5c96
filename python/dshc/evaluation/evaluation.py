"""One evaluation: its numbers, the conventions they were computed under, their text and their JSON."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dshc_fast import RetrievalCurves

from ..storage.whole_files import write_whole
from .conventions import Conventions, name_of
from .plain_numbers import number_text, without_nan
from .statistics import CodeStatistics, TieStatistics

__all__ = ["SCHEMA", "Evaluation"]

SCHEMA = "dshc.evaluation/1"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Conventions, numbers and curves, made by :func:`dshc.evaluation.evaluate`; docs/evaluation.md lists all.

    Two are equal if their documents are: all of :meth:`to_dict`, the AP of each query included.

    Attributes:
        conventions: what was asked for, with the score that the codes were ranked by.
        n_empty: queries with nothing relevant in the database.
        mean_ap: mAP under the conventions.
        by_ties: mAP under the same conventions but each tie rule computed (always expected, best, worst).
        at_k: mAP at each further cut-off asked for.
        metrics: the mean of each further metric asked for, by its name (``ndcg@100``).
        per_query: AP of each query, float64 ``(n_query,)``, NaN where nothing in the database is relevant; None
            where it was read from a file that leaves them out.
        curves: precision and recall at every radius and at some ranks (``dshc_fast.retrieval_curves``).
        pairs, relevant_pairs: int64 ``(n_bits + 1,)``, query-item pairs at each distance (or overlap), over
            all queries.
        accuracy: ``{"queries": {"top_1": ...}, ...}``, or empty where no classifier is known.
        software: versions of what computed the numbers.
        groups: number and mAP of some of the queries, by what they have in common; those asked for.
        tie_statistics: how much the order of equally near items decides; None where it was read from a file of an
            earlier version.
    """

    n_bits: int
    n_query: int
    n_database: int
    n_empty: int
    multilabel: bool
    conventions: Conventions
    mean_ap: float
    standard_error: float
    by_ties: dict[str, float]
    at_k: dict[int, float]
    per_query: np.ndarray | None
    curves: RetrievalCurves
    pairs: np.ndarray
    relevant_pairs: np.ndarray
    mean_tie_group: float
    query_codes: CodeStatistics
    database_codes: CodeStatistics
    accuracy: dict[str, dict[str, float]] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    tie_statistics: TieStatistics | None = None
    groups: dict[str, tuple[int, float]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Evaluation):
            return NotImplemented
        return self.to_dict(per_query=True) == other.to_dict(per_query=True)

    __hash__ = None  # type: ignore[assignment]  # what it holds can be changed

    @property
    def k(self) -> int | None:
        """Cut-off of the headline mAP; None is the whole database."""
        return self.conventions.k

    @property
    def score(self) -> str:
        """What codes were ranked by: ``hamming`` or ``overlap``."""
        return str(self.conventions.score)

    @property
    def bounds_hold(self) -> bool:
        """Whether ``best`` and ``worst`` bound every order of ties; with "retrieved", a cut can break that."""
        return self.conventions.denominator != "retrieved" or self.k is None or self.k >= self.n_database

    def conventions_text(self, *, sizes: bool = True) -> str:
        """``ties=expected, denominator=retrieved, 360 queries, 1437 database`` and what is not default."""
        asked = self.conventions
        parts = [f"ties={asked.ties}", f"denominator={asked.denominator}"]
        if self.score != "hamming":
            parts.append(f"score={self.score}")
        if asked.empty != "zero" or self.n_empty:
            parts.append(f"empty={asked.empty}")
        if sizes:
            parts += [f"{self.n_query} queries", f"{self.n_database} database"]
        if self.n_empty:
            parts.append(f"{self.n_empty} queries with nothing relevant")
        return ", ".join(parts)

    def line(self) -> str:
        """The headline: name and value of mAP, and in parentheses all of :meth:`conventions_text`."""
        return f"{name_of(self.k)} {number_text(self.mean_ap)} ({self.conventions_text()})"

    def accuracy_lines(self) -> list[str]:
        """``class accuracy (queries) 0.9806 (top-1, 360 items)`` for every accuracy known."""
        return [f"{name} {value} ({note})" for name, value, note in self._accuracy_rows()]

    def rows(self) -> list[tuple[str, str, str]]:
        """The table of the report: (name, value, convention) of each number."""
        rows = [(name_of(self.k), number_text(self.mean_ap), self.conventions_text())]
        shared = self.conventions_text(sizes=False)
        worst, best = self.by_ties["worst"], self.by_ties["best"]
        bounds = "relevant items last / first inside each tie"
        if not self.bounds_hold:
            bounds += "; no bounds for a cut with denominator=retrieved"
        rows.append(
            (f"{name_of(self.k)}, worst / best ties", f"{number_text(worst)} / {number_text(best)}", bounds)
        )
        rows += [(name_of(k), number_text(value), shared) for k, value in self.at_k.items()]
        of_metrics = f"mean over queries, ties={self.conventions.ties}, empty={self.conventions.empty}"
        for name, value in self.metrics.items():
            gains = f", gains={self.conventions.gains}" if name.startswith("ndcg") else ""
            rows.append((name, number_text(value), of_metrics + gains))
        for name, (n_query, value) in self.groups.items():
            rows.append(
                (f"{name_of(self.k)}, {name}", number_text(value), f"{n_query} of the queries, {shared}")
            )
        rows += self._accuracy_rows()
        rows += self._radius_rows()
        for rank, precision, recall in zip(
            self.curves.ranks, self.curves.precision_at_rank, self.curves.recall_at_rank, strict=True
        ):
            note = f"tie-expected, macro mean over queries, empty={self.conventions.empty}"
            rows.append(
                (
                    f"precision / recall @{int(rank)}",
                    f"{number_text(precision)} / {number_text(recall)}",
                    note,
                )
            )
        return rows + self._code_rows() + self._tie_rows()

    def to_dict(self, *, per_query: bool = False) -> dict[str, object]:
        """The document of docs/evaluation.md; NaN becomes None. ``per_query`` adds the AP of each query, if known."""
        document: dict[str, object] = {
            "schema": SCHEMA,
            "software": self.software,
            "conventions": {
                "k": self.k,
                "ties": str(self.conventions.ties),
                "denominator": str(self.conventions.denominator),
                "score": self.score,
                "empty": str(self.conventions.empty),
                "gains": str(self.conventions.gains),
            },
            "counts": {
                "n_bits": self.n_bits,
                "n_query": self.n_query,
                "n_database": self.n_database,
                "n_empty_queries": self.n_empty,
                "multilabel": self.multilabel,
            },
            "mean_average_precision": {
                "value": self.mean_ap,
                "standard_error": self.standard_error,
                "by_ties": self.by_ties,
                "ties_bounds_hold": self.bounds_hold,
                "at_k": [{"k": k, "value": value} for k, value in self.at_k.items()],
            },
            "curves": {name: values.tolist() for name, values in self.curves._asdict().items()},
            "distances": {"pairs": self.pairs.tolist(), "relevant_pairs": self.relevant_pairs.tolist()},
            "mean_tie_group": self.mean_tie_group,
            "codes": {"queries": self.query_codes.to_dict(), "database": self.database_codes.to_dict()},
            "class_accuracy": self.accuracy,
        }
        if self.metrics:
            document["retrieval_metrics"] = [
                {"name": name, "value": value} for name, value in self.metrics.items()
            ]
        if self.groups:
            document["query_groups"] = [
                {"name": name, "n_query": n_query, "mean_average_precision": value}
                for name, (n_query, value) in self.groups.items()
            ]
        if self.tie_statistics is not None:
            document["ties"] = self.tie_statistics.to_dict()
        if per_query and self.per_query is not None:
            document["average_precision"] = self.per_query.tolist()
        return without_nan(document)

    def to_json(self, *, per_query: bool = False) -> str:
        """The same as text: one JSON object, two spaces of indent, a final newline."""
        return json.dumps(self.to_dict(per_query=per_query), indent=2, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str], *, per_query: bool = False) -> Path:
        """Write the JSON atomically; returns the path."""
        return write_whole(path, self.to_json(per_query=per_query))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Read what :meth:`save` wrote; equal to what was saved, but for ``per_query`` where that was left out.

        Fields that this version does not know are passed over, as the schema allows.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not an evaluation of this schema, or a damaged one; the message names the file and what is
                wrong.
        """
        from .document import read  # which builds an Evaluation, and needs pydantic

        path = Path(path)
        return read(path.read_bytes(), str(path))

    def _accuracy_rows(self) -> list[tuple[str, str, str]]:
        sizes = {"queries": self.n_query, "database": self.n_database}
        rows = []
        for part, measures in self.accuracy.items():
            note = f", {sizes[part]} items" if part in sizes else ""
            for measure, value in measures.items():
                rows.append(
                    (f"class accuracy ({part})", number_text(value), measure.replace("_", "-") + note)
                )
        return rows

    def _radius_rows(self) -> list[tuple[str, str, str]]:
        curves, rows = self.curves, []
        asked, relation = ((0, 2), "<=") if self.score == "hamming" else ((1, 2), ">=")
        measure = "distance" if self.score == "hamming" else "overlap"
        for radius in asked:
            at = np.flatnonzero(curves.radius == radius)
            if len(at):
                i = int(at[0])
                value = f"{number_text(curves.precision[i])} / {number_text(curves.recall[i])}"
                note = f"macro mean over queries, empty ball counts 0 ({curves.empty_balls[i]:.1%} of balls)"
                rows.append((f"precision / recall at {measure} {relation} {radius}", value, note))
        return rows

    def _code_rows(self) -> list[tuple[str, str, str]]:
        codes, asked = self.database_codes, self.query_codes
        rows = [
            ("distinct codes", f"{codes.n_distinct} of {codes.n_codes}", f"database, {self.n_bits} bits"),
            (
                "distinct query codes",
                f"{asked.n_distinct} of {asked.n_codes}",
                f"queries, {self.n_bits} bits",
            ),
        ]
        if codes.n_most_frequent is not None:
            share = codes.n_most_frequent / codes.n_codes
            note = f"share of the database: {codes.n_most_frequent} of {codes.n_codes} items"
            rows.append(("most frequent code", f"{share:.1%}", note))
        correlation = f"pairs of bits that change, {codes.correlation_rows} database codes"
        return [
            *rows,
            ("constant bits", f"{codes.constant_bits} of {self.n_bits}", "same value in every database code"),
            ("mean bit entropy", number_text(codes.bit_entropy), "1 is balanced; database"),
            ("mean |bit correlation|", number_text(codes.bit_correlation), correlation),
        ]

    def _tie_rows(self) -> list[tuple[str, str, str]]:
        share = self.mean_tie_group / self.n_database
        note = f"size of the tie a database item is in, mean over queries ({share:.1%} of the database)"
        rows = [("mean tie", f"{self.mean_tie_group:.1f} items", note)]
        ties = self.tie_statistics
        if ties is None:
            return rows
        measure = "distance" if self.score == "hamming" else "overlap"
        note = f"database items by the number of {measure}s that occur, mean over queries"
        rows.append((f"items per {measure}", f"{ties.items_per_distance:.1f} items", note))
        for rank, split, tied in zip(ties.ranks, ties.split_share, ties.tied_items, strict=True):
            if rank == 10 or rank == self.k:
                note = f"share of the queries whose items {rank} and {rank + 1} are equally near; "
                note += f"mean size of the tie at {rank}: {tied:.1f} items"
                rows.append((f"tie cut @{rank}", f"{split:.1%}", note))
        return rows
