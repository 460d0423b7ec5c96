"""Queries beside their nearest items: which to show, what to show of them, and the picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Rectangle
from PIL import Image

import dshc_fast

from ..evaluation import Evaluation
from ..storage import describe_label
from .plots import Theme, new_figure, png

__all__ = [
    "Gallery",
    "Item",
    "Row",
    "draw_gallery",
    "has_pictures",
    "hardest_queries",
    "is_small",
    "make_gallery",
    "spread_queries",
    "thumbnail",
]

_THUMBNAIL = 192
"""Twice the side that a page shows it at: sharp on dense screens."""
_PHOTO = 64
"""A colour image with a longer side is taken for a photo: JPEG, not PNG."""


@dataclass(frozen=True)
class Item:
    """One item of a gallery.

    Attributes:
        name: what it is known by: a file name, a database key.
        label: its class, or its labels; empty: not known.
        number: the same by class number, for a font that lacks letters of its name.
        image: uint8 ``(h, w, 1 or 3)``; None: there is nothing to look at.
        distance: from the query (or overlap with it); None for a query.
        right: whether it is relevant; None for a query and where that is not known.
    """

    name: str
    label: str
    number: str
    image: np.ndarray | None = None
    distance: int | None = None
    right: bool | None = None


@dataclass(frozen=True)
class Row:
    """A query, its nearest items in order, and its AP (NaN: nothing relevant; None: not known)."""

    query: Item
    results: tuple[Item, ...]
    average_precision: float | None


@dataclass(frozen=True)
class Gallery:
    """A titled block of rows; ``name`` becomes the file name of its picture."""

    name: str
    title: str
    caption: str
    rows: tuple[Row, ...]

    @property
    def has_images(self) -> bool:
        """Whether items are pictures (else they are told by name and label)."""
        return has_pictures(self.rows)


def has_pictures(rows: Sequence[Row]) -> bool:
    """Whether any query or result has an image."""
    return any(item.image is not None for row in rows for item in (row.query, *row.results))


def spread_queries(labels: np.ndarray, count: int = 10, *, seed: int = 0) -> np.ndarray:
    """Positions of ``count`` queries (or all, if fewer), over as many classes as there are, whatever their
    results.

    Class ids: the queries are shuffled by the seed, then taken class by class in turn. Multi-hot: simply
    shuffled.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    if labels.ndim == 2:
        return np.sort(order[:count])
    turn = np.empty(len(labels), np.int64)
    for class_id in np.unique(labels):
        mine = order[labels[order] == class_id]
        turn[mine] = np.arange(len(mine))
    picked = order[np.argsort(turn[order], kind="stable")][:count]
    return picked[np.argsort(labels[picked], kind="stable")]


def hardest_queries(average_precision: np.ndarray | None, count: int = 5) -> np.ndarray:
    """Positions of the ``count`` queries of lowest AP, hardest first; those without an AP are left out.

    None, as where an evaluation was read from a file without them: no query is known to be hard.
    """
    if average_precision is None:
        return np.zeros(0, np.int64)
    order = np.argsort(average_precision, kind="stable")  # NaN sorts last
    return order[~np.isnan(average_precision[order])][:count]


def make_gallery(
    name: str,
    title: str,
    caption: str,
    positions: np.ndarray,
    *,
    query_codes: np.ndarray,
    database_codes: np.ndarray,
    query_items: np.ndarray,
    database_items: np.ndarray,
    labels: np.ndarray,
    inputs: np.ndarray | None,
    evaluation: Evaluation,
    class_names: Sequence[str] = (),
    ids: Sequence[str] | None = None,
    k: int = 10,
) -> Gallery:
    """Rank the queries at ``positions`` and collect what is shown of them and of their ``k`` nearest items.

    ``query_items`` and ``database_items`` are the rows of ``labels``, ``inputs`` and ``ids`` behind the
    codes; ``inputs`` are images uint8 ``(n, h, w, c)``, or None where there is nothing to look at. Single rows of them
    are asked for and no others, so they may be decoded as they are asked for (``ImageFiles``).
    """
    k = min(k, len(database_codes))
    nearest = dshc_fast.hamming_topk(query_codes[positions], database_codes, k, score=evaluation.score)

    def item(row: int, distance: int | None = None, right: bool | None = None) -> Item:
        return Item(
            name=ids[row] if ids is not None else f"#{row}",
            label=describe_label(labels[row], class_names),
            number=describe_label(labels[row]),
            image=None if inputs is None else inputs[row],
            distance=distance,
            right=right,
        )

    known = evaluation.per_query
    rows = []
    for position, distances, indices in zip(positions, nearest.distances, nearest.indices, strict=True):
        query = int(query_items[position])
        found = [int(database_items[i]) for i in indices]
        results = tuple(
            item(row, int(distance), _relevant(labels[query], labels[row]))
            for row, distance in zip(found, distances, strict=True)
        )
        rows.append(Row(item(query), results, None if known is None else float(known[position])))
    return Gallery(name, title, caption, tuple(rows))


def is_small(image: np.ndarray) -> bool:
    """Whether an image has so few pixels that each should be seen."""
    return max(image.shape[:2]) < 64


def thumbnail(image: np.ndarray) -> bytes:
    """An image, uint8 ``(h, w, 1 or 3)``, as PNG bytes; a photo (in colour, more than 64 pixels) as JPEG bytes.

    A longer side of more than 192 pixels is brought to 192.
    """
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    is_photo = image.shape[-1] == 3 and max(picture.size) > _PHOTO
    if max(picture.size) > _THUMBNAIL:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if is_photo:
        picture.save(buffer, format="JPEG", quality=85, optimize=True)
    else:
        picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def draw_gallery(gallery: Gallery, theme: Theme) -> bytes:
    """The gallery as one PNG, a query a row; right results are green with a tick, wrong ones red, crossed."""
    columns = 1 + max(len(row.results) for row in gallery.rows)
    width, height = 1.02 * columns + 0.5, 1.3 * len(gallery.rows) + 0.4
    figure = new_figure((width, height), theme)
    figure.set_layout_engine("none")
    # One pair of axes in inches for all: one for each picture takes far longer to draw.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    left, gap = 0.28, 0.35
    for r, row in enumerate(gallery.rows):
        for c, item in enumerate((row.query, *row.results)):
            x = left + 1.02 * c + (gap if c else 0.0)
            _place(axes, theme, item, (x, height - 0.32 - 1.3 * r - 0.92), is_query=c == 0)
    head = {"color": theme.muted, "fontsize": 9, "va": "center"}
    axes.text(left, height - 0.16, "query", **head)
    text = "nearest items, with their distance" if gallery.rows[0].results else ""
    axes.text(left + 1.02 + gap, height - 0.16, text, **head)
    axes.set(xlim=(0, width), ylim=(0, height), aspect="auto")
    return png(figure, dpi=110)


def _place(axes: Axes, theme: Theme, item: Item, corner: tuple[float, float], *, is_query: bool) -> None:
    side, (x, y) = 0.86, corner
    if item.image is not None:
        rows, columns = item.image.shape[:2]
        high, wide = side * rows / max(rows, columns), side * columns / max(rows, columns)
        below, beside = y + (side - high) / 2, x + (side - wide) / 2
        axes.imshow(
            item.image[..., 0] if item.image.shape[-1] == 1 else item.image,
            cmap="gray",
            vmin=0,
            vmax=255,
            interpolation="nearest" if is_small(item.image) else None,
            extent=(beside, beside + wide, below, below + high),
        )
    if is_query:
        colour, mark = theme.ink, _short(legible(item.label, item.number))
    elif item.right is None:
        colour, mark = theme.muted, "" if item.distance is None else f"{item.distance}"
    else:
        colour = theme.right if item.right else theme.wrong
        mark = f"{'✓' if item.right else '✗'} {item.distance}"
    frame = {"linewidth": 1.2 if is_query else 2.6, "edgecolor": colour, "facecolor": "none"}
    axes.add_patch(Rectangle(corner, side, side, zorder=3, **frame))
    text = {"fontsize": 9, "color": colour, "ha": "center", "va": "top", "parse_math": False}
    axes.text(x + side / 2, y - 0.06, mark, **text)


def legible(label: str, number: str) -> str:
    """``label`` where the font of the figures has all its letters, else its number and the letters' codes."""
    font = get_font(findfont(FontProperties()))
    lacking = {letter for letter in label if not font.get_char_index(ord(letter))}
    if not lacking:
        return label
    escaped = (ascii(letter)[1:-1] if letter in lacking else letter for letter in label)
    return f"{number}: {''.join(escaped)}"


def _short(text: str, limit: int = 14) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _relevant(query: np.ndarray, item: np.ndarray) -> bool:
    return bool((query & item).any()) if np.ndim(query) else bool(query == item)
