"""multilabel_codes: thresholded logits, packed."""

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
from strategies import seeds, strided_views

import dshc_fast

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def test_by_hand() -> None:
    logits = np.array([[0.0, 0.5, -1.0, 2.0, -0.0, 1e-30, 1.0, 3.0, 4.0]], np.float32)
    assert dshc_fast.multilabel_codes(logits).tolist() == [[0b11101010, 1]]
    assert dshc_fast.multilabel_codes(logits, 1).tolist() == [[0b10001000, 1]]
    thresholds = np.array([-1, 0, -2, 2, 0, 0, 0.5, 3, 3.5], np.float32)
    assert dshc_fast.multilabel_codes(logits, thresholds).tolist() == [[0b01100111, 1]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(seed=seeds(), n=st.integers(0, 12), n_classes=st.integers(1, 150), each=st.booleans())
def test_random(dtype, seed: int, n: int, n_classes: int, each: bool, backend) -> None:
    """Quarters: exact in every dtype, and logits often equal their threshold."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.integers(-8, 9, (n, n_classes)) / 4).to(dtype)
    thresholds = rng.integers(-8, 9, n_classes) / 4
    threshold = torch.from_numpy(thresholds).to(dtype) if each else float(thresholds[0])
    expected = oracles.pack(logits.double().numpy() > (thresholds if each else thresholds[0]))
    for who, codes in both("multilabel_codes", backend.device, logits, threshold):
        assert_same_array(codes, expected, np.uint8, who)


@pytest.mark.parametrize("n_classes", (1, 7, 8, 9, 15, 16, 17, 21, 63, 64, 65, 81, 127, 128, 129, 1000, 4096))
def test_widths(n_classes: int, backend) -> None:
    logits = np.random.default_rng(n_classes).standard_normal((37, n_classes)).astype(np.float32)
    for threshold in (0, 0.25, -3):
        codes = native("multilabel_codes", backend.device, logits, threshold)
        assert_same_array(codes, np.packbits(logits > threshold, axis=1, bitorder="little"), np.uint8)


def test_threshold_forms(device: str) -> None:
    """A number, or one a class: list, tuple, numpy, tensor."""
    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    for threshold in ([0.5, 2, 1], (0.5, 2.0, 1.0), np.array([0.5, 2, 1]), torch.tensor([0.5, 2, 1])):
        assert dshc_fast.multilabel_codes(logits, threshold).tolist() == [[0b101]]
        on_device = to_torch(threshold, device)
        assert dshc_fast.multilabel_codes(to_torch(logits, device), on_device).tolist() == [[0b101]]
    for threshold in (2, 2.0, np.float32(2), np.float16(2), np.int64(2), np.uint8(2)):
        assert dshc_fast.multilabel_codes(logits, threshold).tolist() == [[0b100]]


def test_infinities(backend) -> None:
    logits = np.array([[math.inf, -math.inf, 0.0]], np.float32)
    for who, codes in both("multilabel_codes", backend.device, logits):
        assert codes.tolist() == [[0b001]], who
    assert native("multilabel_codes", backend.device, logits, -math.inf).tolist() == [[0b101]]
    assert native("multilabel_codes", backend.device, logits, math.inf).tolist() == [[0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_raises(dtype, backend) -> None:
    for n_classes in (1, 8, 21, 70):
        for at in range(0, 2 * n_classes, max(1, n_classes // 4)):
            logits = torch.ones(2 * n_classes, dtype=dtype)
            logits[at] = math.nan
            logits = logits.view(2, n_classes)
            with pytest.raises(ValueError, match="logits"):
                native("multilabel_codes", backend.device, logits, check=True)
            codes = native("multilabel_codes", backend.device, logits, check=False)
            assert_same_array(codes, oracles.pack((logits > 0).numpy()), np.uint8)


def test_is_pack_codes_at_zero(backend) -> None:
    logits = np.random.default_rng(1).standard_normal((50, 33)).astype(np.float32)
    packed = native("pack_codes", backend.device, logits)
    assert_same_array(native("multilabel_codes", backend.device, logits), packed, np.uint8)


@pytest.mark.parametrize("which", range(4))
def test_strides(which: int, backend) -> None:
    logits = np.random.default_rng(2).standard_normal((7, 45)).astype(np.float32)
    thresholds = torch.zeros(90)[::2]
    codes = native("multilabel_codes", backend.device, strided_views(logits)[which], thresholds)
    assert_same_array(codes, oracles.pack(logits > 0), np.uint8)


def test_no_gradient(device: str) -> None:
    assert not dshc_fast.multilabel_codes(torch.randn(3, 9, device=device, requires_grad=True)).requires_grad
