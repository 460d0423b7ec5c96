"""Tables 3 and 4 on small trainings: every reading is the method's own, averages are not rounded, steps are kept."""

import numpy as np
import pytest
import torch
from training_runs import train

import dshc
import dshc_fast
from dshc.evaluation import Conventions
from dshc.paper import Bench, lengths
from dshc.paper.lengths import (
    CODEBOOKS,
    PAPER_MAP,
    PAPER_MAP_5000,
    READINGS,
    length_tables,
    measured_readings,
    top_average,
)
from dshc.runs import RunSettings
from dshc.runs.encoding import outputs_of_items


@pytest.fixture(scope="module")
def run(features, tmp_path_factory):
    values = {"bits": 9, "epochs": 30, "batch_size": 32, "width": 16, "threads": 1}
    return train(tmp_path_factory.mktemp("lengths") / "run", {"source": str(features), **values})


def test_a_reading_is_what_a_method_of_that_setting_gives(run):
    found = measured_readings(run, cut=50)
    assert set(found["readings"]) == {str(k) for k in READINGS} and found["subclasses"] == 30
    own = run.hasher.method.settings
    for k in READINGS:
        run.hasher.method.settings = own.replaced(topk=k)
        codes = [
            run.hasher.encode(run.dataset.inputs[part]) for part in (run.split.query, run.split.database)
        ]
        run.hasher.method.settings = own
        labels = [run.dataset.labels[part] for part in (run.split.query, run.split.database)]
        files = [dshc.storage.CodeFile(c, 9, labels=y) for c, y in zip(codes, labels, strict=True)]
        expected = dshc.evaluate(*files, conventions=Conventions(ks=(50,)))
        reading = found["readings"][str(k)]
        assert (reading["mean_ap"], reading["map_at"]) == (expected.mean_ap, expected.at_k[50])
        same = [
            (codes[1] == code).all(1) & (labels[1] == label)
            for code, label in zip(codes[0], labels[0], strict=True)
        ]
        recall = np.mean(
            [hit.sum() / (labels[1] == label).sum() for hit, label in zip(same, labels[0], strict=True)]
        )
        assert reading["recall_at_0"] == pytest.approx(recall)
    assert run.hasher.method.settings == own
    assert found["accuracy"] == np.mean(run.hasher.predict(run.dataset.inputs[run.split.query]) == labels[0])
    assert all(0 < found["readings"][str(k)]["averages"] <= 1 for k in (2, 3, 5))


def test_averages_stand_beside_their_rounding_on_the_same_queries(run, monkeypatch):
    everything = measured_readings(run)["readings"]
    assert all(reading["rounded"] == reading["mean_ap"] for reading in everything.values())
    monkeypatch.setattr(lengths, "_REAL_VALUED", 5)
    few = measured_readings(run)["readings"]
    rows = run.split.query[np.linspace(0, len(run.split.query) - 1, 5).round().astype(np.int64)]
    own = run.hasher.method.settings
    for k in READINGS:
        run.hasher.method.settings = own.replaced(topk=k)
        files = [
            dshc.storage.CodeFile(
                run.hasher.encode(run.dataset.inputs[part]), 9, labels=run.dataset.labels[part]
            )
            for part in (rows, run.split.database)
        ]
        run.hasher.method.settings = own
        assert few[str(k)]["rounded"] == dshc.evaluate(*files).mean_ap
        assert few[str(k)]["mean_ap"] == everything[str(k)]["mean_ap"]


def test_averages_are_of_the_likeliest_codes(run):
    method, outputs = run.hasher.method, outputs_of_items(run, run.split.query)
    bits = dshc_fast.unpack_codes(method.codes, 9, signed=True).float()
    for k in (1, 3):
        average = top_average(method, outputs, k)
        for row in range(len(outputs)):
            likeliest = outputs[row].argsort(descending=True)[:k]
            assert torch.allclose(average[row], bits[likeliest].mean(0))


def test_the_tables(features, tmp_path):
    def settings(construction, bits):
        return RunSettings.of(source=str(features), bits=bits, construction=construction, epochs=2, width=8)

    books = (("cpbc", 9), ("separated", 6))
    tables, numbers = length_tables(Bench(tmp_path, threads=1), settings, codebooks=books)
    assert [len(table.rows) for table in tables] == [2, 2, 2, 2]
    assert all(len(row) == len(table.columns) for table in tables for row in table.rows)
    assert tables[0].rows[0][:3] == ["cpbc", "9", "30"] and tables[0].rows[0][4] == ""
    again = length_tables(Bench(tmp_path, threads=1), settings, codebooks=books)
    assert again == (tables, numbers)


def test_the_papers_figures_have_rows():
    assert {*PAPER_MAP, *PAPER_MAP_5000} <= set(CODEBOOKS)


def test_other_methods_have_no_readings(features, tmp_path):
    run = train(tmp_path / "run", {"source": str(features), "method": "itq", "bits": 8, "threads": 1})
    with pytest.raises(ValueError, match="run must be of DSHC, got itq"):
        measured_readings(run)
