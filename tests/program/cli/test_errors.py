"""Wrong input to the command line: one clear line, exit code 2, nothing half written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc, dshc_fails, write_embeddings

from dshc.storage import CodeFile


def codes_of(run: Path, part: str) -> Path:
    return run / "codes" / f"{part}.safetensors"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("encode",), "Missing argument"),
        (
            ("evaluate", "x", "--ties", "random"),
            "ties must be one of expected, index, best, worst, got 'random'",
        ),
        (("search", "x", "y", "--k", "many"), "'--k'"),
        (("train",), "name a data SOURCE"),
        (("train", "--resume"), "--resume needs the run folder"),
        (("train", "--resume", "--overwrite", "--out", "x"), "give one of them"),
        (("train", "digits", "--bits", "0"), "bits must be at least 1 and at most 4096, got 0"),
        (("train", "digits", "--weights", "w.pth"), "weights must go with a backbone timm:NAME"),
        (("train", "digits", "--batch-size", "1"), "got 1, which cuts 1293 training items into smaller ones"),
        (
            ("train", "digits", "--seed", "9" * 30),
            "seed must be at least 0 and at most 9223372036854775807, got 999",
        ),
        (
            ("train", "digits", "--bits", "5", "--construction", "cpbc"),
            "at least one per class for cpbc, got 5 bits for 10 classes",
        ),
        (
            ("train", "digits", "--construction", "magic"),
            "construction must be one of cpbc, kbc, separated or nothing, got 'magic'",
        ),
        (("train", "digits", "--method", "magic"), "method must be one of dshc, "),
        (("train", "digits", "--lr", "-1"), "lr must be more than 0, got -1.0"),
        (("train", "nowhere/at/all"), "nowhere/at/all"),
        (("train", "--config", "nowhere.toml"), "nowhere.toml"),
        (("codebook", "--bits", "5"), "at least one per class for cpbc"),
        (("codebook", "--construction", "kbc", "--bits", "30"), "between 1 and 20 for kbc"),
        (("codebook", "--out", "book.pkl"), ".safetensors"),
        (("evaluate", "nowhere"), "nowhere: no such run folder"),
        (("search", "nowhere", "--item", "0"), "nowhere"),
        (("search", "nowhere"), "give either a QUERY"),
        (("encode", "nowhere", "x"), "nowhere: no such run folder"),
    ],
)
def test_wrong_arguments(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in dshc_fails(*arguments)
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize("k", [0, -3])
def test_evaluate_k_below_one(run: Path, k: int, tmp_path: Path) -> None:
    assert f"--k must be at least 1, got {k}" in dshc_fails(
        "evaluate", run, "--k", k, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("k", [0, 97])
def test_search_k_out_of_range(run: Path, k: int) -> None:
    assert f"--k must lie in 1..96 (the number of codes in the database), got {k}" in dshc_fails(
        "search", run, "--item", 0, "--k", k
    )


def test_search_item_out_of_range(run: Path) -> None:
    assert "--item must lie in 0..23, got 24" in dshc_fails("search", run, "--item", 24)
    assert "--item must lie in 0..23, got -1" in dshc_fails("search", run, "--item", -1)


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    assert "config.toml is missing" in dshc_fails("evaluate", tmp_path)


def test_an_unfinished_or_damaged_run(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    whole = (copy / "best.safetensors").read_bytes()
    (copy / "best.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "best.safetensors" in dshc_fails("evaluate", copy)
    (copy / "best.safetensors").unlink()
    assert "best.safetensors" in dshc_fails("evaluate", copy)
    (copy / "best.safetensors").write_bytes(whole)
    (copy / "split.json").write_text("{")
    assert "split.json" in dshc_fails("evaluate", copy)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "not one"])
def test_damaged_code_files(run: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "codes.safetensors"
    whole = bytearray(codes_of(run, "database").read_bytes())
    changed = whole[:]
    changed[-3] ^= 1
    path.write_bytes(
        {"cut": whole[:-20], "changed": changed, "empty": b"", "not one": b"hello world"}[damage]
    )
    assert "codes.safetensors" in dshc_fails("search", path, "--item", 0)
    assert "codes.safetensors" in dshc_fails("evaluate", path, codes_of(run, "database"))


def test_code_files_that_do_not_fit(run: Path, tmp_path: Path) -> None:
    database = CodeFile.load(codes_of(run, "database"))
    bare = CodeFile(database.codes, 9).save(tmp_path / "bare.safetensors")
    assert "must hold labels to be evaluated, got none" in dshc_fails(
        "evaluate", codes_of(run, "query"), bare
    )
    longer = CodeFile(database.codes, 10, labels=database.labels).save(tmp_path / "longer.safetensors")
    assert "9 bits" in dshc_fails("evaluate", codes_of(run, "query"), longer)
    assert "10" in dshc_fails("search", longer, codes_of(run, "query"))
    other = CodeFile(database.codes, 9, labels=database.labels, class_names=("x", "y", "z"))
    path = other.save(tmp_path / "other.safetensors")
    code, output = dshc("evaluate", codes_of(run, "query"), path)
    assert code == 2 and "different classes" in output
    assert "needs a second one" in dshc_fails("evaluate", codes_of(run, "query"))
    empty = CodeFile(database.codes[:0], 9, labels=database.labels[:0]).save(tmp_path / "empty.safetensors")
    assert "empty" in dshc_fails("search", empty, codes_of(run, "query"))


def test_codes_of_another_model_are_pointed_out(run: Path, tmp_path: Path) -> None:
    database = CodeFile.load(codes_of(run, "database"))
    other = CodeFile(database.codes, 9, labels=database.labels, model="another").save(
        tmp_path / "o.safetensors"
    )
    code, output = dshc("evaluate", codes_of(run, "query"), other)
    assert code == 0 and "dshc: warning: the codes come from different models" in output


def test_encode_refuses_what_does_not_fit(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes.safetensors"
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, features=np.zeros((4, 5), np.float32), labels=np.zeros(4, np.int64))
    assert "(5,)" in dshc_fails("encode", run, wrong, "--out", out)
    nan = tmp_path / "nan.npz"
    np.savez(nan, features=np.full((4, 12), np.nan, np.float32), labels=np.zeros(4, np.int64))
    assert "NaN" in dshc_fails("encode", run, nan, "--out", out)
    assert "missing.npz" in dshc_fails("encode", run, tmp_path / "missing.npz", "--out", out)
    good = write_embeddings(tmp_path / "good.npz")
    assert ".safetensors" in dshc_fails("encode", run, good, "--out", tmp_path / "codes.npy")
    assert {path.name for path in tmp_path.iterdir()} == {"wrong.npz", "nan.npz", "good.npz"}
    out.write_bytes(b"mine")
    assert "--overwrite" in dshc_fails("encode", run, good, "--out", out)
    assert out.read_bytes() == b"mine"


def test_an_unreadable_image_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"not an image")
    assert "photo.png" in dshc_fails("search", run, tmp_path / "photo.png", "--k", 1)


def test_searching_codes_for_an_image_needs_a_run(run: Path, tmp_path: Path) -> None:
    line = dshc_fails("search", codes_of(run, "database"), tmp_path / "photo.png", "--k", 1)
    assert "--run RUN" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert str(tmp_path) in dshc_fails("evaluate", run, "--out", tmp_path / "out", "--no-report")


def test_a_file_where_a_folder_should_be(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "file" in dshc_fails("evaluate", run, "--out", tmp_path / "file", "--no-report")


def test_a_defect_is_told_from_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    import dshc.cli.codebook as module

    def broken(*_: object, **__: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(module, "build", broken)
    code, output = dshc("codebook")
    assert code == 1 and "defect, KeyError" in output and "Traceback" not in output
    code, output = dshc("--debug", "codebook")
    assert code == 1 and "Traceback" in output


def test_debug_shows_the_traceback() -> None:
    code, output = dshc("--debug", "codebook", "--bits", 5)
    assert code == 2 and "Traceback" in output


def test_overwriting_removes_nothing_where_the_new_run_cannot_be(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    for arguments in (("nosuch",), ("digits", "--bits", 0), ("digits", "--batch-size", 1)):
        dshc_fails("train", *arguments, "--out", copy, "--overwrite")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_file_that_is_nothing_known(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.docx").write_text("x")
    line = dshc_fails("train", tmp_path / "notes.docx", "--out", tmp_path / "run")
    assert "notes.docx: must hold arrays" in line and "got suffix '.docx'" in line
    assert "got suffix '.docx'" in dshc_fails("search", run, tmp_path / "notes.docx")


@pytest.mark.parametrize("error", [TypeError, RuntimeError, MemoryError])
def test_an_error_nobody_meant_is_a_defect(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    import dshc.cli.codebook as module

    def broken(*_: object, **__: object) -> None:
        raise error("something of a library")

    monkeypatch.setattr(module, "build", broken)
    code, output = dshc("codebook")
    assert code == 1 and f"defect, {error.__name__}" in output and "--debug" in output
    # Not raised by a statement of ours either: Python's own.
    monkeypatch.setattr(module, "build", None)
    code, output = dshc("codebook")
    assert code == 1 and "defect, TypeError" in output


@pytest.mark.parametrize("k", [2**63, 10**30])
def test_absurd_cuts(run: Path, k: int, tmp_path: Path) -> None:
    assert "--k must be at most" in dshc_fails("evaluate", run, "--k", k, "--out", tmp_path / "out")
    assert "--k must lie in 1..96" in dshc_fails("search", run, "--item", 0, "--k", k)


def test_thread_counts_have_an_end(run: Path, tmp_path: Path) -> None:
    assert "--threads" in dshc_fails("evaluate", run, "--threads", 1025, "--out", tmp_path / "out")
    assert "threads must be at least 1 and at most 1024, got 1025" in dshc_fails(
        "train", "digits", "--threads", 1025, "--out", tmp_path / "out"
    )
