"""DSHC beside DPSH and DSDH, on small embeddings in the place of CIFAR-10."""

import numpy as np
import pytest

from dshc.paper import Bench, get, others
from dshc.paper.curves import code_map, code_map_figure, curve_figure, radius_figure
from dshc.runs import RunSettings

PNG = b"\x89PNG\r\n"


@pytest.fixture
def small(monkeypatch, features):
    base = {"validation": 0.0, "backbone": "mlp", "width": 16, "epochs": 20, "input_size": 8}
    monkeypatch.setattr(others, "_ALL", base)
    monkeypatch.setattr(others, "OWN", {"dshc": {"construction": "cpbc"}, "dpsh": {}, "dsdh": {}})
    monkeypatch.setattr(others, "N_SHOWN", 20)

    def settings(self, name, **values):
        assert name == "cifar10"
        values.pop("input_size")
        return RunSettings.of(source=str(features), protocol="random", batch_size=32, **values)

    monkeypatch.setattr(Bench, "settings", settings)


@pytest.mark.usefixtures("small")
def test_the_page(tmp_path):
    page = get("others").run(Bench(tmp_path, threads=1))
    (table,) = page.tables
    assert [row[:2] for row in table.rows] == [[m, b] for m in ("DSHC", "DPSH", "DSDH") for b in ("30", "60")]
    for row in table.rows:
        cells = dict(zip(table.columns, row, strict=True))
        one = page.numbers[row[0].lower()][row[1]]
        assert cells["mAP"] == f"{one['mean_ap']:.4f}" and one["epochs"] == 20
        assert float(cells["seconds"]) == round(one["train_seconds"] / 20 * 10)
        assert cells["recall at 0"] == f"{one['recall'][0]:.4f}" and one["radius"][:3] == [0, 1, 2]
        assert cells["precision at 2"] == f"{one['precision'][2]:.4f}"
        assert bool(cells["from 60 bits"]) == (row[1] == "30")
        assert len(one["map"]["labels"]) == 20 and len(one["map"]["at"]) == (20 if row[1] == "30" else 0)
    assert page.numbers["dshc"]["30"]["mean_ap"] > 0.6
    assert set(page.figures) == {"precision-recall", "radius", "codes"}
    assert all(picture.startswith(PNG) for _, picture in page.figures.values())
    again = get("others").run(Bench(tmp_path, threads=1))
    assert again.numbers == page.numbers and again.tables == page.tables


def test_the_papers_figures_have_rows():
    rows = {(method, bits) for method in others.METHODS for bits in others.BITS}
    assert {*others.PAPER_MAP, *others.PAPER_SECONDS, *others.PAPER_RECALL} <= rows


def test_codes_that_are_one_lie_together():
    bits = np.repeat(np.eye(3, 12, dtype=np.uint8), 8, axis=0)
    at = np.array(code_map(bits)).reshape(3, 8, 2)
    assert np.isfinite(at).all()
    within = at.std(axis=1).max()
    between = min(np.linalg.norm(at[i].mean(0) - at[j].mean(0)) for i in range(3) for j in range(i))
    assert within < between
    assert code_map(bits) == at.reshape(-1, 2).tolist()
    assert code_map(np.ones((5, 12), np.uint8)) == [[0.0, 0.0]] * 5


def test_figures_are_pictures():
    one = {"radius": [0, 1, 2], "precision": [1.0, 0.8, 0.5], "recall": [0.1, 0.5, 1.0]}
    named = {f"method {number}": one for number in range(8)}
    maps = {"a": {"at": [[0.0, 1.0], [2.0, 3.0]], "labels": [0, 1]}}
    for picture in (curve_figure(named), radius_figure(named), code_map_figure(maps)):
        assert picture.startswith(PNG)
