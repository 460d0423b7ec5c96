"""asymmetric_topk: the nearest codes of real-valued outputs, the same floats on every way."""

from __future__ import annotations

import asymmetric_oracles as oracle
import numpy as np
import oracles
import pytest
import torch
from callers import both, native, to_torch
from comparisons import assert_same_array
from effort import deep
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALL_BYTES, CODE_STYLES, allowed_masks, make_codes, seeds, strided_views

import dshc_fast
from dshc_fast import reference

DTYPES = (np.float32, np.float64, np.float16)
STYLES = ("normal", "few values", "zeros", "one large", "tiny", "infinite", "overflowing")


def make_outputs(rng: np.random.Generator, n: int, n_bits: int, style: str = "normal") -> np.ndarray:
    """float32 `(n, n_bits)`: ties, zeros of both signs, a single bit that decides, denormals, infinities."""
    outputs = rng.standard_normal((n, n_bits)).astype(np.float32)
    if style == "few values":
        return np.round(outputs).astype(np.float32)
    if style == "zeros":
        return np.where(rng.random(outputs.shape) < 0.7, np.copysign(np.float32(0), outputs), outputs)
    if style == "one large":
        outputs[:, rng.integers(0, n_bits)] *= 1000
    if style == "tiny":
        return (outputs.astype(np.float64) * 1e-42).astype(np.float32)
    if style == "infinite":
        return np.where(rng.random(outputs.shape) < 0.1, np.copysign(np.float32(np.inf), outputs), outputs)
    if style == "overflowing":
        return np.copysign(np.float32(2e38), outputs)
    return outputs


def assert_same(found, expected, name: str = "asymmetric_topk") -> None:
    assert tuple(found._fields) == ("distances", "indices")
    assert_same_array(
        found.distances.view(np.uint32), expected[0].view(np.uint32), np.uint32, f"{name}.distances"
    )
    assert_same_array(found.indices, expected[1], np.int64, f"{name}.indices")


@st.composite
def problems(draw) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(draw(seeds()))
    n_bits = draw(st.one_of(st.integers(1, 72), st.sampled_from((100, 128, 192, 255, 256, 257, 512))))
    n_query, n_db = draw(st.integers(0, 4)), draw(st.integers(1, 200))
    outputs = make_outputs(rng, n_query, n_bits, draw(st.sampled_from(STYLES)))
    # Padding bits of a code may be set.
    return outputs, make_codes(rng, n_db, (n_bits + 7) // 8, draw(st.sampled_from(CODE_STYLES)))


def test_by_hand(backend) -> None:
    outputs = np.array([[0.5, -2.0, 1.0], [0.0, -0.0, 3.0]], np.float32)
    database = np.array([[0b101], [0b000], [0b111], [0b100], [0b11111101]], np.uint8)
    found = native("asymmetric_topk", backend.device, outputs, database, 5)
    assert found.indices.tolist() == [[0, 4, 3, 1, 2], [0, 2, 3, 4, 1]]
    assert found.distances.tolist() == [[0, 0, 0.5, 1.5, 2], [0, 0, 0, 0, 3]]
    assert found.distances.dtype == np.float32 and found.indices.dtype == np.int64


def test_the_order_of_additions_shows(backend) -> None:
    """Sums that round: the pairs of a byte first, then bytes from the first on."""
    one, half_ulp = np.float32(1), np.float32(2.0**-24)
    outputs = np.full((1, 16), half_ulp, np.float32)
    outputs[0, 0] = one
    database = np.zeros((1, 2), np.uint8)
    # (1 + u) is 1, (u + u) and (4 u) are not lost; the second byte's 8 u are added to what the first one came to.
    expected = np.float32(np.float32(1 + 2.0**-23) + np.float32(2.0**-22)) + np.float32(2.0**-21)
    found = native("asymmetric_topk", backend.device, outputs, database, 1)
    assert found.distances[0, 0] == expected == oracle.distances(outputs, database)[0, 0]
    assert found.distances[0, 0] != oracle.plain_distances(outputs, database)[0, 0]


@given(data=st.data(), problem=problems())
def test_random(data, problem, backend) -> None:
    n_db = len(problem[1])
    k = data.draw(st.one_of(st.integers(1, n_db), st.sampled_from((1, n_db))), label="k")
    allowed = data.draw(allowed_masks(len(problem[0]), n_db), label="allowed")
    expected = oracle.topk(*problem, k, allowed)
    for who, found in both("asymmetric_topk", backend.device, *problem, k, allowed=allowed):
        assert_same(found, expected, f"{who} k={k}")


FEW_BYTES = (1, 3, 4, 5, 8, 9, 16, 17, 33, 64)


@pytest.mark.parametrize("n_bytes", (*FEW_BYTES, *deep(*sorted({*ALL_BYTES} - {*FEW_BYTES}))))
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    database = make_codes(rng, 300, n_bytes)
    for n_bits in (8 * n_bytes - 7, 8 * n_bytes - 3, 8 * n_bytes):
        outputs = make_outputs(rng, 2, n_bits)
        for k in (1, 7, 300):
            found = native("asymmetric_topk", backend.device, outputs, database, k)
            assert_same(found, oracle.topk(outputs, database, k), f"{n_bits} bits, k={k}")


@pytest.mark.parametrize("style", ("random", "near", *deep("ties", "sparse", "zeros", "ones")))
@pytest.mark.parametrize("n_bytes", (8, 17, *deep(4, 16, 33)))
def test_large_database(n_bytes: int, style: str, backend) -> None:
    """Many blocks: after the first ones most items are passed over, and none that belongs to the answer."""
    rng = np.random.default_rng(n_bytes)
    database = make_codes(rng, 20_011, n_bytes, style)
    for of_outputs in ("normal", "few values", "one large", "tiny", "overflowing"):
        outputs = make_outputs(rng, 3, 8 * n_bytes, of_outputs)
        outputs[0] *= np.where(oracles.bits(database[20_000:20_001])[0] * (outputs[0] < 0) > 0, -1, 1)
        expected = oracle.topk(outputs, database, 20_011)
        for k in (1, 10, 300, 5000, 20_011):
            found = native("asymmetric_topk", backend.device, outputs, database, k)
            assert_same(found, [part[:, :k] for part in expected], f"{of_outputs} k={k}")


def test_sorted_databases(backend) -> None:
    """Best items last (every bound is beaten again and again) and best items first."""
    rng = np.random.default_rng(4)
    outputs = make_outputs(rng, 2, 64)
    database = make_codes(rng, 9_000, 8)
    by_distance = oracle.distances(outputs, database)[0].argsort(kind="stable")
    for order in (by_distance, by_distance[::-1]):
        codes = np.ascontiguousarray(database[order])
        for k in (1, 50, 3000):
            found = native("asymmetric_topk", backend.device, outputs, codes, k)
            assert_same(found, oracle.topk(outputs, codes, k), f"k={k}")


@pytest.mark.parametrize("every", (2048, 1000, 64))
def test_a_few_places_hold_the_nearest(every: int, backend) -> None:
    """Where a search looks first it may find more of the nearest than elsewhere, or none of them."""
    rng = np.random.default_rng(every)
    outputs, database = make_outputs(rng, 3, 64), make_codes(rng, 40_000, 8)
    at = np.arange(40_000) // 64 % max(every // 64, 1) == 0
    database[at] = oracles.pack(outputs[:1] > 0) ^ make_codes(rng, int(at.sum()), 8, "sparse")
    for k in (300, 900, 1200):
        found = native("asymmetric_topk", backend.device, outputs, database, k)
        assert_same(found, oracle.topk(outputs, database, k), f"k={k}")


def test_many_queries(backend) -> None:
    rng = np.random.default_rng(5)
    outputs, database = make_outputs(rng, 301, 36), make_codes(rng, 700, 5)
    found = native("asymmetric_topk", backend.device, outputs, database, 12)
    assert_same(found, oracle.topk(outputs, database, 12))


@pytest.mark.parametrize("n_query", (1, 5))
@pytest.mark.parametrize("share", (0.0, 0.001, 0.5))
def test_masks_over_many_blocks(n_query: int, share: float, backend) -> None:
    rng = np.random.default_rng(6)
    outputs, database = make_outputs(rng, n_query, 64), make_codes(rng, 30_000, 8, "near")
    for allowed in (rng.random(30_000) < share, rng.random((n_query, 30_000)) < share):
        for k in (4, 100):
            found = native("asymmetric_topk", backend.device, outputs, database, k, allowed=allowed)
            assert_same(found, oracle.topk(outputs, database, k, allowed))


def test_threads_and_shards(simd_level: str, threads) -> None:
    """A query's database is shared out; ties must not move."""
    rng = np.random.default_rng(7)
    database = torch.from_numpy(make_codes(rng, 150_011, 8, "near"))
    for n_query in (1, 3, 40):
        outputs = torch.from_numpy(make_outputs(rng, n_query, 61, "few values"))
        for k in (1, 10, 3000, 20_000):
            torch.set_num_threads(1)
            expected = dshc_fast.asymmetric_topk(outputs, database, k)
            for n_threads in (2, 7):
                torch.set_num_threads(n_threads)
                found = dshc_fast.asymmetric_topk(outputs, database, k)
                assert torch.equal(found.distances, expected.distances)
                assert torch.equal(found.indices, expected.indices)
    theirs = reference.asymmetric_topk(outputs[:1], database, 3000)
    found = dshc_fast.asymmetric_topk(outputs[:1], database, 3000)
    assert torch.equal(found.distances, theirs[0]) and torch.equal(found.indices, theirs[1])


@given(problem=problems())
def test_close_to_real_numbers(problem, device: str) -> None:
    """Against sums in float64: within what so many roundings can be, where no float32 overflows."""
    outputs, database = problem
    exact = oracle.plain_distances(outputs, database) if np.isfinite(outputs).all() else None
    if exact is None or exact.size == 0 or exact.max() > 1e38:
        return
    found = native("asymmetric_topk", device, outputs, database, len(database))
    in_order = np.take_along_axis(exact, found.indices, 1)
    scale = np.abs(outputs.astype(np.float64)).sum(1)[:, None]
    assert (np.abs(found.distances - in_order) <= 1e-6 * outputs.shape[1] * scale + 1e-40).all()


@given(problem=problems(), seed=seeds())
def test_relations(problem, seed: int, device: str) -> None:
    """Signs as outputs: Hamming distances. Bits flipped on both sides; a prefix of a larger k; scaled by 1/4."""
    outputs, database = problem
    n_bits, n_db, rng = outputs.shape[1], len(database), np.random.default_rng(seed)
    whole = native("asymmetric_topk", device, outputs, database, n_db)
    k = int(rng.integers(1, n_db + 1))
    assert_same(
        native("asymmetric_topk", device, outputs, database, k),
        [part[:, :k].copy() for part in whole],
        "prefix",
    )
    if (np.abs(outputs) < 1e38).all() and (np.abs(outputs[outputs != 0]) > 1e-30).all():
        scaled = native("asymmetric_topk", device, outputs * np.float32(0.25), database, n_db)
        assert_same(scaled, (whole.distances * np.float32(0.25), whole.indices), "scaled")
    if (outputs != 0).all():
        flips = rng.random(n_bits) < 0.5
        mask = oracles.pack(flips[None])
        flipped = native("asymmetric_topk", device, np.where(flips, -outputs, outputs), database ^ mask, n_db)
        assert_same(flipped, whole, "flipped")
    signs = np.where(outputs > 0, np.float32(1), np.float32(-1))
    kept = database & oracles.pack(np.ones((1, n_bits)))
    found = native("asymmetric_topk", device, signs, kept, k)
    hamming = native("hamming_topk", device, oracles.pack(signs > 0), kept, k)
    assert_same(found, (hamming.distances.astype(np.float32), hamming.indices), "Hamming")


@given(problem=problems(), which=st.integers(0, 3))
def test_strides(problem, which: int, backend) -> None:
    outputs, database = problem
    views = strided_views(outputs)[which], strided_views(database)[3 - which]
    found = native("asymmetric_topk", backend.device, *views, 1)
    assert_same(found, oracle.topk(outputs, database, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype: type, backend) -> None:
    """float16 and bfloat16 are floats as they are; float64 is rounded once."""
    rng = np.random.default_rng(8)
    outputs, database = rng.standard_normal((4, 40)).astype(dtype), make_codes(rng, 500, 5)
    found = native("asymmetric_topk", backend.device, outputs, database, 9)
    assert_same(found, oracle.topk(outputs.astype(np.float32), database, 9))
    if dtype == np.float32:
        halves = torch.from_numpy(outputs).bfloat16()
        found = native("asymmetric_topk", backend.device, halves, database, 9)
        assert_same(found, oracle.topk(halves.float().numpy(), database, 9))


def test_float64_beyond_float32(device: str) -> None:
    database = np.array([[0b00], [0b01], [0b10]], np.uint8)
    found = native("asymmetric_topk", device, np.array([[1e300, 1e-300]]), database, 3)
    assert found.indices.tolist() == [[1, 0, 2]] and found.distances.tolist() == [[0, np.inf, np.inf]]


def test_an_infinite_distance_is_an_answer(device: str) -> None:
    """Items that may be answered come before the fill, whatever their distance."""
    outputs, database = np.array([[np.inf, 1]], np.float32), np.array([[0], [2], [1]], np.uint8)
    allowed = np.array([True, True, False])
    found = native("asymmetric_topk", device, outputs, database, 3, allowed=allowed)
    assert found.indices.tolist() == [[0, 1, -1]] and found.distances.tolist() == [[np.inf] * 3]
    assert_same(found, oracle.topk(outputs, database, 3, allowed))


def test_nan(device: str) -> None:
    outputs = np.array([[1, 2], [1, np.nan], [np.nan, 3]], np.float32)
    database = np.array([[0], [1], [2], [3]], np.uint8)
    with pytest.raises(ValueError, match=r"outputs\[1\] must hold numbers and infinities, got NaN"):
        native("asymmetric_topk", device, outputs, database, 2, check=True)
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=r"outputs\[1\]"):
            native("asymmetric_topk", device, to_torch(outputs).to(dtype), database, 2, check=True)
    found = native("asymmetric_topk", device, outputs, database, 4, check=False)
    assert_same(found, oracle.topk(outputs, database, 4))
    assert found.distances[1].tolist() == [0, 0, 1, 1]


def test_flushed_denormals_change_nothing(simd_level: str, threads) -> None:
    """The op has a mode of its own; the caller's is what it was, after."""
    rng = np.random.default_rng(9)
    outputs, database = make_outputs(rng, 5, 32, "tiny"), make_codes(rng, 4000, 4)
    expected = oracle.topk(outputs, database, 20)
    assert (expected[0] > 0).any()
    if not torch.set_flush_denormal(True):
        pytest.skip("torch cannot flush denormals on this processor")
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            found = dshc_fast.asymmetric_topk(outputs, database, 20)
            tiny = torch.tensor([1e-40]) * 1.0
            assert not tiny.any(), "the mode of this thread"
    finally:
        torch.set_flush_denormal(False)
    assert_same(found, expected)


@pytest.mark.parametrize("n_bytes", (3, 8, 13))
def test_prepared_database(n_bytes: int, device: str) -> None:
    rng = np.random.default_rng(n_bytes)
    outputs, database = make_outputs(rng, 4, 8 * n_bytes - 1), make_codes(rng, 900, n_bytes, "ties")
    prepared = dshc_fast.HammingDatabase(to_torch(database, device))
    ours = dshc_fast.asymmetric_topk(to_torch(outputs, device), prepared, 50)
    found = type(ours)(*(part.cpu().numpy() for part in ours))
    assert_same(found, oracle.topk(outputs, database, 50))


@given(seed=seeds(), data=st.data())
def test_equal_codes(seed: int, data, device: str) -> None:
    """Distinct codes ranked, their items answered: ties between codes are merged by index."""
    rng = np.random.default_rng(seed)
    n_bytes, n_distinct = int(rng.integers(1, 12)), int(rng.integers(1, 30))
    database = make_codes(rng, n_distinct, n_bytes)[rng.integers(0, n_distinct, 400)]
    outputs = make_outputs(rng, 3, 8 * n_bytes - 2, data.draw(st.sampled_from(STYLES)))
    k = data.draw(st.one_of(st.integers(1, 400), st.sampled_from((1, 400))), label="k")
    allowed = data.draw(allowed_masks(3, 400), label="allowed")
    prepared = dshc_fast.HammingDatabase(to_torch(database, device))
    assert device != "cpu" or prepared.n_distinct is not None
    ours = dshc_fast.asymmetric_topk(
        to_torch(outputs, device), prepared, k, allowed=None if allowed is None else to_torch(allowed, device)
    )
    found = type(ours)(*(part.cpu().numpy() for part in ours))
    assert_same(found, oracle.topk(outputs, database, k, allowed))


def test_kinds_and_edges(device: str) -> None:
    database = make_codes(np.random.default_rng(1), 9, 2)
    found = dshc_fast.asymmetric_topk(np.zeros((0, 16), np.float32), database, 3)
    assert isinstance(found.distances, np.ndarray) and found.indices.shape == (0, 3)
    found = dshc_fast.asymmetric_topk(torch.zeros(1, 16, requires_grad=True), torch.from_numpy(database), 3)
    assert isinstance(found.distances, torch.Tensor) and not found.distances.requires_grad
    assert found.indices.tolist() == [[0, 1, 2]]
