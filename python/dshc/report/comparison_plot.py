"""mAP against code length, a line per method, bars over seeds."""

from __future__ import annotations

import itertools

from matplotlib import colormaps
from matplotlib.figure import Figure

from ..experiment import ComparisonTable
from .plots import Plot, Theme, dress

__all__ = ["comparison_plot"]

_MARKERS = "osD^vP*X"


def comparison_plot(table: ComparisonTable) -> Plot | None:
    """The plot of a comparison; None where nothing was measured.

    Methods are named in the order of their mAP at the longest length that they have, as the lines end.
    """
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for group in table.groups:
        if (spread := group.spread("mean_ap")) is not None:
            lines.setdefault(group.label, []).append((group.bits, spread.mean, spread.stdev))
    if not lines:
        return None
    ordered = dict(sorted(lines.items(), key=lambda item: -item[1][-1][1]))
    seeds = table.facts["seeds"]
    over = f"; bars: one standard deviation over {seeds} seeds" if seeds > 1 else ""
    height = max(4.2, 0.24 * len(ordered) + 1.2)
    return Plot(
        "map_by_bits",
        "mAP against code length",
        f"{'; '.join(table.conventions)}{over}. The best at the right end is named first.",
        lambda figure, theme: _paint(figure, theme, ordered),
        (8.4, height),
    )


def _paint(figure: Figure, theme: Theme, lines: dict[str, list[tuple[int, float, float]]]) -> None:
    axes = figure.subplots()
    dress(axes, theme, "bits", "mAP")
    colours = colormaps["tab20"].colors if len(lines) > 10 else colormaps["tab10"].colors
    looks = zip(itertools.cycle(colours), itertools.cycle(_MARKERS), strict=False)
    for (label, points), (colour, marker) in zip(lines.items(), looks, strict=False):
        bits, means, deviations = zip(*points, strict=True)
        axes.errorbar(
            bits,
            means,
            yerr=deviations if any(deviations) else None,
            color=colour,
            marker=marker,
            ms=4.5,
            lw=1.4,
            capsize=2.5,
            label=label,
        )
    ticks = sorted({bits for points in lines.values() for bits, _, _ in points})
    axes.set_xticks(ticks, [str(bits) for bits in ticks])
    figure.legend(frameon=False, labelcolor=theme.ink, fontsize=8, loc="outside right upper")
