"""Requests that wish a service ill, by kinds, and the index that they are sent to.

Each returns the status of its answer, 0 where it did not wait for one.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import torch
from hostile_images import hostile
from PIL import Image

from dshc import Hasher, HashIndex, methods
from dshc.backbones import EncoderSettings

__all__ = ["KINDS", "SHARES", "index_with_a_hasher", "whole_image"]

N_ITEMS, SIDE = 2000, 32


def index_with_a_hasher(path: Path) -> Path:
    """Images of noise, encoded by a hasher with random weights."""
    torch.manual_seed(0)
    hasher = Hasher.build(
        EncoderSettings(backbone="small_net", width=16),
        methods.get("dshc").Settings(),
        kind="images",
        item_shape=(SIDE, SIDE, 3),
        label_kind="ids",
        class_names=tuple("abcdefghij"),
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.3),
        precision="fp32",
    )
    hasher.eval()
    images = np.random.default_rng(0).integers(0, 256, (N_ITEMS, SIDE, SIDE, 3), dtype=np.uint8)
    with HashIndex.create(path, hasher=hasher, ids="text", labels="ids", metadata={"year": "int32"}) as index:
        index.add(
            hasher.encode(images),
            [f"{i}.png" for i in range(N_ITEMS)],
            labels=np.arange(N_ITEMS) % 10,
            metadata={"year": np.arange(N_ITEMS) % 30 + 2000},
        )
    return path


_CONDITIONS = (
    "year >= 2010",
    "year > 99999999999999999999",
    "year in (1, 'a')",
    "year < '\\ud800'",
    "-" * 900 + "1 == year",
    "year" + ".a" * 400,
    "(" * 900,
    "not " * 200 + "year == 1",
    "a and " * 100,
)


def _images(client: httpx2.Client, rng: np.random.Generator) -> int:
    files = [("images", (f"{i}", hostile(rng))) for i in range(int(rng.integers(1, 4)))]
    return client.post("/search/images", files=files, data={"k": "3"}).status_code


def whole_image(client: httpx2.Client, rng: np.random.Generator) -> int:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(buffer, format="PNG")
    return client.post("/search/images", files={"images": ("a", buffer.getvalue())}).status_code


def _form(client: httpx2.Client, rng: np.random.Generator) -> int:
    """Bytes that say they are a form, or a form of which bytes are wrong."""
    boundary = b"b" * int(rng.integers(1, 80))
    part = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    body = np.frombuffer(part + hostile(rng) + b"\r\n--" + boundary + b"--\r\n", np.uint8).copy()
    body[rng.integers(0, min(len(body), 200), int(rng.integers(0, 4)))] = int(rng.integers(0, 256))
    head = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
    return client.post("/search/images", content=body.tobytes(), headers=head).status_code


def _fields(client: httpx2.Client, rng: np.random.Generator) -> int:
    values = (
        "-1",
        "x",
        "1" * 400,
        "1e309",
        "nan",
        "",
        "\0",
        "é" * 900,
        "flip",
        "crops",
        "true",
        *_CONDITIONS,
    )
    names = (
        "k",
        "radius",
        "precision",
        "label",
        "where",
        "ids",
        "include",
        "variants",
        "rescore",
        "asymmetric",
    )
    data = {str(rng.choice(names)): str(rng.choice(values)) for _ in range(int(rng.integers(1, 4)))}
    return client.post("/search/images", files={"images": ("a", hostile(rng))}, data=data).status_code


def _many(client: httpx2.Client, rng: np.random.Generator) -> int:
    files = [("images", ("a", rng.bytes(30))) for _ in range(int(rng.integers(40, 90)))]
    return client.post("/search/images", files=files).status_code


def _large(client: httpx2.Client, rng: np.random.Generator) -> int:
    """More than is accepted; without a length the service has to count."""
    n = int(rng.integers(16, 18))
    with contextlib.suppress(httpx2.TransportError):  # it may hang up while there is more to send
        if rng.integers(0, 2):
            return client.post("/search/images", files={"images": ("a", bytes(n << 20))}).status_code
        head = {"content-type": "multipart/form-data; boundary=b"}
        content = (bytes(1 << 20) for _ in range(n))
        return client.post("/search/images", content=content, headers=head).status_code
    return 0


def _json(client: httpx2.Client, rng: np.random.Generator) -> int:
    deep = '{"filter":' * int(rng.integers(1, 400))
    bodies: tuple[Any, ...] = (
        deep.encode(),
        json.dumps({"codes": ["z" * int(rng.integers(0, 5000))]}).encode(),
        json.dumps(
            {"ids": [f"{int(rng.integers(0, 3000))}.png"], "k": 10 ** int(rng.integers(0, 30))}
        ).encode(),
        json.dumps({"ids": ["1.png"], "filter": {"where": str(rng.choice(_CONDITIONS))}}).encode(),
        json.dumps({"ids": ["1.png"], "filter": {"label": [10 ** int(rng.integers(0, 40))]}}).encode(),
        json.dumps({"vectors": [[1e308] * int(rng.integers(1, 3000))]}).encode(),
        json.dumps({"ids": ["1.png"] * 12, "n_variants": int(rng.integers(0, 30))}).encode(),
        json.dumps({"codes": ["0" * 8], "rescore": 10 ** int(rng.integers(0, 30)), "metric": "l2"}).encode(),
        rng.bytes(int(rng.integers(0, 3000))),
    )
    body = bodies[int(rng.integers(0, len(bodies)))]
    return client.post("/search", content=body, headers={"content-type": "application/json"}).status_code


def _picture(client: httpx2.Client, rng: np.random.Generator) -> int:
    names = ("../../etc/passwd", "/etc/passwd", "a\0b", "%2e%2e/" * 300, "0.png", "é" * 4000)
    return client.get("/picture", params={"id": str(rng.choice(names))}).status_code


def _leave(client: httpx2.Client, rng: np.random.Generator) -> int:
    """Send half of a request and go."""
    place = urlsplit(str(client.base_url))
    content = hostile(rng) + bytes(int(rng.integers(1, 1 << 20)))
    head = (
        "POST /search/images HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    )
    head += f"Content-Length: {2 * len(content)}\r\n\r\n"
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(head.encode() + part + content)
    return 0


Ask = Callable[[httpx2.Client, np.random.Generator], int]
KINDS: list[tuple[str, Ask]] = [
    ("damaged images and bombs", _images),
    ("damaged forms", _form),
    ("fields that mean nothing", _fields),
    ("many images", _many),
    ("too large", _large),
    ("JSON", _json),
    ("pictures that are none", _picture),
    ("left in the middle", _leave),
]
SHARES = (0.65, 0.07, 0.07, 0.03, 0.01, 0.07, 0.05, 0.05)
