"""The figures of a report, as PNG bytes, each in a light and a dark dress.

Figures are drawn on their own Agg canvas, never through pyplot: no global state, no display, safe in threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..evaluation import Evaluation

__all__ = [
    "DARK",
    "LIGHT",
    "Plot",
    "Theme",
    "bits_plot",
    "draw",
    "dress",
    "evaluation_plots",
    "new_figure",
    "png",
    "training_plot",
]

MAX_BARS = 256
"""Most bits, and most distances, that are drawn as bars; more become one area."""


@dataclass(frozen=True)
class Theme:
    """Colours of one dress; ``paper`` None leaves the background transparent."""

    paper: str | None
    ink: str
    muted: str
    grid: str
    first: str
    second: str
    fill: str
    right: str
    wrong: str


LIGHT = Theme(
    "#ffffff", "#1b1f24", "#59636e", "#e4e8ec", "#1f6feb", "#d1570b", "#8c959f", "#1a7f37", "#cf222e"
)
DARK = Theme(None, "#e6edf3", "#9aa4af", "#30363d", "#79b0ff", "#ffa657", "#6e7681", "#3fb950", "#ff7b72")


@dataclass(frozen=True)
class Plot:
    """A figure by name: ``paint(figure, theme)`` draws it; the caption says how to read it."""

    name: str
    title: str
    caption: str
    paint: Callable[[Figure, Theme], None]
    size: tuple[float, float] = (5.4, 3.7)


def draw(plot: Plot, theme: Theme) -> bytes:
    """The PNG bytes of a plot."""
    figure = new_figure(plot.size, theme)
    plot.paint(figure, theme)
    return png(figure)


def new_figure(size: tuple[float, float], theme: Theme) -> Figure:
    """An empty figure of ``size`` inches in a theme."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    if theme.paper is None:
        figure.patch.set_alpha(0.0)
    else:
        figure.patch.set_facecolor(theme.paper)
    return figure


def png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def evaluation_plots(evaluation: Evaluation) -> list[Plot]:
    """The four figures of one evaluation: PR curve, radius, ranks, distances."""
    overlap = evaluation.score == "overlap"
    measure = "overlap (ones in common)" if overlap else "Hamming radius"
    ball = "items whose codes have at least r ones in common" if overlap else "items within radius r"
    return [
        Plot(
            "pr_curve",
            "Precision and recall",
            f"One point for every {'overlap' if overlap else 'radius'} r, over the {ball}. Macro: mean over "
            "queries of each query's precision and recall, where an empty ball has precision 0. Micro: all "
            "query-item pairs pooled.",
            lambda figure, theme: _pr_curve(figure, theme, evaluation),
        ),
        Plot(
            "radius",
            f"Precision and recall against {'overlap' if overlap else 'Hamming radius'}",
            f"Over the {ball}. Grey: share of queries whose ball is empty; macro precision counts them as 0.",
            lambda figure, theme: _radius(figure, theme, evaluation, measure),
        ),
        Plot(
            "ranks",
            "Precision and recall at rank",
            "Mean over queries; expected value over all orders of tied items.",
            lambda figure, theme: _ranks(figure, theme, evaluation),
        ),
        Plot(
            "distances",
            f"{'Overlap' if overlap else 'Distance'} of relevant and other pairs",
            "Share of the query-database pairs at each value; relevant and other pairs each add up to 100 %.",
            lambda figure, theme: _distances(figure, theme, evaluation),
        ),
    ]


def bits_plot(evaluation: Evaluation) -> Plot:
    """The share of ones of every bit of the database codes."""
    in_order = evaluation.n_bits <= MAX_BARS
    order = "" if in_order else ", the bits in order of that share"
    return Plot(
        "bits",
        "Balance of the bits",
        f"Share of the database codes that have a 1 in each bit{order}. The line: half of the codes, where a bit tells "
        "most.",
        lambda figure, theme: _bits(figure, theme, evaluation.database_codes.bit_mean, in_order),
        size=(9.0, 2.5),
    )


def training_plot(history: Sequence[Mapping[str, object]]) -> Plot | None:
    """Loss beside accuracy and validation mAP by epoch, or None where the history holds no loss."""
    if not any(isinstance(line.get("loss"), (int, float)) for line in history):
        return None
    return Plot(
        "training",
        "Loss, accuracy and validation mAP by epoch",
        "Left: mean training loss of each epoch. Right: accuracy on the training and validation items, and "
        "validation mAP with its standard error; the kept weights are chosen on the validation split, never on "
        "the queries.",
        lambda figure, theme: _training(figure, theme, history),
        size=(9.0, 3.2),
    )


def dress(axes: Axes, theme: Theme, x_label: str, y_label: str) -> None:
    """Labels, colours and a quiet frame for one pair of axes."""
    axes.set_facecolor("none")
    axes.set_xlabel(x_label, color=theme.muted)
    axes.set_ylabel(y_label, color=theme.muted)
    axes.tick_params(colors=theme.muted, labelsize=9, length=0)
    axes.grid(True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(theme.fill)


def _legend(figure: Figure, axes: Axes, theme: Theme, columns: int = 3) -> None:
    """The legend above the axes, where it hides no line."""
    handles, labels = axes.get_legend_handles_labels()
    options = {"frameon": False, "labelcolor": theme.ink, "fontsize": 9, "ncols": columns}
    figure.legend(handles, labels, loc="outside upper left", **options)


def _pr_curve(figure: Figure, theme: Theme, evaluation: Evaluation) -> None:
    curves, axes = evaluation.curves, figure.subplots()
    dress(axes, theme, "recall", "precision")
    axes.plot(curves.recall, curves.precision, "-o", ms=3.5, color=theme.first, label="macro", zorder=3)
    axes.plot(
        curves.recall_micro, curves.precision_micro, "--s", ms=3, color=theme.second, label="micro", zorder=2
    )
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
    # A few radii are named, so that the curve can be read as a choice of radius; all would overprint.
    last = None
    for i, (x, y) in enumerate(zip(curves.recall, curves.precision, strict=True)):
        if last is not None and np.hypot(x - last[0], y - last[1]) < 0.17:
            continue
        last = (x, y)
        offset = (6, -12) if y > 0.5 else (6, 6)
        label = f"r = {int(curves.radius[i])}"
        axes.annotate(label, (x, y), offset, textcoords="offset points", fontsize=8, color=theme.muted)
    _legend(figure, axes, theme)


def _radius(figure: Figure, theme: Theme, evaluation: Evaluation, measure: str) -> None:
    curves, axes = evaluation.curves, figure.subplots()
    dress(axes, theme, f"{measure} r", "")
    radius = curves.radius
    axes.fill_between(radius, curves.empty_balls, color=theme.fill, alpha=0.22, lw=0, label="empty balls")
    axes.plot(radius, curves.precision, color=theme.first, lw=2, label="precision, macro")
    axes.plot(radius, curves.precision_micro, "--", color=theme.first, lw=1.4, label="precision, micro")
    axes.plot(radius, curves.recall, color=theme.second, lw=2, label="recall, macro")
    axes.plot(radius, curves.recall_micro, "--", color=theme.second, lw=1.4, label="recall, micro")
    # Past the largest distance that occurs (for overlap: below none in common) every ball is the whole
    # database.
    occupied = np.flatnonzero(evaluation.pairs)
    if evaluation.score == "overlap":
        axes.set_xlim(min(occupied[-1] + 1, evaluation.n_bits), 0)
    else:
        axes.set_xlim(0, min(occupied[-1] + 1, evaluation.n_bits))
    axes.set_ylim(0, 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(figure, axes, theme)


def _ranks(figure: Figure, theme: Theme, evaluation: Evaluation) -> None:
    curves, axes = evaluation.curves, figure.subplots()
    dress(axes, theme, "rank", "")
    axes.plot(curves.ranks, curves.precision_at_rank, "-o", ms=4, color=theme.first, label="precision")
    axes.plot(curves.ranks, curves.recall_at_rank, "-s", ms=4, color=theme.second, label="recall")
    axes.set_xscale("log")
    axes.set_xticks(curves.ranks, [f"{int(rank)}" for rank in curves.ranks])
    axes.minorticks_off()
    axes.set_ylim(0, 1.05)
    _legend(figure, axes, theme)


def _distances(figure: Figure, theme: Theme, evaluation: Evaluation) -> None:
    axes = figure.subplots()
    overlap = evaluation.score == "overlap"
    dress(axes, theme, "overlap" if overlap else "Hamming distance", "share of pairs")
    values = np.arange(evaluation.n_bits + 1)
    groups = (
        ("relevant pairs", evaluation.relevant_pairs, theme.right, -0.22),
        ("other pairs", evaluation.pairs - evaluation.relevant_pairs, theme.wrong, 0.22),
    )
    occupied = np.flatnonzero(evaluation.pairs)
    shown = slice(occupied[0], occupied[-1] + 1)
    as_bars = occupied[-1] - occupied[0] < MAX_BARS
    for label, counts, colour, shift in groups:
        share = counts[shown] / max(int(counts.sum()), 1)
        look = {"color": colour, "lw": 0, "label": label}
        if as_bars:
            axes.bar(values[shown] + shift, share, width=0.44, alpha=0.75, **look)
        else:
            axes.fill_between(values[shown], share, step="mid", alpha=0.5, **look)
    axes.set_ylim(bottom=0)
    axes.set_xlim(occupied[0] - 0.8, occupied[-1] + 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    _legend(figure, axes, theme)


def _bits(figure: Figure, theme: Theme, shares: np.ndarray, in_order: bool) -> None:
    axes = figure.subplots()
    dress(axes, theme, "bit" if in_order else "bits, by their share of ones", "share of ones")
    if in_order:
        axes.bar(np.arange(len(shares)), shares, width=0.8, color=theme.first, lw=0)
    else:
        axes.fill_between(np.arange(len(shares)), np.sort(shares), color=theme.first, alpha=0.75, lw=0)
    axes.axhline(0.5, color=theme.second, lw=1.2)
    axes.set(xlim=(-0.8, len(shares) - 0.2), ylim=(0, 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _training(figure: Figure, theme: Theme, history: Sequence[Mapping[str, object]]) -> None:
    left, right = figure.subplots(1, 2)
    dress(left, theme, "epoch", "loss")
    dress(right, theme, "epoch", "")
    left.plot(*_series(history, "loss"), color=theme.first, lw=1.8)
    keys = dict.fromkeys(key for line in history for key in line)
    parts = {"train": theme.first, "validation": theme.second}
    for key in keys:
        part, _, measure = key.partition("_")
        epochs, values = _series(history, key) if part in parts else ([], [])
        is_map = measure == "map"
        label = f"{part} {'mAP' if is_map else measure.replace('_', ' ')}"
        colour, style = (theme.right, "--") if is_map else (parts.get(part), "-")
        if values and measure != "map_error":
            right.plot(epochs, values, style, color=colour, lw=1.8, label=label)
        if is_map:
            _band(right, theme, history, key)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if right.lines:
        right.legend(frameon=False, labelcolor=theme.ink, fontsize=9, loc="best")


def _band(axes: Axes, theme: Theme, history: Sequence[Mapping[str, object]], key: str) -> None:
    """One standard error to both sides of an mAP, where it is known."""
    known = [line for line in history if isinstance(line.get(f"{key}_error"), (int, float))]
    epochs, values = _series(known, key)
    errors = _series(known, f"{key}_error")[1]
    if epochs and len(values) == len(errors):
        low, high = np.subtract(values, errors), np.add(values, errors)
        axes.fill_between(epochs, low, high, color=theme.right, alpha=0.15, lw=0)


def _series(history: Sequence[Mapping[str, object]], key: str) -> tuple[list[float], list[float]]:
    points = [
        (float(line.get("epoch", i + 1)), float(line[key]))
        for i, line in enumerate(history)
        if isinstance(line.get(key), (int, float))
    ]
    return [epoch for epoch, _ in points], [value for _, value in points]
