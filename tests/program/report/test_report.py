"""The report of a run: one page that needs nothing else, with every number of its evaluation."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from html_pages import Page
from report_cases import CLASS_NAMES, N_BITS, evaluation_of, gallery_of, images, operands, picture

from dshc.evaluation import Conventions, Evaluation, evaluate
from dshc.report.gallery import hardest_queries
from dshc.report.report import Report, versions, write_report
from dshc.report.retrieval_report import report_files
from dshc.runs.evaluate import Measured
from dshc.storage import CodeFile


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


def test_versions_hold_no_path_of_this_machine() -> None:
    found = versions()
    assert {"Python", "torch", "numpy", "dshc_fast", "SIMD level", "threads"} <= found.keys()
    assert not any("/" in value for value in found.values())
