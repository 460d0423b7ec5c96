"""Measuring a run on its held-out queries, or two files of codes against each other."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluation import Conventions, Evaluation, class_accuracy, evaluate
from ..storage import CodeFile
from .advice import about_codes
from .encoding import encode_part
from .run import Run
from .settings import RunSettings
from .train import train

__all__ = ["Measured", "evaluate_files", "evaluate_run", "query_groups", "train_and_evaluate"]


@dataclass(frozen=True)
class Measured:
    """An evaluation and the codes it is of."""

    evaluation: Evaluation
    queries: CodeFile
    database: CodeFile


def evaluate_run(
    run: Run,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    *,
    out: Path | None = None,
    per_query: bool = False,
) -> Measured:
    """Encode the queries and the database of a run, evaluate, write ``evaluation.json``.

    It goes into ``out`` and nothing into the run folder; without it all goes there, with the codes.
    """
    queries, query_classes = encode_part(run, "query", keep=out is None)
    database, database_classes = encode_part(run, "database", keep=out is None)
    if text := about_codes(database.codes, database.labels, run.settings):
        warnings.warn(text, stacklevel=2)
    accuracy: dict[str, dict[str, float]] = {}
    if query_classes is not None and database_classes is not None:
        accuracy = {
            "queries": class_accuracy(query_classes, queries.labels),
            "database": class_accuracy(database_classes, database.labels),
        }
    groups = query_groups(run, queries.labels)
    evaluation = evaluate(queries, database, conventions=conventions, accuracy=accuracy, groups=groups)
    evaluation.save((out or run.folder) / "evaluation.json", per_query=per_query)
    return Measured(evaluation, queries, database)


def query_groups(run: Run, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Which queries are of classes that the run was trained on and which are not, where some were left out."""
    if not run.settings.data.unseen_classes:
        return {}
    seen = np.isin(labels, run.dataset.labels[run.split.train])
    groups = {"classes seen in training": seen, "unseen classes": ~seen}
    return {name: members for name, members in groups.items() if members.any()}


def evaluate_files(
    query_path: Path,
    database_path: Path,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    *,
    out: Path | None = None,
    per_query: bool = False,
) -> Measured:
    """Evaluate two labelled code files; the JSON is written only where ``out`` names a folder."""
    queries, database = CodeFile.load(query_path), CodeFile.load(database_path)
    for file in (queries, database):
        if file.labels is None:
            raise InputError(f"{file.path}: must hold labels to be evaluated, got none")
    if queries.class_names and database.class_names and queries.class_names != database.class_names:
        raise InputError(f"{query_path} and {database_path}: their labels name different classes")
    evaluation = evaluate(queries, database, conventions=conventions)
    if out is not None:
        evaluation.save(out / "evaluation.json", per_query=per_query)
    return Measured(evaluation, queries, database)


def train_and_evaluate(
    settings: RunSettings,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    **options: Any,
) -> Evaluation:
    """Train as :func:`dshc.train` does and measure the run: what seeds and grids are made of."""
    return evaluate_run(train(settings, **options), conventions).evaluation
