"""What the tests of reports show: a small evaluation, its gallery, and pictures of its items."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import dshc_fast
from dshc.evaluation import Conventions, Evaluation, evaluate
from dshc.report.gallery import Gallery, make_gallery, spread_queries

__all__ = [
    "CLASS_NAMES",
    "N_BITS",
    "N_DB",
    "N_QUERY",
    "evaluation_of",
    "gallery_of",
    "images",
    "operands",
    "picture",
]

N_QUERY, N_DB, N_BITS = 12, 60, 9
CLASS_NAMES = ("<cat>", 'd"og', "sea & sky")


def operands() -> tuple[np.ndarray, ...]:
    """Codes of the queries and of the database, then the labels of both."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, N_QUERY + N_DB)
    values = np.eye(3)[labels].repeat(3, axis=1) * 2 - 1 + rng.normal(size=(N_QUERY + N_DB, N_BITS))
    codes = dshc_fast.pack_codes(values)
    return codes[:N_QUERY], codes[N_QUERY:], labels[:N_QUERY], labels[N_QUERY:]


def evaluation_of(**options: object) -> Evaluation:
    return evaluate(*operands(), n_bits=N_BITS, accuracy=0.9, conventions=Conventions(**options))


def gallery_of(
    evaluation: Evaluation,
    inputs: np.ndarray | None,
    *,
    title: str = "Ten queries",
    caption: str = "A caption with <b>markup</b>.",
    class_names: Sequence[str] = CLASS_NAMES,
    **options: Any,
) -> Gallery:
    """The queries that a report shows, with the nearest of :func:`operands`."""
    queries, database, query_labels, database_labels = operands()
    return make_gallery(
        "gallery",
        title,
        caption,
        spread_queries(query_labels),
        query_codes=queries,
        database_codes=database,
        query_items=np.arange(N_QUERY),
        database_items=np.arange(N_QUERY, N_QUERY + N_DB),
        labels=np.concatenate([query_labels, database_labels]),
        inputs=inputs,
        evaluation=evaluation,
        class_names=class_names,
        **options,
    )


def images(side: int = 8, channels: int = 1) -> np.ndarray:
    """A picture of noise for each item, the queries first."""
    shape = (N_QUERY + N_DB, side, side + 2, channels)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def picture(data: bytes) -> Image.Image:
    """A picture file, decoded to its last byte."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
