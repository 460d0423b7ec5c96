"""Names that are markup, control characters or no letters of the font: shown, and they do nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from html_pages import Page
from hypothesis import given
from hypothesis import strategies as st
from report_cases import N_DB, N_QUERY, evaluation_of, gallery_of, images

from dshc.report.gallery import legible
from dshc.report.gallery_page import write_gallery_page
from dshc.report.pages import visible
from dshc.report.report import Report, write_report

HOSTILE = (
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}{% raw %}",
    """' onerror="x" '""",
    "a\nb\x1b[31m\x00\x9b",
    "photo\u202egpj.exe\u2066",
    "half \udc80 a letter",
    "</style></title>&amp;",
    "猫 🐈\u200d\u2b1b",
)


@pytest.mark.parametrize("pictures", [True, False], ids=["images", "names"])
def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path, pictures: bool) -> None:
    names = [HOSTILE[i % len(HOSTILE)] for i in range(N_QUERY + N_DB)]
    evaluation = evaluation_of()
    gallery = gallery_of(
        evaluation,
        images() if pictures else None,
        title=HOSTILE[0],
        caption=HOSTILE[1],
        class_names=HOSTILE[2:5],
        ids=names,
    )
    report = Report(
        HOSTILE[6],
        evaluation,
        dict.fromkeys(HOSTILE, HOSTILE[5]),
        config={name: name for name in HOSTILE},
        galleries=[gallery],
        class_names=HOSTILE[2:5],
    )
    pages = [
        write_report(tmp_path, report),
        write_gallery_page(
            tmp_path / "g.html", title=HOSTILE[6], caption=HOSTILE[1], rows=gallery.rows, notes=HOSTILE
        ),
    ]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        page = Page(text)
        assert not {"script", "link", "iframe"} & set(page.tags)
        assert all(address.startswith("data:image/") for address in page.addresses)
        assert page.tags.count("style") == page.tags.count("title") == 1
        words = "".join(page.words)
        for name in HOSTILE:
            assert visible(name) in words, name
        assert "\\x1b[31m\\x00\\x9b" in words and "\\u202e" in words and "\\udc80" in words
        assert not [letter for letter in text if letter != "\n" and visible(letter) != letter]
        assert HOSTILE[7] in words, "letters of any writing stay as they are"


@given(st.text(st.characters(codec=None)))
def test_text_made_visible_can_be_written_and_holds_nothing_hidden(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert visible(shown) == shown
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)


@pytest.mark.deep
def test_names_the_font_lacks_are_told_by_number(tmp_path: Path) -> None:
    assert legible("sea & sky", "2") == "sea & sky"
    assert legible("\u732b", "0") == "0: \\u732b"
    names = ("\u732b", "a\nb", "$^$")
    gallery = gallery_of(evaluation_of(), images(), title="", caption="", class_names=names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_report(tmp_path, Report("names", evaluation_of(), {}, galleries=[gallery]))
    assert "\u732b" in page.read_text(encoding="utf-8")
