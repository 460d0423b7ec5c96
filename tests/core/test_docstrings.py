"""Every public name has a docstring with an example, and the examples print what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect

import numpy as np
import pytest

import dshc_fast

MODULES = (
    "codes",
    "ranking",
    "metrics",
    "losses",
    "hamming_metrics",
    "hamming_retrieval_metrics",
    "retrieval_metrics",
    "database",
)
NAMES = [name for name in dshc_fast.__all__ if name != "reference"]
# Results and switches: described, but an example of their own would say nothing.
WITHOUT_EXAMPLE = {"AsymmetricTopK", "HammingHistogram", "HammingRadius", "HammingTopK", "RetrievalCurves",
                   "build_info", "get_simd_level", "set_simd_level"}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    with np.printoptions(legacy=False):
        result = doctest.testmod(importlib.import_module(f"dshc_fast.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_docstring(name: str) -> None:
    text = inspect.getdoc(getattr(dshc_fast, name))
    assert text, f"{name} has no docstring"
    if name not in WITHOUT_EXAMPLE:
        assert ">>> " in text, f"{name} has no example"
