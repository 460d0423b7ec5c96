"""Fingerprints: equal for equal content, different for different, and nothing that cannot be hashed faithfully."""

from __future__ import annotations

import enum
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.storage import fingerprints as module
from dshc.storage.fingerprints import fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONTENT = st.dictionaries(st.text(), PLAIN, max_size=4)


def reversed_everywhere(value: Any) -> Any:
    """Equal content, its names the other way round and tuples in place of lists."""
    if isinstance(value, dict):
        return {name: reversed_everywhere(value[name]) for name in reversed(value)}
    return tuple(map(reversed_everywhere, value)) if isinstance(value, list) else value


def exact(value: Any) -> Any:
    """Content that Python compares as a fingerprint does: 1, 1.0 and True apart."""
    if isinstance(value, dict):
        return {name: exact(item) for name, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list) else (type(value), value)


@given(content=CONTENT)
def test_the_order_of_names_does_not_count(content: dict[str, Any]) -> None:
    found = fingerprint(content)
    assert found == fingerprint(reversed_everywhere(content))
    assert len(found) == 16 and set(found) <= set("0123456789abcdef")


@given(one=CONTENT, other=CONTENT)
def test_different_content_has_another(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (exact(one) == exact(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (None, "null"),
        ("1", 1),
        ([], {}),
        ([1, 2], [2, 1]),
        ([[1], 2], [1, [2]]),
    ],
)
def test_what_looks_alike_is_kept_apart(one: Any, other: Any) -> None:
    assert fingerprint({"a": one}) != fingerprint({"a": other})


def test_what_is_equal_is_one() -> None:
    class Name(enum.StrEnum):
        COSINE = "cosine"

    assert fingerprint({"a": 0.0}) == fingerprint({"a": -0.0})
    assert fingerprint({"a": 0.1}) == fingerprint({"a": np.float64(0.1)})
    assert fingerprint({"a": "cosine"}) == fingerprint({"a": Name.COSINE})


def test_the_same_in_every_process_and_version() -> None:
    """Pinned: a change of the rules must change the version, and with it every fingerprint."""
    content = {
        "method": "dshc",
        "lr": 0.1,
        "bits": 30,
        "none": None,
        "flip": True,
        "list": [1, "ü", 1e-300],
        "m": {},
    }
    assert fingerprint(content) == "60f7b0b411163408"
    program = f"import runpy; print(runpy.run_path({module.__file__!r})['fingerprint']({content!r}))"
    for seed in ("1", "2"):
        found = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == "60f7b0b411163408"


def test_the_version_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint({"a": 1})
    monkeypatch.setattr(module, "_VERSION", module._VERSION + 1)
    assert fingerprint({"a": 1}) != before


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (object(), TypeError, r"content\.a must be plain .*, got object"),
        (np.int64(3), TypeError, r"content\.a must be plain .*, got int64"),
        (np.arange(2), TypeError, "got ndarray"),
        (Path("x"), TypeError, "got PosixPath"),
        ({1, 2}, TypeError, "got set"),
        (b"x", TypeError, "got bytes"),
        ([1, {"b": (2, object())}], TypeError, r"content\.a\[1\]\.b\[1\] must be plain"),
        ({1: 2}, TypeError, r"content\.a must have text names, got 1"),
        (float("nan"), ValueError, r"content\.a must be a finite number, got nan"),
        ([float("inf")], ValueError, r"content\.a\[0\] must be a finite number, got inf"),
    ],
)
def test_what_cannot_be_hashed_is_named(value: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        fingerprint({"a": value})
