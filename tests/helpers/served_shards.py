"""Items in one index and the same items in shards; what a service of either is asked, whose answers must be equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from served_indexes import CLASSES, index_of_codes, names_of

import dshc
from dshc.storage import CodeFile

__all__ = ["QUESTIONS", "cut_index", "cut_into_files", "replies"]

Q = "/search"
QUESTIONS: tuple[tuple[str, str, Any], ...] = (
    ("POST", Q, {"ids": ["bee/1.png"]}),
    ("POST", Q, {"ids": ["ant/0.png", "elk/499.png", "cat/252.png"], "k": 17, "include": ["label", "code"]}),
    ("POST", Q, {"codes": ["00ff0010", "ffffff1f"], "k": 400, "include": []}),
    ("POST", Q, {"codes": ["00ff0010"], "radius": 9, "include": ["label"]}),
    ("POST", Q, {"codes": ["00ff0010"], "radius": 0}),
    ("POST", Q, {"codes": ["00ff0010"], "k": 50, "filter": {"label": ["bee", "cat"]}}),
    ("POST", Q, {"codes": ["00ff0010"], "k": 5, "filter": {"ids": ["bee/1.png", "no such item", "elk/404.png"]}}),
    ("POST", Q, {"codes": ["00ff0010"], "filter": {"ids": []}}),
    ("POST", Q, {"ids": ["ant/0.png", "elk/499.png", "cat/252.png", "dog/3.png"], "n_variants": 2, "k": 30}),
    ("POST", Q, {"codes": ["00ff0010", "00ff0011", "ffffff1f"], "n_variants": 3, "k": 400, "include": ["code"]}),
    ("POST", Q, {"codes": ["00ff0010", "ffffff1f"], "n_variants": 2, "radius": 9}),
    ("POST", Q, {"codes": ["00ff0010", "ffffff1f"], "n_variants": 2, "k": 9, "filter": {"label": ["bee"]}}),
    ("POST", Q, {"codes": ["00ff0010", "ffffff1f", "00ff0011"], "n_variants": 2}),
    ("POST", Q, {"ids": ["bee/1.png"], "asymmetric": True}),
    ("POST", Q, {"codes": ["00ff00ff"]}),
    ("POST", Q, {"ids": ["bee/1.png", "no such item"]}),
    ("POST", Q, {"ids": ["bee/1.png"], "k": 5000}),
    ("POST", Q, {"vectors": [[0.5]]}),
    ("POST", Q, {"codes": ["00ff0010"], "precision": 0.9}),
    ("POST", Q, {"ids": ["bee/1.png"], "filter": {"label": ["bea"]}}),
    ("GET", "/item?id=dog/3.png", None),
    ("GET", "/item?id=nothing", None),
    ("GET", "/picture?id=dog/3.png", None),
    ("GET", "/health", None),
    ("GET", "/ready", None),
    ("GET", "/", None),
    ("GET", "/nowhere", None),
)  # fmt: skip
WITH_METADATA: tuple[tuple[str, str, Any], ...] = (
    ("POST", Q, {"codes": ["00ff0010"], "k": 30, "include": ["metadata", "label"]}),
    ("POST", Q, {"codes": ["00ff0010"], "k": 30, "filter": {"where": "year >= 2010", "label": ["bee"]}}),
    ("POST", Q, {"codes": ["00ff0010"], "filter": {"where": "yeer >= 2010"}}),
)


def cut_index(folder: Path, n_shards: int) -> tuple[Path, Path]:
    """An index, and a folder of so many indexes that hold the same items in the same order; some were removed."""
    whole, shards = index_of_codes(folder / "whole"), folder / "shards"
    shards.mkdir()
    with dshc.HashIndex.open(whole) as index:
        index.remove(names_of(500)[40:60])
        ids, layout = index.ids(), index.layout
        step = -(-len(ids) // n_shards)
        for place in range(n_shards):
            own = ids[place * step : (place + 1) * step].tolist()
            kept = index.get(own)
            with dshc.HashIndex.create(
                shards / f"{place:02}",
                bits=layout.n_bits,
                ids="text",
                labels="ids",
                class_names=layout.class_names,
                metadata=dict(layout.metadata),
            ) as shard:
                for first in range(0, len(own), 70):
                    part = slice(first, first + 70)
                    shard.add(
                        kept.codes[part],
                        own[part],
                        labels=kept.labels[part],
                        metadata=kept.metadata.slice(first, 70),
                    )
    return whole, shards


def cut_into_files(folder: Path, n_shards: int, *, with_ids: bool = True) -> tuple[Path, Path]:
    """The same of code files, as ``dshc encode --cluster`` writes them; without ids items go by their numbers."""
    n, bits = 300, 29
    codes = np.random.default_rng(0).integers(0, 256, (n, 4), dtype=np.uint8)
    codes[:, -1] &= 0x1F
    labels, names = np.arange(n) % 5, names_of(n)
    with dshc.HashIndex.create(
        folder / "whole", bits=bits, ids="text" if with_ids else "int64", labels="ids", class_names=CLASSES
    ) as index:
        index.add(codes, names if with_ids else None, labels=labels)
    step = -(-n // n_shards)
    for place in range(n_shards):
        part = slice(place * step, (place + 1) * step)
        own = tuple(names[part]) if with_ids else None
        CodeFile(codes[part], bits, labels[part], own, CLASSES).save(
            folder / "shards" / f"{place:02}.safetensors"
        )
    return folder / "whole", folder / "shards"


def replies(client: Any, questions: tuple[tuple[str, str, Any], ...] = QUESTIONS) -> list[tuple[int, bytes]]:
    """Status and body of each; ``client`` is httpx2's, or one of a service in this process."""
    found = []
    for method, address, body in questions:
        answer = client.request(method, address, json=body)
        found.append((answer.status_code, answer.content))
    return found
