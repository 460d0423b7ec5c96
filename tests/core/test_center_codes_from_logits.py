"""center_codes_from_logits: the center of the class with the largest log-sum-exp."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import torch
from callers import both, native, to_torch
from comparisons import assert_same_array
from hypothesis import given
from hypothesis import strategies as st
from strategies import make_codes, seeds, strided_views

import dshc_fast

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def class_scores(logits: np.ndarray, offsets: list[int]) -> np.ndarray:
    runs = list(zip(offsets[:-1], offsets[1:], strict=True))
    scores = [[oracles.log_sum_exp(row[a:b]) for a, b in runs] for row in logits]
    return np.array(scores, dtype=np.longdouble).reshape(len(logits), len(runs))


def test_by_hand() -> None:
    """Two sub-classes of 0.9 beat one of 1.0: log-sum-exp, not the maximum; equal classes: the lower."""
    centers = np.array([[1], [2], [4]], np.uint8)
    logits = np.array(
        [[1.0, 0.9, 0.9, 0.0], [2.0, 0.9, 0.9, 0.0], [0.5, -9, -9, 0.5], [-9, -9, -9, 5]], np.float32
    )
    codes = dshc_fast.center_codes_from_logits(logits, [0, 1, 3, 4], centers)
    assert codes.tolist() == [[2], [1], [1], [4]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    seed=seeds(),
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    n=st.integers(0, 6),
    scale=st.sampled_from((0.1, 1.0, 30.0, 1e3)),
    n_bytes=st.sampled_from((1, 4, 8, 11)),
)
def test_random(dtype, seed: int, sizes: list[int], n: int, scale: float, n_bytes: int, backend) -> None:
    """The class chosen has the largest score, up to the rounding of the working precision."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *sizes]).tolist()
    # Codes tell the classes apart: the class's number is in its first byte.
    centers = make_codes(rng, len(sizes), n_bytes)
    centers[:, 0] = np.arange(len(sizes))
    logits = torch.from_numpy(rng.standard_normal((n, offsets[-1])) * scale).to(dtype)
    scores = class_scores(logits.double().numpy(), offsets)
    unit = 1e-14 if dtype == torch.float64 else 1e-6
    for who, codes in both("center_codes_from_logits", backend.device, logits, offsets, centers):
        chosen = codes[:, 0].astype(int)
        assert_same_array(codes, centers[chosen].reshape(n, n_bytes), np.uint8, who)
        for row, choice in zip(scores, chosen, strict=True):
            assert row[choice] >= row.max() - unit * (abs(float(row.max())) + 4), who


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equal_classes_take_the_lower(dtype, backend) -> None:
    """Runs of equal values in equal order have bit-equal scores."""
    run = torch.linspace(-2, 2, 7, dtype=torch.float64).to(dtype)
    logits = torch.cat([run - 1, run, run, run])[None].repeat(3, 1)
    logits[1, :7] = run
    logits[2, 27] = 90
    centers = np.array([[1], [2], [4], [8]], np.uint8)
    for who, codes in both("center_codes_from_logits", backend.device, logits, [0, 7, 14, 21, 28], centers):
        assert codes.tolist() == [[2], [1], [8]], who


def test_extremes_and_infinities(backend) -> None:
    centers = np.array([[1], [2], [4]], np.uint8)
    inf = math.inf
    logits = np.array(
        [
            [
                1e4,
                1e4,
                1e4,
                1e4 + 1,
                -1e4,
            ],  # 1e4 + log 2 > ... class 0 has two of 1e4, class 1 has 1e4 and 1e4 + 1
            [-1e4, -1e4, -1e4, -1e4, -9999],
            [3e38, 3e38, 0, 0, 3.1e38],
            [-inf, -inf, -inf, -inf, -inf],
            [-inf, -inf, -inf, 0, -1],
            [-inf, -inf, -inf, -inf, -1e30],
            [0, 0, inf, 0, inf],
            [0, 0, 0, -inf, inf],
        ],
        np.float32,
    )
    expected = [[2], [4], [4], [1], [2], [4], [2], [4]]
    for who, codes in both("center_codes_from_logits", backend.device, logits, [0, 2, 4, 5], centers):
        assert codes.tolist() == expected, who


def test_sizes_met(backend) -> None:
    """CPBC's own sizes: 10 classes of 31 and of 61 sub-classes, 100 of 301."""
    rng = np.random.default_rng(1)
    for n_classes, size in ((10, 31), (10, 61), (100, 301), (1, 5), (300, 1)):
        offsets = np.arange(n_classes + 1) * size
        logits = rng.standard_normal((4, n_classes * size)).astype(np.float32)
        true = rng.integers(0, n_classes, 4)
        for row, c in zip(logits, true, strict=True):
            row[offsets[c] : offsets[c + 1]] += 8
        centers = make_codes(rng, n_classes, 38)
        codes = native("center_codes_from_logits", backend.device, logits, offsets, centers)
        assert_same_array(codes, centers[true], np.uint8, f"{n_classes} x {size}")


def test_offset_forms_and_strides(backend) -> None:
    rng = np.random.default_rng(2)
    centers, logits = make_codes(rng, 3, 5), rng.standard_normal((6, 9)).astype(np.float32)
    offsets = [0, 4, 5, 9]
    plain = native("center_codes_from_logits", backend.device, logits, offsets, centers)
    for form in (tuple(offsets), np.array(offsets), np.array(offsets, np.int16), torch.tensor(offsets)):
        assert_same_array(
            native("center_codes_from_logits", backend.device, logits, form, centers), plain, np.uint8
        )
    for a, b in zip(strided_views(logits), strided_views(centers)[::-1], strict=True):
        assert_same_array(native("center_codes_from_logits", backend.device, a, offsets, b), plain, np.uint8)


def test_nan_raises(backend) -> None:
    centers = np.array([[1], [2]], np.uint8)
    for at in range(3):
        logits = torch.zeros((2, 3))
        logits[1, at] = math.nan
        with pytest.raises(ValueError, match="logits"):
            native("center_codes_from_logits", backend.device, logits, [0, 2, 3], centers, check=True)
        codes = native("center_codes_from_logits", backend.device, logits, [0, 2, 3], centers, check=False)
        assert codes.shape == (2, 1) and codes[0] == 1


@pytest.mark.parametrize(
    ("row", "best"),
    [
        ([math.inf, math.nan, 1.0, 0.0], 1),
        ([math.nan, 0.0, -math.inf, -math.inf], 1),
        ([math.nan, math.nan, -math.inf, -math.inf], 1),
        ([-math.inf, -math.inf, math.nan, math.inf], 0),
        ([-math.inf, -math.inf, -math.inf, -math.inf], 0),
        ([0.0, 1.0, math.inf, 0.0], 1),
        ([math.nan] * 4, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_class_with_a_nan_ranks_last_unchecked(row, best, dtype, backend) -> None:
    centers = np.array([[1], [2]], np.uint8)
    logits = torch.tensor([row], dtype=dtype)
    codes = native("center_codes_from_logits", backend.device, logits, [0, 2, 4], centers, check=False)
    assert codes.tolist() == [[best + 1]]


def test_no_gradient_and_many_rows(device: str) -> None:
    logits = torch.randn(3001, 6, device=device, requires_grad=True)
    centers = to_torch(np.array([[1], [2]], np.uint8), device)
    codes = dshc_fast.center_codes_from_logits(logits, [0, 3, 6], centers)
    assert not codes.requires_grad and codes.shape == (3001, 1)
    scores = logits.detach().double().view(3001, 2, 3).logsumexp(2)
    clear = (scores[:, 0] - scores[:, 1]).abs() > 1e-5
    assert torch.equal(codes[clear, 0] == 2, (scores[:, 1] > scores[:, 0])[clear])
