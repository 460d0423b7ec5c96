"""Codes cut into shards, and the answers of one process about all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dshc_fast
from dshc.cluster import ShardedIndex
from dshc.index import HashIndex
from dshc.storage import CodeFile

__all__ = ["Shards", "check_answers", "make_shards"]

CLASS_NAMES = ("ant", "bee", "cat", "dog")


@dataclass(frozen=True)
class Shards:
    """Paths in their order, and what lies in them as one array."""

    paths: list[str]
    codes: np.ndarray
    labels: np.ndarray
    ids: list[str]
    n_bits: int
    score: str
    queries: CodeFile


def make_shards(
    folder: Path, *, n_bits: int = 64, n_shards: int = 4, score: str = "hamming", several: bool = False
) -> Shards:
    """Shards of different sizes with many ties, the first of one item; every other one is an index in parts, of which
    items were removed. ``several``: labels are multi-hot."""
    rng = np.random.default_rng(n_bits)
    base = rng.integers(0, 2, (5, n_bits)).astype(np.uint8)
    paths, codes, labels, ids = [], [], [], []

    def some(n: int) -> tuple[np.ndarray, np.ndarray]:
        bits = base[rng.integers(0, len(base), n)] ^ (rng.random((n, n_bits)) < 0.05)
        own = (rng.random((n, 4)) < 0.4).astype(np.uint8) if several else rng.integers(0, 4, n)
        return np.packbits(bits.astype(np.uint8), axis=1, bitorder="little"), own

    for place in range(n_shards):
        n = 1 if place == 0 else int(rng.integers(100, 400))
        own, known = some(n)
        names = [f"{place}/{row}.png" for row in range(n)]
        path = folder / f"{place:02d}"
        if place % 2:
            with HashIndex.create(
                path,
                bits=n_bits,
                score=score,
                ids="text",
                labels="multi-hot" if several else "ids",
                class_names=CLASS_NAMES,
            ) as index:
                for start in range(0, n, 90):
                    part = slice(start, start + 90)
                    index.add(own[part], names[part], labels=known[part])
                gone = rng.permutation(n)[: n // 5]
                index.remove([names[row] for row in gone])
            keep = np.setdiff1d(np.arange(n), gone)
            own, known, names = own[keep], known[keep], [names[row] for row in keep]
        else:
            path = path.with_suffix(".safetensors")
            CodeFile(own, n_bits, known, tuple(names), CLASS_NAMES, score=score).save(path)
        paths.append(str(path))
        codes.append(own)
        labels.append(known)
        ids += names
    asked, known = some(7)
    return Shards(
        paths,
        np.concatenate(codes),
        np.concatenate(labels),
        ids,
        n_bits,
        score,
        CodeFile(asked, n_bits, known, class_names=CLASS_NAMES, score=score),
    )


def check_answers(index: ShardedIndex, shards: Shards) -> None:
    """Every question has the answer of one process: search and radius to the bit, averages but for rounding."""
    queries, score = shards.queries.codes, shards.score
    for k in (1, 10, len(shards.codes) // 2, len(shards.codes)):
        want = dshc_fast.hamming_topk(queries, shards.codes, k, score=score)
        found = index.search(shards.queries, k)
        assert found.missing == ()
        assert found.distances.dtype == np.int32 and found.indices.dtype == np.int64
        np.testing.assert_array_equal(found.distances, want.distances)
        np.testing.assert_array_equal(found.indices, want.indices)
    assert index.ids(found.indices[:, :20]).tolist() == [
        [shards.ids[i] for i in row] for row in found.indices[:, :20].tolist()
    ]
    for radius in (0, shards.n_bits // 8, shards.n_bits // 2):
        want = dshc_fast.hamming_radius(queries, shards.codes, radius, score=score)
        found = index.radius(queries, radius)
        for name in ("offsets", "indices", "distances"):
            np.testing.assert_array_equal(getattr(found, name), getattr(want, name), err_msg=name)
    operands = (queries, shards.codes, shards.queries.labels, shards.labels)
    for k in (None, 7, 100):
        for ties in ("expected", "best", "worst"):
            want = dshc_fast.average_precision(*operands, k=k, ties=ties, score=score)
            found = index.average_precision(shards.queries, k=k, ties=ties)
            np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)
