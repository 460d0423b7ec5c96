"""The obvious twin of an index: lists of items, searched as one array."""

from __future__ import annotations

import numpy as np

import dshc_fast
from dshc.index import HashIndex

N_BYTES, N_BITS, N_DIMENSIONS = 2, 12, 3


def draw_codes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Few distinct ones, so that distances tie."""
    codes = rng.integers(0, 256, (n, N_BYTES), dtype=np.uint8) & rng.integers(
        0, 256, (n, N_BYTES), dtype=np.uint8
    )
    codes[:, -1] &= 0x0F
    return codes


class Model:
    """Items in their order; ``ids`` are int64 or text."""

    def __init__(self) -> None:
        self.codes = np.empty((0, N_BYTES), np.uint8)
        self.ids: list = []
        self.labels = np.empty(0, np.int64)
        self.years = np.empty(0, np.int64)
        self.vectors = np.empty((0, N_DIMENSIONS), np.float32)

    def add(
        self, codes: np.ndarray, ids: list, labels: np.ndarray, years: np.ndarray, vectors: np.ndarray
    ) -> None:
        self.codes = np.concatenate([self.codes, codes])
        self.ids += list(ids)
        self.labels = np.concatenate([self.labels, labels])
        self.years = np.concatenate([self.years, years])
        self.vectors = np.concatenate([self.vectors, vectors.astype(np.float16).astype(np.float32)])

    def remove(self, ids: list) -> None:
        gone = set(ids)
        self.keep(np.array([id not in gone for id in self.ids], bool))

    def keep(self, kept: np.ndarray) -> None:
        self.ids = [id for id, stays in zip(self.ids, kept, strict=True) if stays]
        for name in ("codes", "labels", "years", "vectors"):
            setattr(self, name, getattr(self, name)[kept])

    def check(self, index: HashIndex, rng: np.random.Generator) -> None:
        """The index holds these items and answers as one array of them does."""
        import pyarrow.compute as pc

        assert len(index) == len(self.ids)
        assert index.ids().tolist() == self.ids
        kept = index.get(self.ids)
        assert np.array_equal(kept.codes, self.codes)
        assert np.array_equal(kept.labels, self.labels)
        assert kept.metadata["year"].to_pylist() == self.years.tolist()
        assert np.array_equal(kept.vectors, self.vectors)
        if not self.ids:
            return
        queries, k = draw_codes(rng, 3), int(rng.integers(1, len(self.ids) + 1))
        self._same(index.search(queries, k), queries, k, None)
        label, year = int(rng.integers(0, 3)), int(rng.integers(2000, 2004))
        chosen = [self.ids[i] for i in np.flatnonzero(rng.random(len(self.ids)) < 0.5)]
        allowed = (
            (self.labels == label) & (self.years >= year) & np.isin(np.array(self.ids), np.array(chosen))
        )
        found = index.search(queries, k, label=label, where=pc.field("year") >= year, ids=chosen)
        self._same(found, queries, k, allowed)
        radius = int(rng.integers(0, N_BITS))
        got = index.radius(queries, radius)
        want = dshc_fast.hamming_radius(queries, self.codes, radius)
        assert np.array_equal(got.offsets, want.offsets) and np.array_equal(got.distances, want.distances)
        assert got.ids.tolist() == [self.ids[i] for i in want.indices]

    def _same(self, found, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> None:
        want = dshc_fast.hamming_topk(queries, self.codes, k, allowed=allowed)
        assert np.array_equal(found.distances, want.distances)
        nothing = None if found.ids.dtype == object else -1
        assert found.ids.tolist() == [
            [nothing if i < 0 else self.ids[i] for i in row] for row in want.indices
        ]


def create(path, ids: str = "int64", **more) -> HashIndex:
    return HashIndex.create(
        path,
        bits=N_BITS,
        ids=ids,
        labels="ids",
        vectors="float16",
        dimensions=N_DIMENSIONS,
        metadata={"year": "int64"},
        **more,
    )


def add_random(
    index: HashIndex,
    model: Model,
    rng: np.random.Generator,
    n: int,
    ids: list | None = None,
    *,
    update: bool = False,
) -> None:
    """Add (or update) items in both; ids None: those that the index chooses."""
    codes, labels, years = draw_codes(rng, n), rng.integers(0, 3, n), rng.integers(2000, 2004, n)
    vectors = rng.normal(size=(n, N_DIMENSIONS)).astype(np.float32)
    change = index.update if update else index.add
    given = change(codes, ids, labels=labels, vectors=vectors, metadata={"year": years})
    if update:
        model.remove(given.tolist())
    model.add(codes, given.tolist(), labels, years, vectors)
