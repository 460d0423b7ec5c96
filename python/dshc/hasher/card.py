"""The model card beside a saved hasher."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hasher import Hasher

__all__ = ["model_card"]


def model_card(hasher: Hasher) -> str:
    """What the model is and how it is used, in Markdown."""
    method = hasher.method
    shape = " x ".join(map(str, hasher.item_shape))
    if hasher.seen_shape != hasher.item_shape:
        shape += f", enlarged to {' x '.join(map(str, hasher.seen_shape))} before the network"
    facts = [
        ("method", f"{method.title} (`{method.name}`)"),
        ("source", method.source),
        ("code length", f"{hasher.n_bits} bits, ranked by {hasher.score}"),
        ("input", f"{hasher.kind} {shape}"),
        ("backbone", hasher.encoder_settings.backbone or "given as an object"),
        ("classes", _names(hasher.class_names)),
        *((name.replace("_", " "), str(value)) for name, value in sorted(hasher.about.items())),
    ]
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts)
    return f"""---
library_name: dshc
tags: [hashing, image-retrieval]
---

# {method.title}, {hasher.n_bits} bits

| | |
| --- | --- |
{rows}

```python
from dshc import Hasher

hasher = Hasher.load("FOLDER")
codes = hasher.encode(items)  # uint8 (n, {-(-hasher.n_bits // 8)}), bit j in byte j // 8 at position j % 8
```
"""


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
