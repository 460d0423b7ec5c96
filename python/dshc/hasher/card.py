"""The model card beside a saved hasher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..progress import visible

if TYPE_CHECKING:
    from .hasher import Hasher

__all__ = ["card_page", "input_shape", "model_card"]


def model_card(hasher: Hasher) -> str:
    """What the model is and how it is used, in Markdown."""
    method = hasher.method
    facts = {
        "method": f"{method.title} (`{method.name}`)",
        "source": method.source,
        "code length": f"{hasher.n_bits} bits, ranked by {hasher.score}",
        "input": input_shape(hasher),
        "backbone": hasher.encoder_settings.backbone or "given as an object",
        "classes": _names(hasher.class_names),
        **{name.replace("_", " "): str(value) for name, value in sorted(hasher.about.items())},
    }
    return card_page(hasher, f"{method.title}, {hasher.n_bits} bits", facts)


def input_shape(hasher: Hasher) -> str:
    """What the model takes, in words."""
    shape = " x ".join(map(str, hasher.item_shape))
    if hasher.seen_shape != hasher.item_shape:
        shape += f", enlarged to {' x '.join(map(str, hasher.seen_shape))} before the network"
    return f"{hasher.kind} {shape}"


def card_page(
    hasher: Hasher, title: str, facts: Mapping[str, str], *, folder: str = "FOLDER", more: str = ""
) -> str:
    """A model card: ``facts`` as a table, ``more`` text, and how the model in ``folder`` is used."""
    rows = "\n".join(f"| {name} | {_cell(value)} |" for name, value in facts.items())
    return f"""---
library_name: dshc
tags: [hashing, image-retrieval]
---

# {title}

| | |
| --- | --- |
{rows}

{more}```python
from dshc import Hasher

hasher = Hasher.load("{folder}")
codes = hasher.encode(items)  # uint8 (n, {-(-hasher.n_bits // 8)}), bit j in byte j // 8 at position j % 8
```
"""


def _cell(text: str) -> str:
    """Names come from outside, and must not end the cell or the row."""
    return visible(text).replace("|", "\\|")


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
