"""A run whose data set lies elsewhere than when it was trained: published, moved, mounted."""

from __future__ import annotations

import json
import pickle
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


def test_other_labels_are_refused(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    with np.load(data) as arrays:
        content = dict(arrays)
    content["labels"] = content["labels"][::-1]
    np.savez(data, **content)
    line = dshc_fails("evaluate", run, data, "--out", tmp_path / "out")
    assert "split.json" in line and not (tmp_path / "out").exists()


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


def test_a_root_goes_with_a_run_alone(run: Path) -> None:
    codes = run / "codes"
    line = dshc_fails(
        "evaluate", codes / "query.safetensors", codes / "database.safetensors", "--root", codes
    )
    assert "--root must go with a run, not with code files" in line
