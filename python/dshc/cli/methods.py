"""``dshc methods``: the hashing methods and their settings."""

from __future__ import annotations

import json

from .. import methods
from ..methods.base import Method, describe_labels
from ..settings import choices, plain_type
from .console import say, table

__all__ = ["show_methods"]


def show_methods(name: str | None, *, as_json: bool) -> None:
    """All methods in a table, or one with its settings, their defaults and its source."""
    if name is None:
        known = [methods.get(method) for method in methods.available()]
        if as_json:
            say(json.dumps([_about(method) for method in known]))
            return
        rows = [(m.name, m.title, ", ".join(map(describe_labels, m.label_kinds))) for m in known]
        table("", ("method", "title", "takes"), rows)
        return
    method = methods.get(name)
    if as_json:
        say(json.dumps(_about(method)))
        return
    say(f"{method.name}: {method.title}", style="bold")
    say(f"source: {method.source}")
    say(f"takes:  {', '.join(map(describe_labels, method.label_kinds))}; ranked by {method.score}")
    say()
    settings = _about(method)["settings"]
    # None is chosen by data and method; the description says how.
    rows = [(s["name"], s["type"], _shown(s["default"]), s["description"]) for s in settings]
    table("", ("setting", "type", "default", "meaning"), rows)
    if method.main_weight is not None:
        say()
        say(f"main weight, which dshc compare tunes beside the learning rate: {method.main_weight}")
    if method.recipe:
        say()
        table(
            "",
            ("its default for", "value"),
            [(key, value) for key, value in method.recipe.items() if value is not None],
        )


def _shown(default: object) -> str:
    return "" if default is None else str(default)


def _about(method: type[Method]) -> dict[str, object]:
    settings = [
        {
            "name": name,
            "type": " | ".join(choices(field)) or plain_type(field).__name__,
            "default": field.default,
            "description": field.description or "",
        }
        for name, field in method.Settings.model_fields.items()
        if name != "name"
    ]
    return {
        "name": method.name,
        "title": method.title,
        "source": method.source,
        "labels": list(method.label_kinds),
        "score": method.score,
        "settings": settings,
        "main_weight": method.main_weight,
        "recipe": dict(method.recipe),
    }
