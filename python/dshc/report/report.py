"""The report of a run: one HTML file that needs nothing else, and the same pictures as PNG files.

Everything is inside the page: style, plots (a light and a dark dress each, the browser takes the one that
fits) and the gallery's pictures as data addresses. The page loads nothing, runs no script and prints well.
"""

from __future__ import annotations

import base64
import html
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
from .gallery import Gallery, Item, Row, draw_gallery, thumbnail
from .html_page import page
from .plots import DARK, LIGHT, Plot, draw, evaluation_plots, training_plot

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
        versions: software versions; see :func:`versions`.
    """

    title: str
    evaluation: Evaluation
    facts: Mapping[str, str]
    config: Mapping[str, object] = field(default_factory=dict)
    history: Sequence[Mapping[str, object]] = ()
    galleries: Sequence[Gallery] = ()
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


def write_report(folder: str | os.PathLike[str], report: Report) -> Path:
    """Write ``report.html`` and ``report/*.png`` into ``folder``, each atomically; returns the page's
    path.
    """
    folder = Path(folder)
    plots = evaluation_plots(report.evaluation)
    training = training_plot(report.history)
    if training is not None:
        plots.append(training)
    figures = {}
    for plot in plots:
        light, dark = draw(plot, LIGHT), draw(plot, DARK)
        write_whole(folder / "report" / f"{plot.name}.png", light)
        figures[plot.name] = _figure(plot, light, dark)
    for gallery in report.galleries:
        if gallery.has_images:
            write_whole(folder / "report" / f"{gallery.name}.png", draw_gallery(gallery, LIGHT))
    return write_whole(folder / "report.html", page(report.title, _body(report, figures)))


def _body(report: Report, figures: dict[str, str]) -> str:
    evaluation = report.evaluation
    wide = figures.pop("training", None)
    parts = [
        _header(report),
        "<section><h2>Numbers</h2>" + _numbers(evaluation) + "</section>",
        '<section><h2>Curves</h2><div class="figures">' + "".join(figures.values()) + "</div></section>",
    ]
    parts += [_gallery(gallery) for gallery in report.galleries if gallery.rows]
    if wide:
        parts.append(f"<section><h2>Training</h2>{wide}</section>")
    details = [_details("Settings", report.config)] if report.config else []
    details.append(_details("Software", report.versions))
    parts.append("<section><h2>How it was made</h2>" + "".join(details) + "</section>")
    return "\n".join(parts)


def _header(report: Report) -> str:
    evaluation = report.evaluation
    name, value, note = evaluation.rows()[0]
    tiles = [_tile(name, value, note, "main")]
    tiles += [_tile(*row) for row in evaluation.rows() if row[0].startswith("class accuracy")][:3]
    tiles.append(
        _tile(
            "code length", f"{evaluation.n_bits} bits", f"{evaluation.database_codes.n_distinct} codes used"
        )
    )
    facts = "".join(
        f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>" for key, value in report.facts.items()
    )
    return (
        f"<header><h1>{_text(report.title)}</h1><dl class='facts'>{facts}</dl>"
        f"<div class='tiles'>{''.join(tiles)}</div></header>"
    )


def _tile(name: str, value: str, note: str, kind: str = "") -> str:
    return (
        f"<div class='tile {kind}'><div class='name'>{_text(name)}</div>"
        f"<div class='value'>{_text(value)}</div><div class='note'>{_text(note)}</div></div>"
    )


def _numbers(evaluation: Evaluation) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{_text(name)}</th><td class='number'>{_text(value)}</td>"
        f"<td class='note'>{_text(note)}</td></tr>"
        for name, value, note in evaluation.rows()
    )
    head = "<tr><th>measure</th><th class='number'>value</th><th>convention</th></tr>"
    return (
        f"<div class='scroll'><table class='numbers'><thead>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _figure(plot: Plot, light: bytes, dark: bytes) -> str:
    title = _text(plot.title)
    return (
        f"<figure><h3>{title}</h3><picture>"
        f"<source media='(prefers-color-scheme: dark)' srcset='{_address(dark)}'>"
        f"<img alt='{title}' src='{_address(light)}'></picture>"
        f"<figcaption>{_text(plot.caption)}</figcaption></figure>"
    )


def _gallery(gallery: Gallery) -> str:
    if gallery.has_images:
        body = "".join(_picture_row(row) for row in gallery.rows)
        body = f"<div class='scroll'><div class='gallery'>{body}</div></div>"
    else:
        body = _name_table(gallery)
    head = f"<h2>{_text(gallery.title)}</h2><p class='lead'>{_text(gallery.caption)}</p>"
    return f"<section>{head}{body}</section>"


def _picture_row(row: Row) -> str:
    query = (
        f"<div class='query'>{_picture(row.query)}<div class='below'>{_text(row.query.label)}"
        f"<span class='ap'>{_ap(row)}</span></div></div>"
    )
    results = "".join(
        f"<div class='item {_verdict(item)}' title='{_text(item.name)}: {_text(item.label)}'>"
        f"{_picture(item)}<div class='below'>{_mark(item)}</div></div>"
        for item in row.results
    )
    return f"<div class='row'>{query}<div class='results'>{results}</div></div>"


def _picture(item: Item) -> str:
    small = " class='pixels'" if max(item.image.shape[:2]) < 64 else ""
    return f"<img{small} alt='{_text(item.label)}' src='{_address(thumbnail(item.image))}'>"


def _name_table(gallery: Gallery) -> str:
    most = max(len(row.results) for row in gallery.rows)
    head = "<th>query</th>" + "".join(f"<th>{rank}</th>" for rank in range(1, most + 1))
    body = ""
    for row in gallery.rows:
        label = f"<small>{_text(row.query.label)}</small><small>{_ap(row)}</small>"
        cells = f"<th scope='row'>{_text(row.query.name)}{label}</th>"
        for item in row.results:
            label = f"<div>{_text(item.name)}</div><small>{_text(item.label)}</small>"
            cells += f"<td class='{_verdict(item)}'>{_mark(item)}{label}</td>"
        body += f"<tr>{cells}</tr>"
    table = f"<table class='names'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div class='scroll'>{table}</div>"


def _mark(item: Item) -> str:
    return f"<b>{'✓' if item.right else '✗'}</b> {item.distance}"


def _verdict(item: Item) -> str:
    return "right" if item.right else "wrong"


def _ap(row: Row) -> str:
    if row.average_precision is None:
        return ""
    return "nothing relevant" if np.isnan(row.average_precision) else f"AP {row.average_precision:.3f}"


def _details(title: str, values: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{_text(key)}</th><td>{_text(value)}</td></tr>" for key, value in values.items()
    )
    return (
        f"<details><summary>{_text(title)}</summary><div class='scroll'><table>{rows}</table></div></details>"
    )


def _address(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
