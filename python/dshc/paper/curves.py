"""The figures of experiments: curves of several methods in one picture, and maps of codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..report.plots import LIGHT, dress, new_figure, png

__all__ = ["code_map", "code_map_figure", "curve_figure", "radius_figure"]

Measured = Mapping[str, Any]  # "radius", "precision", "recall": equally long lists
_COLOURS = ("#1f6feb", "#d1570b", "#1a7f37", "#8250df", "#59636e", "#cf222e")


def curve_figure(named: Mapping[str, Measured]) -> bytes:
    """Precision against recall, a line for each, as PNG."""
    figure = new_figure((5.4, 3.9), LIGHT)
    axes = figure.subplots()
    dress(axes, LIGHT, "recall", "precision")
    for number, (name, one) in enumerate(named.items()):
        axes.plot(one["recall"], one["precision"], "-o", ms=3, color=_colour(number), label=name)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.05))
    return _with_legend(figure)


def radius_figure(named: Mapping[str, Measured]) -> bytes:
    """Precision (lines) and recall (dashed) against the Hamming radius, as PNG."""
    figure = new_figure((5.4, 3.9), LIGHT)
    axes = figure.subplots()
    dress(axes, LIGHT, "Hamming radius", "")
    for number, (name, one) in enumerate(named.items()):
        axes.plot(one["radius"], one["precision"], color=_colour(number), label=name)
        axes.plot(one["radius"], one["recall"], "--", lw=1.2, color=_colour(number))
    axes.set_ylim(0, 1.05)
    return _with_legend(figure)


def code_map(bits: np.ndarray) -> list[list[float]]:
    """Places of codes (bits 0 and 1, ``(n, n_bits)``) in the plane by t-SNE, seed 0; all at 0 where all are equal."""
    from sklearn.manifold import TSNE  # which takes a second that nothing else here needs

    if (bits == bits[0]).all():
        return [[0.0, 0.0]] * len(bits)
    signs = bits.astype(np.float32) * 2 - 1
    perplexity = min(30.0, (len(signs) - 1) / 3)
    places = TSNE(init="pca", perplexity=perplexity, random_state=0).fit_transform(signs)
    return [[round(float(x), 2), round(float(y), 2)] for x, y in places]


def code_map_figure(named: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A map for each, side by side, coloured by class; ``{"at": places, "labels": class ids}``, as PNG."""
    figure = new_figure((3.4 * len(named), 3.5), LIGHT)
    for axes, (name, one) in zip(np.atleast_1d(figure.subplots(1, len(named))), named.items(), strict=True):
        x, y = np.array(one["at"]).T
        axes.scatter(x, y, s=5, c=one["labels"], cmap="tab10", lw=0)
        axes.set_title(name, fontsize=10, color=LIGHT.ink)
        axes.set(xticks=[], yticks=[])
        for side in axes.spines.values():
            side.set_color(LIGHT.grid)
    return png(figure, 110)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _with_legend(figure: Figure) -> bytes:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", frameon=False, fontsize=9, ncols=3)
    return png(figure, 110)
