"""A run whose data set lies elsewhere than when it was trained: published, moved, mounted."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_fails, dshc_ok, train_embeddings


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and where its embeddings lie now."""
    folder = train_embeddings(tmp_path)
    (data,) = (path for path in tmp_path.glob("*.npz"))
    return folder, data.rename(tmp_path / "elsewhere.npz")


def test_a_run_is_measured_on_its_data_wherever_they_lie(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    before = json.loads((run / "evaluation.json").read_text())
    assert "no such file" in dshc_fails("evaluate", run, "--out", tmp_path / "out")
    dshc_ok("evaluate", run, data, "--out", tmp_path / "out", "--no-report")
    after = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert after["mean_average_precision"] == before["mean_average_precision"]
    assert after["counts"] == before["counts"]


def test_a_search_without_data_says_how_to_search_others(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    shutil.rmtree(run / "codes")
    line = dshc_fails("search", run, data)
    assert "no such file" in line and f"encode them (dshc encode {run} INPUT)" in line
    codes = tmp_path / "codes.safetensors"
    dshc_ok("encode", run, data, "--out", codes)
    dshc_ok("search", codes, data, "--run", run, "--k", 2)


def test_other_labels_are_refused(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    with np.load(data) as arrays:
        content = dict(arrays)
    content["labels"] = content["labels"][::-1]
    np.savez(data, **content)
    line = dshc_fails("evaluate", run, data, "--out", tmp_path / "out")
    assert "split.json" in line and not (tmp_path / "out").exists()


@pytest.mark.deep
def test_a_named_set_elsewhere(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    folder = first / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for file in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {
            "data": rng.integers(0, 256, (20, 3072), np.uint8),
            "labels": [i % 10 for i in range(20)],
            "filenames": [f"{file}_{i}.png" for i in range(20)],
        }
        (folder / file).write_bytes(pickle.dumps(content, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}, 2))
    run = tmp_path / "run"
    small = ("--method", "itq", "--backbone", "identity", "--bits", 8, "--threads", 1)
    dshc_ok("train", "cifar10", "--root", first, "--out", run, *small)
    before = json.loads((run / "evaluation.json").read_text())["mean_average_precision"]
    first.rename(second)
    for arguments in (("cifar10", "--root", second), ("--root", second)):
        dshc_ok("evaluate", run, *arguments, "--out", tmp_path / "out", "--no-report")
        found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert found["mean_average_precision"] == before


def test_labels_in_a_file_of_their_own_move_too(tmp_path: Path) -> None:
    rng, labels = np.random.default_rng(0), np.arange(60) % 3
    np.save(tmp_path / "items.npy", (labels[:, None] + rng.normal(0, 0.1, (60, 4))).astype(np.float32))
    np.save(tmp_path / "labels.npy", labels)
    run = tmp_path / "run"
    small = ("--bits", 9, "--epochs", 2, "--batch-size", 16, "--width", 8, "--out", run)
    dshc_ok("train", tmp_path / "items.npy", "--labels", tmp_path / "labels.npy", *small)
    before = json.loads((run / "evaluation.json").read_text())["mean_average_precision"]
    items = (tmp_path / "items.npy").rename(tmp_path / "a.npy")
    own = (tmp_path / "labels.npy").rename(tmp_path / "b.npy")
    dshc_ok("evaluate", run, items, "--labels", own, "--out", tmp_path / "out", "--no-report")
    after = json.loads((tmp_path / "out" / "evaluation.json").read_text())["mean_average_precision"]
    assert after == before


def test_items_of_another_shape_are_refused(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    with np.load(data) as arrays:
        content = dict(arrays)
    content["features"] = content["features"][:, :5]
    np.savez(data, **content)
    line = dshc_fails("evaluate", run, data, "--out", tmp_path / "out")
    assert "items must be features of shape (12,), as the run's were, got features of shape (5,)" in line


def test_where_data_lie_goes_with_a_run_alone(run: Path) -> None:
    files = (run / "codes" / "query.safetensors", run / "codes" / "database.safetensors")
    for flag in ("--root", "--labels"):
        line = dshc_fails("evaluate", *files, flag, run)
        assert f"{flag} must go with a run, not with code files" in line


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    for arguments in ((), ("digits",), ("cifar10", "--root", tmp_path)):
        line = dshc_fails("evaluate", tmp_path / "typo", *arguments)
        assert f"{tmp_path / 'typo'}: no such run folder" in line
