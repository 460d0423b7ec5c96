"""CUDA kernels that pack and unpack, and all kernels at sizes past 2^31, run on the CPU by the interpreter
(simt.py) in several orders of threads and blocks.

Inputs begin at any multiple of their element size. Values that only Python checks (NaN) must not lead a kernel
out of its buffers.
"""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from comparisons import (
    assert_same_array,
)
from hypothesis import given
from hypothesis import strategies as st
from simt import Output, SimtError, Virtual
from simt_kernels import DTYPE_CODES, FEW, FLOATS, TIES, runs
from strategies import (
    make_codes,
    seeds,
)


@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
@given(data=st.data(), seed=seeds(), n=st.integers(0, 40), n_bits=st.integers(1, 150))
def test_pack_codes(dtype, data, seed: int, n: int, n_bits: int, order: str) -> None:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.integers(-2, 3, (n, n_bits)))
    values = values.abs().to(dtype) if dtype == torch.bool or not dtype.is_signed else values.to(dtype)
    if dtype.is_floating_point:  # NaN, which Python checks, gives 0; infinities and the smallest number count
        special = torch.tensor([math.nan, math.inf, -math.inf, -0.0, torch.finfo(dtype).tiny], dtype=dtype)
        at = torch.from_numpy(rng.random((n, n_bits)) < 0.2)
        values[at] = special[torch.from_numpy(rng.integers(0, 5, int(at.sum())))]
    ones = values > 0 if dtype not in (torch.uint16, torch.uint32, torch.uint64) else values != 0
    codes = runs(order, data).pack_codes(values)
    assert_same_array(codes, oracles.pack(ones.numpy()), np.uint8)


@pytest.mark.parametrize("n_bits", (1, 8, 9, 31, 32, 33, 255, 256, 257, 1000, 4095, 4096))
def test_pack_codes_widths(n_bits: int, order: str) -> None:
    values = torch.from_numpy(np.random.default_rng(n_bits).standard_normal((70, n_bits))).to(torch.float32)
    codes = runs(order, seed=n_bits).pack_codes(values)
    assert_same_array(codes, np.packbits(values.numpy() > 0, axis=1, bitorder="little"), np.uint8)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("dtype", DTYPE_CODES, ids=str)
def test_pack_codes_runs(dtype, order: str) -> None:
    """Whole bytes a row: sizes around the values a warp and a block take at once, on 16 bytes and beside them."""
    tile = 4096 // dtype.itemsize  # values of a warp
    for n_bits in (8, 24, 64):
        for values_there in (8, tile - 8, tile, tile + 8, 8 * tile, 8 * tile + 104):
            n = values_there // n_bits + 1
            values = torch.from_numpy(np.random.default_rng(n).integers(-1, 2, (n, n_bits)))
            values = (
                values.abs().to(dtype) if dtype == torch.bool or not dtype.is_signed else values.to(dtype)
            )
            ones = values > 0 if dtype not in (torch.uint16, torch.uint32, torch.uint64) else values != 0
            for seed in (0, 1):  # how many values the array begins from 16 bytes
                codes = runs(order, seed=seed).pack_codes(values)
                assert_same_array(codes, oracles.pack(ones.numpy()), np.uint8)


@pytest.mark.parametrize("n_bits", (8191, 8192, 8193, 16_384, 20_004))
def test_pack_codes_long_rows(n_bits: int, order: str) -> None:
    """Longer rows than a block takes values, as a run and in pieces."""
    values = torch.from_numpy(np.random.default_rng(n_bits).standard_normal((3, n_bits))).to(torch.float16)
    for seed in (0, 1):
        codes = runs(order, seed=seed).pack_codes(values)
        assert_same_array(codes, oracles.pack(values.numpy() > 0), np.uint8)
        codes = runs(order, seed=seed).multilabel_codes(values, np.linspace(-1, 1, n_bits))
        assert_same_array(codes, oracles.pack(values.double().numpy() > np.linspace(-1, 1, n_bits)), np.uint8)


@given(data=st.data(), seed=seeds(), n=st.integers(0, 70), signed=st.booleans())
def test_unpack_codes(data, seed: int, n: int, signed: bool, order: str) -> None:
    n_bits = data.draw(st.one_of(st.integers(1, 150), st.sampled_from((255, 256, 257, 4095, 4096))))
    codes = make_codes(np.random.default_rng(seed), n, (n_bits + 7) // 8)
    expected = oracles.bits(codes)[:, :n_bits].astype(np.int8)
    expected = (2 * expected - 1).astype(np.int8) if signed else expected.astype(np.uint8)
    assert_same_array(runs(order, data).unpack_codes(codes, n_bits, signed), expected, expected.dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@given(data=st.data(), seed=seeds(), n=st.integers(0, 12), n_classes=st.integers(1, 150))
def test_multilabel_codes(dtype, data, seed: int, n: int, n_classes: int, order: str) -> None:
    """Quarters: exact in every dtype, and logits often equal their threshold."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.integers(-8, 9, (n, n_classes)) / 4).to(dtype)
    thresholds = rng.integers(-8, 9, n_classes) / 4
    if not data.draw(st.booleans(), label="one a class"):
        thresholds[:] = thresholds[0]
    codes = runs(order, data).multilabel_codes(logits, thresholds)
    assert_same_array(codes, oracles.pack(logits.double().numpy() > thresholds), np.uint8)


@pytest.mark.parametrize("n_classes", (1, 31, 32, 33, 1000, 4095, 4096))
def test_multilabel_codes_widths(n_classes: int, order: str) -> None:
    logits = torch.from_numpy(np.random.default_rng(n_classes).standard_normal((37, n_classes))).float()
    logits[3, 0] = math.nan
    codes = runs(order, seed=1).multilabel_codes(logits, 0.25)
    assert_same_array(codes, np.packbits(logits.numpy() > 0.25, axis=1, bitorder="little"), np.uint8)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n_classes", (8, 64, 72, 1000, 4096))
def test_multilabel_codes_between_floats(dtype, n_classes: int, order: str) -> None:
    """Whole bytes a row, where thresholds are rounded: logits next to thresholds that no float equals, and at the
    ends."""
    rng = np.random.default_rng(n_classes)
    ends = (math.inf, -math.inf, 1e300, -1e300, 1e-300, -1e-300, 0.0, torch.finfo(dtype).max)
    thresholds = np.where(
        rng.random(n_classes) < 0.5, rng.choice(ends, n_classes), rng.standard_normal(n_classes)
    )
    n = 3 + 33_000 // (n_classes * dtype.itemsize)
    near = torch.from_numpy(np.broadcast_to(thresholds, (n, n_classes)).copy()).to(dtype)
    beside = torch.nextafter(near.double() if dtype == torch.float64 else near.float(), torch.tensor(-math.inf).to(
        torch.float64 if dtype == torch.float64 else torch.float32)).to(dtype)  # fmt: skip
    choice = torch.from_numpy(rng.integers(0, 4, (n, n_classes)))
    special = torch.tensor([math.inf, -math.inf, math.nan, -0.0, torch.finfo(dtype).min], dtype=dtype)
    special = special[torch.from_numpy(rng.integers(0, 5, (n, n_classes)))]
    logits = torch.where(
        choice == 0, near, torch.where(choice == 1, beside, torch.where(choice == 2, -near, special))
    )
    for seed in (0, 1):
        codes = runs(order, seed=seed).multilabel_codes(logits, thresholds)
        assert_same_array(codes, oracles.pack(logits.double().numpy() > thresholds), np.uint8)


def test_a_wrong_dtype_is_refused() -> None:
    with pytest.raises(SimtError, match="status 1"):
        runs("ascending").codes_from_logits(
            torch.zeros((2, 3), dtype=torch.int32), np.zeros((3, 1), np.uint8), 1
        )


# ---- sizes past 2^31 ----
# The arrays are zero pages but for a few rows; of each launch the first and the last two blocks run.

BIG = {"only_ends": 2}


def ends(n_rows: int, row_bytes: int, rows: np.ndarray | torch.Tensor) -> tuple:
    """The rows at the end of an array of n_rows."""
    return (((n_rows - len(rows)) * row_bytes, rows),)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize("n_bits", (33, 64))
def test_codes_past_31_bits(n_bits: int, order: str) -> None:
    rng, kernels = np.random.default_rng(0), runs(order)
    n_bytes = (n_bits + 7) // 8
    n = 2**31 // 33 + 1000  # of elements; the rows alone need 64 bits from 2^31 on
    values = rng.standard_normal((3, n_bits)).astype(np.float32)
    codes_there = Virtual(n * n_bytes, get=(((n - 3) * n_bytes, Output((3, n_bytes), np.uint8)),))
    codes = kernels.run(
        "pack_codes", {"values": Virtual(n * n_bits * 4, ends(n, n_bits * 4, values))},
        {"codes": codes_there}, n=n, n_bits=n_bits, dtype=0, **BIG,
    )[0]  # fmt: skip
    assert_same_array(codes, oracles.pack(values > 0), np.uint8)
    unpacked = kernels.run(
        "unpack_codes", {"codes": Virtual(n * n_bytes, ends(n, n_bytes, codes))},
        {"values": Virtual(n * n_bits, get=(((n - 3) * n_bits, Output((3, n_bits), np.uint8)),))},
        n=n, n_bytes=n_bytes, n_bits=n_bits, signed=0, **BIG,
    )[0]  # fmt: skip
    assert_same_array(unpacked, (values > 0).astype(np.uint8), np.uint8)
    labelled = kernels.run(
        "multilabel_codes",
        {"logits": Virtual(n * n_bits * 4, ends(n, n_bits * 4, values)), "thresholds": np.full(n_bits, 0.5)},
        {"codes": codes_there}, n=n, n_bits=n_bits, dtype=0, **BIG,
    )[0]  # fmt: skip
    assert_same_array(labelled, oracles.pack(values > 0.5), np.uint8)


@pytest.mark.parametrize("order", FEW)
@pytest.mark.parametrize(("n_query", "n_db"), [(1, 2**31 + 9), (3, 2**30 + 5), (70_000, 40_000)])
def test_hamming_distance_past_31_bits(n_query: int, n_db: int, order: str) -> None:
    rng = np.random.default_rng(1)
    queries, database = make_codes(rng, 1, 2), make_codes(rng, 5, 2)
    inputs = {
        "queries": Virtual(n_query * 2, ends(n_query, 2, queries)),
        "database": Virtual(n_db * 2, ends(n_db, 2, database)),
    }
    last = Output((1, 5), np.int32)
    counts = runs(order).run(
        "hamming_distance", inputs, {"counts": Virtual(n_query * n_db * 4, get=((n_query * n_db * 4 - 20, last),))},
        n_query=n_query, n_db=n_db, n_bytes=2, score=0, allowed_stride=0, **BIG,
    )[0]  # fmt: skip
    assert_same_array(counts, oracles.counts(queries, database, "hamming"), np.int32)


@pytest.mark.parametrize("order", FEW)
def test_logits_past_31_bits(order: str) -> None:
    rng, kernels = np.random.default_rng(2), runs(order)
    width, n = 70, 2**31 // 70 + 1000
    rows = torch.from_numpy(rng.standard_normal((2, width))).float()
    logits = Virtual(n * width * 4, ends(n, width * 4, rows))
    offsets, ids = np.array([0, 3, 40, width]), np.array([1, 2])
    scalars = {"n": n, "n_subclasses": width, "dtype": 0}
    codebook = make_codes(rng, width, 4)
    last = Virtual(n * 4, get=((n * 4 - 8, Output((2, 4), np.uint8)),))
    found = kernels.run(
        "codes_from_logits", {"logits": logits, "codebook": codebook}, {"codes": last}, **scalars,
        n_bytes=4, k=5, weighting=0, **BIG,
    )[0]  # fmt: skip
    assert_same_array(found, oracles.codes_from_logits(rows.numpy(), codebook, 5), np.uint8)
    found = kernels.run(
        "codes_from_logits", {"logits": logits, "codebook": codebook}, {"codes": last}, **scalars,
        n_bytes=4, k=20, weighting=1, **BIG,
    )[0]  # fmt: skip
    assert_same_array(found, kernels.codes_from_logits(rows, codebook, 20, "probability"), np.uint8)
    found = kernels.run(
        "center_codes_from_logits", {"logits": logits, "class_offsets": offsets, "centers": codebook[:3]},
        {"codes": last}, **scalars, n_classes=3, n_bytes=4, **BIG,
    )[0]  # fmt: skip
    expected = kernels.center_codes_from_logits(rows, offsets, codebook[:3])
    assert_same_array(found, expected, np.uint8)
    small = kernels.class_softmax_loss(rows, ids, offsets)
    task = {
        "logits": logits, "labels": Virtual(n * 8, ends(n, 8, ids)), "class_offsets": offsets,
    }  # fmt: skip
    scalars |= {"n_classes": 3, "weight": 0.0, "ignore_index": -100, "first_column": 0, "n_columns": width}
    outputs = {
        "loss": Virtual(n * 4, get=((n * 4 - 8, Output((2,), np.float32)),)),
        "stats": Virtual(n * 8, get=((n * 8 - 16, Output((2, 2), np.float32)),)),
    }
    loss, stats = kernels.run("class_softmax_loss", task, outputs, **scalars, **BIG)
    assert_same_array(loss, small[0], np.float32)
    assert_same_array(stats, small[1], np.float32)
    ones = np.ones(2, np.float32)
    task |= {"stats": Virtual(n * 8, ends(n, 8, stats)), "grad_loss": Virtual(n * 4, ends(n, 4, ones))}
    at = (n - 2) * width * 4
    scalars["inplace"] = False
    gradient = kernels.run(
        "class_softmax_loss_backward", task,
        {"grad_logits": Virtual(n * width * 4, get=((at, Output((2, width), np.float32)),))}, **scalars, **BIG,
    )[0]  # fmt: skip
    expected = kernels.class_softmax_loss_backward(ones, stats, rows, ids, offsets)
    assert_same_array(gradient, expected.numpy(), np.float32)


@pytest.mark.deep
@pytest.mark.parametrize("order", FEW)
def test_ranking_past_31_bits(order: str) -> None:
    """A database of more than 2^31 items, of which the first and the last shards are walked: those in between hold
    nothing, as far as the kernels' counts go.
    """
    n, kernels = 2**31 + 5000, runs(order)
    many = {**BIG, "multiprocessors": 4096}
    codes = np.array([[255, 255], [0, 0], [255, 254], [0, 0], [255, 255]], dtype=np.uint8)
    labels = np.array([[7], [0], [7], [0], [0]], dtype=np.int32)
    pairs = {"queries": codes[:1].copy(), "database": Virtual(n * 2, ends(n, 2, codes))}
    sizes = {"n_query": 1, "n_db": n, "n_bytes": 2, "score": 0, "allowed_stride": 0}

    answers = {"counts": Output((1, 4), np.int32), "indices": Output((1, 4), np.int64)}
    counts, indices = kernels.run("hamming_topk", pairs, answers, k=4, kernel=1, **sizes, **many)
    assert indices.tolist() == [[n - 5, n - 1, n - 3, 0]]
    assert counts.tolist() == [[0, 0, 1, 16]]

    outputs = {"outputs": np.ones((1, 16), np.float32), "database": pairs["database"]}
    answers = {"distances": Output((1, 4), np.float32), "indices": Output((1, 4), np.int64)}
    of_outputs = {"n_bits": 16, "stride": 2, "dtype": 0}
    distances, indices = kernels.run("asymmetric_topk", outputs, answers, k=4, **of_outputs, **sizes, **many)
    assert indices.tolist() == [[n - 5, n - 1, n - 3, 0]]
    assert distances.tolist() == [[0, 0, 1, 16]]

    found = kernels.run(
        "hamming_radius_count", pairs, {"found": Output((1,), np.int64)}, radius=3, **sizes, **many
    )[0]
    assert found.tolist() == [3]
    answers = {"indices": Output((3,), np.int64), "counts": Output((3,), np.int32)}
    offsets = {"offsets": np.array([0, 3])}
    indices, counts = kernels.run(
        "hamming_radius_fill", pairs | offsets, answers, radius=3, n_found=2**62, **sizes, **many
    )
    assert (indices.tolist(), counts.tolist()) == ([n - 5, n - 1, n - 3], [0, 0, 1])

    relevance = {
        "query_ids": np.array([7], dtype=np.int32),
        "database_ids": Virtual(n * 4, ends(n, 4, labels)),
    }
    tables = {"items": Output((1, 17), np.int64), "relevant": Output((1, 17), np.int64)}
    items, relevant = kernels.run(
        "hamming_histogram", pairs | relevance, tables, n_bits=16, n_words=0, **sizes, **many
    )
    assert items[0, :2].tolist() == [2, 1] and relevant[0].tolist() == [1, 1] + [0] * 15

    # By index the relevant items have ranks 1 and 3; expected over the tie at distance 0, (1 + 1/2) / 2 and 2/3.
    for ties, expected in (
        (TIES.index("index"), (1 + 2 / 3) / 2),
        (TIES.index("expected"), (0.75 + 2 / 3) / 2),
    ):
        result = kernels.run(
            "average_precision", pairs | relevance, {"result": Output((1,), np.float64)}, k=n, ties=ties,
            denominator=0, n_words=0, **sizes, **many,
        )[0]  # fmt: skip
        assert result[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("order", ("random",))
def test_grids_that_are_too_large_are_refused(order: str) -> None:
    """A block a row, and more rows than a grid can have blocks: cut to 32 bits that would be one block, and all other
    codes would stay unwritten. The launch says so instead (cudaErrorInvalidConfiguration)."""
    n = 2**32 + 1
    inputs = {"logits": Virtual(n * 9 * 2), "codebook": np.zeros((9, 1), np.uint8)}
    status, *_ = runs(order).call(
        "codes_from_logits", inputs, {"codes": Virtual(n)}, n=n, n_subclasses=9, n_bytes=1, k=9, weighting=0,
        dtype=DTYPE_CODES[torch.float16], **BIG,
    )  # fmt: skip
    assert status == 9
