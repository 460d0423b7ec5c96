"""codes_from_logits: top-K sub-classes, their mean code, its sign, packed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import torch
from callers import both, native
from comparisons import assert_same_array
from hypothesis import given
from hypothesis import strategies as st
from strategies import make_codes, seeds, strided_views

import dshc_fast

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def weighted_votes(logits: np.ndarray, codebook: np.ndarray, k: int) -> np.ndarray:
    """Σ over the top K of probability times ±1, divided by the top K's probability: `(n, bits)`."""
    book = 2 * oracles.bits(codebook) - 1
    out = np.zeros((len(logits), book.shape[1]))
    for i, order in enumerate(oracles.top_order(logits)):
        top = order[:k]
        weights = np.exp(logits[i][top].astype(np.longdouble) - logits[i].max())
        out[i] = (weights[:, None] * book[top]).sum(0) / weights.sum()
    return out


def test_by_hand() -> None:
    codebook = np.array([[0b0001], [0b0011], [0b0110], [0b1100]], np.uint8)
    logits = np.array([[0.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    assert dshc_fast.codes_from_logits(logits, codebook, 1).tolist() == [[0b0011], [0b0001]]
    # K = 2: bits 0 and 2 tie and take the top-1 code's bits.
    assert dshc_fast.codes_from_logits(logits, codebook, 2).tolist() == [[0b0011], [0b0001]]
    # K = 3: majorities of (0011, 0110, 1100) and of (0001, 0011, 0110).
    assert dshc_fast.codes_from_logits(logits, codebook, 3).tolist() == [[0b0110], [0b0011]]
    # K = 4: bits 0, 1 and 2 tie and take the top-1 code's; bit 3 has one vote.
    assert dshc_fast.codes_from_logits(logits, codebook, 4).tolist() == [[0b0011], [0b0001]]


def test_by_hand_weighted() -> None:
    """Weights 8 : 1 : 1 follow the first; equal weights of two tie, and take the first's bits."""
    codebook = np.array([[0b01], [0b10], [0b10]], np.uint8)
    logits = np.log(np.array([[8.0, 1.0, 1.0], [1.0, 1.0, 1.0], [2.0, 1.5, 1.5]])).astype(np.float32)
    assert dshc_fast.codes_from_logits(logits, codebook, 3).tolist() == [[0b10]] * 3
    weighted = dshc_fast.codes_from_logits(logits, codebook, 3, weighting="probability")
    assert weighted.tolist() == [[0b01], [0b10], [0b10]]
    assert dshc_fast.codes_from_logits(logits[1:2], codebook, 2, weighting="probability").tolist() == [[0b01]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(
    data=st.data(),
    seed=seeds(),
    n=st.integers(0, 6),
    n_subclasses=st.integers(1, 80),
    n_bytes=st.sampled_from((1, 3, 4, 8, 9, 16, 33)),
    ties=st.booleans(),
)
def test_plain_mean(
    dtype, data, seed: int, n: int, n_subclasses: int, n_bytes: int, ties: bool, backend
) -> None:
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = make_codes(
        rng, n_subclasses, n_bytes, data.draw(st.sampled_from(("random", "near", "sparse")))
    )
    logits = rng.integers(-2, 3, (n, n_subclasses)) if ties else rng.standard_normal((n, n_subclasses))
    logits = torch.from_numpy(logits.astype(np.float64)).to(dtype)
    expected = oracles.codes_from_logits(logits.double().numpy(), codebook, k)
    for who, codes in both("codes_from_logits", backend.device, logits, codebook, k):
        assert_same_array(codes, expected, np.uint8, f"{who} k={k}")
    if n and k == 2:
        one = native("codes_from_logits", backend.device, logits, codebook, 1)
        assert_same_array(one, expected, np.uint8, "K = 2 is K = 1")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data(), seed=seeds(), n_subclasses=st.integers(1, 60), scale=st.sampled_from((0.1, 1.0, 20.0)))
def test_probability(dtype, data, seed: int, n_subclasses: int, scale: float, backend) -> None:
    """Every bit whose vote is farther from 0 than float32 rounding."""
    rng = np.random.default_rng(seed)
    k = data.draw(st.integers(1, n_subclasses), label="k")
    codebook = make_codes(rng, n_subclasses, 5)
    logits = torch.from_numpy(rng.standard_normal((4, n_subclasses)) * scale).to(dtype)
    votes = weighted_votes(logits.double().numpy(), codebook, k)
    clear = np.abs(votes) > (1e-12 if dtype == torch.float64 else 1e-5)
    for who, codes in both("codes_from_logits", backend.device, logits, codebook, k, weighting="probability"):
        assert codes.dtype == np.uint8 and codes.shape == (4, 5)
        wrong = (oracles.bits(codes) != (votes > 0)) & clear
        assert not wrong.any(), f"{who}: bits {np.argwhere(wrong)[:3].tolist()} of k={k}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("n", "n_subclasses", "n_bytes"), ((40, 310, 8), (17, 1003, 10), (5, 6020, 8), (1, 6020, 16))
)
def test_probability_sizes(dtype, n: int, n_subclasses: int, n_bytes: int, backend) -> None:
    """Many sub-classes, some and all: every bit whose vote is farther from 0 than the rounding of so many terms."""
    rng = np.random.default_rng(n)
    codebook = make_codes(rng, n_subclasses, n_bytes)
    logits = torch.from_numpy(rng.standard_normal((n, n_subclasses)) * 3).to(dtype)
    for k in (9, 200, n_subclasses):
        votes = weighted_votes(logits.double().numpy(), codebook, k)
        clear = np.abs(votes) > (1e-11 if dtype == torch.float64 else 1e-4)
        codes = native("codes_from_logits", backend.device, logits, codebook, k, weighting="probability")
        assert not ((oracles.bits(codes) != (votes > 0)) & clear).any(), k


@pytest.mark.parametrize("n_subclasses", (1, 7, 8, 9, 110, 310, 1000, 10_100))
def test_sizes_met(n_subclasses: int, backend) -> None:
    rng = np.random.default_rng(n_subclasses)
    codebook = make_codes(rng, n_subclasses, 8)
    logits = rng.standard_normal((5, n_subclasses)).astype(np.float32)
    logits[4] = np.round(logits[4])
    for k in sorted({1, min(3, n_subclasses), min(61, n_subclasses), n_subclasses}):
        codes = native("codes_from_logits", backend.device, logits, codebook, k)
        assert_same_array(codes, oracles.codes_from_logits(logits, codebook, k), np.uint8, f"k={k}")


@pytest.mark.parametrize("n_bytes", (1, 2, 7, 8, 9, 31, 32, 33, 64, 65, 511, 512))
def test_code_widths(n_bytes: int, backend) -> None:
    rng = np.random.default_rng(n_bytes)
    codebook, logits = make_codes(rng, 40, n_bytes), rng.standard_normal((3, 40)).astype(np.float32)
    for k in (1, 4, 5, 40):
        codes = native("codes_from_logits", backend.device, logits, codebook, k)
        assert_same_array(codes, oracles.codes_from_logits(logits, codebook, k), np.uint8, f"k={k}")


def test_more_votes_than_a_byte_counts(backend) -> None:
    """All of 70,000 codes vote for bit 0, half for bit 1 (a tie), one less for bit 2."""
    codebook = np.full((70_000, 1), 0b001, np.uint8)
    codebook[:35_000] |= 0b010
    codebook[35_000:69_999] |= 0b100
    logits = np.zeros((1, 70_000), np.float32)
    assert native("codes_from_logits", backend.device, logits, codebook, 70_000).tolist() == [[0b011]]


def test_infinities_rank_by_value(backend) -> None:
    codebook = np.array([[1], [2], [4], [8]], np.uint8)
    logits = np.array([[0, -math.inf, math.inf, 1], [-math.inf] * 4, [math.inf] * 4], np.float32)
    for who, codes in both("codes_from_logits", backend.device, logits, codebook, 1):
        assert codes.tolist() == [[4], [1], [1]], who
    for k in (2, 3, 4):
        codes = native("codes_from_logits", backend.device, logits, codebook, k)
        assert_same_array(codes, oracles.codes_from_logits(logits, codebook, k), np.uint8, f"k={k}")
    weighted = native(
        "codes_from_logits",
        backend.device,
        np.array([[0, -math.inf, -1, 1]], np.float32),
        codebook,
        4,
        weighting="probability",
    )
    assert weighted.tolist() == [[8]]  # e : 1 : 1/e, the first has more than half


def test_zeros_of_both_signs_are_equal(backend) -> None:
    """-0.0 and 0.0 are equal logits: the lower index first."""
    codebook = np.array([[1], [2]], np.uint8)
    logits = np.array([[-0.0, 0.0], [0.0, -0.0]], np.float32)
    for who, codes in both("codes_from_logits", backend.device, logits, codebook, 1):
        assert codes.tolist() == [[1], [1]], who


@pytest.mark.parametrize("weighting", ["mean", "probability"])
@pytest.mark.parametrize("n", [2, 3, 16, 17, 40])
def test_a_nan_ranks_last_unchecked(n: int, weighting: str, backend) -> None:
    """Of two, the code of the first decides where the bits differ."""
    logits = torch.full((1, n), -9.0)
    logits[0, 0], logits[0, 1] = math.nan, 1.0
    codebook = np.zeros((n, 1), np.uint8)
    codebook[1] = 255
    for k in {1, 2} if weighting == "mean" else {1}:
        codes = native(
            "codes_from_logits", backend.device, logits, codebook, k, weighting=weighting, check=False
        )
        assert codes.tolist() == [[255]], k


def test_nan_and_infinity_raise(backend) -> None:
    codebook = np.array([[1], [2], [4]], np.uint8)
    for at in range(3):
        logits = torch.zeros((2, 3))
        logits[1, at] = math.nan
        with pytest.raises(ValueError, match="logits"):
            native("codes_from_logits", backend.device, logits, codebook, 1, check=True)
        assert native("codes_from_logits", backend.device, logits, codebook, 2, check=False).shape == (2, 1)
        logits[1, at] = math.inf
        with pytest.raises(ValueError, match="logits"):
            native(
                "codes_from_logits", backend.device, logits, codebook, 1, weighting="probability", check=True
            )
        native("codes_from_logits", backend.device, logits, codebook, 1, check=True)


def test_codebook_object() -> None:
    """An object with `.codes` (numpy or torch) is as good as the array, for numpy and for torch logits."""
    rng = np.random.default_rng(1)
    codebook, logits = make_codes(rng, 20, 3), rng.standard_normal((4, 20)).astype(np.float32)
    expected = oracles.codes_from_logits(logits, codebook, 3)
    for codes in (codebook, torch.from_numpy(codebook)):
        book = SimpleNamespace(codes=codes)
        assert_same_array(dshc_fast.codes_from_logits(logits, book, 3), expected, np.uint8)
        found = dshc_fast.codes_from_logits(torch.from_numpy(logits), book, 3)
        assert_same_array(found.numpy(), expected, np.uint8)


@pytest.mark.parametrize("which", range(4))
def test_strides(which: int, backend) -> None:
    rng = np.random.default_rng(2)
    codebook, logits = make_codes(rng, 20, 3), rng.standard_normal((6, 20)).astype(np.float32)
    views = strided_views(logits)[which], strided_views(codebook)[3 - which]
    codes = native("codes_from_logits", backend.device, *views, 5)
    assert_same_array(codes, oracles.codes_from_logits(logits, codebook, 5), np.uint8)


def test_codes_need_no_gradient(device: str) -> None:
    logits = torch.randn(3, 4, device=device, requires_grad=True)
    codebook = torch.arange(4, dtype=torch.uint8, device=device)[:, None]
    assert not dshc_fast.codes_from_logits(logits, codebook, 1).requires_grad


def test_many_rows(backend) -> None:
    rng = np.random.default_rng(3)
    codebook, logits = make_codes(rng, 31, 4), rng.standard_normal((2003, 31)).astype(np.float32)
    codes = native("codes_from_logits", backend.device, logits, codebook, 3)
    assert_same_array(codes, oracles.codes_from_logits(logits, codebook, 3), np.uint8)
