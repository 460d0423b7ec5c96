"""The interpreter that runs CUDA kernels on the CPU finds what it is there to find.

Each kernel of csrc/simt/faults.cu has a planted fault and a correct twin. The fault must be caught under at least
one order of threads and blocks, by an error or by a wrong answer; the twin passes in all three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from simt import ORDERS, Output, SimtError
from simt_kernels import runs

THREADS = 96  # of a block of the planted kernels
SEEDS = range(5)
OVERFLOW, MISALIGNED = "AddressSanitizer: heap-buffer-overflow", "misaligned address"
SANITIZERS = (OVERFLOW, MISALIGNED)


class Planted(NamedTuple):
    n: int
    n_out: int
    expected: Callable[[np.ndarray], np.ndarray]
    said: str | None  # what the error must mention; None: the answer is wrong
    everywhere: bool  # whether each order catches it (of those with sanitizers, if a sanitizer does)


def shifted(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], values[:-1]])


def tile_sums(values: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, np.arange(0, len(values), THREADS))


PLANTED = {
    "missing_barrier": Planted(THREADS, THREADS, lambda v: shifted(v) + v, None, False),
    "missing_second_barrier": Planted(
        THREADS, THREADS, lambda v: 3 * np.concatenate([v[:1], v[:-1]]), None, False
    ),
    "missing_syncwarp": Planted(THREADS, THREADS, lambda v: v.reshape(-1, 2)[:, ::-1].ravel(), None, True),
    "shared_bound": Planted(40, 1, lambda v: [v.max()], None, False),
    "plain_sum": Planted(3 * THREADS, 1, lambda v: [v.sum()], None, False),
    "plain_counters": Planted(THREADS, 4, lambda v: np.bincount(v % 4, minlength=4), None, False),
    "published_too_early": Planted(12, 1, lambda v: [v.sum()], None, False),
    "tile_edge": Planted(3 * THREADS + 5, 4, tile_sums, None, True),
    "past_shared": Planted(THREADS, THREADS, lambda v: np.append(v[1:], 0), OVERFLOW, True),
    "unwritten_shared": Planted(THREADS, THREADS, lambda v: v, None, True),
    "dead_lane": Planted(27, 1, lambda v: [v.sum()], "dead lane", True),
    "missing_lane": Planted(THREADS, THREADS, lambda v: np.repeat(v[::32], 32), "deadlock", True),
    "lane_outside_mask": Planted(
        THREADS,
        THREADS,
        lambda v: np.concatenate([v[1:16], v[15:16], np.zeros(THREADS - 16)]),
        "not in the mask",
        True,
    ),
    "two_places": Planted(
        THREADS, THREADS, lambda v: np.repeat(np.stack([v[3::32], v[19::32]], 1), 16), "meets lane", True
    ),
    "past_input": Planted(
        THREADS + 9,
        THREADS + 9,
        lambda v: v + np.append(v[1:], 0),
        OVERFLOW,
        True,
    ),
    "barrier_in_branch": Planted(70, 70, lambda v: v[::-1], "barrier", True),
    "two_barriers": Planted(THREADS, THREADS, lambda v: v[::-1], "another barrier", True),
    "misaligned": Planted(64, 16, lambda v: v.reshape(-1, 4).sum(1), MISALIGNED, True),
}


def answer(op: str, fault: bool, order: str, seed: int) -> bool:
    """Whether the kernel gives the right answer."""
    case = PLANTED[op]
    values = np.random.default_rng(seed).permutation(1000)[: case.n].astype(np.int32)
    found = (
        runs(order)
        .using(order, seed, offset=1)
        .run(op, {"values": values}, {"out": Output((max(case.n_out, 2),), np.int32)}, n=case.n, fault=fault)
    )[0][: case.n_out]
    return np.array_equal(found, case.expected(values))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("op", PLANTED)
def test_correct_twin_passes(op: str, order: str) -> None:
    for seed in SEEDS:
        assert answer(op, False, order, seed)


@pytest.mark.deep
@pytest.mark.parametrize("op", PLANTED)
def test_planted_fault_is_caught(op: str) -> None:
    case, caught = PLANTED[op], set()
    seeds = {"random": SEEDS, "interleaved": SEEDS}
    for order, seed in ((name, seed) for name in ORDERS for seed in seeds.get(name, [0])):
        try:
            if not answer(op, True, order, seed):
                assert case.said is None or order == "interleaved", (
                    f"a wrong answer, but no error: {case.said}"
                )
                caught.add(order)
        except SimtError as error:
            assert case.said is not None and case.said in str(error), str(error)
            caught.add(order)
    enough = set(ORDERS) if case.everywhere else set()
    if case.said in SANITIZERS:
        enough.discard("interleaved")
    assert caught and caught >= enough, f"caught under {caught}"


def test_an_error_names_kernel_block_and_thread() -> None:
    with pytest.raises(SimtError) as caught:
        answer("dead_lane", True, "ascending", 0)
    text = str(caught.value)
    assert "dead_lane<true>" in text and "block (0, 0, 0)" in text and "thread (" in text
    assert "faults.cu:" in text
    assert answer("dead_lane", False, "ascending", 0), "the next call has a process of its own"


def test_orders_differ_and_seeds_repeat() -> None:
    """Which thread is right about a race depends on the order; the same seed gives the same answer."""

    def race(order: str, seed: int) -> list[int]:
        values = np.arange(THREADS, dtype=np.int32)
        inputs, outputs = {"values": values}, {"out": Output((THREADS,), np.int32)}
        found = runs(order, seed=seed).run("missing_barrier", inputs, outputs, n=THREADS, fault=True)
        return found[0].tolist()

    assert race("random", 3) == race("random", 3)
    assert race("random", 3) != race("random", 4)
    assert race("ascending", 0) != race("descending", 0)


GOOD = {"grid_x": 2, "grid_y": 1, "grid_z": 1, "block_x": 64, "block_y": 2, "block_z": 1, "shared": 100}
LIMITS = {
    "grid_x": (1, 0), "grid_y": (500, 65536), "grid_z": (300, 0), "block_x": (512, 513), "block_y": (16, 17),
    "block_z": (8, 9), "shared": (227 * 1024, 227 * 1024 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_launch_limits(name: str) -> None:
    def status(value: int) -> int:
        return runs("random").call("launch", {}, {}, **{**GOOD, name: value})[0]

    taken, refused = LIMITS[name]
    assert status(taken) == 0
    assert status(refused) == 9  # cudaErrorInvalidConfiguration


def test_many_threads_are_cheap() -> None:
    """Fibers are used again: a grid of 10^5 threads is no reason for 10^5 stacks."""
    assert runs("random").call("launch", {}, {}, **{**GOOD, "grid_x": 800})[0] == 0


def test_16_bit_floats() -> None:
    """Every half and bfloat16 to float; floats of all sizes, halfway cases and neighbours of those back."""
    n, rng = 2**16, np.random.default_rng(0)
    patterns = np.arange(n, dtype=np.uint16)
    halves, bfloats = (
        patterns.view(np.float16),
        torch.from_numpy(patterns.view(np.int16)).view(torch.bfloat16),
    )
    with np.errstate(all="ignore"):
        middle = ((halves[:-1].astype(np.float32) + halves[1:].astype(np.float32)) / 2)[
            rng.permutation(n - 1)
        ]
        values = np.concatenate(
            [
                middle[:20_000],
                np.nextafter(middle[:10_000], np.float32(np.inf)),
                rng.integers(0, 2**32, n - 30_006, dtype=np.uint32).view(np.float32),
                np.array([0.0, -0.0, 65519.99, 65520.0, np.inf, -np.inf], np.float32),
            ]
        )
        expected_half = values.astype(np.float16)
    outputs = {
        "halves": Output((n,), np.float16), "bfloats": Output((n,), np.uint16),
        "from_halves": Output((n,), np.float32), "from_bfloats": Output((n,), np.float32),
    }  # fmt: skip
    inputs = {"values": values, "half_values": patterns, "bfloat_values": patterns}
    to_half, to_bfloat, from_half, from_bfloat = runs("random").run("convert", inputs, outputs, n=n)
    np.testing.assert_array_equal(to_half, expected_half)
    np.testing.assert_array_equal(np.signbit(to_half), np.signbit(expected_half) & ~np.isnan(to_half))
    np.testing.assert_array_equal(from_half, halves.astype(np.float32))
    np.testing.assert_array_equal(from_bfloat, bfloats.float().numpy())
    back = torch.from_numpy(to_bfloat.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(back, torch.from_numpy(values).bfloat16().float().numpy())
