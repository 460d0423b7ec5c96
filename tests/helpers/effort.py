"""How much a run of the tests tries: `make test` is quick, `make test-deep` thorough (budget: CONTRIBUTING.md)."""

from __future__ import annotations

import os
from typing import Any

import pytest

# The share of random examples by the variable HYPOTHESIS_PROFILE. long: for a night.
SHARES = {"quick": 0.2, "deep": 1.0, "long": 20.0}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")


def examples(deep: int) -> int:
    """Random examples of this run, where a thorough one tries `deep`."""
    if PROFILE not in SHARES:
        raise ValueError(f"HYPOTHESIS_PROFILE must be one of {', '.join(SHARES)}, got {PROFILE!r}")
    return max(5, round(SHARES[PROFILE] * deep))


def deep(*values: Any) -> list[Any]:
    """Parameters for the thorough run alone; a tuple is one parameter of several names."""
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.deep) for v in values]
