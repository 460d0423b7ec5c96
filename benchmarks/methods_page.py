"""The figures measured here in docs/methods.md: every method's line "Here", from docs/results/methods-*.json.

    python benchmarks/methods_page.py

Rewrites the lines in place; a test compares them with the results.
"""

from __future__ import annotations

import functools
import json
import re
import textwrap
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "methods.md"
RESULTS = ROOT / "docs" / "results"
WIDTH = 130
SETS = {
    "ucm": "aerial photos",
    "cifar10": "CIFAR-10, 5k/59k",
    "cifar10-full": "CIFAR-10, full",
    "cifar100": "CIFAR-100",
    "scene": "scene",
    "corel5k": "Corel 5k",
    "corel16k001": "Corel 16k",
}
UNSEEN = "cifar10-unseen"
# Labels of a comparison that stand for a method as it is, or for a variant of it, by what the line calls it.
LABELS = {
    "dshc": {
        "": ("dshc",),
        "`construction` separated": ("dshc:construction=separated",),
        "`construction` cpbc": ("dshc:construction=cpbc",),
        "`rounding` dithered": ("dshc:construction=separated:rounding=dithered",),
    },
    "sdsh": {
        "": ("sdsh",),
        "the rotation": ("sdsh:rotation_epochs=1", "sdsh:rotation_epochs=2"),
    },
}


@functools.cache
def measured(name: str) -> dict[str, dict[int, list[dict[str, Any]]]]:
    """The numbers of a comparison by label and length; empty where it is not there."""
    path = RESULTS / f"methods-{name}.json"
    found: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for result in json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []:
        if result["numbers"] is not None:
            found.setdefault(result["label"], {}).setdefault(result["bits"], []).append(result["numbers"])
    return found


def here(method: str) -> str:
    """The line of a method, without its head; empty where nothing was measured."""
    tables = {name: measured(name) for name in (*SETS, UNSEEN)}
    parts = []
    for variant, labels in LABELS.get(method, {"": (method,)}).items():
        sets = []
        for name, title in SETS.items():
            rows = next((tables[name][label] for label in labels if label in tables[name]), None)
            if rows is not None:
                lengths = "" if tuple(rows) == (16, 32, 48, 64) else f" ({', '.join(map(str, rows))} bits)"
                values = " / ".join(shown(fmean(n["mean_ap"] for n in found)) for found in rows.values())
                sets.append(f"{title}{lengths} {values}")
        rows = next((tables[UNSEEN][label] for label in labels if label in tables[UNSEEN]), {})
        for found in rows.values():
            unseen = shown(fmean(n["groups"]["unseen classes"] for n in found))
            sets.append(f"queries of unseen classes (32 bits) {unseen}")
        if sets:
            parts.append((f"With {variant}: " if variant else "") + "; ".join(sets) + ".")
    return " ".join(parts)


def shown(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def with_lines(page: str) -> str:
    """The page with every method's line as the results have it, behind what was published."""

    def section(match: re.Match[str]) -> str:
        name, body = match.groups()
        body = re.sub(r"^\* \*\*Here\*\*:.*?(?=^\* )", "", body, flags=re.MULTILINE | re.DOTALL)
        if text := here(name):
            line = textwrap.fill(
                f"* **Here**: {text}",
                WIDTH,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            body = body.replace("* **Choose it**", f"{line}\n* **Choose it**")
        return f"### {name}\n{body}"

    return re.sub(r"^### (\S+)\n(.*?)(?=^##|\Z)", section, page, flags=re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_lines(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print("docs/methods.md")
