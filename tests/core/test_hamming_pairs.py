"""hamming_pairs: all pairs within a radius, each once, by parts of the codes or by blocks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import oracles
import pytest
import torch
from backends import LEVEL, SIMD_LEVELS
from callers import both, native, to_numpy
from comparisons import assert_same_array, assert_same_radius
from hypothesis import given
from hypothesis import strategies as st
from ops_table import same_answer
from strategies import ALL_BYTES, CODE_BYTES, CODE_STYLES, make_codes, seeds, strided_views

import dshc_fast


def expected(codes: np.ndarray, radius: int) -> tuple[np.ndarray, ...]:
    later = np.triu(np.ones((len(codes), len(codes)), bool), 1)
    return oracles.radius(codes, codes, radius, allowed=later)


def of_radius_search(codes: np.ndarray, radius: int) -> dshc_fast.HammingRadius:
    """What a search of all codes among all finds, less each item itself and what lies before it."""
    both = dshc_fast.hamming_radius(codes, codes, radius)
    item = np.repeat(np.arange(len(codes)), np.diff(both.offsets))
    later = both.indices > item
    offsets = np.concatenate([[0], np.bincount(item[later], minlength=len(codes)).cumsum()])
    return dshc_fast.HammingRadius(offsets.astype(np.int64), both.indices[later], both.distances[later])


def near_duplicates(rng: np.random.Generator, codes: np.ndarray, n: int, flips: int) -> np.ndarray:
    """The codes with n of them replaced by others of them, up to `flips` bits changed."""
    codes = codes.copy()
    at = rng.choice(len(codes), n, replace=False)
    codes[at] = codes[rng.integers(0, len(codes), n)]
    for _ in range(flips):
        bit = rng.integers(0, 8 * codes.shape[1], n)
        codes[at, bit // 8] ^= (1 << bit % 8).astype(np.uint8)
    return codes


def test_by_hand() -> None:
    codes = np.array([[0b0000], [0b0011], [0b0001], [0b1111], [0b0001], [0b0000]], np.uint8)
    found = dshc_fast.hamming_pairs(codes, 1)
    assert found.offsets.tolist() == [0, 3, 5, 7, 7, 8, 8]
    assert found.indices.tolist() == [5, 2, 4, 2, 4, 4, 5, 5]
    assert found.distances.tolist() == [0, 1, 1, 1, 1, 0, 1, 1]
    assert len(dshc_fast.hamming_pairs(codes, 8).indices) == 15


@given(data=st.data(), seed=seeds(), n=st.integers(0, 120), style=st.sampled_from(CODE_STYLES))
def test_random(data, seed: int, n: int, style: str, backend) -> None:
    n_bytes = data.draw(st.sampled_from(CODE_BYTES), label="n_bytes")
    codes = make_codes(np.random.default_rng(seed), n, n_bytes, style)
    n_bits = 8 * n_bytes
    radius = data.draw(
        st.one_of(
            st.integers(0, 4), st.integers(0, n_bits + 2), st.integers(n_bits // 2 - 4, n_bits // 2 + 4)
        ),
        label="radius",
    )
    radius = max(radius, 0)
    for who, found in both("hamming_pairs", backend.device, codes, radius):
        assert_same_radius(found, expected(codes, radius), f"{who} radius={radius}")


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    codes = near_duplicates(rng, make_codes(rng, 150, n_bytes), 60, 3)
    for radius in (0, 1, 2, 7, 4 * n_bytes, 8 * n_bytes - 1, 8 * n_bytes):
        found = native("hamming_pairs", backend.device, codes, radius)
        assert_same_radius(found, expected(codes, radius), str(radius))


@pytest.mark.parametrize("n", (0, 1, 2))
def test_few_items(n: int, device: str) -> None:
    codes = make_codes(np.random.default_rng(n), n, 3)
    for radius in (0, 24, 2**31, 2**63 - 1):
        assert_same_radius(native("hamming_pairs", device, codes, radius), expected(codes, min(radius, 24)))


@pytest.mark.parametrize("n_codes", (1, 2, 17, 310))
@pytest.mark.parametrize("n_bytes", (1, 4, 9, 32))
def test_equal_codes(n_codes: int, n_bytes: int, backend) -> None:
    """Codes that many items have are compared once, and every item is answered."""
    rng = np.random.default_rng(n_codes)
    codes = make_codes(rng, n_codes, n_bytes)[rng.integers(0, n_codes, 700)]
    for radius in (0, 1, 3, 4 * n_bytes):
        assert_same_radius(
            native("hamming_pairs", backend.device, codes, radius), expected(codes, radius), str(radius)
        )


# Items, bytes, radius: by parts of which few, some, all items share one; in groups of many; by blocks.
WAYS = (
    (20_000, 8, 1),
    (20_000, 8, 4),
    (20_000, 4, 2),
    (6_000, 16, 20),
    (5_000, 8, 12),
    (5_000, 5, 2),
    (4_000, 67, 9),
    (3_000, 33, 100),
)


@pytest.mark.parametrize(("n", "n_bytes", "radius"), WAYS)
def test_every_way(n: int, n_bytes: int, radius: int, backend, threads) -> None:
    """Large enough for every way there is, one thread and several."""
    rng = np.random.default_rng(n)
    codes = near_duplicates(rng, make_codes(rng, n, n_bytes), n // 10, min(radius, 5))
    wanted = of_radius_search(codes, radius)
    assert len(wanted.indices) > n // 50
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert_same_radius(
            native("hamming_pairs", backend.device, codes, radius), tuple(wanted), f"{count} threads"
        )


@pytest.mark.parametrize("level", SIMD_LEVELS)
def test_what_hardly_varies(level: str, threads) -> None:
    """Constant bytes, a part that all items share, one code among others that very many items have."""
    dshc_fast.set_simd_level(level)
    try:
        rng = np.random.default_rng(4)
        codes = make_codes(rng, 6_000, 8)
        constant, mirrored = codes.copy(), np.concatenate([codes[:, :4], codes[:, :4]], 1)
        constant[:, 2:7] = 5
        skewed = codes.copy()
        skewed[rng.choice(6_000, 700, replace=False)] = codes[3]
        halves = codes.copy()
        halves[:, :4] = codes[:40, :4][rng.integers(0, 40, 6_000)]
        for name, some in (
            ("constant", constant),
            ("mirrored", mirrored),
            ("skewed", skewed),
            ("halves", halves),
        ):
            for radius in (0, 1, 3):
                found = dshc_fast.hamming_pairs(some, radius)
                assert_same_radius(found, tuple(of_radius_search(some, radius)), f"{name} {radius}")
    finally:
        dshc_fast.set_simd_level(LEVEL)


@given(seed=seeds(), which=st.integers(0, 3), style=st.sampled_from(CODE_STYLES))
def test_strides(seed: int, which: int, style: str, backend) -> None:
    codes = make_codes(np.random.default_rng(seed), 40, 3, style)
    found = native("hamming_pairs", backend.device, strided_views(codes)[which], 4)
    assert_same_radius(found, expected(codes, 4))


@given(data=st.data(), seed=seeds())
def test_relations(data, seed: int, backend) -> None:
    """Nested radii; XOR mask; permuted bits; zero bytes; other orders of the items have the same pairs."""
    rng = np.random.default_rng(seed)
    n_bytes = data.draw(st.sampled_from((1, 2, 5, 8, 17)), label="n_bytes")
    codes = make_codes(rng, 60, n_bytes, data.draw(st.sampled_from(CODE_STYLES), label="style"))
    radius = data.draw(st.integers(0, 8 * n_bytes), label="radius")

    def search(some: np.ndarray, r: int = radius) -> dshc_fast.HammingRadius:
        return native("hamming_pairs", backend.device, some, r)

    def pairs(found: dshc_fast.HammingRadius) -> set[tuple[int, int, int]]:
        item = np.repeat(np.arange(60), np.diff(found.offsets))
        return {*zip(item.tolist(), found.indices.tolist(), found.distances.tolist(), strict=True)}

    whole = search(codes)
    assert {pair for pair in pairs(search(codes, radius + 1)) if pair[2] <= radius} == pairs(whole)
    assert_same_radius(
        search(codes ^ rng.integers(0, 256, n_bytes, dtype=np.uint8)), tuple(whole), "XOR mask"
    )
    bits = rng.permutation(8 * n_bytes)
    assert_same_radius(search(oracles.pack(oracles.bits(codes)[:, bits])), tuple(whole), "permuted bits")
    assert_same_radius(search(np.pad(codes, ((0, 0), (0, 9)))), tuple(whole), "zero bytes")
    order = rng.permutation(60)
    moved = {(*sorted((order[i], order[j])), d) for i, j, d in pairs(search(codes[order]))}
    assert moved == pairs(whole), "order of the items"


@pytest.mark.parametrize("n_bytes", (3, 8, 33))
@pytest.mark.parametrize("repeats", (1, 7))
def test_database(n_bytes: int, repeats: int, device: str) -> None:
    """A prepared database gives the same, in the kind that it was made of."""
    rng = np.random.default_rng(n_bytes)
    codes = near_duplicates(rng, make_codes(rng, 400, n_bytes)[rng.integers(0, 400 // repeats, 400)], 50, 2)
    for radius in (0, 2, 4 * n_bytes):
        plain = native("hamming_pairs", device, codes, radius)
        assert_same_radius(plain, expected(codes, radius))
        database = dshc_fast.HammingDatabase(torch.from_numpy(codes).to(device))
        found = dshc_fast.hamming_pairs(database, radius)
        assert isinstance(found.indices, torch.Tensor) and found.indices.device.type == device
        assert same_answer(to_numpy(found), plain)
        of_numpy = dshc_fast.hamming_pairs(dshc_fast.HammingDatabase(codes), radius)
        assert isinstance(of_numpy.indices, np.ndarray) and same_answer(of_numpy, plain)


def test_tensors_under_a_compiler() -> None:
    codes = torch.from_numpy(make_codes(np.random.default_rng(0), 50, 4, "near"))
    database = dshc_fast.HammingDatabase(codes)
    compiled = torch.compile(lambda: dshc_fast.hamming_pairs(database, 2).distances, backend="eager")
    assert_same_array(
        to_numpy(compiled()), to_numpy(dshc_fast.hamming_pairs(codes, 2).distances), np.int32, "distances"
    )


@pytest.mark.parametrize(
    ("codes", "radius", "n_pairs"),
    (
        (np.zeros((2_000_000, 1), np.uint8), 0, "1999999000000"),
        (np.arange(3_000_000, dtype=np.uint32).view(np.uint8).reshape(-1, 4), 32, "4499998500000"),
    ),
    ids=("equal codes", "no limit"),
)
def test_an_answer_that_does_not_fit(codes: np.ndarray, radius: int, n_pairs: str) -> None:
    """It is refused with its size, before any of it is written; the next call works."""
    words = rf"radius must be so small that the pairs within it fit in memory \(.* GB for {n_pairs} pairs, of which "
    with pytest.raises(MemoryError, match=words):
        dshc_fast.hamming_pairs(codes, radius)
    assert len(dshc_fast.hamming_pairs(codes[:10], radius).indices) == 45


SCRIPT = """
import resource, sys
import numpy as np
import dshc_fast, torch

torch.set_num_threads(2)
n, n_bytes, radius, n_codes = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
codes = rng.integers(0, 256, (n_codes, n_bytes), dtype=np.uint8)[rng.permutation(n) % n_codes]
dshc_fast.hamming_pairs(codes[:1000], radius)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = dshc_fast.hamming_pairs(codes, radius)
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(kilobytes * 1024, len(found.indices))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in kilobytes on Linux")
@pytest.mark.parametrize(
    ("n", "n_bytes", "radius", "n_codes", "parts"),
    (
        (1_000_000, 16, 2, 1_000_000, 3),
        (400_000, 8, 3, 400_000, 4),
        (300_000, 4, 1, 10_000, 2),
        (60_000, 4, 5, 60_000, 6),
    ),
)
@pytest.mark.deep
def test_memory_is_that_of_items_and_answer(
    n: int, n_bytes: int, radius: int, n_codes: int, parts: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (n, n_bytes, radius, n_codes))],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    used, n_found = map(int, done.stdout.split())
    # 12 bytes a pair of the answer and 20 held at once before; of an item two words, its row's offset, its place in the
    # groups of each part (vectors twice as long as what they hold), and its code once more where codes repeat.
    assert used < 34 * n_found + (40 + 16 * parts + n_bytes) * n + 32 * 2**20, (used, n_found)
