"""Items without a class (-1) in code files: they are of no class anywhere, and not of one that they share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_fails, dshc_ok

from dshc.storage import CodeFile

NAMES = ("x", "y")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Nine items with the labels -1, 0 and 1 in turn."""
    codes = np.random.default_rng(0).integers(0, 256, (9, 4), dtype=np.uint8)
    labels = np.arange(9) % 3 - 1
    ids = tuple(f"i{row}" for row in range(9))
    return CodeFile(codes, 32, labels, ids, NAMES).save(tmp_path / "neg.safetensors")


def answers(output: str) -> list[dict]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_in_an_index_of_several_labels(file: Path, tmp_path: Path) -> None:
    for kind in ("ids", "multi-hot"):
        index = tmp_path / kind
        dshc_ok("index", "create", index, "--bits", 32, "--labels", kind, "--classes", "x,y", "--ids", "text")
        dshc_ok("index", "add", index, file)
        (found,) = answers(dshc_ok("index", "search", index, "--id", "i0", "-k", 9, "--json"))
        labels = {item["id"]: item["label"] for item in found["results"]}
        assert labels == {f"i{row}": ("", *NAMES)[row % 3] for row in range(9)}, kind


def test_search_and_evaluate(file: Path) -> None:
    found = answers(dshc_ok("search", file, file, "-k", 9, "--json"))
    for row, query in enumerate(found):
        for item in query["results"]:
            other = int(item["id"][1:])
            known = row % 3 and other % 3
            assert item["label"] == ("", *NAMES)[other % 3]
            assert item["relevant"] == ((row % 3 == other % 3) if known else None), (row, other)
    message = dshc_fails("evaluate", file, file)
    assert "must hold the class of each item to be evaluated, 3 of 9 have none (-1)" in message


def test_labels_past_the_class_names(file: Path, tmp_path: Path) -> None:
    codes = CodeFile.load(file).codes
    wrong = CodeFile(codes, 32, np.arange(9), None, NAMES).save(tmp_path / "wrong.safetensors")
    for kind in ("ids", "multi-hot"):
        dshc_ok("index", "create", tmp_path / kind, "--bits", 32, "--labels", kind, "--classes", "x,y")
        message = dshc_fails("index", "add", tmp_path / kind, wrong)
        assert "labels must be below 2, the number of its class names, got 8" in message


@pytest.mark.parametrize("id", ["1_000", "²", "9" * 20, "", " 1", "1.0", "+1"])
def test_ids_that_are_no_integers(file: Path, tmp_path: Path, id: str) -> None:
    codes = CodeFile.load(file).codes[:1]
    wrong = CodeFile(codes, 32, None, (id,)).save(tmp_path / "wrong.safetensors")
    dshc_ok("index", "create", tmp_path / "index", "--bits", 32, "--ids", "int64")
    message = dshc_fails("index", "add", tmp_path / "index", wrong)
    assert "ids must be integers of 64 bits in this index" in message


def test_metrics_go_with_rescoring(file: Path, tmp_path: Path) -> None:
    dshc_ok("index", "create", tmp_path / "index", "--bits", 32, "--vectors", "float16", "--dimensions", 2)
    message = dshc_fails("index", "search", tmp_path / "index", file, "--metric", "l2")
    assert "--metric must go with --rescore" in message
    message = dshc_fails("index", "add", tmp_path / "index", tmp_path / "index")
    assert "is an index, dshc index merge takes its items over" in message
