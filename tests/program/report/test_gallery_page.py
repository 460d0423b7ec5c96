"""The page of a search: queries and their answers, with pictures and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from html_pages import Page
from report_cases import images

from dshc.report.gallery import Item, Row
from dshc.report.gallery_page import write_gallery_page


def item(name: str, image: np.ndarray | None = None, **about: object) -> Item:
    return Item(name, "", "", image, **about)


def test_the_page_of_a_search(tmp_path: Path) -> None:
    image = images()[0]
    results = (item("r0", image, distance=0, right=True), item("r1", distance=3, right=False))
    rows = [
        Row(item("q0", image), results, 0.5),
        Row(item("q1"), (item("r2", image, distance=4),), None),
        Row(item("q2"), (), float("nan")),
    ]
    path = write_gallery_page(
        tmp_path / "new" / "page.html",
        title="Search",
        caption="3 queries",
        rows=rows,
        notes=["10 of 12 shown"],
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert (page.classes.count("right"), page.classes.count("wrong")) == (1, 1)
    assert (
        page.classes.count("item") == 3 and page.tags.count("img") == 3 and page.classes.count("blank") == 3
    )
    words = " ".join(" ".join(page.words).split())
    for text in ("10 of 12 shown", "✓ 0", "✗ 3", "AP 0.500", "nothing relevant", "r1", "q1"):
        assert text in words
    assert words.count("✓") == words.count("✗") == 1


def test_the_page_of_a_search_without_pictures_or_results(tmp_path: Path) -> None:
    rows = [Row(item("q0"), tuple(item(f"r{i}", distance=i) for i in range(3)), None)]
    path = write_gallery_page(tmp_path / "page.html", title="", caption="", rows=rows)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.cells == [["query", "1", "2", "3"], ["q0", "0 r0", "1 r1", "2 r2"]]
    assert not {"right", "wrong"} & set(page.classes)
    Page(write_gallery_page(path, title="", caption="", rows=[]).read_text(encoding="utf-8"))
