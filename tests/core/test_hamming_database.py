"""HammingDatabase: the answers of a plain array, to the bit, whatever codes, labels, kinds and options."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from backends import LEVEL, SIMD_LEVELS
from callers import to_numpy, to_torch, twin
from comparisons import assert_same_ap, assert_same_histogram, assert_same_radius, assert_same_topk
from effort import examples
from hypothesis import given, settings
from ops_table import leaves, same_answer
from strategies import SCORES, Problem, clear_padding, make_codes, problems, seeds, strided_views

import dshc_fast
from dshc_fast import HammingDatabase

UNLABELLED = ("hamming_distance", "hamming_topk", "hamming_radius")


def calls(problem: Problem, rng: np.random.Generator) -> Iterator[tuple[str, tuple, dict[str, Any]]]:
    """Every ranking op on a problem: name, arguments after the database (labels aside), options."""
    n, n_bits = len(problem.database), 8 * problem.queries.shape[1]
    score, allowed, metric = problem.score, problem.allowed, {"n_bits": problem.n_bits}
    yield "hamming_distance", (), {"score": score}
    filtered = {"score": score, "allowed": allowed}
    yield "hamming_topk", (int(rng.integers(1, n + 1)),), filtered
    yield "hamming_radius", (int(rng.integers(0, n_bits + 2)),), filtered
    metric |= filtered
    yield "hamming_histogram", (), metric
    for ties in ("expected", "index", "best", "worst"):
        k = None if rng.random() < 0.4 else int(rng.integers(1, n + 3))
        denominator = str(rng.choice(("retrieved", "min", "relevant")))
        yield "average_precision", (), {**metric, "k": k, "ties": ties, "denominator": denominator}
    yield "mean_average_precision", (), {**metric, "ties": "index", "empty": "skip"}
    yield "retrieval_curves", (), {**metric, "ranks": [1, n]}


def answers(
    op: str, problem: Problem, arguments: tuple, options: dict, device: str, prepared: HammingDatabase
):
    """The op's answer for plain tensors, and with the prepared database, whose labels are left out."""
    queries, database, query_labels, database_labels = (to_torch(a, device) for a in problem.labelled())
    options = {name: to_torch(value, device) for name, value in options.items()}
    function = getattr(dshc_fast, op)
    if op in UNLABELLED:
        return function(queries, database, *arguments, **options), function(
            queries, prepared, *arguments, **options
        )
    return (
        function(queries, database, query_labels, database_labels, **options),
        function(queries, prepared, query_labels, **options),
    )


def assert_all_the_same(problem: Problem, prepared: HammingDatabase, device: str, seed: int = 0) -> None:
    for op, arguments, options in calls(problem, np.random.default_rng(seed)):
        plain, found = answers(op, problem, arguments, options, device, prepared)
        assert same_answer(to_numpy(found), to_numpy(plain)), f"{op} {arguments} {options} {prepared}"
        for a, b in zip(leaves(found), leaves(plain), strict=True):
            assert (a.dtype, a.shape, a.device) == (b.dtype, b.shape, b.device), op


@settings(max_examples=examples(60))
@given(problem=problems(), seed=seeds())
def test_as_plain(problem: Problem, seed: int, backend) -> None:
    """Repeated, near, empty and full codes; ids of every dtype and multi-hot rows; masks of all forms."""
    labels = to_torch(problem.database_labels, backend.device)
    prepared = HammingDatabase(to_torch(problem.database, backend.device), labels)
    assert_all_the_same(problem, prepared, backend.device, seed)


@settings(max_examples=examples(40))
@given(problem=problems())
def test_as_the_twins(problem: Problem, backend) -> None:
    """Without the detour over plain arrays."""
    device, (queries, database, query_labels, database_labels) = backend.device, problem.labelled()
    prepared = HammingDatabase(to_torch(database, device), to_torch(database_labels, device))
    k, options = (len(database) + 1) // 2, {"score": problem.score, "allowed": problem.allowed}
    moved = {name: to_torch(value, device) for name, value in options.items()}
    ours = to_numpy(dshc_fast.hamming_topk(to_torch(queries, device), prepared, k, **moved))
    assert_same_topk(ours, *twin("hamming_topk", queries, database, k, **options))
    ours = to_numpy(dshc_fast.hamming_radius(to_torch(queries, device), prepared, 2 * k, **moved))
    assert_same_radius(ours, twin("hamming_radius", queries, database, 2 * k, **options))
    labelled = to_torch(queries, device), prepared, to_torch(query_labels, device)
    ours = to_numpy(dshc_fast.hamming_histogram(*labelled, n_bits=problem.n_bits, **moved))
    assert_same_histogram(
        ours, twin("hamming_histogram", *problem.labelled(), n_bits=problem.n_bits, **options)
    )
    for ties in ("expected", "index"):
        ours = to_numpy(dshc_fast.average_precision(*labelled, k=k, ties=ties, **moved))
        assert_same_ap(ours, twin("average_precision", *problem.labelled(), k=k, ties=ties, **options))


@pytest.mark.parametrize("n_bytes", range(1, 41))
def test_every_length(n_bytes: int, device: str) -> None:
    """Padding to whole words is seen nowhere: neither in widths of histograms nor in counts of ones."""
    rng = np.random.default_rng(n_bytes)
    for n_bits in {8 * n_bytes - 7, 8 * n_bytes - 2, 8 * n_bytes}:
        database = clear_padding(make_codes(rng, 12, n_bytes)[rng.integers(0, 12, 200)], n_bits)
        queries = np.concatenate([database[:3], clear_padding(make_codes(rng, 3, n_bytes), n_bits)])
        ids = rng.integers(0, 3, 206)
        prepared = HammingDatabase(to_torch(database, device), to_torch(ids[6:], device))
        for score in SCORES:
            for width in (None, n_bits):
                problem = Problem(queries, database, ids[:6], ids[6:], score, None, width)
                assert_all_the_same(problem, prepared, device, n_bits)
    found = dshc_fast.hamming_histogram(to_torch(queries, device), prepared, to_torch(ids[:6], device))
    assert found.items.shape == (6, 8 * n_bytes + 1)
    assert tuple(prepared.codes.shape) == (200, n_bytes)


@pytest.mark.parametrize("count", (1, 2, 3))
@pytest.mark.parametrize("n_codes", (1, 2, 310, 6000))
@pytest.mark.parametrize("n_bytes", (4, 5, 8, 12, 32))
def test_many_items(n_bytes: int, n_codes: int, count: int, threads) -> None:
    """Enough for several threads and blocks; one code, few, as many as items; at every SIMD level."""
    rng = np.random.default_rng(n_codes)
    codes = make_codes(rng, n_codes, n_bytes)
    database = codes[rng.integers(0, n_codes, 6000)] if n_codes < 6000 else codes
    queries = np.concatenate([database[:20], database[:20], make_codes(rng, 5, n_bytes)])
    ids = rng.integers(0, 10, 6045)
    torch.set_num_threads(count)
    prepared = HammingDatabase(database, ids[45:])
    assert prepared.n_distinct == (len(np.unique(database, axis=0)) if n_codes < 6000 else None)
    for level in SIMD_LEVELS:
        dshc_fast.set_simd_level(level)
        for score, allowed in (("hamming", None), ("overlap", rng.random(6000) < 0.5)):
            problem = Problem(queries, database, ids[:45], ids[45:], score, allowed, None)
            assert_all_the_same(problem, prepared, "cpu", n_codes)
    dshc_fast.set_simd_level(LEVEL)


ID_POOLS = {
    np.int8: (-128, -1, 0, 127), np.uint8: (0, 1, 255), np.int16: (-(2**15), 0, 2**15 - 1), np.uint16: (0, 2**16 - 1),
    np.int32: (-(2**31), -1, 2**31 - 1), np.uint32: (0, 2**31, 2**32 - 1),
    np.int64: (-(2**63), -(2**31) - 1, 5, 2**63 - 1), np.uint64: (0, 2**31, 2**63, 2**64 - 1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ID_POOLS, ids=lambda d: d.__name__)
@pytest.mark.parametrize("query_dtype", ID_POOLS, ids=lambda d: d.__name__)
def test_ids_of_all_dtypes(dtype: type, query_dtype: type, device: str) -> None:
    """The two sides may differ in dtype; ids of one that the other cannot hold are relevant to nothing there."""
    rng = np.random.default_rng(0)
    database, queries = make_codes(rng, 40, 5, "ties"), make_codes(rng, 6, 5, "near")
    labels = np.array(ID_POOLS[dtype], dtype)[rng.integers(0, len(ID_POOLS[dtype]), 40)]
    query_labels = np.resize(np.array(ID_POOLS[query_dtype], query_dtype), 6)
    problem = Problem(queries, database, query_labels, labels, "hamming", None, None)
    prepared = HammingDatabase(to_torch(database, device), to_torch(labels, device))
    assert_all_the_same(problem, prepared, device)
    relevant = to_numpy(
        dshc_fast.hamming_histogram(
            to_torch(queries, device), prepared, to_torch(query_labels, device)
        ).relevant
    )
    expected = [sum(int(a) == int(b) for b in labels) for a in query_labels]
    assert relevant.sum(1).tolist() == expected


@pytest.mark.parametrize("form", ("bool", "uint8", "int64", "float16", "float64"))
@pytest.mark.parametrize("width", (1, 63, 64, 65, 130))
def test_multi_hot(form: str, width: int, device: str) -> None:
    rng = np.random.default_rng(width)
    database, queries = make_codes(rng, 90, 8, "ties"), make_codes(rng, 7, 8, "near")
    rows = (rng.random((97, width)) < 0.1).astype(form)
    problem = Problem(queries, database, rows[:7], rows[7:], "overlap", None, None)
    prepared = HammingDatabase(to_torch(database, device), to_torch(rows[7:], device))
    assert_all_the_same(problem, prepared, device)
    assert to_numpy(prepared.labels).dtype == np.dtype(form)


# ---- kinds, copies, what it tells of itself ----


@pytest.mark.parametrize("prepared_from", ("numpy", "torch"))
@pytest.mark.parametrize("labels_from", ("numpy", "torch"))
def test_answered_in_the_kind_of_the_queries(prepared_from: str, labels_from: str) -> None:
    rng = np.random.default_rng(3)
    codes, ids = make_codes(rng, 30, 3, "near"), rng.integers(0, 4, 30)
    database = HammingDatabase(
        codes if prepared_from == "numpy" else torch.from_numpy(codes),
        ids if labels_from == "numpy" else torch.from_numpy(ids),
    )
    of_numpy = dshc_fast.retrieval_curves(codes[:4], database, ids[:4])
    of_torch = dshc_fast.retrieval_curves(torch.from_numpy(codes[:4]), database, torch.from_numpy(ids[:4]))
    assert all(isinstance(field, np.ndarray) for field in of_numpy)
    assert all(isinstance(field, torch.Tensor) for field in of_torch)
    assert same_answer(of_numpy, to_numpy(of_torch))
    assert type(dshc_fast.mean_average_precision(codes[:4], database, ids[:4])) is float
    assert type(database.codes) is (np.ndarray if prepared_from == "numpy" else torch.Tensor)
    assert type(database.labels) is (np.ndarray if labels_from == "numpy" else torch.Tensor)
    np.testing.assert_array_equal(to_numpy(database.codes), codes)
    np.testing.assert_array_equal(to_numpy(database.labels), ids)


def test_it_is_a_copy() -> None:
    """Changing what it was made of changes nothing, and what it shows cannot be changed by mistake."""
    rng = np.random.default_rng(4)
    codes, ids = make_codes(rng, 50, 8, "ties"), rng.integers(0, 4, 50)
    database = HammingDatabase(codes, ids)
    before = dshc_fast.average_precision(codes[:9].copy(), database, ids[:9].copy(), ties="index")
    queries, query_labels = codes[:9].copy(), ids[:9].copy()
    codes[:], ids[:] = 0, 0
    assert same_answer(dshc_fast.average_precision(queries, database, query_labels, ties="index"), before)
    with pytest.raises(ValueError, match="read-only"):
        database.codes[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        database.labels[0] = 1


@pytest.mark.parametrize("what", ("codes", "labels"))
def test_a_tensor_written_to_is_noticed(what: str) -> None:
    """Parts that no longer are those of the rows must not answer."""
    rng = np.random.default_rng(4)
    database = HammingDatabase(
        torch.from_numpy(make_codes(rng, 50, 8, "ties")), torch.from_numpy(rng.integers(0, 2, 50))
    )
    getattr(database, what)[7:13] += 1
    with pytest.raises(
        ValueError,
        match=f"prepared must be what HammingDatabase made of these {what}, unchanged; {what[:-1]} ",
    ):
        dshc_fast.mean_average_precision(database.codes[:3], database, database.labels[:3])


@pytest.mark.parametrize("layout", range(4))
def test_strided(layout: int) -> None:
    rng = np.random.default_rng(5)
    codes, ids = make_codes(rng, 60, 7, "ties"), rng.integers(0, 3, 60)
    problem = Problem(codes[:5], codes, ids[:5], ids, "hamming", None, None)
    assert_all_the_same(problem, HammingDatabase(strided_views(codes)[layout], ids), "cpu")
    assert_all_the_same(problem, HammingDatabase(codes[::-1][::-1], np.repeat(ids, 2)[::2]), "cpu")
    for backwards in (
        HammingDatabase(codes[::-1], ids[::-1]),
        HammingDatabase(codes[::-1].copy(), ids[::-1].copy()),
    ):
        flipped = Problem(codes[:5], codes[::-1].copy(), ids[:5], ids[::-1].copy(), "overlap", None, None)
        assert_all_the_same(flipped, backwards, "cpu")


def test_what_it_tells() -> None:
    rng = np.random.default_rng(6)
    codes = make_codes(rng, 5, 12)[np.arange(100) % 5]
    database = HammingDatabase(codes)
    assert len(database) == 100 and database.labels is None and database.n_distinct == 5
    assert repr(database) == "HammingDatabase(100 codes of 12 bytes, 5 distinct)"
    database = HammingDatabase(codes[:1, :1], np.zeros((1, 21), bool))
    assert len(database) == 1 and database.n_distinct is None
    assert repr(database) == "HammingDatabase(1 code of 1 byte; multi-hot rows of 21 labels)"


@pytest.mark.parametrize("duplicate", (copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))))
@pytest.mark.parametrize("as_torch", (False, True))
def test_duplicates(duplicate, as_torch: bool) -> None:
    rng = np.random.default_rng(7)
    codes, ids = make_codes(rng, 60, 12, "ties"), rng.integers(0, 3, 60)
    problem = Problem(codes[:5], codes, ids[:5], ids, "hamming", None, None)
    database = HammingDatabase(*(to_torch(a) for a in (codes, ids)) if as_torch else (codes, ids))
    other = duplicate(database)
    assert repr(other) == repr(database) and type(other.codes) is type(database.codes)
    assert_all_the_same(problem, other, "cpu")


@pytest.mark.parametrize("dtype", (torch.uint16, torch.uint32, torch.uint64), ids=str)
def test_pickles_of_labels_that_torch_cannot_load(dtype: torch.dtype) -> None:
    labels = torch.tensor([1, 2**15, 2**16 - 1, 7]).to(dtype)
    database = HammingDatabase(torch.arange(4, dtype=torch.uint8)[:, None], labels)
    other = pickle.loads(pickle.dumps(database))
    assert other.labels.dtype == dtype and other.labels.tolist() == labels.tolist()


def test_readme_example(capsys: pytest.CaptureFixture) -> None:
    text = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (example,) = [part for part in text.split("```python")[1:] if "HammingDatabase(" in part.split("```")[0]]
    exec(compile(example.split("```")[0], "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith(
        "HammingDatabase(50000 codes of 4 bytes, 310 distinct; class ids) 0.1"
    )


def test_inference_mode() -> None:
    rng = np.random.default_rng(7)
    codes, ids = torch.from_numpy(make_codes(rng, 60, 12, "ties")), torch.from_numpy(rng.integers(0, 3, 60))
    expected = dshc_fast.average_precision(codes[:5], codes, ids[:5], ids)
    with torch.inference_mode():
        database = HammingDatabase(codes.clone(), ids.clone())
        assert torch.equal(dshc_fast.average_precision(codes[:5], database, ids[:5]), expected)
    assert torch.equal(dshc_fast.average_precision(codes[:5], database, ids[:5]), expected)
