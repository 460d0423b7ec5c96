"""docs/adding-a-method.md is true: its methods, in a package of their own, pass the checks and can be trained."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runs import dshc_ok

import dshc
from dshc import methods
from dshc.cli.settings_flags import options
from dshc_fast import mean_average_precision

PAGE = Path(__file__).parents[3] / "docs" / "adding-a-method.md"
CLASS, TRAINED, CHECK = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
ENTRY_POINT = re.search(
    r"```toml\n\[project\.entry-points\.\"dshc\.methods\"\]\n(.*?)```", PAGE.read_text(), re.DOTALL
)


@pytest.fixture
def package(tmp_path):
    """The page's package, installed in a folder; the environment of a process that finds it."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("")
    (tmp_path / "my_package" / "hyperplanes.py").write_text(CLASS)
    (tmp_path / "my_package" / "products.py").write_text(TRAINED)
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[dshc.methods]\n" + ENTRY_POINT[1].replace('"', "") + "products = my_package.products:Products\n"
    )
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}


@pytest.mark.deep
@pytest.mark.parametrize(("name", "n_kinds"), [("hyperplanes", 3), ("products", 2)])
def test_a_package_of_its_own_passes_the_checks(package, name, n_kinds):
    check = CHECK.replace("hyperplanes", name)
    done = subprocess.run(
        [sys.executable, "-c", check], env=package, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("to the same bytes") == n_kinds


@pytest.fixture
def entered(monkeypatch):
    """The page's classes, in the table of methods."""
    names: dict = {}
    exec(CLASS, names)
    exec(TRAINED, names)
    table = {**methods._table(), "hyperplanes": names["Hyperplanes"], "products": names["Products"]}
    monkeypatch.setattr(methods, "_table", lambda: table)
    options.cache_clear()  # flags are made once per process, of the methods that there are
    yield
    options.cache_clear()


def test_it_is_trained_by_name(tmp_path, entered):
    features = np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32)
    features[np.arange(90), np.arange(90) % 3] += 6
    np.savez(tmp_path / "items.npz", features=features, labels=np.arange(90) % 3)
    flags = ("--method", "hyperplanes", "--bits", 24, "--out", tmp_path / "run", "--no-report")
    dshc_ok("train", tmp_path / "items.npz", *flags)
    assert "hyperplanes" in dshc_ok("methods")
    assert (tmp_path / "run" / "last.safetensors").is_file()


def test_a_loss_parts_classes_at_every_length(tmp_path, entered):
    """Where the place of items alone does not."""
    random = np.random.default_rng(0)
    labels = np.arange(200) % 4
    signal = 2 * np.eye(4)[labels] + 0.05 * random.normal(size=(200, 4))
    features = np.concatenate([signal, 3 * random.normal(size=(200, 6))], 1).astype(np.float32)
    np.savez(tmp_path / "items.npz", features=features, labels=labels)
    values = {"bits": 24, "lengths": "8", "width": None, "backbone": "identity", "validation": 0.0}
    values |= {"epochs": 20, "lr": 0.05, "device": "cpu", "threads": 1}
    run = dshc.train(str(tmp_path / "items.npz"), method="products", out=str(tmp_path / "run"), **values)
    outputs = run.hasher.outputs(features)
    short = run.hasher.method.shortened(8)
    ids = torch.from_numpy(labels)
    for codes in (run.hasher.method.encode(outputs), short.encode(outputs[:, :8])):
        assert mean_average_precision(codes, codes, ids, ids).item() > 0.99


def test_the_page_names_files_that_are_there():
    root = PAGE.parents[1] / "python" / "dshc"
    named = re.findall(r"`(methods/\w+\.py)`", PAGE.read_text())
    assert len(named) >= 5
    assert not [name for name in named if not (root / name).is_file()]
