"""How answers are compared. Each helper raises AssertionError with the first place that differs.

The helpers are tested themselves (test_comparisons.py): they must reject planted mistakes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

AP_RELATIVE = 1e-12


def _fail(name: str, what: str) -> None:
    raise AssertionError(f"{name}: {what}")


def assert_same_array(actual: Any, expected: Any, dtype: Any, name: str = "array") -> None:
    """Same dtype, shape and every value, exactly. For integers and packed codes."""
    if not isinstance(actual, np.ndarray):
        _fail(name, f"is a {type(actual).__name__}, not a numpy array")
    if actual.dtype != np.dtype(dtype):
        _fail(name, f"dtype {actual.dtype}, expected {np.dtype(dtype)}")
    expected = np.asarray(expected)
    if actual.shape != expected.shape:
        _fail(name, f"shape {actual.shape}, expected {expected.shape}")
    wrong = np.argwhere(actual != expected)
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        _fail(
            name,
            f"{len(wrong)} of {actual.size} differ, first at {at}: {actual[at]}, expected {expected[at]}",
        )


def assert_same_topk(actual: Any, distances: Any, indices: Any, name: str = "topk") -> None:
    """Fields `distances` (int32) and `indices` (int64), equal in value and in order."""
    if tuple(actual._fields) != ("distances", "indices"):
        _fail(name, f"fields {actual._fields}, expected ('distances', 'indices')")
    assert_same_array(actual.distances, distances, np.int32, f"{name}.distances")
    assert_same_array(actual.indices, indices, np.int64, f"{name}.indices")


def assert_same_radius(actual: Any, expected: tuple, name: str = "radius") -> None:
    """Fields `offsets` (int64), `indices` (int64), `distances` (int32), equal in value and in order."""
    if tuple(actual._fields) != ("offsets", "indices", "distances"):
        _fail(name, f"fields {actual._fields}, expected ('offsets', 'indices', 'distances')")
    for field, wanted, dtype in zip(actual._fields, expected, (np.int64, np.int64, np.int32), strict=True):
        assert_same_array(getattr(actual, field), wanted, dtype, f"{name}.{field}")


def assert_same_histogram(actual: Any, expected: tuple, name: str = "histogram") -> None:
    """Fields `items` and `relevant`, int64, equal."""
    if tuple(actual._fields) != ("items", "relevant"):
        _fail(name, f"fields {actual._fields}, expected ('items', 'relevant')")
    for field, wanted in zip(actual._fields, expected, strict=True):
        assert_same_array(getattr(actual, field), wanted, np.int64, f"{name}.{field}")


def assert_close(actual: Any, expected: Any, relative: float = AP_RELATIVE, name: str = "value") -> None:
    """float64 arrays within a relative bound; NaN where, and only where, NaN is expected; 0 exactly 0."""
    if not isinstance(actual, np.ndarray | np.floating):
        _fail(name, f"is a {type(actual).__name__}, not a numpy array")
    if actual.dtype != np.float64:
        _fail(name, f"dtype {actual.dtype}, expected float64")
    expected = np.asarray(expected, dtype=np.float64)
    if actual.shape != expected.shape:
        _fail(name, f"shape {actual.shape}, expected {expected.shape}")
    nan_a, nan_e = np.isnan(actual), np.isnan(expected)
    if not np.array_equal(nan_a, nan_e):
        at = tuple(int(i) for i in np.argwhere(nan_a != nan_e)[0])
        _fail(name, f"at {at}: {actual[at]}, expected {expected[at]} (NaN differs)")
    error = np.where(nan_e, 0.0, np.abs(actual - expected))
    wrong = np.argwhere(error > relative * np.abs(np.where(nan_e, 0.0, expected)))
    if len(wrong):
        at = tuple(int(i) for i in wrong[0])
        _fail(name, f"{len(wrong)} differ, first at {at}: {actual[at]!r}, expected {expected[at]!r}")


def assert_same_ap(actual: Any, expected: Any, name: str = "average_precision") -> None:
    """AP: float64, 1e-12 relative, the same NaNs."""
    assert_close(actual, expected, AP_RELATIVE, name)


def assert_loss_error(actual: Any, plain: Any, exact: Any, unit: float, name="loss") -> None:
    """At most twice plain PyTorch's error against the exact values, plus `unit`.

    `unit` is one rounding of the result: even a perfect answer is half a unit in its last place away, and
    plain PyTorch may be right by luck. Errors are the largest over all elements.
    """
    actual, plain = np.asarray(actual, dtype=np.longdouble), np.asarray(plain, dtype=np.longdouble)
    exact = np.asarray(exact, dtype=np.longdouble)
    if not actual.shape == plain.shape == exact.shape:
        _fail(name, f"shapes {actual.shape}, {plain.shape} (plain), {exact.shape} (exact) differ")
    if not exact.size:
        return
    if not np.isfinite(actual).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(actual))[0])
        _fail(name, f"at {at}: {actual[at]}, expected {exact[at]}")
    errors = np.abs(actual - exact)
    limit = 2 * np.abs(plain - exact).max() + unit
    if errors.max() > limit:
        at = tuple(int(i) for i in np.unravel_index(int(errors.argmax()), errors.shape))
        values = f"{float(actual[at])!r}, exact {float(exact[at])!r}"
        _fail(name, f"error {float(errors.max()):.3e} at {at}, allowed {float(limit):.3e}: {values}")
