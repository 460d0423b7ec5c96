"""Plots as a page shows them: drawn in both dresses, in the page itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..storage import write_whole
from .pages import data_address
from .plots import DARK, LIGHT, Plot, draw

__all__ = ["Figure", "drawn"]


@dataclass(frozen=True)
class Figure:
    """A drawn plot: its texts, and its pictures as addresses."""

    title: str
    caption: str
    light: str
    dark: str


def drawn(folder: Path, plot: Plot) -> Figure:
    """Draw a plot in both dresses, write the light one beside the page."""
    light, dark = draw(plot, LIGHT), draw(plot, DARK)
    write_whole(folder / "report" / f"{plot.name}.png", light)
    return Figure(plot.title, plot.caption, data_address(light), data_address(dark))
