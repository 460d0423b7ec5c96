"""mAP and curves of merged histograms, with the conventions they were computed under."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dshc_fast

from ..evaluation import Conventions
from ..evaluation.conventions import name_of
from ..evaluation.plain_numbers import number_text, without_nan
from ..evaluation.statistics import mean_of_queries, standard_error
from ..storage.whole_files import write_whole
from .histograms import average_precision_of, curves_of, usual_ranks

__all__ = ["SCHEMA", "MergedEvaluation", "evaluate_histograms"]

SCHEMA = "dshc.merged_evaluation/1"


@dataclass(frozen=True, eq=False)
class MergedEvaluation:
    """What :class:`dshc.Evaluation` has that histograms tell; docs/evaluation.md says what each number means.

    Attributes:
        conventions: what was asked for; ``score``: what ranked.
        n_query, n_database, n_empty: queries, items of the shards that were had, queries with nothing relevant there.
        mean_ap, standard_error: under the conventions; ``by_ties``: with each rule; ``at_k``: at further cut-offs.
        per_query: AP of each query, float64 ``(n_query,)``, NaN where nothing is relevant.
        curves: as :func:`dshc_fast.retrieval_curves` has them.
        pairs, relevant_pairs: int64 ``(n_bits + 1,)``, query-item pairs at each distance (or overlap).
        missing: the shards that are not in it; empty: it is of all.
    """

    conventions: Conventions
    score: str
    n_bits: int
    n_query: int
    n_database: int
    n_empty: int
    mean_ap: float
    standard_error: float
    by_ties: dict[str, float]
    at_k: dict[int, float]
    per_query: np.ndarray
    curves: dshc_fast.RetrievalCurves
    pairs: np.ndarray
    relevant_pairs: np.ndarray
    missing: tuple[str, ...] = ()

    def line(self) -> str:
        """The headline: name and value of mAP with its conventions, and whether shards are missing."""
        asked = self.conventions
        parts = [f"ties={asked.ties}", f"denominator={asked.denominator}"]
        parts += [f"score={self.score}"] if self.score != "hamming" else []
        parts += [f"empty={asked.empty}"] if asked.empty != "zero" or self.n_empty else []
        parts += [f"{self.n_query} queries", f"{self.n_database} database"]
        parts += [f"{self.n_empty} queries with nothing relevant"] if self.n_empty else []
        parts += [f"PARTIAL, without {', '.join(self.missing)}"] if self.missing else []
        return f"{name_of(asked.k)} {number_text(self.mean_ap)} ({', '.join(parts)})"

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and convention of each number behind the headline."""
        asked = self.conventions
        shared = f"ties={asked.ties}, denominator={asked.denominator}, empty={asked.empty}"
        bounds = f"{number_text(self.by_ties['worst'])} / {number_text(self.by_ties['best'])}"
        rows = [
            (f"{name_of(asked.k)}, worst / best ties", bounds, "relevant items last / first inside each tie")
        ]
        rows += [(name_of(k), number_text(value), shared) for k, value in self.at_k.items()]
        curves = self.curves
        for rank, precision, recall in zip(
            curves.ranks, curves.precision_at_rank, curves.recall_at_rank, strict=True
        ):
            value = f"{number_text(precision)} / {number_text(recall)}"
            rows.append((f"precision / recall @{int(rank)}", value, "tie-expected, macro mean over queries"))
        return rows

    def to_dict(self, *, per_query: bool = False) -> dict[str, object]:
        """Plain numbers for JSON; NaN becomes None."""
        asked = self.conventions
        document: dict[str, object] = {
            "schema": SCHEMA,
            "conventions": {
                "k": asked.k,
                "ties": str(asked.ties),
                "denominator": str(asked.denominator),
                "score": self.score,
                "empty": str(asked.empty),
            },
            "counts": {
                "n_bits": self.n_bits,
                "n_query": self.n_query,
                "n_database": self.n_database,
                "n_empty_queries": self.n_empty,
            },
            "missing_shards": list(self.missing),
            "mean_average_precision": {
                "value": self.mean_ap,
                "standard_error": self.standard_error,
                "by_ties": self.by_ties,
                "at_k": [{"k": k, "value": value} for k, value in self.at_k.items()],
            },
            "curves": {name: values.tolist() for name, values in self.curves._asdict().items()},
            "distances": {"pairs": self.pairs.tolist(), "relevant_pairs": self.relevant_pairs.tolist()},
        }
        if per_query:
            document["average_precision"] = self.per_query.tolist()
        return without_nan(document)

    def save(self, path: str | os.PathLike[str], *, per_query: bool = False) -> Path:
        """Write the JSON atomically; returns the path."""
        text = json.dumps(self.to_dict(per_query=per_query), indent=2, allow_nan=False)
        return write_whole(path, text + "\n")


def evaluate_histograms(
    items: np.ndarray,
    relevant: np.ndarray,
    conventions: Conventions,
    *,
    score: str,
    missing: tuple[str, ...] = (),
) -> MergedEvaluation:
    """Measure merged histograms, int64 ``(n_query, n_bits + 1)``.

    Raises ``ValueError`` for queries with nothing relevant where the conventions refuse them.
    """
    n_database = int(items[0].sum())
    empty = conventions.empty

    def at(k: int | None, ties: str) -> np.ndarray:
        denominator = str(conventions.denominator)
        return average_precision_of(items, relevant, k=k, ties=ties, denominator=denominator, score=score)

    rules = {rule: at(conventions.k, rule) for rule in ("expected", "best", "worst")}
    per_query = rules[str(conventions.ties)]
    mean_ap = mean_of_queries(per_query, empty)  # first: it refuses empty queries where that is asked for
    asked = {k for k in (*conventions.ks, conventions.k or 1) if k <= n_database}
    ranks = sorted({*usual_ranks(n_database), *asked})
    return MergedEvaluation(
        conventions=conventions,
        score=score,
        n_bits=items.shape[1] - 1,
        n_query=len(items),
        n_database=n_database,
        n_empty=int(np.isnan(per_query).sum()),
        mean_ap=mean_ap,
        standard_error=standard_error(per_query, empty),
        by_ties={rule: mean_of_queries(values, empty) for rule, values in rules.items()},
        at_k={k: mean_of_queries(at(k, str(conventions.ties)), empty) for k in conventions.ks},
        per_query=per_query,
        curves=curves_of(items, relevant, ranks=ranks, score=score, empty=str(empty)),
        pairs=items.sum(axis=0),
        relevant_pairs=relevant.sum(axis=0),
        missing=missing,
    )
