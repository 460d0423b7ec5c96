"""The report of a run, or of two code files: which facts it states and which queries it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from ..evaluation import Evaluation
from ..runs.evaluate import Measured
from ..runs.run import Run
from ..storage import CodeFile
from .gallery import Gallery, hardest_queries, make_gallery, spread_queries
from .report import Report, write_report

__all__ = ["report_files", "report_run"]


class Images(Protocol):
    """Images by number: an array, or :class:`dshc.data.image_files.ImageFiles`, which decodes the one asked for."""

    def __getitem__(self, item: int, /) -> np.ndarray:
        """uint8 ``(h, w, c)``."""


RELEVANT = (
    "Green with a tick: relevant; red with a cross: not. Below each: its {}; equal ones are in index order."
)


def report_run(run: Run, measured: Measured, folder: Path | None = None) -> Path:
    """Write the report of a run into its folder, or another; returns the page's path."""
    settings, split, dataset = run.settings, run.split, run.dataset
    evaluation, queries, database = measured.evaluation, measured.queries, measured.database
    images = dataset.inputs if dataset.kind == "images" else None
    shape = " x ".join(map(str, dataset.item_shape))
    method = settings.method.name
    facts = {
        "data set": f"{dataset.name}: {dataset.n_items} {dataset.kind}, {shape}, {dataset.n_classes} classes",
        "protocol": split.protocol,
        "split checksum": split.checksum,
        "training / validation": f"{len(split.train)} / {len(split.validation)} items",
        "method": f"{method}, {evaluation.n_bits} bits",
        "seed": str(settings.runtime.seed),
        "model": database.model.rsplit(" ", 1)[-1],
    }
    galleries = _galleries(
        evaluation, queries, database, images=images, query_items=split.query, database_items=split.database
    )
    report = Report(
        title=f"{dataset.name}, {method}, {evaluation.n_bits} bits",
        evaluation=evaluation,
        facts=facts,
        config={name: value for name, value in settings.items() if value is not None},
        history=run.metrics,
        galleries=galleries,
        class_names=dataset.class_names,
    )
    return write_report(folder or run.folder, report)


def report_files(measured: Measured, folder: Path) -> Path:
    """Write the report of two code files into a folder; returns the page's path."""
    queries, database = measured.queries, measured.database
    paths = [file.path or Path(name) for file, name in ((queries, "queries"), (database, "database"))]
    facts = {
        "queries": str(paths[0]),
        "database": str(paths[1]),
        "model": database.model or "not known",
    }
    galleries = _galleries(measured.evaluation, queries, database)
    title = f"{paths[0].stem} in {paths[1].stem}"
    names = database.class_names or queries.class_names
    report = Report(title, measured.evaluation, facts, galleries=galleries, class_names=names)
    return write_report(folder, report)


def _galleries(
    evaluation: Evaluation,
    queries: CodeFile,
    database: CodeFile,
    *,
    images: Images | None = None,
    query_items: np.ndarray | None = None,
    database_items: np.ndarray | None = None,
) -> list[Gallery]:
    """Ten queries drawn over the classes and the five hardest; ``images`` are indexed by the item arrays."""
    labels = np.concatenate([queries.labels, database.labels])
    names = [file.name_of(i) for file in (queries, database) for i in range(len(file))]
    rows = None if images is None else _Rows(images, np.concatenate([query_items, database_items]))
    score = "overlap" if evaluation.score == "overlap" else "Hamming distance"
    common = {
        "query_codes": queries.codes,
        "database_codes": database.codes,
        "query_items": np.arange(len(queries)),
        "database_items": np.arange(len(queries), len(queries) + len(database)),
        "labels": labels,
        "inputs": rows,
        "evaluation": evaluation,
        "class_names": database.class_names or queries.class_names,
        "ids": names,
    }
    spread = spread_queries(queries.labels)
    hardest = hardest_queries(evaluation.per_query)
    count = "Ten" if len(spread) == 10 else str(len(spread))
    relevant = RELEVANT.format(score)
    return [
        make_gallery(
            "gallery",
            f"{count} queries and their nearest items",
            f"Drawn over the classes with a fixed seed, whatever their results. {relevant}",
            spread,
            **common,
        ),
        make_gallery(
            "hardest",
            "The hardest queries",
            f"Lowest average precision first. {relevant}",
            hardest,
            **common,
        ),
    ]


class _Rows:
    """Rows of images behind another numbering: none is copied, or decoded, before it is asked for."""

    def __init__(self, images: Images, rows: np.ndarray) -> None:
        self.images, self.rows = images, rows

    def __getitem__(self, item: int) -> np.ndarray:
        return self.images[int(self.rows[item])]
