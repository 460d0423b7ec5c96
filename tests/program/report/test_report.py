"""The report: one page that needs nothing else, pictures that are pictures, right and wrong marked."""

from __future__ import annotations

import base64
import io
import json
import re
import tomllib
import warnings
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import dshc_fast
from dshc.evaluation import Conventions, Evaluation, evaluate
from dshc.report.gallery import (
    Gallery,
    Item,
    Row,
    hardest_queries,
    legible,
    make_gallery,
    spread_queries,
    thumbnail,
)
from dshc.report.gallery_page import write_gallery_page
from dshc.report.pages import visible
from dshc.report.plots import DARK, LIGHT, draw, evaluation_plots, training_plot
from dshc.report.report import Report, versions, write_report
from dshc.report.retrieval_report import _galleries, report_files
from dshc.runs.evaluate import Measured
from dshc.storage import CodeFile

ROOT = Path(__file__).resolve().parents[3]
ADDRESSES = ("src", "srcset", "href", "action", "data", "poster", "background")
N_QUERY, N_DB, N_BITS = 12, 60, 9
CLASS_NAMES = ("<cat>", 'd"og', "sea & sky")


class Page(HTMLParser):
    """What a page refers to, the tags it leaves open, and its text."""

    VOID = {"meta", "img", "source", "br", "link"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"tags left open: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on"), f"{name} runs a script"
            if name in ADDRESSES:
                self.addresses.append(value or "")
            if name == "class":
                self.classes += (value or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"th", "td"} & set(self._open):
            self.cells[-1][-1] = " ".join(f"{self.cells[-1][-1]} {data}".split())


def operands(seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, N_QUERY + N_DB)
    values = np.eye(3)[labels].repeat(3, axis=1) * 2 - 1 + rng.normal(size=(N_QUERY + N_DB, N_BITS))
    codes = dshc_fast.pack_codes(values)
    return codes[:N_QUERY], codes[N_QUERY:], labels[:N_QUERY], labels[N_QUERY:]


def evaluation_of(**options: object) -> Evaluation:
    return evaluate(*operands(), n_bits=N_BITS, accuracy=0.9, conventions=Conventions(**options))


def gallery_of(evaluation: Evaluation, inputs: np.ndarray | None, *, k: int = 10) -> Gallery:
    queries, database, query_labels, database_labels = operands()
    return make_gallery(
        "gallery",
        "Ten queries",
        "A caption with <b>markup</b>.",
        spread_queries(query_labels),
        query_codes=queries,
        database_codes=database,
        query_items=np.arange(N_QUERY),
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
        labels=np.concatenate([query_labels, database_labels]),
        inputs=inputs,
        evaluation=evaluation,
        class_names=CLASS_NAMES,
        k=k,
    )


def images(side: int = 8, channels: int = 1) -> np.ndarray:
    shape = (N_QUERY + N_DB, side, side + 2, channels)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def picture(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("report")
    evaluation = evaluation_of(ks=(5,))
    history = [
        {"epoch": e, "loss": 1 / e, "train_accuracy": 0.9, "validation_map": None if e == 1 else 0.8}
        for e in (1, 2, 3)
    ]
    report = Report(
        title="set <1> & more",
        evaluation=evaluation,
        facts={"split checksum": "0123456789abcdef", "protocol": "digits"},
        config={"bits": 9, "dataset": "a <b>"},
        history=history,
        galleries=[gallery_of(evaluation, images())],
        class_names=CLASS_NAMES,
    )
    return folder, write_report(folder, report).read_text(encoding="utf-8")


def test_the_page_needs_nothing_else(written: tuple[Path, str]) -> None:
    page = Page(written[1])
    assert page.addresses and all(address.startswith("data:image/png;base64,") for address in page.addresses)
    for address in page.addresses:
        picture(base64.b64decode(address.split(",", 1)[1]))
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", written[1])
    assert "prefers-color-scheme: dark" in written[1] and "charset" in written[1]


def test_the_page_says_how_it_was_made(written: tuple[Path, str]) -> None:
    text = " ".join(Page(written[1]).words)
    for words in (
        "set <1> & more",
        "0123456789abcdef",
        "a <b>",
        "<b>markup</b>",
        "torch",
        "dshc_fast",
        "<cat>",
    ):
        assert words in text, words
    assert "ties=expected, denominator=retrieved, 12 queries, 60 database" in text
    assert "Macro:" in text and "Micro:" in text


def test_pictures_beside_the_page(written: tuple[Path, str]) -> None:
    names = {path.name for path in (written[0] / "report").iterdir()}
    drawn = ("pr_curve", "radius", "ranks", "distances", "bits", "training", "gallery")
    assert names == {f"{n}.png" for n in drawn}
    for path in (written[0] / "report").iterdir():
        image = picture(path.read_bytes()).convert("L")
        assert min(image.size) > 300 and np.asarray(image).std() > 5, f"{path.name} is blank"


def test_the_gallery_marks_right_and_wrong(written: tuple[Path, str]) -> None:
    rows = gallery_of(evaluation_of(), images()).rows
    results = [item for row in rows for item in row.results]
    # The first, the middle and the last query stand in the first screen, too, with five results.
    results += [item for row in (rows[0], rows[len(rows) // 2], rows[-1]) for item in row.results[:5]]
    page = Page(written[1])
    assert page.classes.count("right") == sum(item.right for item in results) > 0
    assert page.classes.count("wrong") == sum(not item.right for item in results) > 0
    assert written[1].count("✓") == page.classes.count("right")
    assert written[1].count("✗") == page.classes.count("wrong")


def test_the_first_screen_shows_pictures_beside_numbers(written: tuple[Path, str]) -> None:
    header = written[1].split("</header>")[0]
    assert header.count("data:image/png") == 3 * 6
    words = " ".join(" ".join(Page(header + "</header></body></html>").words).split())
    assert f"mAP@all {evaluation_of(ks=(5,)).mean_ap:.4f}" in words and "3 of 10 queries" in words


def test_the_gallery_shows_the_nearest_in_order() -> None:
    evaluation = evaluation_of()
    queries, database, query_labels, database_labels = operands()
    gallery = gallery_of(evaluation, images(), k=4)
    for position, row in zip(spread_queries(query_labels), gallery.rows, strict=True):
        distances = dshc_fast.hamming_distance(queries[[position]], database)[0]
        order = np.argsort(distances, kind="stable")[:4]
        assert [item.distance for item in row.results] == distances[order].tolist()
        assert [item.name for item in row.results] == [f"#{N_QUERY + i}" for i in order]
        assert [item.right for item in row.results] == (
            database_labels[order] == query_labels[position]
        ).tolist()
        assert row.average_precision == evaluation.per_query[position]


def test_features_are_told_by_name(tmp_path: Path) -> None:
    evaluation = evaluation_of()
    report = Report("features", evaluation, {}, galleries=[gallery_of(evaluation, None)])
    text = write_report(tmp_path, report).read_text(encoding="utf-8")
    assert '<table class="names">' in text and "#12" in text and "&lt;cat&gt;" in text
    assert not (tmp_path / "report" / "gallery.png").exists()
    Page(text)


@pytest.mark.parametrize("case", ["overlap", "cut", "no gallery", "nothing relevant", "one query"])
def test_odd_evaluations_are_drawn(tmp_path: Path, case: str) -> None:
    queries, database, query_labels, database_labels = operands()
    options: dict[str, object] = {}
    if case == "overlap":
        options["score"] = "overlap"
    if case == "cut":
        options |= {"k": 7, "ties": "index"}
    if case == "nothing relevant":
        query_labels = query_labels + 100
    if case == "one query":
        queries, query_labels, database, database_labels = (
            queries[:1],
            query_labels[:1],
            database[:1],
            database_labels[:1],
        )
    codes = (queries, database, query_labels, database_labels)
    evaluation = evaluate(*codes, n_bits=N_BITS, conventions=Conventions(**options))
    page = Page(write_report(tmp_path, Report(case, evaluation, {})).read_text(encoding="utf-8"))
    assert page.tags.count("tr") == 1 + len(evaluation.rows()) + 1 + N_BITS + len(versions())


def test_plots_in_both_dresses() -> None:
    for plot in evaluation_plots(evaluation_of()):
        light, dark = (np.asarray(picture(draw(plot, theme)).convert("RGBA")) for theme in (LIGHT, DARK))
        assert light.shape == dark.shape
        assert light[0, 0].tolist() == [255, 255, 255, 255] and dark[0, 0, 3] == 0, "dark has no background"
        assert plot.caption and plot.title


def test_training_plot_needs_a_loss() -> None:
    assert training_plot([]) is None
    assert training_plot([{"epoch": 1}]) is None
    plot = training_plot([{"epoch": 1, "loss": 2.0, "train_micro_f1": 0.1, "validation_map": None}])
    assert picture(draw(plot, LIGHT)).size[0] > 900


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_keep_small_pictures_and_shrink_large_ones(channels: int) -> None:
    small = images(8, channels)[0]
    assert np.array_equal(np.asarray(picture(thumbnail(small))).reshape(small.shape), small)
    large = picture(thumbnail(images(300, channels)[0]))
    assert large.size == (192, 191) and large.format == ("JPEG" if channels == 3 else "PNG")
    photo = np.linspace(0, 255, 224 * 224 * channels).astype(np.uint8).reshape(224, 224, channels)
    assert len(thumbnail(photo)) < 30_000
    assert picture(thumbnail(images(62, channels)[0])).format == "PNG"  # 62 x 64


def test_queries_are_spread_over_the_classes_whatever_their_results() -> None:
    labels = np.repeat(np.arange(7), [1, 50, 3, 9, 9, 9, 9])
    picked = spread_queries(labels)
    assert len(picked) == 10 == len(set(picked.tolist()))
    assert set(labels[picked]) == set(range(7)) and (np.diff(labels[picked]) >= 0).all()
    assert np.array_equal(picked, spread_queries(labels))
    assert len(spread_queries(labels[:4])) == 4
    assert len(spread_queries(np.ones((30, 4), np.uint8))) == 10
    assert set(labels[spread_queries(np.arange(40))]) <= set(range(40))


def test_hardest_queries_are_in_order_and_leave_out_the_undefined() -> None:
    ap = np.array([0.5, np.nan, 0.1, 1.0, 0.1])
    assert hardest_queries(ap, 3).tolist() == [2, 4, 0]
    assert hardest_queries(np.array([np.nan]), 3).tolist() == []


@pytest.mark.parametrize("inputs", [None, images()], ids=["features", "images"])
def test_a_gallery_without_the_ap_of_queries(tmp_path: Path, inputs: np.ndarray | None) -> None:
    """An evaluation read from a file leaves them out: the queries are shown without."""
    evaluation = Evaluation.load(evaluation_of().save(tmp_path / "evaluation.json"))
    assert evaluation.per_query is None
    gallery = gallery_of(evaluation, inputs)
    assert gallery.rows and all(row.average_precision is None for row in gallery.rows)
    assert len(hardest_queries(evaluation.per_query)) == 0
    page = write_report(tmp_path, Report("read", evaluation, {}, galleries=[gallery]))
    text = " ".join(Page(page.read_text(encoding="utf-8")).words)
    assert "Ten queries" in text and "AP 0" not in text and "nothing relevant" not in text


@pytest.mark.parametrize("per_query", [False, True])
def test_the_report_of_files_skips_the_hardest_where_they_are_not_known(
    tmp_path: Path, per_query: bool
) -> None:
    queries, database, query_labels, database_labels = operands()
    evaluation = Evaluation.load(evaluation_of().save(tmp_path / "evaluation.json", per_query=per_query))
    measured = Measured(
        evaluation,
        CodeFile(queries, N_BITS, labels=query_labels),
        CodeFile(database, N_BITS, labels=database_labels),
    )
    text = report_files(measured, tmp_path).read_text(encoding="utf-8")
    assert "queries and their nearest items" in text
    assert ("The hardest queries" in text) == per_query


def test_every_number_is_that_of_the_evaluation(written: tuple[Path, str]) -> None:
    evaluation = evaluation_of(ks=(5,))
    codes = evaluation.database_codes
    numbers, bits = (
        Page(table).cells for table in re.findall(r"<table.*?</table>", written[1], re.DOTALL)[:2]
    )
    assert [tuple(row) for row in numbers[1:]] == evaluation.rows()
    assert bits[0] == [
        "bit",
        "share of ones",
        "entropy",
        "on in",
        "classes that switch it on most, P(1 | class)",
        "most like bit",
    ]
    assert len(bits) == 1 + N_BITS
    for bit, row in enumerate(bits[1:]):
        share, entropy = f"{codes.bit_mean[bit]:.1%}", f"{codes.entropies[bit]:.3f}"
        assert row[:4] == [str(bit), share, entropy, f"{codes.bit_n_classes[bit]} of 3"]
        for label, rate in zip(codes.bit_classes[bit], codes.bit_class_share[bit], strict=True):
            assert (f"{CLASS_NAMES[label]} {rate:.0%}" in row[4]) == (rate > 0.5)
        assert row[5] == f"{codes.bit_partner[bit]} ({codes.bit_partner_correlation[bit]:+.2f})"


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
    queries, database, query_labels, database_labels = operands()
    names = [HOSTILE[i % len(HOSTILE)] for i in range(N_QUERY + N_DB)]
    evaluation = evaluation_of()
    gallery = make_gallery(
        "gallery",
        HOSTILE[0],
        HOSTILE[1],
        spread_queries(query_labels),
        query_codes=queries,
        database_codes=database,
        query_items=np.arange(N_QUERY),
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
        labels=np.concatenate([query_labels, database_labels]),
        inputs=images() if pictures else None,
        evaluation=evaluation,
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


class OneByOne:
    """Images that are decoded when they are asked for: by a number, and no other way."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.asked = array, []

    def __getitem__(self, row: int) -> np.ndarray:
        assert type(row) is int, "one image at a time"
        self.asked.append(row)
        return self.array[row]


def test_no_image_is_decoded_but_those_shown() -> None:
    queries, database, query_labels, database_labels = operands()
    stored = OneByOne(images())
    galleries = _galleries(
        evaluation_of(),
        CodeFile(queries, N_BITS, labels=query_labels),
        CodeFile(database, N_BITS, labels=database_labels),
        images=stored,
        query_items=np.arange(N_QUERY)[::-1],
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
    )
    assert len(stored.asked) == (10 + 5) * 11
    first = galleries[0].rows[0].query
    assert np.array_equal(first.image, images()[N_QUERY - 1 - spread_queries(query_labels)[0]])


def test_evaluations_of_earlier_versions_are_drawn(tmp_path: Path) -> None:
    document = evaluation_of().to_dict()
    del document["ties"]
    for part in document["codes"].values():
        for name in [name for name in part if name.startswith(("bit_n", "bit_cl", "bit_p", "n_most"))]:
            del part[name]
    (tmp_path / "e.json").write_text(json.dumps(document))
    report = Report("old", Evaluation.load(tmp_path / "e.json"), {})
    text = write_report(tmp_path, report).read_text(encoding="utf-8")
    (header,) = [row for row in Page(text).cells if row[0] == "bit"]
    assert header == ["bit", "share of ones", "entropy"]
    assert "tie cut @10" not in text and "mean tie" in text


def test_templates_are_files_of_the_package() -> None:
    """They come with the wheel: whatever lies in the packages' folders does."""
    names = {path.name for path in (resources.files("dshc.report") / "templates").iterdir()}
    assert {"page.html", "report.html", "gallery.html", "rows.html", "style.css"} <= names
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["scikit-build"]
    assert "python/dshc" in settings["wheel"]["packages"] and "exclude" not in settings["wheel"]
    assert not any("templates" in name for name in settings["sdist"].get("exclude", ()))
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert not {"*.html", "*.css", "templates", "templates/"} & set(ignored)


def test_the_style_knows_light_dark_narrow_and_paper() -> None:
    style = (resources.files("dshc.report") / "templates" / "style.css").read_text(encoding="utf-8")
    for words in ("prefers-color-scheme: dark", "max-width: 640px", "@media print", "overflow-x: auto"):
        assert words in style
    assert not re.search(r"url\(|@import|https?:", style)
    assert style.count("{") == style.count("}")


def test_versions_hold_no_path_of_this_machine() -> None:
    found = versions()
    assert {"Python", "torch", "numpy", "dshc_fast", "SIMD level", "threads"} <= found.keys()
    assert not any("/" in value for value in found.values())


@pytest.mark.deep
def test_names_the_font_lacks_are_told_by_number(tmp_path: Path) -> None:
    assert legible("sea & sky", "2") == "sea & sky"
    assert legible("\u732b", "0") == "0: \\u732b"
    names = ("\u732b", "a\nb", "$^$")
    queries, database, query_labels, database_labels = operands()
    gallery = make_gallery(
        "gallery",
        "",
        "",
        spread_queries(query_labels),
        query_codes=queries,
        database_codes=database,
        query_items=np.arange(N_QUERY),
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
        labels=np.concatenate([query_labels, database_labels]),
        inputs=images(),
        evaluation=evaluation_of(),
        class_names=names,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_report(tmp_path, Report("names", evaluation_of(), {}, galleries=[gallery]))
    assert "\u732b" in page.read_text(encoding="utf-8")
