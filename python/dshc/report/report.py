"""The report of a run: one HTML file that needs nothing else, and the same pictures as PNG files.

Everything is inside the page: style, plots (a light and a dark dress each, the browser takes the one that
fits) and the gallery's pictures as data addresses. The page loads nothing, runs no script and prints well. Its markup
and its style are files in ``templates/``.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import dshc_fast

from ..evaluation import Evaluation
from ..storage import write_whole
from .bits import bit_table
from .figures import drawn
from .gallery import Gallery, Row, draw_gallery
from .pages import render
from .plots import LIGHT, bits_plot, evaluation_plots, training_plot

__all__ = ["Report", "versions", "write_report"]


@dataclass(frozen=True)
class Report:
    """What a report shows.

    Attributes:
        title: the heading, e.g. ``"digits, 30 bits"``.
        evaluation: the numbers.
        facts: short (name, value) pairs under the heading: data set, protocol, split checksum, method, seed.
        config: the settings of the run; may be empty.
        history: lines of metrics.jsonl; may be empty.
        galleries: pictures or tables of queries and their nearest items; may be empty.
        class_names: names of the classes or labels; empty: not known.
        versions: software versions; see :func:`versions`.
    """

    title: str
    evaluation: Evaluation
    facts: Mapping[str, str]
    config: Mapping[str, object] = field(default_factory=dict)
    history: Sequence[Mapping[str, object]] = ()
    galleries: Sequence[Gallery] = ()
    class_names: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: versions())


def versions() -> dict[str, str]:
    """Python, libraries, the core's build and the threads: what a number may depend on."""
    build = dshc_fast.build_info()
    return {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "numpy": np.__version__,
        "torch": torch.__version__,
        "dshc_fast": dshc_fast.__version__,
        "SIMD level": str(dshc_fast.get_simd_level()),
        "threads": str(torch.get_num_threads()),
        "compiler": str(build.get("compiler", "not known")),
        "CUDA": str(build.get("cuda", "not known")),
    }


@dataclass(frozen=True)
class Examples:
    """A few rows of a gallery, for the first screen."""

    rows: tuple[Row, ...]
    n_results: int
    caption: str


def write_report(folder: str | os.PathLike[str], report: Report) -> Path:
    """Write ``report.html`` and ``report/*.png`` into ``folder``, each atomically; returns the page's
    path.
    """
    folder, evaluation = Path(folder), report.evaluation
    training = training_plot(report.history)
    page = render(
        "report.html",
        title=report.title,
        facts=report.facts,
        tiles=_tiles(evaluation),
        examples=_examples(report.galleries),
        numbers=evaluation.rows(),
        curves=[drawn(folder, plot) for plot in evaluation_plots(evaluation)],
        galleries=[gallery for gallery in report.galleries if gallery.rows],
        bits=bit_table(evaluation.database_codes, report.class_names),
        bits_figure=drawn(folder, bits_plot(evaluation)),
        training=None if training is None else drawn(folder, training),
        config=report.config,
        versions=report.versions,
    )
    for gallery in report.galleries:
        if gallery.has_images:
            write_whole(folder / "report" / f"{gallery.name}.png", draw_gallery(gallery, LIGHT))
    return write_whole(folder / "report.html", page)


def _tiles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The headline numbers: mAP, class accuracy, length, and what the ranking leaves to chance."""
    rows = evaluation.rows()
    accuracy = [row for row in rows if row[0].startswith("class accuracy")][:3]
    length = (
        "code length",
        f"{evaluation.n_bits} bits",
        f"{evaluation.database_codes.n_distinct} codes used",
    )
    ties = [row for row in rows if row[0].startswith("tie cut")][:1]
    return [rows[0], *accuracy, length, *ties]


def _examples(galleries: Sequence[Gallery]) -> Examples | None:
    """First, middle and last row of the first gallery: whatever their results, as that one is."""
    rows = galleries[0].rows if galleries else ()
    if not rows:
        return None
    shown = tuple(rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1}))
    n_results = 5 if galleries[0].has_images else 3
    nearest = min(n_results, max(len(row.results) for row in shown))
    caption = f"{len(shown)} of {len(rows)} queries (all of them below): the query, then its {nearest} nearest items."
    return Examples(shown, n_results, caption)
