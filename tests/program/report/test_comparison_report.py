"""The page of a comparison: its table, its links, and names that must not become markup."""

import pytest
from html_pages import Page

from dshc.experiment import ComparisonTable
from dshc.experiment.comparison_table import Result, Tuning
from dshc.report import write_comparison
from dshc.report.comparison_plot import comparison_plot

NUMBERS = {
    "conventions": "mAP@all, ties=expected, denominator=retrieved, score=hamming, empty=zero",
    "n_query": 10,
    "n_database": 90,
    "mean_ap": 0.5,
    "at_k": {"5": 0.75},
    "accuracy": None,
    "precision_radius_2": 0.25,
    "empty_balls_2": 0.125,
    "distinct": 7,
    "bit_entropy": 0.9,
    "constant_bits": 0,
    "cosine_map": 0.625,
    "cosine_queries": 10,
    "encode_us": 3.0,
    "search_us": 4.0,
    "search_k": 90,
    "train_seconds": 1.5,
    "train_peak_mib": 100.0,
    "split": "aa",
}
FACTS = {"data": "<b>set</b>", "n_items": 100, "n_classes": 3, "seeds": 2, "bits": [8, 16], "nested": False}


def result(label, bits, seed, **changed):
    return Result(label, bits, seed, f"runs/{label}-{bits}-{seed}/run", {**NUMBERS, **changed})


@pytest.fixture
def table():
    return ComparisonTable(
        (
            result("dshc", 8, 0, mean_ap=0.5),
            result("dshc", 8, 1, mean_ap=0.75),
            result("dshc", 16, 0),
            result("itq", 8, 0, mean_ap=0.25),
            Result("<i>bad</i>", 8, 0, "runs/bad/run", failure="bits must be <at most> 4, got 8"),
        ),
        (Tuning("dshc", (({"optim.lr": 0.1}, 0.5), ({"optim.lr": 1.0}, None)), {"optim.lr": 0.1}),),
        FACTS,
    )


def test_the_page_shows_the_table_and_links_the_pages_that_are_there(table, tmp_path):
    page_of_a_run = tmp_path / "runs/dshc-8-1/run/report.html"
    page_of_a_run.parent.mkdir(parents=True)
    page_of_a_run.write_text("a run")
    path = write_comparison(tmp_path, table)
    text = path.read_text()
    assert Page(text)
    assert text.count("<a href=") == 1 and 'href="runs/dshc-8-1/run/report.html">1</a>' in text
    assert "0.6250 ± 0.1768" in text and "mAP@5" in text and "0.7500" in text
    assert "lr 0.1: 0.5000; lr 1: failed" in text
    assert (tmp_path / "report" / "map_by_bits.png").read_bytes().startswith(b"\x89PNG")


def test_names_and_errors_are_text_and_not_markup(table, tmp_path):
    text = write_comparison(tmp_path, table).read_text()
    assert "<b>set</b>" not in text and "<i>bad</i>" not in text and "<at most>" not in text
    assert "&lt;i&gt;bad&lt;/i&gt;" in text and "bits must be &lt;at most&gt; 4, got 8" in text
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text


def test_the_plot_names_the_best_first(table):
    plot = comparison_plot(table)
    assert "one standard deviation over 2 seeds" in plot.caption
    failed = ComparisonTable((table.results[-1],), (), FACTS)
    assert comparison_plot(failed) is None


def test_two_splits_under_one_seed_are_refused():
    with pytest.raises(ValueError, match="all methods must be given one split per seed, got 2 for 0"):
        ComparisonTable((result("dshc", 8, 0), result("itq", 8, 0, split="bb")), (), FACTS)


def test_a_page_without_results_is_written(table, tmp_path):
    failed = ComparisonTable((table.results[-1],), (), FACTS)
    text = write_comparison(tmp_path, failed).read_text()
    assert "failed: bits must be" in text and "<img" not in text
