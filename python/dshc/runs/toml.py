"""Settings as commented TOML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..settings import Settings, choices

__all__ = ["to_toml"]


def to_toml(settings: Settings, tables: Iterable[str], head: Mapping[str, Mapping[str, Any]]) -> str:
    """Each table of ``settings``, each setting under its description; those at None as comments.

    ``head``: tables that come first, without descriptions.
    """
    lines: list[str] = []
    for name, values in head.items():
        lines += [f"[{name}]", *(f"{key} = {_value(value)}" for key, value in values.items()), ""]
    for table in tables:
        lines.append(f"[{table}]")
        model = getattr(settings, table)
        for name, field in type(model).model_fields.items():
            value, known = getattr(model, name), choices(field)
            text = field.description or ""
            if len(known) > 1:
                text += f" ({' | '.join(known)})"
            if text:
                lines.append(f"# {text}")
            lines.append(f"# {name}: not set" if value is None else f"{name} = {_value(value)}")
        lines.append("")
    return "\n".join(lines)


def _value(value: str | bool | int | float) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, the one control character JSON lets through aside.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
