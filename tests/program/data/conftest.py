"""A folder of small photos, and what is read of it: decoded as needed, or all in memory."""

from __future__ import annotations

import pytest
from fetching import SIDE
from photos import KINDS, write_photos

from dshc.data import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three kinds of twelve pictures, larger than they are needed and not square to a multiple."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", side=24, suffix=".png", kinds=KINDS[:3])


@pytest.fixture(scope="module")
def in_files(folder):
    return load(folder, image_size=SIDE, max_memory_mib=0).inputs


@pytest.fixture(scope="module")
def in_memory(folder):
    return load(folder, image_size=SIDE).inputs
