"""The native module from Python: what was built, which instruction set runs, the self-check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dshc_fast

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ("avx512", "avx2", "neon", "generic")


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in the checkout's root, with environment variables of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "DSHC_SIMD"} | variables
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_build_info() -> None:
    info = dshc_fast.build_info()
    assert isinstance(info["cuda"], bool) and "abi" in info
    available = info["simd_levels"]
    assert "generic" in available and set(available) <= set(LEVELS)
    info["simd_levels"] = ("none",)
    assert dshc_fast.build_info()["simd_levels"] == available, (
        "the caller got a view of the module's own record"
    )


def test_set_simd_level() -> None:
    available = dshc_fast.build_info()["simd_levels"]
    default = dshc_fast.get_simd_level()
    assert default in available
    for level in available:
        dshc_fast.set_simd_level(level)
        assert dshc_fast.get_simd_level() == level
    dshc_fast.set_simd_level(None)
    assert dshc_fast.get_simd_level() == available[0]
    dshc_fast.set_simd_level(default)  # which DSHC_SIMD may have chosen


def test_wrong_simd_level() -> None:
    """Unknown, or not of this machine: refused by name, and the level in force stays."""
    before = dshc_fast.get_simd_level()
    for level in {"sse9", "AVX2", *LEVELS} - set(dshc_fast.build_info()["simd_levels"]):
        with pytest.raises(ValueError, match=level):
            dshc_fast.set_simd_level(level)
    with pytest.raises(TypeError):
        dshc_fast.set_simd_level(2)
    assert dshc_fast.get_simd_level() == before


@pytest.mark.deep
def test_variable_sets_the_level() -> None:
    code = "import dshc_fast; print(dshc_fast.get_simd_level())"
    for level in dshc_fast.build_info()["simd_levels"]:
        done = python("-c", code, DSHC_SIMD=level)
        assert done.returncode == 0 and done.stdout.split() == [level], done.stderr


def test_wrong_variable_is_named() -> None:
    """A level that does not exist is an error that names the variable, not a silent choice."""
    done = python("-c", "import dshc_fast; print(dshc_fast.get_simd_level())", DSHC_SIMD="sse9")
    assert done.returncode != 0 and "DSHC_SIMD" in done.stderr and "sse9" in done.stderr, (
        done.stdout + done.stderr
    )


def test_self_check() -> None:
    """`python -m dshc_fast` prints versions and levels, and ends well."""
    done = python("-m", "dshc_fast")
    assert done.returncode == 0, done.stderr
    assert dshc_fast.__version__ in done.stdout and "generic" in done.stdout
