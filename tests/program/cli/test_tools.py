"""The commands beside a run: codebook, doctor, demo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc, dshc_ok
from typer.testing import CliRunner

import dshc_fast
from dshc.cli.app import app


def test_codebook_shows_and_saves(tmp_path: Path) -> None:
    from dshc.codebooks import Codebook

    out = tmp_path / "book.safetensors"
    output = dshc_ok("codebook", "--classes", 10, "--bits", 30, "--codes", "--out", out)
    table = dict(line.split("\t")[:2] for line in output.splitlines() if line.count("\t") == 1)
    assert table["sub-classes"] == "310" and table["least distance between classes"] == "4"
    assert "111" + "0" * 27 in output
    assert Codebook.load(out).n_subclasses == 310
    document = json.loads(dshc_ok("codebook", "--classes", 10, "--bits", 30, "--json"))
    assert document["n_subclasses"] == 310 and document["collisions"] == 0


def test_the_json_of_a_codebook_stands_alone(tmp_path: Path) -> None:
    out = tmp_path / "book.safetensors"
    arguments = ["codebook", "--classes", "4", "--bits", "12", "--json", "--codes", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    document = json.loads(done.stdout)
    assert document["center_codes"][1] == "000111000000" and out.is_file() and str(out) in done.stderr


def test_codebook_warns_in_one_line() -> None:
    output = dshc_ok("codebook", "--classes", 10, "--bits", 10)
    warnings = [line for line in output.splitlines() if line.startswith("dshc: warning: ")]
    assert len(warnings) == 1 and "46 codes" in warnings[0]


def test_doctor_checks_the_core() -> None:
    assert "all checks passed" in dshc_ok("doctor")
    document = json.loads(dshc_ok("doctor", "--json"))
    assert set(document["checks"].values()) == {"ok"}
    assert document["facts"]["dshc_fast"] == dshc_fast.__version__


def test_doctor_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def reversed_ranking(queries: np.ndarray, database: np.ndarray, k: int) -> dshc_fast.HammingTopK:
        distances = dshc_fast.hamming_distance(queries, database)
        order = np.argsort(-distances, axis=1, kind="stable")[:, :k]
        return dshc_fast.HammingTopK(np.take_along_axis(distances, order, 1), order)

    monkeypatch.setattr(dshc_fast, "hamming_topk", reversed_ranking)
    code, output = dshc("doctor")
    assert code == 1 and "ranking against a stable sort\twrong result" in output
    assert "cannot be trusted" in output


@pytest.mark.deep
def test_demo_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    output = dshc_ok("demo", "--out", out, "--threads", 1)
    headline = next(line for line in output.splitlines() if line.startswith("mAP@all"))
    assert float(headline.split()[1]) >= 0.98, headline
    assert "(ties=expected, denominator=retrieved, 360 queries, 1437 database)" in headline
    assert "class accuracy (queries)" in output
    assert (out / "report.html").is_file() and (out / "report" / "gallery.png").is_file()
    answer = json.loads(dshc_ok("search", out, "--item", 0, "--k", 10, "--json"))
    assert len(answer["results"]) == 10


def test_protocols_are_listed() -> None:
    from dshc.data import protocols

    lines = dshc_ok("protocols").splitlines()
    assert lines[0] == "protocol\twhat it is\tsource"
    assert [line.split("\t")[0] for line in lines[1:]] == list(protocols())
    assert all(len(line.split("\t")) == 3 for line in lines)
    document = json.loads(dshc_ok("protocols", "--json"))
    assert [entry["name"] for entry in document] == list(protocols())
    assert all(entry["text"] for entry in document)
