"""Training, encoding, evaluating and searching from the command line, on a small run on embeddings."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import N_CLASSES, PER_CLASS, dshc, dshc_fails, dshc_ok, write_embeddings

import dshc_fast
from dshc.storage import CodeFile


def test_train_leaves_a_whole_run_folder(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    files = "config.toml split.json metrics.jsonl best.safetensors last.safetensors .lock"
    assert set(files.split()) | {"evaluation.json", "report.html", "report", "codes", "checkpoint"} == names
    assert not list(run.rglob("*.tmp"))
    document = json.loads((run / "evaluation.json").read_text())
    assert document["schema"] == "dshc.evaluation/1"
    assert document["mean_average_precision"]["value"] > 0.9
    assert set(document["class_accuracy"]) == {"queries", "database"}
    page = (run / "report.html").read_text()
    split = json.loads((run / "split.json").read_text())
    assert split["checksum"] in page and "item-" in page


def test_evaluate_prints_every_number_with_its_conventions(run: Path, tmp_path: Path) -> None:
    output = dshc_ok("evaluate", run, "--out", tmp_path, "--no-report")
    lines = output.splitlines()
    n_query = N_CLASSES * PER_CLASS // 5
    sizes = f"{n_query} queries, {N_CLASSES * PER_CLASS - n_query} database"
    assert lines[0].startswith("mAP@all ") and f"(ties=expected, denominator=retrieved, {sizes})" in lines[0]
    assert lines[1].startswith("class accuracy (queries) ") and "top-1" in lines[1]
    for line in lines[4:-1]:
        assert len(line.split("\t")) == 3 and line.split("\t")[2], line
    assert json.loads((tmp_path / "evaluation.json").read_text())["conventions"]["ties"] == "expected"
    assert not (tmp_path / "report.html").exists()


def test_evaluate_takes_every_convention(run: Path, tmp_path: Path) -> None:
    flags = (
        "--k",
        5,
        "--k",
        20,
        "--ties",
        "worst",
        "--denominator",
        "min",
        "--empty",
        "skip",
        "--score",
        "overlap",
        "--metric",
        "ndcg@10",
        "--metric",
        "average_precision_at_r",
        "--gains",
        "exponential",
    )
    output = dshc_ok("evaluate", run, *flags, "--out", tmp_path, "--json", "--per-query", "--no-report")
    document = json.loads(output)
    assert document["conventions"] == {
        "k": 5,
        "ties": "worst",
        "denominator": "min",
        "score": "overlap",
        "empty": "skip",
        "gains": "exponential",
    }
    assert [metric["name"] for metric in document["retrieval_metrics"]] == [
        "ndcg@10",
        "average_precision_at_r",
    ]
    assert [cut["k"] for cut in document["mean_average_precision"]["at_k"]] == [20]
    assert len(document["average_precision"]) == document["counts"]["n_query"]


def test_encode_evaluate_and_search_agree(run: Path, tmp_path: Path) -> None:
    queries = write_embeddings(tmp_path / "new.npz", seed=5)
    codes = tmp_path / "new.safetensors"
    assert f"{N_CLASSES * PER_CLASS} codes of 9 bits, labels and ids" in dshc_ok(
        "encode", run, queries, "--out", codes
    )
    file = CodeFile.load(codes)
    assert file.ids[0] == "item-0" and np.bincount(file.labels).tolist() == [PER_CLASS] * N_CLASSES

    database = run / "codes" / "database.safetensors"
    document = json.loads(dshc_ok("evaluate", codes, database, "--json"))
    operands = (file.codes, CodeFile.load(database).codes, file.labels, CodeFile.load(database).labels)
    expected = dshc_fast.mean_average_precision(*operands, n_bits=9)
    assert document["mean_average_precision"]["value"] == pytest.approx(expected)

    lines = dshc_ok("search", database, codes, "--k", 4, "--json").splitlines()
    found = dshc_fast.hamming_topk(*operands[:2], 4)
    assert len(lines) == len(file)
    for position, line in enumerate(lines):
        answer = json.loads(line)
        assert answer["query"] == f"item-{position}"
        assert [result["index"] for result in answer["results"]] == found.indices[position].tolist()
        assert [result["hamming"] for result in answer["results"]] == found.distances[position].tolist()
    by_run = [json.loads(line) for line in dshc_ok("search", run, queries, "--k", 4, "--json").splitlines()]
    assert all(answer["predicted"] for answer in by_run), "the run predicts, its codes do not"
    for answer in by_run:
        answer |= {"predicted": None, "right": None}
    assert by_run == [json.loads(line) for line in lines]


def test_encoding_twice_gives_equal_bytes(run: Path, tmp_path: Path) -> None:
    data = write_embeddings(tmp_path / "data.npz", seed=6)
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        dshc_ok("encode", run, data, "--out", path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_evaluate_two_code_files_writes_only_where_asked(run: Path, tmp_path: Path) -> None:
    codes = run / "codes"
    before = set(codes.iterdir())
    dshc_ok("evaluate", codes / "query.safetensors", codes / "database.safetensors")
    assert set(codes.iterdir()) == before
    output = dshc_ok(
        "evaluate", codes / "query.safetensors", codes / "database.safetensors", "--out", tmp_path / "out"
    )
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.json",
        "report.html",
        "report",
    }
    assert str(tmp_path / "out" / "report.html") in output


def test_search_by_item_prints_a_table(run: Path) -> None:
    *lines, note = dshc_ok("search", run, "--item", 2, "--k", 3).splitlines()
    assert note.endswith(" shown") and "\t" not in note
    assert lines[0].split("\t") == ["query", "rank", "hamming", "index", "id", "label", "relevant"]
    assert [line.split("\t")[1] for line in lines[1:]] == ["1", "2", "3"]
    assert all(line.split("\t")[6] in ("yes", "no") for line in lines[1:])
    first = dshc_ok(
        "search", run / "codes" / "database.safetensors", "--item", 0, "--k", 1, "--score", "hamming"
    )
    assert first.splitlines()[1].split("\t")[2] == "0"


def test_search_encodes_anew_where_the_weights_changed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    path = copy / "codes" / "database.safetensors"
    stored = CodeFile.load(path)
    wrong = dataclasses.replace(stored, codes=stored.codes[::-1].copy(), model="another model")
    wrong.save(path)
    dshc_ok("search", copy, "--item", 0, "--k", 1)
    assert np.array_equal(CodeFile.load(path).codes, stored.codes)


def test_show_limits_what_is_printed_not_what_is_found(run: Path) -> None:
    queries = run / "codes" / "query.safetensors"
    output = dshc_ok("search", run, queries, "--k", 2, "--show", 3)
    assert sum("\t1\t" in line for line in output.splitlines()) >= 3
    assert "more queries not shown" in output
    assert len(dshc_ok("search", run, queries, "--k", 2, "--json").splitlines()) == len(
        CodeFile.load(queries)
    )


def test_resuming_a_finished_run_changes_no_weight(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    dshc_ok("train", "--resume", "--out", copy, "--no-report")
    for name in ("best.safetensors", "last.safetensors"):
        assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_resuming_by_a_file_of_some_settings(tmp_path: Path) -> None:
    """What it leaves open is the run's own."""
    source = write_embeddings(tmp_path / "items.npz")
    values = ("--epochs", 2, "--bits", 8, "--method", "csq", "--set", "data.validation=0.2", "--no-report")
    dshc_ok("train", source, "--out", tmp_path / "run", *values)
    part = tmp_path / "part.toml"
    part.write_text(f'[data]\nsource = "{source}"\n[optim]\nepochs = 2\n')
    resume = ("train", "--resume", "--config", part, "--out", tmp_path / "run", "--no-report")
    assert "weights and settings in" in dshc_ok(*resume)
    assert "bits must be 8 as in the run" in dshc_fails(*resume, "--bits", 16)
    part.write_text(f'[data]\nsource = "{source}"\nvalidation = 0.1\n')
    assert "validation must be 0.2 as in the run" in dshc_fails(*resume)
    part.write_text("[method]\neta = 0.05\n")
    assert "weights and settings in" in dshc_ok(*resume)
    part.write_text("out = 3\n")
    assert "part.toml: out must be text, got 3" in dshc_fails(*resume)
    part.write_text("[optim]\nepoch = 2\n")
    assert "part.toml: unknown setting 'optim.epoch'" in dshc_fails(*resume)


def test_evaluating_elsewhere_leaves_the_run_alone(run: Path, tmp_path: Path) -> None:
    def state() -> dict[Path, tuple[bytes, int]]:
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in run.rglob("*") if p.is_file()}

    before = state()
    dshc_ok("evaluate", run, "--out", tmp_path / "out")
    assert state() == before
    assert (tmp_path / "out" / "evaluation.json").is_file()


def test_few_codes_need_no_k(run: Path, tmp_path: Path) -> None:
    database = CodeFile.load(run / "codes" / "database.safetensors")
    few = CodeFile(database.codes[:4], 9).save(tmp_path / "few.safetensors")
    lines = dshc_ok("search", few, "--item", 0).splitlines()
    assert sum("\t" in line for line in lines) == 5 and len(lines) == 6
    code, output = dshc("search", few, "--item", 0, "--k", 10)
    assert code == 2 and "--k must lie in 1..4" in output
