"""docs/adding-a-method.md is true: its smallest method, in a package of its own, passes the checks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_ok

from dshc import methods

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-method.md"
CLASS, CHECK = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
ENTRY_POINT = re.search(
    r"```toml\n\[project\.entry-points\.\"dshc\.methods\"\]\n(.*?)```", PAGE.read_text(), re.DOTALL
)


@pytest.fixture
def package(tmp_path):
    """The page's package, installed in a folder; the environment of a process that finds it."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "hyperplanes.py").write_text(CLASS)
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[dshc.methods]\n" + ENTRY_POINT[1].replace('"', ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


@pytest.mark.deep
def test_a_package_of_its_own_passes_the_checks(package):
    done = subprocess.run(
        [sys.executable, "-c", CHECK], env=package, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to the same bytes") == 3


def test_it_is_trained_by_name(tmp_path, monkeypatch):
    names: dict = {}
    exec(CLASS, names)
    table = {**methods._table(), "hyperplanes": names["Hyperplanes"]}
    monkeypatch.setattr(methods, "_table", lambda: table)
    features = np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32)
    features[np.arange(90), np.arange(90) % 3] += 6
    np.savez(tmp_path / "items.npz", features=features, labels=np.arange(90) % 3)
    flags = ("--method", "hyperplanes", "--bits", 24, "--out", tmp_path / "run", "--no-report")
    dshc_ok("train", tmp_path / "items.npz", *flags)
    assert "hyperplanes" in dshc_ok("methods")
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_the_page_names_files_that_are_there():
    root = PAGE.parents[1] / "python" / "dshc"
    named = re.findall(r"`(methods/\w+\.py)`", PAGE.read_text())
    assert len(named) >= 5
    assert not [name for name in named if not (root / name).is_file()]
