"""docs/adding-a-method.md is true: its smallest method passes the checks and trains from the command line."""

import re
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_ok

from dshc import methods

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-method.md"


@pytest.fixture
def blocks(monkeypatch):
    """The page's Python, the first block run and its class registered, as an entry point would."""
    first, second = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(first, names)
    table = {**methods._table(), "hyperplanes": names["Hyperplanes"]}
    monkeypatch.setattr(methods, "_table", lambda: table)
    return first, second


def test_the_smallest_method_passes_the_checks(blocks, capsys):
    exec(blocks[1], {})
    assert "same bytes" in capsys.readouterr().out


def test_it_is_trained_by_name(blocks, tmp_path):
    features = np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32)
    features[np.arange(90), np.arange(90) % 3] += 6
    np.savez(tmp_path / "items.npz", features=features, labels=np.arange(90) % 3)
    dshc_ok(
        "train",
        tmp_path / "items.npz",
        "--method",
        "hyperplanes",
        "--bits",
        24,
        "--out",
        tmp_path / "run",
        "--no-report",
    )
    assert "hyperplanes" in dshc_ok("methods")
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_the_page_names_files_that_are_there():
    root = PAGE.parents[1] / "python" / "dshc"
    named = re.findall(r"`(methods/\w+\.py)`", PAGE.read_text())
    assert len(named) >= 5
    assert not [name for name in named if not (root / name).is_file()]
