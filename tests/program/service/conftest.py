"""Indexes and services that the tests of the service share; tests do not change them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_indexes import client_of, index_of_codes, index_of_items, write_pictures

NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx2")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        mark = pytest.mark.skip(reason=f"{', '.join(missing)} not installed (extras 'serve' and 'dev')")
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(mark)


@pytest.fixture(scope="session")
def codes_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_of_codes(tmp_path_factory.mktemp("codes") / "index")


@pytest.fixture(scope="session")
def images_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_of_items(tmp_path_factory.mktemp("images") / "index", "images")


@pytest.fixture(scope="session")
def features_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return index_of_items(tmp_path_factory.mktemp("features") / "index", "features")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def client(codes_index: Path) -> Iterator[Any]:
    """Of an index of bare codes."""
    with client_of(codes_index) as made:
        yield made


@pytest.fixture(scope="session")
def images_client(images_index: Path, pictures: Path) -> Iterator[Any]:
    """Of an index with a hasher of images, and pictures of its items."""
    with client_of(images_index, images=pictures) as made:
        yield made


@pytest.fixture(scope="session")
def features_client(features_index: Path) -> Iterator[Any]:
    """Of an index with a hasher of features."""
    with client_of(features_index) as made:
        yield made
