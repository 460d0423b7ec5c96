"""The page of a search with pictures: thumbnails of them, a few decoded at a time, and as many as a page can show."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from dshc.index import CodeIndex, search_page
from dshc.index.answers import answer
from dshc.index.queries import Queries
from dshc.index.search_page import write_search_page
from dshc.report.gallery import thumbnail
from dshc.report.pages import data_address
from dshc.storage import CodeFile


def picture(item: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Another one for every item; quick to make and to pack."""
    rows, columns = np.arange(shape[0])[:, None, None], np.arange(shape[1])[None, :, None]
    return ((rows // 7 * (item + 1) + columns // 5 * 3 + np.zeros(shape)) % 256).astype(np.uint8)


class Shown:
    """A page of ``n_query`` queries with ``k`` results each, all of them other items; how many were decoded at once."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, path: Path, shape: tuple[int, int, int], n_query: int, k: int
    ) -> None:
        self.asked: list[int] = []

        def inputs_of(run: object, part: str, rows: np.ndarray) -> np.ndarray:
            self.asked.append(len(rows))
            return np.stack([picture(int(row), shape) for row in rows])

        monkeypatch.setattr(search_page, "inputs_of", inputs_of)
        places = np.repeat(np.arange(n_query, dtype=np.uint16), k)
        database = np.unpackbits(places.view(np.uint8).reshape(-1, 2), axis=1).repeat(k + 1, axis=1)
        codes = np.packbits(database, axis=1)
        index = CodeIndex(CodeFile(codes, 16 * (k + 1)))
        parts = [Queries(CodeFile(codes[::k], 16 * (k + 1)), tuple(map(str, range(n_query))))]
        run = SimpleNamespace(hasher=SimpleNamespace(kind="images", item_shape=shape))
        found = list(answer(index, parts, k))
        write_search_page(path, index, parts, found, run, more=5)  # type: ignore[arg-type]
        self.text = path.read_text(encoding="utf-8")
        self.n_pictures = self.text.count('src="data:image/')


@pytest.mark.parametrize("shape", [(300, 400, 3), (400, 100, 1), (192, 192, 3), (20, 30, 3)])
def test_pictures_are_the_reports_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]
) -> None:
    page = Shown(monkeypatch, tmp_path / "page.html", shape, 2, 3)
    assert page.n_pictures == 6
    for item in range(6):
        assert data_address(thumbnail(picture(item, shape))) in page.text


def test_few_pictures_are_decoded_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (400, 400, 3)  # 480 kB, and 110 kB as thumbnail
    monkeypatch.setattr(search_page, "_DECODED", 10 * 480_000)
    tracemalloc.start()
    try:
        page = Shown(monkeypatch, tmp_path / "page.html", shape, 40, 5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert page.n_pictures == 200 and page.asked == [10] * 20
    assert peak < 48e6, "half of what all pictures take"


def test_a_page_shows_as_many_rows_as_a_page_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_page, "MOST_PICTURES", 25)
    page = Shown(monkeypatch, tmp_path / "page.html", (8, 8, 3), 6, 10)
    assert page.n_pictures == 20 and "9 more queries are not shown" in page.text
    monkeypatch.setattr(search_page, "MOST_PICTURES", 3)
    page = Shown(monkeypatch, tmp_path / "page.html", (8, 8, 3), 2, 10)
    assert page.n_pictures == 10 and "6 more queries are not shown" in page.text
