"""HammingDatabase(clusters=True): the answers of a scan, to the bit, whether the clusters are asked or not."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from ops_table import same_answer
from strategies import CODE_BYTES, allowed_masks, code_pairs
from table_cases import assert_as_scanned, clustered

import dshc_fast
from dshc_fast import HammingDatabase, _tables


@pytest.mark.property
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_like_a_scan(data: st.DataObject) -> None:
    """Codes random, repeated, near each other or of few ones; k to n; any radius; masks of all forms."""
    queries, database = data.draw(code_pairs(max_query=40, widths=list(CODE_BYTES)))
    n, n_bits = len(database), 8 * database.shape[1]
    k, radius = data.draw(st.integers(1, n)), data.draw(st.integers(0, n_bits + 2))
    allowed = data.draw(allowed_masks(len(queries), n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables, "use", "always")
        assert_as_scanned(queries, database, k, radius, allowed, clusters=True)


def two_kinds(n_bytes: int, n: int = 40_000) -> tuple[np.ndarray, np.ndarray]:
    """Codes around thirty centers; and queries near centers, far from all, and items themselves."""
    rng = np.random.default_rng(n_bytes)
    database, centers = clustered(rng, n, n_bytes, 30, 0.05)
    flips = np.packbits(rng.random((20, 8 * n_bytes)) < 0.08, axis=1)
    near = centers[rng.integers(0, len(centers), 20)] ^ flips
    far = rng.integers(0, 256, (20, n_bytes), dtype=np.uint8)
    return np.concatenate([near, far, database[:5]]), database


@pytest.mark.parametrize("n_bytes", [6, 8, 13, 32, 128])
def test_clusters_are_found_and_asked(n_bytes: int, simd_level: str, threads) -> None:
    """Queries near centers are answered by them, far ones are left to a scan; with any number of threads."""
    queries, database = two_kinds(n_bytes)
    plain, rng = HammingDatabase(database), np.random.default_rng(0)
    masks = [None, rng.random(len(database)) < 0.5, rng.random((len(queries), len(database))) < 0.01]
    for count in (1, 3):
        torch.set_num_threads(count)
        with_clusters = HammingDatabase(database, clusters=True)
        assert with_clusters.n_clusters is not None and 20 <= with_clusters.n_clusters <= 60
        for mask in masks:
            for k in (1, 10, 600):
                found = dshc_fast.hamming_topk(queries, with_clusters, k, allowed=mask)
                assert same_answer(found, dshc_fast.hamming_topk(queries, plain, k, allowed=mask))
            for radius in (0, n_bytes, 4 * n_bytes):
                within = dshc_fast.hamming_radius(queries, with_clusters, radius, allowed=mask)
                assert same_answer(within, dshc_fast.hamming_radius(queries, plain, radius, allowed=mask))


def test_equal_distances_come_in_order_of_index() -> None:
    """Items of one distance lie in several clusters, in the reverse order of their centers."""
    rng = np.random.default_rng(3)
    centers = np.array([[0] * 8, [255] * 4 + [0] * 4, [0] * 4 + [255] * 4, [255] * 8], np.uint8)
    noise = np.packbits(rng.random((40_000, 64)) < 0.02, axis=1)
    database = centers[rng.integers(0, 4, 40_000)] ^ noise
    between = np.array([[15] * 8], np.uint8)  # as far from each of the four
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tables, "use", "always")
        with_clusters = HammingDatabase(database, clusters=True)
        assert with_clusters.n_clusters is not None
        for k in (1, 50, 625):
            found = dshc_fast.hamming_topk(between, with_clusters, k)
            assert same_answer(found, dshc_fast.hamming_topk(between, database, k))


def test_overlap_is_scanned() -> None:
    queries, database = two_kinds(8)
    with_clusters = HammingDatabase(database, clusters=True)
    found = dshc_fast.hamming_topk(queries, with_clusters, 7, score="overlap")
    assert same_answer(found, dshc_fast.hamming_topk(queries, database, 7, score="overlap"))


def test_of_other_codes_there_are_none() -> None:
    rng = np.random.default_rng(1)
    random = rng.integers(0, 256, (50_000, 8), dtype=np.uint8)
    assert HammingDatabase(random, clusters=True).n_clusters is None
    assert (
        HammingDatabase(two_kinds(8)[1][:1000], clusters=True).n_clusters is None
    )  # few are scanned as fast
    repeated = HammingDatabase(random[:50].repeat(1000, axis=0), clusters=True)
    assert repeated.n_clusters is None and repeated.n_distinct == 50


def test_what_a_database_says_of_them() -> None:
    _, database = two_kinds(8)
    plain, with_clusters = HammingDatabase(database), HammingDatabase(database, clusters=True)
    n = with_clusters.n_clusters
    assert plain.n_clusters is None and repr(with_clusters).endswith(f"; {n} clusters)")
    assert with_clusters.nbytes >= plain.nbytes + 12 * len(database)
    for same in (copy.copy(with_clusters), pickle.loads(pickle.dumps(with_clusters))):
        assert same.n_clusters == n
    both = HammingDatabase(database, tables=True, clusters=True)
    assert both.n_clusters == n and both.tables is not None


def test_metrics_and_compiled_calls_take_it() -> None:
    """An op behind torch's dispatcher gets a list of tensors: it scans."""
    queries, database = two_kinds(8)
    labels = np.arange(len(database)) % 7
    with_clusters = HammingDatabase(torch.from_numpy(database), torch.from_numpy(labels), clusters=True)
    first = torch.from_numpy(queries)
    ap = dshc_fast.mean_average_precision(first, with_clusters, torch.zeros(len(queries), dtype=torch.int64))
    plain = dshc_fast.mean_average_precision(
        queries, database, np.zeros(len(queries), np.int64), database_labels=labels
    )
    assert ap == plain
    through = torch.ops.dshc_fast.hamming_topk(
        first, with_clusters.codes, 5, "hamming", None, with_clusters._tensors
    )
    assert same_answer(tuple(through), tuple(dshc_fast.hamming_topk(first, with_clusters, 5)))


def test_codes_written_to_since_are_scanned_as_they_are() -> None:
    _, database = two_kinds(8)
    codes = torch.from_numpy(database)
    with_clusters = HammingDatabase(codes, clusters=True)
    with_clusters.codes[7] = codes[100]
    found = dshc_fast.hamming_topk(codes[100:101], with_clusters, 2)
    assert found.indices.tolist() == [[7, 100]] and found.distances.tolist() == [[0, 0]]


@pytest.mark.parametrize("clusters", [1, "yes", None])
def test_clusters_must_be_a_flag(clusters: object) -> None:
    with pytest.raises(TypeError, match="clusters must be True or False, got "):
        HammingDatabase(np.zeros((4, 8), np.uint8), clusters=clusters)
