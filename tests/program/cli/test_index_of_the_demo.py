"""From an empty folder: the demo, an index of its images, and what one does with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_ok

from dshc import HashIndex
from dshc.storage import CodeFile

pytest.importorskip("pyarrow")


@pytest.mark.deep
def test_index_search_dedup_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dshc_ok("demo", "--epochs", 10, "--no-report")
    dshc_ok("index", "create", "digits.index", "--run", "runs/demo")
    assert "1,437 items added; 1,437 in all" in dshc_ok("index", "add", "digits.index", "runs/demo")
    found = dshc_ok("index", "search", "digits.index", "--id", "5", "-k", 20, "--label", "5")
    labels = [line.split("\t")[4] for line in found.splitlines() if line.count("\t") == 4][1:]
    assert labels == ["5"] * 20
    near = dshc_ok("index", "search", "digits.index", "--id", "5", "--precision", 0.9)
    assert "has a precision of 0.9 or more" in near
    dshc_ok("index", "remove", "digits.index", "5", "32")
    groups = dshc_ok("dedup", "digits.index", "--radius", 0, "--show", 2000)
    items = [line.split("\t")[1] for line in groups.splitlines() if line.count("\t") == 3][1:]
    assert " of 1,435 items" in groups and len(items) > 1000 and not {"5", "32"} & set(items)
    dshc_ok("index", "compact", "digits.index")
    dshc_ok("index", "check", "digits.index")
    for kind in ("npy", "parquet"):
        dshc_ok("export", "digits.index", "--to", kind, "--out", f"digits.{kind}")
        dshc_ok("import", f"digits.{kind}", "--from", kind, "--out", f"{kind}.safetensors")
        file = CodeFile.load(f"{kind}.safetensors")
        with HashIndex.open("digits.index", read_only=True) as index:
            assert np.array_equal(file.codes, index.codes()) and list(file.ids) == index.ids().tolist()
            assert np.array_equal(file.labels, index.labels())
