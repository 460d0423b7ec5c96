"""Numbers of an evaluation as text and as JSON."""

from __future__ import annotations

import math

__all__ = ["number_text", "without_nan"]


def number_text(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"


def without_nan(value: object) -> object:
    """Plain content with None for NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
