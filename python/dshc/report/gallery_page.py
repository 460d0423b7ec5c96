"""A page of queries and their results, for a search."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..storage import write_whole
from .gallery import Row
from .pages import render

__all__ = ["write_gallery_page"]


def write_gallery_page(
    path: str | os.PathLike[str], *, title: str, caption: str, rows: Sequence[Row], notes: Sequence[str] = ()
) -> Path:
    """Write one HTML page of queries and their results, which needs nothing else; returns its path.

    Items with an image are shown by it, others by name; results whose ``right`` is None are marked neither right nor
    wrong. Where no item has an image, the page is a table of names.

    Args:
        path: the file to write; its folder is made.
        title, caption: the heading, and the line below it.
        rows: queries with their results, in the order to be shown.
        notes: further lines below the caption, e.g. how many items are tied.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    page = render("gallery.html", title=title, caption=caption, rows=rows, notes=notes)
    return write_whole(path, page)
