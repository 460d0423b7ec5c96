"""The experiment on several labels, small: every method, score and seed, and the preset of the paper's set."""

import dataclasses

import numpy as np
import pytest

from dshc.paper import Bench, get, multilabel
from dshc.runs import RunSettings


@pytest.fixture
def items(tmp_path):
    """Embeddings with four labels that are read off them."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(160, 8)).astype(np.float32)
    labels = (inputs[:, :4] > 0.3).astype(np.uint8)
    np.savez(tmp_path / "items.npz", features=inputs, labels=labels)
    return tmp_path / "items.npz"


def _plan(**values):
    base = {"data": ("toy",), "bits": (8,), "seeds": 2, "cut": 20}
    base["values"] = {"width": 16, "epochs": 8, "batch_size": 32}
    return dataclasses.replace(multilabel._FEATURES, **{**base, **values})


def test_the_page(items, tmp_path):
    bench, plan = Bench(tmp_path / "work", {"toy": str(items)}, threads=1), _plan()
    page = multilabel._page(bench, plan)
    (table,) = page.tables
    assert table.columns == ["method", "bits", "ranked by", "mAP@all", "mAP@20", "seconds"]
    assert [row[:3] for row in table.rows] == [
        ["dshc-multilabel", "4", "overlap"], ["dshc-multilabel", "4", "hamming"], ["csq", "8", "hamming"],
        ["orthohash", "8", "hamming"], ["hashnet", "8", "hamming"]]  # fmt: skip
    (first, *_), name = page.numbers["toy"], "toy"
    values = [split["scores"]["overlap"]["mean_ap"] for split in first["splits"]]
    assert len(values) == 2 and table.title == name
    assert table.rows[0][3] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" and min(values) > 0.5
    assert multilabel._page(Bench(tmp_path / "work", {"toy": str(items)}, threads=1), plan) == page


def test_a_cut_past_the_database_is_left_out(items, tmp_path):
    bench = Bench(tmp_path / "work", {"toy": str(items)}, threads=1)
    page = multilabel._page(bench, _plan(cut=5000, seeds=1))
    assert page.tables[0].columns == ["method", "bits", "ranked by", "mAP@all", "seconds"]


@pytest.mark.parametrize("bits", [4, 21])
def test_the_papers_set_has_both_settings_and_its_figure(items, tmp_path, monkeypatch, bits):
    monkeypatch.setattr(multilabel, "PAPER_BITS", bits)
    values = {"width": 16, "epochs": 2, "batch_size": 32}
    own = {"values": values, "protocols": ("random", "default"), "bits": (8,), "cut": 20}
    plan = dataclasses.replace(multilabel._NUSWIDE, **own)
    page = multilabel._page(Bench(tmp_path / "work", {"nuswide": str(items)}, threads=1), plan)
    assert [table.title for table in page.tables] == ["nuswide, random", "nuswide, default"]
    for table in page.tables:
        cells = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        beside = [row for row in cells if row["paper"]]
        assert "160 items, protocol random: " in table.about
        if bits == 21:  # codes of four labels are not the paper's
            assert not beside and not any(row["difference"] for row in cells)
            continue
        (row,) = beside
        assert (row["method"], row["bits"], row["ranked by"]) == ("dshc-multilabel", "4", "overlap")
        assert row["paper"] == "0.8440"
        assert float(row["difference"]) == pytest.approx(float(row["mAP@20"]) - 0.844, abs=2e-4)


def test_the_preset_is_the_papers():
    plan = multilabel._NUSWIDE
    settings = RunSettings.of(source="list.csv", method="dshc-multilabel", **plan.values)
    assert settings.encoder.backbone == "timm:resnet101" and settings.optim.lr == 0.1
    assert (settings.optim.schedule, settings.optim.lr_every) == ("step", 6) and plan.cut == 50_000
    assert plan.protocols == ("nuswide-full", "nuswide-10500")
    assert get("multilabel-nuswide").data == ("nuswide",)
