"""Trained runs for the tests of the command line, which only read them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import train_embeddings, train_images


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on embeddings; tests do not change it."""
    return train_embeddings(tmp_path_factory.mktemp("embeddings"))


@pytest.fixture(scope="session")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run on a folder of images; tests do not change it."""
    return train_images(tmp_path_factory.mktemp("images"))
