"""Fixtures of the program's tests: small data, small runs, a cache of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from training_runs import copy, features, finished, labelled  # noqa: F401  (fixtures)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept between runs is kept here: for the session, whose runs are made before a test has a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSHC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
