"""Small indexes for the tests of the service, and a service that answers in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from small_hashers import a_hasher, items_of

import dshc
from dshc.index.sources import backbone_features

N_ITEMS = 500
CLASSES = ("ant", "bee", "cat", "dog", "elk")


def names_of(n: int) -> list[str]:
    return [f"{CLASSES[i % 5]}/{i}.png" for i in range(n)]


def index_of_codes(
    folder: Path, n: int = N_ITEMS, *, bits: int = 29, ids: str = "text", **layout: Any
) -> Path:
    """Random codes with text ids, class ids (-1 for every seventh) and the year of each."""
    codes = random_codes(n, bits)
    years = [None if i % 11 == 0 else 2000 + i % 20 for i in range(n)]
    labels = np.where(np.arange(n) % 7 == 0, -1, np.arange(n) % 5)
    with dshc.HashIndex.create(
        folder,
        bits=bits,
        ids=ids,
        labels="ids",
        class_names=CLASSES,
        metadata={"year": "int32", "weight": "float64"},
        **layout,
    ) as index:
        if n:
            weights = np.where(np.arange(n) % 13 == 0, np.nan, np.arange(n) / 2)
            index.add(
                codes,
                names_of(n) if ids == "text" else np.arange(n) * 3 - 30,
                labels=labels,
                metadata={"year": years, "weight": weights},
            )
    return folder


def random_codes(n: int, bits: int, seed: int = 0) -> np.ndarray:
    bytes_ = (bits + 7) // 8
    codes = np.random.default_rng(seed).integers(0, 256, (n, bytes_), dtype=np.uint8)
    codes[:, -1] &= (1 << ((bits - 1) % 8 + 1)) - 1
    return codes


def index_of_items(folder: Path, kind: str, n: int = 60) -> Path:
    """An index with a hasher of images ``(8, 8, 3)`` or features ``(12,)``, and items that it encoded."""
    hasher = a_hasher("dshc", kind)
    with dshc.HashIndex.create(folder, hasher=hasher, ids="text", labels="ids", class_names=CLASSES) as index:
        index.add(hasher.encode(items_of(kind, n)), names_of(n), labels=np.arange(n) % 5)
    return folder


def index_with_vectors(folder: Path, kind: str, n: int = 80, ids: str = "text") -> Path:
    """Of a hasher whose codes are the signs of its outputs (11 bits), with vectors."""
    hasher = a_hasher("dpsh", kind)
    items = items_of(kind, n)
    # Bits that are 1 of half of the items: random weights give all of them nearly the same outputs.
    hasher.method.set_transform(thresholds=hasher.outputs(items).median(dim=0).values)
    vectors = items if kind == "features" else backbone_features(hasher, [items])
    with dshc.HashIndex.create(
        folder,
        hasher=hasher,
        ids=ids,
        labels="ids",
        class_names=CLASSES,
        vectors="float16",
        dimensions=vectors.shape[1],
    ) as index:
        index.add(
            hasher.encode(items),
            names_of(n) if ids == "text" else np.arange(n) - 5,
            labels=np.arange(n) % 5,
            vectors=vectors,
        )
    return folder


def write_pictures(folder: Path, n: int = 60) -> Path:
    """Files of the images that :func:`index_of_items` is of, by their ids."""
    for name, pixels in zip(names_of(n), items_of("images", n), strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


class Log:
    """A stream that a :class:`dshc.service.watch.JsonLog` writes to."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@contextlib.contextmanager
def client_of(
    path: Path,
    *,
    images: Path | None = None,
    keys: tuple[str, ...] = (),
    log: Log | None = None,
    **settings: Any,
) -> Iterator[Any]:
    """A client of a service in this process; ``client.service`` is the service."""
    from fastapi.testclient import TestClient

    from dshc.service import Served, ServiceSettings, create_app
    from dshc.service.watch import JsonLog

    served = Served.open(path, images=images, max_pixels=settings.get("max_pixels", 40_000_000))
    app = create_app(served, ServiceSettings(**settings), keys, log=JsonLog(log or Log()))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        client.service = app.state.service
        yield client
    served.close()


def asked(client: Any, **body: Any) -> dict[str, Any]:
    """The answer to a search, which must succeed."""
    answer = client.post("/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: Any, status: int) -> str:
    """The message with which a request must be refused, in the form that all refusals have."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    return error["message"]
