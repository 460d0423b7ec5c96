"""Answers of parts of a database, merged, are those of the whole."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import dshc_fast
from dshc.cluster import merge_radius, merge_topk, sum_histograms
from dshc.cluster.merging import Merge


@st.composite
def cut_databases(draw: st.DrawFn):
    """Queries, a database of few bits and so of many ties, where it is cut, and the name of the score."""
    n, n_bits = draw(st.integers(1, 60)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    codes = dshc_fast.pack_codes(rng.standard_normal((n + 3, n_bits)))
    cuts = sorted(draw(st.sets(st.integers(1, n - 1), max_size=12))) if n > 1 else []
    return codes[:3], codes[3:], [0, *cuts, n], draw(st.sampled_from(["hamming", "overlap"]))


@given(cut_databases(), st.data())
def test_topk(problem, data: st.DataObject) -> None:
    queries, database, cuts, score = problem
    k = data.draw(st.integers(1, len(database)))
    answers = []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        own = dshc_fast.hamming_topk(queries, database[start:stop], min(k, stop - start), score=score)
        answers.append((own.distances, own.indices + start))
    distances, indices = merge_topk(answers, k, score)
    want = dshc_fast.hamming_topk(queries, database, k, score=score)
    np.testing.assert_array_equal(distances, want.distances)
    np.testing.assert_array_equal(indices, want.indices)


@given(cut_databases(), st.data())
def test_merged_in_groups(problem, data: st.DataObject) -> None:
    """Whoever puts which answers together, and in whatever order: by nodes, then by who asked."""
    queries, database, cuts, score = problem
    k, radius = data.draw(st.integers(1, len(database))), data.draw(st.integers(0, 12))
    labels, own_labels = np.arange(len(queries)) % 2, np.arange(len(database)) % 3
    starts, answers = dict(enumerate(cuts[:-1])), {"topk": [], "radius": [], "histogram": []}
    for start, stop in zip(cuts, cuts[1:], strict=False):
        part = database[start:stop]
        answers["topk"].append(
            tuple(dshc_fast.hamming_topk(queries, part, min(k, stop - start), score=score))
        )
        near = dshc_fast.hamming_radius(queries, part, radius, score=score)
        answers["radius"].append((near.offsets, near.indices, near.distances))
        counts = dshc_fast.hamming_histogram(queries, part, labels, own_labels[start:stop], score=score)
        answers["histogram"].append((counts.items, counts.relevant))
    order = data.draw(st.permutations(range(len(starts))))
    near = dshc_fast.hamming_radius(queries, database, radius, score=score)
    counts = dshc_fast.hamming_histogram(queries, database, labels, own_labels, score=score)
    for method, want in (
        ("topk", tuple(dshc_fast.hamming_topk(queries, database, k, score=score))),
        ("radius", (near.offsets, near.indices, near.distances)),
        ("histogram", (counts.items, counts.relevant)),
    ):
        merge = Merge(method, starts, k, score)
        joined = [merge.of([place]).lifted(place, answers[method][place]) for place in order]
        while len(joined) > 1:
            size = data.draw(st.integers(2, 3))
            joined = [merge.joined(joined[i : i + size]) for i in range(0, len(joined), size)]
        for one, two in zip(merge.joined(joined), want, strict=True):
            np.testing.assert_array_equal(one, two)
            assert one.dtype == two.dtype


def test_topk_of_fewer_items() -> None:
    one = np.array([[3]], np.int32), np.array([[0]])
    distances, indices = merge_topk([one], 3)
    assert distances.tolist() == [[3, 2**31 - 1, 2**31 - 1]] and indices.tolist() == [[0, -1, -1]]
    distances, indices = merge_topk([one], 2, "overlap")
    assert distances.tolist() == [[3, -1]] and indices.tolist() == [[0, -1]]


@given(cut_databases(), st.integers(0, 12))
def test_radius(problem, radius: int) -> None:
    queries, database, cuts, score = problem
    answers = []
    for start, stop in zip(cuts, cuts[1:], strict=False):
        own = dshc_fast.hamming_radius(queries, database[start:stop], radius, score=score)
        answers.append((own.offsets, own.indices + start, own.distances))
    merged = merge_radius(answers, score)
    want = dshc_fast.hamming_radius(queries, database, radius, score=score)
    for one, two in zip(merged, (want.offsets, want.indices, want.distances), strict=True):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype


@given(cut_databases())
def test_histograms(problem) -> None:
    queries, database, cuts, score = problem
    labels = np.arange(len(database)) % 3
    asked = np.arange(len(queries)) % 3
    answers = [
        tuple(
            dshc_fast.hamming_histogram(queries, database[start:stop], asked, labels[start:stop], score=score)
        )
        for start, stop in zip(cuts, cuts[1:], strict=False)
    ]
    want = dshc_fast.hamming_histogram(queries, database, asked, labels, score=score)
    for one, two in zip(sum_histograms(answers), want, strict=True):
        np.testing.assert_array_equal(one, two)
