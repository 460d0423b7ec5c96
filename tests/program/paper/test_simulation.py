"""Draws among sub-classes: shares are those asked for, and perfect classes of far codes rank perfectly."""

import numpy as np
import pytest
from training_runs import train

from dshc.codebooks import build
from dshc.paper.simulation import UNEVEN, simulated_codes, simulated_readings, simulation_table

N = 30_000


def sub_classes(book, codes):
    """The row of the codebook of every code; all codes of it must differ."""
    rows = {code.tobytes(): row for row, code in enumerate(book.codes)}
    assert len(rows) == book.n_subclasses
    return np.array([rows[code.tobytes()] for code in codes])


@pytest.mark.parametrize(("accuracy", "unevenness"), [(1.0, 0.0), (0.8, 0.0), (0.0, 0.0), (0.9, 2.0)])
def test_classes_and_sub_classes_are_drawn_as_said(accuracy, unevenness):
    book = build("separated", 5, 15)
    labels = np.arange(N) % 5
    drawn = sub_classes(book, simulated_codes(book, labels, accuracy, unevenness, np.random.default_rng(1)))
    classes = np.searchsorted(book.class_offsets, drawn, side="right") - 1
    assert (classes == labels).mean() == pytest.approx(accuracy, abs=0.01)
    shares = np.bincount(drawn, minlength=book.n_subclasses) / N
    weights = np.exp(unevenness * np.random.default_rng(0).standard_normal(book.n_subclasses))
    parts = [slice(*ends) for ends in zip(book.class_offsets[:-1], book.class_offsets[1:], strict=True)]
    expected = np.concatenate([weights[part] / weights[part].sum() / 5 for part in parts])
    assert shares == pytest.approx(expected, abs=0.01)
    wrong = classes != labels
    if wrong.any():
        by = np.array([((classes - labels) % 5 == step)[wrong].mean() for step in range(1, 5)])
        assert by == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_a_runs_codebook_with_draws(features, tmp_path):
    values = {"source": str(features), "bits": 9, "epochs": 2, "width": 8, "threads": 1}
    run = train(tmp_path / "run", {**values, "construction": "separated"})
    found = simulated_readings(run, (1.0, 1.0), 40)
    assert found == simulated_readings(run, (1.0, 1.0), 40)
    # Centers are at least 5 apart at 9 bits and three classes, sub-codes of one class at most 2: a perfect ranking.
    assert found["even"]["mean_ap"] == found["uneven"]["mean_ap"] == pytest.approx(1)
    assert found["uneven"]["recall_at_0"] > found["even"]["recall_at_0"]
    assert found["even"]["recall_at_0"] == pytest.approx(1 / 10, abs=0.03)
    assert simulated_readings(run, (0.5, 1.0), 40)["even"]["mean_ap"] < 0.9


def test_the_table():
    reading = {"mean_ap": 0.5, "map_at": 0.25, "recall_at_0": 0.125}
    one = {
        "construction": "cpbc",
        "bits": 10,
        "readings": {"1": reading},
        "simulated": dict.fromkeys(("even", "uneven"), reading),
    }
    with_paper = simulation_table([one], 50, {"mean_ap": {("cpbc", 10): 0.3599}})
    assert with_paper.rows == [["cpbc", "10", *["0.5000"] * 3, "0.3599", *["0.2500"] * 3, *["0.1250"] * 3]]
    for table in (with_paper, simulation_table([one], 50, {})):
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert UNEVEN > 0
