"""What an index holds prepared in memory: as much as there is room for, with tables, with clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from index_model import N_BITS, draw_codes

import dshc_fast
from dshc.index import HashIndex, part_search

pytest.importorskip("pyarrow")


def test_more_codes_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched in chunks, nothing held: the answers of one array."""
    monkeypatch.setattr(part_search, "_CHUNK", 640)
    monkeypatch.setattr(part_search, "_PAIRS", 64)
    rng = np.random.default_rng(1)
    codes = draw_codes(rng, 5000)
    queries = draw_codes(rng, 9)
    with HashIndex.create(tmp_path / "index", bits=N_BITS, memory=0) as index:
        for start in range(0, 5000, 1700):
            index.add(codes[start : start + 1700])
        for k in (1, 30, 400):
            want = dshc_fast.hamming_topk(queries, codes, k)
            for _ in range(3):
                found = index.search(queries, k)
                assert np.array_equal(found.distances, want.distances) and np.array_equal(
                    found.ids, want.indices
                )
        assert not index._search._prepared


def test_with_substring_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    codes = rng.integers(0, 256, (3000, 8), dtype=np.uint8)
    queries = codes[:5] ^ np.uint8(1)
    with HashIndex.create(tmp_path / "index", bits=64, tables=True) as index:
        for start in range(0, 3000, 1300):
            index.add(codes[start : start + 1300])
        for radius in (0, 3, 8, 30):
            want = dshc_fast.hamming_radius(queries, codes, radius)
            found = index.radius(queries, radius)
            assert np.array_equal(found.ids, want.indices) and np.array_equal(found.offsets, want.offsets)
        assert all(database.tables is not None for database in index._search._prepared.values())
        index.remove([7])
        found = index.search(queries, 40)
        want = dshc_fast.hamming_topk(queries, codes, 40, allowed=np.arange(3000) != 7)
        assert np.array_equal(found.ids, want.indices) and np.array_equal(found.distances, want.distances)


def test_with_clusters(tmp_path: Path) -> None:
    rng = np.random.default_rng(12)
    centers = rng.integers(0, 256, (20, 8), dtype=np.uint8)
    codes = centers[rng.integers(0, 20, 40_000)] ^ np.packbits(rng.random((40_000, 64)) < 0.04, axis=1)
    queries = np.concatenate([codes[:5] ^ np.uint8(1), rng.integers(0, 256, (3, 8), dtype=np.uint8)])
    with HashIndex.create(tmp_path / "index", bits=64, clusters=True) as index:
        index.add(codes)
        index.remove([7])
        allowed = np.arange(len(codes)) != 7
        found = index.search(queries, 40)
        want = dshc_fast.hamming_topk(queries, codes, 40, allowed=allowed)
        assert np.array_equal(found.ids, want.indices) and np.array_equal(found.distances, want.distances)
        within, want_within = (
            index.radius(queries, 6),
            dshc_fast.hamming_radius(queries, codes, 6, allowed=allowed),
        )
        assert np.array_equal(within.ids, want_within.indices)
        (database,) = index._search._prepared.values()
        assert database.n_clusters is not None
    with HashIndex.open(tmp_path / "index", read_only=True, clusters=True) as index:
        assert np.array_equal(index.search(queries, 40).ids, want.indices)
