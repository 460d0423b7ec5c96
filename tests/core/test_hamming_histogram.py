"""hamming_histogram: (items, relevant items) at each distance."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from callers import both, native
from comparisons import assert_same_histogram
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    ALL_BYTES,
    CODE_STYLES,
    SCORES,
    Problem,
    clear_padding,
    make_codes,
    problems,
    seeds,
    strided_views,
)

import dshc_fast


def check(problem: Problem, device: str, name: str = "") -> None:
    options = {"score": problem.score, "n_bits": problem.n_bits, "allowed": problem.allowed}
    expected = oracles.histogram(*problem.labelled(), **options)
    for who, found in both("hamming_histogram", device, *problem.labelled(), **options):
        assert_same_histogram(found, expected, f"{who} {name}")


def test_by_hand() -> None:
    queries = np.array([[0b0000], [0b1111]], np.uint8)
    database = np.array([[0b0011], [0b0001], [0b1100], [0b0001], [0b1111]], np.uint8)
    found = dshc_fast.hamming_histogram(
        queries, database, np.array([1, 2]), np.array([1, 1, 2, 3, 2]), n_bits=4
    )
    assert found.items.tolist() == [[0, 2, 2, 0, 1], [1, 0, 2, 2, 0]]
    assert found.relevant.tolist() == [[0, 1, 1, 0, 0], [1, 0, 1, 0, 0]]
    multi_hot = np.array([[1, 0], [0, 1], [0, 0], [1, 1], [0, 1]])
    found = dshc_fast.hamming_histogram(
        queries, database, np.array([[1, 1], [1, 0]]), multi_hot, n_bits=4, score="overlap"
    )
    assert found.items.tolist() == [[5, 0, 0, 0, 0], [0, 2, 2, 0, 1]]
    assert found.relevant.tolist() == [[4, 0, 0, 0, 0], [0, 1, 1, 0, 0]]


@given(problem=problems())
def test_random(problem: Problem, backend) -> None:
    check(problem, backend.device)


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    for score in SCORES:
        for n_bits in (None, 8 * n_bytes - 7, 8 * n_bytes - 3):
            codes = make_codes(rng, 43, n_bytes)
            codes = codes if n_bits is None else clear_padding(codes, n_bits)
            ids = rng.integers(0, 3, 43)
            check(
                Problem(codes[:3], codes, ids[:3], ids, score, None, n_bits),
                backend.device,
                f"{n_bits} {score}",
            )


@pytest.mark.parametrize("style", CODE_STYLES)
def test_large_database(style: str, backend) -> None:
    rng = np.random.default_rng(3)
    database, ids = make_codes(rng, 5003, 8, style), rng.integers(0, 10, 5003)
    for score in SCORES:
        check(Problem(database[:3], database, ids[:3], ids, score, None, None), backend.device, score)


@pytest.mark.deep
@pytest.mark.parametrize("labels", ("ids", "multi-hot"))
@pytest.mark.parametrize("style", ("near", "random", "ties"))
def test_database_arranged_for_queries(style: str, labels: str, backend) -> None:
    """So many that the database is arranged for them; widths with every number of digits in a count."""
    rng = np.random.default_rng(7)
    for n_bytes in (1, 2, 4, 8, 19, 40, 128, 130):
        codes = make_codes(rng, 1200, n_bytes, style)
        hot = rng.integers(0, 4, 1200) if labels == "ids" else rng.random((1200, 70)) < 0.03
        codes[60:100], hot[60:100] = codes[:40], hot[:40]
        mask = rng.random(1100) < 0.6
        for score, allowed in (("hamming", None), ("overlap", None), ("hamming", mask), ("overlap", mask)):
            problem = Problem(codes[:100], codes[100:], hot[:100], hot[100:], score, allowed, None)
            check(problem, backend.device, f"{n_bytes} bytes, {score}")


def test_counts_beyond_16_bits(backend) -> None:
    """70,001 items in one column."""
    database, ids = np.zeros((70_001, 1), np.uint8), np.zeros(70_001, np.int64)
    ids[0] = 1
    found = native("hamming_histogram", backend.device, database[:1], database, ids[1:2], ids)
    items, relevant = np.zeros((1, 9)), np.zeros((1, 9))
    items[0, 0], relevant[0, 0] = 70_001, 70_000
    assert_same_histogram(found, (items, relevant))


def test_many_queries(backend) -> None:
    rng = np.random.default_rng(4)
    codes, ids = make_codes(rng, 400, 4, "near"), rng.integers(-3, 3, 400)
    check(Problem(codes, codes[:90], ids, ids[:90], "hamming", None, None), backend.device)


@pytest.mark.parametrize("n_labels", (1, 2, 63, 64, 65, 127, 128, 129, 300))
def test_multi_hot_widths(n_labels: int, backend) -> None:
    """One shared label in each column in turn makes a pair relevant; 64-bit words of labels have no seams."""
    rng = np.random.default_rng(n_labels)
    labels = np.eye(n_labels, dtype=bool)
    codes = make_codes(rng, n_labels, 2)
    check(Problem(codes[:7], codes, labels[:7], labels, "hamming", None, None), backend.device)
    check(Problem(codes[-3:], codes, labels[-3:], ~labels, "overlap", None, None), backend.device)


def test_label_dtypes(backend) -> None:
    rng = np.random.default_rng(5)
    codes, ids = make_codes(rng, 50, 2), rng.integers(0, 4, 50)
    expected = oracles.histogram(codes[:5], codes, ids[:5], ids)
    for query_type in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        for database_type in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
            labels = torch.from_numpy(ids[:5]).to(query_type), torch.from_numpy(ids).to(database_type)
            assert_same_histogram(
                native("hamming_histogram", backend.device, codes[:5], codes, *labels), expected
            )
    hot = rng.random((50, 9)) < 0.2
    expected = oracles.histogram(codes[:5], codes, hot[:5], hot)
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ):
        labels = torch.from_numpy(hot[:5]), torch.from_numpy(hot).to(dtype)
        assert_same_histogram(
            native("hamming_histogram", backend.device, codes[:5], codes, *labels), expected
        )


def test_unsigned_numpy_ids() -> None:
    """uint16, uint32 and uint64 are integer dtypes too; 2**64 - 1 is an id like any other."""
    codes = np.zeros((3, 1), np.uint8)
    for dtype in (np.uint16, np.uint32, np.uint64):
        ids = np.array([np.iinfo(dtype).max, 0, 2 ** (8 * np.dtype(dtype).itemsize - 1)], dtype)
        found = dshc_fast.hamming_histogram(codes, codes, ids, ids)
        assert found.relevant[:, 0].tolist() == [1, 1, 1]


def test_unsigned_is_not_signed() -> None:
    """2**64 - 1 and -1 share their bits and are different ids: told apart or refused, never equal."""
    codes = np.zeros((1, 1), np.uint8)
    try:
        found = dshc_fast.hamming_histogram(codes, codes, np.array([2**64 - 1], np.uint64), np.array([-1]))
    except (TypeError, ValueError):
        return
    assert found.relevant[0, 0] == 0


@given(problem=problems(), seed=seeds(), data=st.data())
def test_relations(problem: Problem, seed: int, data, backend) -> None:
    """XOR mask, permuted bits, permuted database, renamed ids, shards summed, zero bytes."""
    rng = np.random.default_rng(seed)
    queries, database, query_labels, database_labels = problem.labelled()
    n_bits, n_db = 8 * queries.shape[1], len(database)

    def count(q=queries, d=database, ql=query_labels, dl=database_labels):
        return native("hamming_histogram", backend.device, q, d, ql, dl, score=problem.score)

    whole = count()
    if problem.score == "hamming":
        mask = rng.integers(0, 256, queries.shape[1], dtype=np.uint8)
        assert_same_histogram(count(queries ^ mask, database ^ mask), whole, "XOR mask")
    order = rng.permutation(n_bits)
    mixed = [oracles.pack(oracles.bits(codes)[:, order]) for codes in (queries, database)]
    assert_same_histogram(count(*mixed), whole, "permuted bits")
    shuffle = rng.permutation(n_db)
    assert_same_histogram(count(d=database[shuffle], dl=database_labels[shuffle]), whole, "permuted database")
    cut = data.draw(st.integers(1, n_db), label="cut")
    if cut < n_db:
        a, b = (
            count(d=database[:cut], dl=database_labels[:cut]),
            count(d=database[cut:], dl=database_labels[cut:]),
        )
        assert_same_histogram(whole, (a.items + b.items, a.relevant + b.relevant), "shards")
    wide = [np.pad(codes, ((0, 0), (0, 2))) for codes in (queries, database)]
    padded = count(*wide)
    empty = np.zeros((len(queries), 16), np.int64)
    assert_same_histogram(padded, tuple(np.hstack([part, empty]) for part in whole), "zero bytes")


def test_strides(backend) -> None:
    rng = np.random.default_rng(6)
    codes, hot, ids = make_codes(rng, 31, 5), rng.random((31, 70)) < 0.1, rng.integers(0, 3, 62)
    expected = oracles.histogram(codes, codes, hot, hot)
    for code_view, label_view in zip(strided_views(codes), strided_views(hot)[::-1], strict=True):
        found = native("hamming_histogram", backend.device, code_view, code_view, label_view, label_view)
        assert_same_histogram(found, expected)
    found = native("hamming_histogram", backend.device, codes, codes, torch.from_numpy(ids)[::2], ids[::2])
    assert_same_histogram(found, oracles.histogram(codes, codes, ids[::2], ids[::2]))


def test_edges(device: str) -> None:
    empty, codes, ids = np.empty((0, 2), np.uint8), np.zeros((3, 2), np.uint8), np.arange(3)
    found = native("hamming_histogram", device, empty, codes, ids[:0], ids, n_bits=11)
    assert_same_histogram(found, (np.empty((0, 12)), np.empty((0, 12))), "zero queries")
    found = native("hamming_histogram", device, codes, codes, ids, ids, allowed=np.zeros(3, bool))
    assert_same_histogram(found, (np.zeros((3, 17)), np.zeros((3, 17))), "nothing allowed")


def test_labels_are_not_modified(device: str) -> None:
    codes = torch.zeros((4, 1), dtype=torch.uint8, device=device)
    for labels in (torch.tensor([0, -1, 2, 0], device=device), torch.eye(4, device=device)):
        before = labels.clone()
        dshc_fast.hamming_histogram(codes, codes, labels, labels)
        assert torch.equal(labels, before)


def test_check_false_stays_in_bounds(backend) -> None:
    """Set padding bits, unchecked: some answer, inside the buffers."""
    codes, ids = np.full((9, 2), 255, np.uint8), np.zeros(9, np.int64)
    found = native("hamming_histogram", backend.device, codes, ~codes, ids, ids, n_bits=9, check=False)
    assert found.items.shape == (9, 10)


def test_check_false_asks_no_label(backend) -> None:
    """Labels that are not 0 or 1, unchecked: no error, and the item counts are right."""
    codes = make_codes(np.random.default_rng(7), 9, 2)
    for labels in (np.full((9, 3), np.nan, np.float32), np.full((9, 3), 2), np.full((9, 3), 0.5, np.float32)):
        found = native("hamming_histogram", backend.device, codes, codes, labels, labels, check=False)
        np.testing.assert_array_equal(
            found.items, oracles.histogram(codes, codes, np.arange(9), np.arange(9))[0]
        )
