"""The report: one page that needs nothing else, pictures that are pictures, right and wrong marked."""

from __future__ import annotations

import base64
import io
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dshc_fast
from dshc.evaluation import Conventions, Evaluation, evaluate
from dshc.report.gallery import Gallery, hardest_queries, legible, make_gallery, spread_queries, thumbnail
from dshc.report.plots import DARK, LIGHT, draw, evaluation_plots, training_plot
from dshc.report.report import Report, versions, write_report
from dshc.report.retrieval_report import report_files
from dshc.runs.evaluate import Measured
from dshc.storage import CodeFile

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
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"tags left open: {self._open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self._open.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "href"):
                self.addresses.append(value or "")
            if name == "class":
                self.classes += (value or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


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
    assert names == {f"{n}.png" for n in ("pr_curve", "radius", "ranks", "distances", "training", "gallery")}
    for path in (written[0] / "report").iterdir():
        image = picture(path.read_bytes()).convert("L")
        assert min(image.size) > 300 and np.asarray(image).std() > 5, f"{path.name} is blank"


def test_the_gallery_marks_right_and_wrong(written: tuple[Path, str]) -> None:
    gallery = gallery_of(evaluation_of(), images())
    results = [item for row in gallery.rows for item in row.results]
    page = Page(written[1])
    assert page.classes.count("right") == sum(item.right for item in results) > 0
    assert page.classes.count("wrong") == sum(not item.right for item in results) > 0
    assert written[1].count("✓") >= page.classes.count("right")


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
    assert "<table class='names'>" in text and "#12" in text and "&lt;cat&gt;" in text
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
    Page(write_report(tmp_path, Report(case, evaluation, {})).read_text(encoding="utf-8"))


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
    assert picture(thumbnail(images(300, channels)[0])).size == (96, 95)


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
