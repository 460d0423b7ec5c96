"""``dshc methods``, and every method from ``dshc train`` to a search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import N_CLASSES, PER_CLASS, dshc_fails, dshc_ok, write_embeddings

from dshc import methods
from dshc.storage import CodeFile


def test_methods_are_listed() -> None:
    lines = dshc_ok("methods").splitlines()
    assert lines[0].split("\t") == ["method", "title", "takes"]
    assert [line.split("\t")[0] for line in lines[1:]] == list(methods.available())
    documents = json.loads(dshc_ok("methods", "--json"))
    assert [document["name"] for document in documents] == list(methods.available())
    for document in documents:
        method = methods.get(document["name"])
        assert document["labels"] == list(method.label_kinds) and document["source"] == method.source


@pytest.mark.parametrize("name", methods.available())
def test_a_method_tells_its_settings(name: str) -> None:
    output = dshc_ok("methods", name)
    method = methods.get(name)
    assert output.startswith(f"{name}: {method.title}\nsource: {method.source}\n")
    assert "None" not in output
    rows = dict(line.split("\t", 1) for line in output.splitlines() if line.count("\t") == 3)
    assert rows.pop("setting") == "type\tdefault\tmeaning"
    fields = {key: field for key, field in method.Settings.model_fields.items() if key != "name"}
    assert set(rows) == set(fields)
    for key, field in fields.items():
        assert rows[key].endswith(field.description)
    document = json.loads(dshc_ok("methods", name, "--json"))
    assert {s["name"]: s["default"] for s in document["settings"]} == {
        key: field.default for key, field in fields.items()
    }
    assert document["recipe"] == dict(method.recipe)
    for key, value in method.recipe.items():
        assert (f"{key}\t{value}" in output) == (value is not None)


def test_an_unknown_method_is_told_with_the_nearest() -> None:
    for flags in ((), ("--json",)):
        assert "got 'hashnett'; did you mean 'hashnet'?" in dshc_fails("methods", "hashnett", *flags)


@pytest.mark.parametrize("name", ["itq", "dpsh", "hashnet"])
def test_a_method_from_training_to_search(name: str, tmp_path: Path) -> None:
    data, run = write_embeddings(tmp_path / "data.npz"), tmp_path / "run"
    flags = [] if name == "itq" else ["--epochs", 20, "--batch-size", 32, "--width", 16]
    output = dshc_ok("train", data, "--method", name, "--bits", 8, *flags, "--out", run)
    headline = next(line for line in output.splitlines() if line.startswith("mAP@all"))
    assert float(headline.split()[1]) > 0.6, headline
    assert "class accuracy" not in output, "it predicts no classes"
    assert ("fitted in" if name == "itq" else "trained 20 epochs in") in output
    document = json.loads((run / "evaluation.json").read_text())
    assert document["counts"]["n_bits"] == 8 and document["class_accuracy"] == {}
    assert f"{name}, 8 bits" in (run / "report.html").read_text(encoding="utf-8")
    again = json.loads(dshc_ok("evaluate", run, "--out", tmp_path / "out", "--json", "--no-report"))
    assert again == document

    new, codes = write_embeddings(tmp_path / "new.npz", seed=5), tmp_path / "codes.safetensors"
    output = dshc_ok("encode", run, new, "--out", codes)
    assert f"{N_CLASSES * PER_CLASS} codes of 8 bits, labels and ids" in output
    assert CodeFile.load(codes).model.startswith(f"{name} 8 bits sha256:")
    answers = dshc_ok("search", run, new, "--k", 3, "--json").splitlines()
    assert (
        answers
        == dshc_ok("search", run / "codes" / "database.safetensors", codes, "--k", 3, "--json").splitlines()
    )
    assert len(answers) == N_CLASSES * PER_CLASS
    right = [result["relevant"] for line in answers for result in json.loads(line)["results"]]
    assert np.mean(right) > 0.8


def test_a_fitted_run_resumes_to_itself(tmp_path: Path) -> None:
    data, run = write_embeddings(tmp_path / "data.npz"), tmp_path / "run"
    dshc_ok("train", data, "--method", "itq", "--bits", 8, "--out", run, "--no-report")
    weights = sorted(run.glob("*.safetensors"))
    before = {path: path.read_bytes() for path in weights}
    assert before
    dshc_ok("train", "--resume", "--out", run, "--no-report")
    assert {path: path.read_bytes() for path in weights} == before


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of embeddings without labels and the run of ITQ on it, in ``run``."""
    folder = tmp_path_factory.mktemp("unlabelled")
    features = np.random.default_rng(3).normal(size=(90, 12)).astype(np.float32)
    np.savez(folder / "items.npz", features=features)
    flags = ("--method", "itq", "--bits", 8, "--out", folder / "run")
    (folder / "output").write_text(dshc_ok("train", folder / "items.npz", *flags))
    return folder


def test_items_without_labels_are_fitted_and_not_measured(unlabelled: Path) -> None:
    output = (unlabelled / "output").read_text()
    assert "protocol all" in output and "0 queries, 90 database" in output
    assert "no queries, so nothing to measure" in output and "mAP" not in output
    assert not (unlabelled / "run" / "evaluation.json").exists()
    assert not (unlabelled / "run" / "report.html").exists()


def test_items_without_labels_are_encoded_and_searched(unlabelled: Path, tmp_path: Path) -> None:
    run, items, codes = unlabelled / "run", unlabelled / "items.npz", tmp_path / "codes.safetensors"
    assert "90 codes of 8 bits, no labels or ids" in dshc_ok("encode", run, items, "--out", codes)
    lines = dshc_ok("search", run, items, "--k", 4, "--json").splitlines()
    assert len(lines) == 90
    for line in lines:
        answer = json.loads(line)
        assert answer["label"] == "" and answer["results"][0]["hamming"] == 0
        assert all(result["relevant"] is None for result in answer["results"])
    *lines, note = dshc_ok("search", codes, "--item", 3, "--k", 2).splitlines()
    assert len(lines) == 3 and note.startswith("3: ")


def test_without_queries_there_is_nothing_to_measure_or_to_take(unlabelled: Path) -> None:
    run = unlabelled / "run"
    for arguments in (("evaluate", run), ("search", run, "--item", 0)):
        line = dshc_fails(*arguments)
        assert "must have query items" in line and "protocol all" in line and str(run) in line
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("name", ["dshc", "dshc-multilabel", "dpsh", "hashnet"])
def test_methods_that_need_labels_say_so(unlabelled: Path, tmp_path: Path, name: str) -> None:
    line = dshc_fails("train", unlabelled / "items.npz", "--method", name, "--out", tmp_path / "run")
    assert "items.npz: must have labels, got none" in line
    assert not (tmp_path / "run").exists()
