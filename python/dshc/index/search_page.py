"""A page that shows what a search found: queries beside their nearest items, as pictures where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..progress import visible
from ..runs import Run
from ..runs.encoding import inputs_of
from .answers import Answer
from .code_index import CodeIndex
from .queries import Queries

__all__ = ["MOST_RESULTS", "write_search_page"]

MOST_RESULTS = 100
"""A page shows at most these of a query's results: each is a picture."""


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
        index, queries, answers: what was searched for what, and what was found; a row each answer.
        run: whose database was searched, for the pictures of its items; None: items are told by their names.
        more: queries that have no row, which the page then says.

    Raises:
        OSError: the file cannot be written.
    """
    from ..report.gallery import Item, Row
    from ..report.gallery_page import write_gallery_page

    pictures, why_none = _database_pictures(run, answers)
    rows = []
    for found in answers:
        of = queries[found.part].pictures
        asked = Item(visible(found.query), visible(found.label), "", None if of is None else of[found.row])
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
    longest = max((len(found.results) for found in answers), default=0)
    if longest > MOST_RESULTS:
        notes.append(f"the first {MOST_RESULTS} of {longest} results are shown")
    if more:
        notes.append(f"{more} more queries are not shown")
    if why_none:
        notes.append(visible(why_none))
    score = answers[0].score if answers else index.file.score
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
    try:
        return dict(zip(rows.tolist(), inputs_of(run, "database", rows), strict=True)), ""
    except (ImportError, OSError, ValueError) as error:
        return {}, f"no pictures of the items: {error}"
