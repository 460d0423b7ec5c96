"""Fixtures of the program's tests: small data, small runs."""

from __future__ import annotations

from training_runs import copy, features, finished, labelled  # noqa: F401  (fixtures)
