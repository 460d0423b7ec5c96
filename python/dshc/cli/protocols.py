"""``dshc protocols``: how sets are cut into queries, database and training items."""

from __future__ import annotations

import json

from ..data import describe_protocols
from .console import say, table

__all__ = ["show_protocols"]


def show_protocols(*, as_json: bool) -> None:
    """All protocols in a table: name, what it does, and the papers that use it."""
    rows = describe_protocols()
    if as_json:
        say(json.dumps([{"name": name, "text": text, "source": source} for name, text, source in rows]))
        return
    table("", ("protocol", "what it is", "source"), rows)
