"""pack_codes, unpack_codes, reverse_bit_order."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from callers import both, native
from comparisons import assert_same_array
from hypothesis import given
from hypothesis import strategies as st
from strategies import ALL_BYTES, make_codes, seeds, strided_views

import dshc_fast
from dshc_fast import _composite_ops

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)
WIDTHS = (*range(1, 70), 127, 128, 129, 255, 256, 257, 511, 512, 513, 4095, 4096)


def test_by_hand() -> None:
    """Bit j is byte j // 8, position j % 8; 0 gives 0."""
    values = np.array([[1.0, -1.0, 0.0, 2.0, -3.0, 0.5, -0.0, 1e-30, 4.0], [-1.0] * 8 + [0.0]], np.float32)
    packed = dshc_fast.pack_codes(values)
    assert packed.tolist() == [[0b10101001, 1], [0, 0]]
    assert dshc_fast.unpack_codes(packed, 9).tolist() == [[1, 0, 0, 1, 0, 1, 0, 1, 1], [0] * 9]
    assert dshc_fast.unpack_codes(packed, 9, signed=True)[0].tolist() == [1, -1, -1, 1, -1, 1, -1, 1, 1]
    assert dshc_fast.reverse_bit_order(packed).tolist() == [[0b10010101, 128], [0, 0]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype: torch.dtype, backend) -> None:
    generator = torch.Generator().manual_seed(1)
    for n_bits in (1, 7, 8, 9, 31, 64, 65, 100, 200):
        values = torch.randint(-2, 3, (13, n_bits), generator=generator)
        if dtype == torch.uint8:
            values = values.clamp(min=0) * 127
        values = values.to(dtype)
        expected = oracles.pack((values.to(torch.int64) > 0).numpy())
        for who, packed in both("pack_codes", backend.device, values):
            assert_same_array(packed, expected, np.uint8, f"{who} {n_bits} bits")


@pytest.mark.parametrize(
    "dtype", (torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.bool), ids=str
)
def test_widths(dtype: torch.dtype, backend) -> None:
    rng = np.random.default_rng(2)
    for n_bits in WIDTHS:
        ones = rng.random((3, n_bits)) < 0.5
        values = torch.from_numpy(ones).to(dtype)
        if dtype != torch.bool:
            values = values * 2 - 1
        packed = native("pack_codes", backend.device, values)
        expected = np.packbits(ones, axis=1, bitorder="little")
        assert_same_array(packed, expected, np.uint8, f"{n_bits} bits")
        unpacked = native("unpack_codes", backend.device, packed, n_bits)
        assert_same_array(unpacked, ones, np.uint8, f"{n_bits} bits")


@given(seed=seeds(), n=st.integers(0, 40), n_bits=st.integers(1, 300), signed=st.booleans())
def test_random(seed: int, n: int, n_bits: int, signed: bool, backend) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, n_bits)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = 0
    expected = oracles.pack(values > 0)
    for who, packed in both("pack_codes", backend.device, values):
        assert_same_array(packed, expected, np.uint8, who)
    ones = (values > 0).astype(np.int8)
    for who, back in both("unpack_codes", backend.device, expected, n_bits, signed=signed):
        assert_same_array(back, 2 * ones - 1 if signed else ones, np.int8 if signed else np.uint8, who)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_special_floats(dtype: torch.dtype, backend) -> None:
    """The smallest subnormal is > 0; both zeros are not; the infinities are legal."""
    info = torch.finfo(dtype)
    smallest = torch.tensor([info.smallest_normal], dtype=torch.float64) * info.eps
    row = torch.cat(
        [smallest, -smallest, torch.tensor([0.0, -0.0, torch.inf, -torch.inf, info.max, info.min])]
    )
    values = row.to(dtype).repeat(3, 9)
    expected = np.packbits(np.tile([1, 0, 0, 0, 1, 0, 1, 0], (3, 9)).astype(bool), axis=1, bitorder="little")
    for who, packed in both("pack_codes", backend.device, values):
        assert_same_array(packed, expected, np.uint8, who)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_nan_raises_wherever_it_stands(dtype: torch.dtype, backend) -> None:
    for n_bits in (1, 8, 13, 64, 71, 130):
        for sign in (1.0, -1.0):
            for at in range(0, 2 * n_bits, max(1, n_bits // 9)):
                values = torch.ones(2 * n_bits, dtype=dtype)
                values[at] = np.copysign(np.nan, sign)
                values = values.view(2, n_bits).to(backend.device)
                with pytest.raises(ValueError, match="values"):
                    dshc_fast.pack_codes(values, check=True)
                if backend.device == "cpu":
                    with pytest.raises(ValueError, match="values"):
                        dshc_fast.pack_codes(values)
                packed = native("pack_codes", backend.device, values, check=False)
                assert_same_array(packed, oracles.pack((values > 0).cpu().numpy()), np.uint8, f"NaN at {at}")


@pytest.mark.parametrize("dtype", (np.float32, np.float64, np.int8, np.bool_))
def test_strides(dtype, backend) -> None:
    rng = np.random.default_rng(3)
    values = (rng.integers(-1, 2, (11, 45))).astype(dtype)
    expected = oracles.pack(values > 0)
    for view in strided_views(values):
        assert_same_array(native("pack_codes", backend.device, view), expected, np.uint8, str(view.stride()))
    for view in strided_views(expected):
        unpacked = native("unpack_codes", backend.device, view, 45)
        assert_same_array(unpacked, values > 0, np.uint8, str(view.stride()))
        reversed_codes = native("reverse_bit_order", backend.device, view)
        assert_same_array(reversed_codes, np.packbits(values > 0, axis=1), np.uint8, str(view.stride()))
    expanded = torch.ones((1, 9)).expand(4, 9)
    assert native("pack_codes", backend.device, expanded).tolist() == [[255, 1]] * 4


def test_zero_rows(device: str) -> None:
    empty = native("pack_codes", device, np.empty((0, 13), np.float32))
    assert_same_array(empty, np.empty((0, 2)), np.uint8)
    assert_same_array(native("unpack_codes", device, empty, 13), np.empty((0, 13)), np.uint8)
    assert_same_array(native("unpack_codes", device, empty, 13, signed=True), np.empty((0, 13)), np.int8)
    assert_same_array(native("reverse_bit_order", device, empty), np.empty((0, 2)), np.uint8)


def test_unpack_ignores_padding(backend) -> None:
    codes = np.full((2, 3), 255, np.uint8)
    for n_bits in range(17, 25):
        assert_same_array(
            native("unpack_codes", backend.device, codes, n_bits), np.ones((2, n_bits)), np.uint8
        )


@pytest.mark.parametrize("n_bytes", ALL_BYTES)
def test_reverse_bit_order(n_bytes: int, backend) -> None:
    codes = make_codes(np.random.default_rng(n_bytes), 7, n_bytes)
    expected = np.packbits(np.unpackbits(codes, axis=1, bitorder="little"), axis=1, bitorder="big")
    for who, reversed_codes in both("reverse_bit_order", backend.device, codes):
        assert_same_array(reversed_codes, expected, np.uint8, who)
    assert_same_array(native("reverse_bit_order", backend.device, expected), codes, np.uint8, "twice")


def test_reverse_large(device: str, monkeypatch) -> None:
    """Two bytes at a time, as large codes are reversed on a GPU: every pair of bytes; rows that begin at odd places."""
    pairs = (
        torch.arange(1 << 16, dtype=torch.int32, device=device)
        .view(torch.uint8)
        .view(-1, 4)[:, :2]
        .contiguous()
    )
    expected = _composite_ops.reversed_by_steps(pairs)
    assert torch.equal(_composite_ops.reversed_by_table(pairs.view(-1)).view(-1, 2), expected)
    monkeypatch.setattr(_composite_ops, "LARGE_BYTES", 0)
    for codes, wanted in (
        (pairs, expected),
        (pairs[1:, 1:], expected[1:, 1:]),
        (pairs[:, :1], expected[:, :1]),
    ):
        assert torch.equal(dshc_fast.reverse_bit_order(codes), wanted)
    for first in (1, 2, 3):
        codes, wanted = pairs.view(-1)[first:].view(-1, 1), expected.view(-1)[first:].view(-1, 1)
        assert torch.equal(dshc_fast.reverse_bit_order(codes), wanted)


def test_reverse_every_byte(backend) -> None:
    codes = np.arange(256, dtype=np.uint8)[:, None]
    expected = [[int(f"{byte:08b}"[::-1], 2)] for byte in range(256)]
    assert_same_array(native("reverse_bit_order", backend.device, codes), expected, np.uint8)


def test_input_is_not_modified(device: str) -> None:
    values = torch.randn(5, 33, device=device)
    before = values.clone()
    codes = dshc_fast.pack_codes(values)
    held = codes.clone()
    dshc_fast.reverse_bit_order(codes)
    dshc_fast.unpack_codes(codes, 33)
    assert torch.equal(values, before) and torch.equal(codes, held)


def test_no_gradient_flows(device: str) -> None:
    values = torch.randn(3, 9, device=device, requires_grad=True)
    assert not dshc_fast.pack_codes(values).requires_grad


def test_many_rows(backend) -> None:
    """More rows than one thread's share."""
    values = np.random.default_rng(4).standard_normal((20001, 30)).astype(np.float32)
    packed = native("pack_codes", backend.device, values)
    assert_same_array(packed, np.packbits(values > 0, axis=1, bitorder="little"), np.uint8)
