"""A page that shows what a search found: queries beside their nearest items, as pictures where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image

from ..progress import visible
from ..runs import Run
from ..runs.encoding import inputs_of
from .answers import Answer
from .code_index import CodeIndex
from .queries import Queries

__all__ = ["MOST_PICTURES", "MOST_RESULTS", "write_search_page"]

MOST_RESULTS = 100
"""A page shows at most these of a query's results: each is a picture."""
MOST_PICTURES = 3_000
"""A page shows at most so many pictures, the queries' own aside: some 30 MB, which a browser still shows."""
_SIDE = 192
"""Longer sides are brought to it, the size of the report's thumbnails, so that what waits for the page is small."""
_DECODED = 64 << 20  # bytes of images that are decoded at a time


def write_search_page(
    path: Path,
    index: CodeIndex,
    queries: Sequence[Queries],
    answers: Sequence[Answer],
    run: Run | None,
    *,
    more: int = 0,
) -> Path:
    """Write the page and return its path.

    Args:
        path: the file to write, replaced where it exists.
        index, queries, answers: what was searched for what, and what was found; a row each answer, as many as come to
            :data:`MOST_PICTURES` pictures.
        run: whose database was searched, for the pictures of its items; None: items are told by their names.
        more: queries that have no row, which the page then says.

    Raises:
        OSError: the file cannot be written.
    """
    from ..report.gallery import Item, Row
    from ..report.gallery_page import write_gallery_page

    score = answers[0].score if answers else index.file.score
    longest = max((len(found.results) for found in answers), default=0)
    if run is not None and run.hasher.kind == "images":
        shown = answers[: _fitting(answers)]
        answers, more = shown, more + len(answers) - len(shown)
    pictures, why_none = _database_pictures(run, answers)
    rows = []
    for found in answers:
        of = queries[found.part].pictures
        own = None if of is None else _thumbnail(of[found.row])
        asked = Item(visible(found.query), visible(found.label), "", own)
        results = tuple(
            Item(
                name=visible(result.id),
                label=visible(result.label),
                number="",
                image=pictures.get(result.index),
                distance=result.distance,
                right=result.relevant,
            )
            for result in found.results[:MOST_RESULTS]
        )
        rows.append(Row(asked, results, None))
    notes = [visible(found.line()) for found in answers]
    if longest > MOST_RESULTS:
        notes.append(f"the first {MOST_RESULTS} of {longest} results are shown")
    if more:
        notes.append(f"{more} more queries are not shown")
    if why_none:
        notes.append(visible(why_none))
    order = "Hamming distance, nearest first" if score == "hamming" else "overlap, largest first"
    caption = (
        f"Exact search in {len(index):,} codes of {index.file.n_bits} bits, by {order}; at equal distance in the "
        "order of the database."
    )
    return write_gallery_page(
        path, title="Queries and their nearest items", caption=caption, rows=rows, notes=notes
    )


def _database_pictures(run: Run | None, answers: Sequence[Answer]) -> tuple[Mapping[int, np.ndarray], str]:
    """What the items found look like, by their number in the database, and why there is nothing to see."""
    if run is None:
        return {}, "the codes were searched without their images: items are told by their names"
    if run.hasher.kind != "images":
        return {}, ""
    shown = {result.index for found in answers for result in found.results[:MOST_RESULTS]}
    rows = np.array(sorted(shown), np.int64)
    at_once = max(1, _DECODED // int(np.prod(run.hasher.item_shape)))
    found: dict[int, np.ndarray] = {}
    try:
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            found |= zip(part.tolist(), map(_thumbnail, inputs_of(run, "database", part)), strict=True)
    except (ImportError, OSError, ValueError) as error:
        return {}, f"no pictures of the items: {error}"
    return found, ""


def _fitting(answers: Sequence[Answer]) -> int:
    """How many of the answers, from the first on, come to at most so many pictures; at least one."""
    totals = accumulate(min(len(found.results), MOST_RESULTS) for found in answers)
    return max(1, sum(total <= MOST_PICTURES for total in totals))


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """An image, uint8 ``(h, w, 1 or 3)``, with a longer side of 192 pixels at most; of its own memory."""
    if max(image.shape[:2]) <= _SIDE:
        return image.copy()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(picture.height, picture.width, image.shape[-1])
