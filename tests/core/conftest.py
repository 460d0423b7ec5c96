"""Fixtures of several tests of the core."""

from __future__ import annotations

import pytest

from dshc_fast import _tables


@pytest.fixture(params=["always", "automatic"])
def use(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether substring tables are asked always, or where they pay."""
    monkeypatch.setattr(_tables, "use", request.param)
    return request.param


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tables, "use", "always")
