"""Fixtures of the program's tests: small data, small runs, a cache of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training_runs import copy, features, finished, labelled  # noqa: F401  (fixtures)

from dshc.hasher import arithmetic


@pytest.fixture(scope="session", autouse=True)
def _own_surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs is kept here: for the session, whose runs are made before a test has a folder."""
    with pytest.MonkeyPatch.context() as patch:
        # On processors without it, too: tests say what becomes of bfloat16 where it is computed.
        patch.setattr(arithmetic, "_cpu_has_bfloat16", lambda: True)
        patch.setenv("DSHC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
