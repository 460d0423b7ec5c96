"""numpy in, numpy out; mixed kinds; the awkward arrays that numpy users have."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ops_table import OPS, good_calls, leaves, same_answer, tensors

import dshc_fast

PACKED = (
    "pack_codes",
    "reverse_bit_order",
    "codes_from_logits",
    "center_codes_from_logits",
    "multilabel_codes",
)


def call_op(op: str, call: dict):
    return getattr(dshc_fast, op)(**call)


@pytest.mark.parametrize("op", OPS)
def test_answered_in_kind(op: str) -> None:
    """numpy for numpy, torch for torch, the same values; dtypes too."""
    of_numpy, of_torch = call_op(op, good_calls()[op]), call_op(op, tensors(good_calls()[op]))
    assert type(of_numpy) is type(of_torch) or not isinstance(of_torch, tuple), (
        "one named tuple type for both"
    )
    for a, b in zip(leaves(of_numpy), leaves(of_torch), strict=True):
        assert isinstance(b, torch.Tensor)
        if op == "mean_average_precision":
            assert type(a) is float
        elif op in ("class_softmax_loss", "class_softmax_linear_loss"):
            assert isinstance(a, np.ndarray | np.floating | float)
        else:
            assert isinstance(a, np.ndarray) and a.dtype == b.numpy().dtype
        np.testing.assert_array_equal(np.asarray(a), b.numpy())


@pytest.mark.parametrize("op", [op for op in OPS if len(tensors(good_calls()[op])) > 1])
def test_mixed_kinds_follow_the_first(op: str) -> None:
    call = good_calls()[op]
    expected = call_op(op, call)
    first = next(iter(call))
    for kind in ("numpy", "torch"):
        mixed = {
            name: value if (name == first) == (kind == "numpy") else value for name, value in call.items()
        }
        as_tensors = tensors(call)
        for name in call:
            if (name == first) == (kind == "torch"):
                mixed[name] = as_tensors[name]
        found = call_op(op, mixed)
        for part in leaves(found):
            assert isinstance(part, torch.Tensor) == (kind == "torch"), f"{op}: {type(part)}"
        assert same_answer(found, expected)


@pytest.mark.parametrize("op", OPS)
def test_read_only_arrays(op: str) -> None:
    """Taken without a warning, and left alone."""
    call = good_calls()[op]
    expected = call_op(op, call)
    before = {k: np.copy(v) for k, v in call.items() if isinstance(v, np.ndarray)}
    for name in before:
        call[name].setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_answer(call_op(op, call), expected)
    for name, value in before.items():
        np.testing.assert_array_equal(call[name], value)


@pytest.mark.parametrize("op", OPS)
def test_negative_strides_and_fortran_order(op: str) -> None:
    call = good_calls()[op]
    expected = call_op(op, call)
    backward = {k: v[::-1].copy()[::-1] if isinstance(v, np.ndarray) else v for k, v in call.items()}
    assert same_answer(call_op(op, backward), expected)
    fortran = {k: np.asfortranarray(v) if isinstance(v, np.ndarray) else v for k, v in call.items()}
    assert same_answer(call_op(op, fortran), expected)
    columns = {
        k: v[:, ::-1].copy()[:, ::-1] if isinstance(v, np.ndarray) and v.ndim == 2 else v
        for k, v in call.items()
    }
    assert same_answer(call_op(op, columns), expected)


@pytest.mark.parametrize("op", OPS)
def test_strides_that_mean_nothing(op: str) -> None:
    """Of an axis of length 1, which numpy calls contiguous and torch refuses: a batch of one, turned round."""
    call = good_calls(n_query=1, n_db=1 if op == "hamming_distance" else 20)[op]
    expected = call_op(op, call)

    def odd(array: np.ndarray, stride: int) -> np.ndarray:
        strides = tuple(stride if n == 1 else s for n, s in zip(array.shape, array.strides, strict=True))
        return np.lib.stride_tricks.as_strided(array, array.shape, strides)

    for stride in (-1, 3, -(2**40)):
        arrays = {k: odd(v, stride) if isinstance(v, np.ndarray) else v for k, v in call.items()}
        assert same_answer(call_op(op, arrays), expected)


@pytest.mark.parametrize("op", OPS)
def test_memory_maps(op: str, tmp_path: Path) -> None:
    """A database on disk, opened read-only, is an array like any other."""
    call = good_calls()[op]
    expected = call_op(op, call)
    for name, value in call.items():
        if isinstance(value, np.ndarray):
            np.save(tmp_path / f"{name}.npy", value)
            call[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = call_op(op, call)
    assert same_answer(found, expected)
    assert not any(isinstance(part, np.memmap) for part in leaves(found))


@pytest.mark.parametrize("op", OPS)
def test_foreign_byte_order(op: str) -> None:
    """Either the right answer, or an error that names the argument: never bytes read the wrong way round."""
    call = good_calls()[op]
    expected = call_op(op, call)
    order = ">" if sys.byteorder == "little" else "<"
    for name, value in call.items():
        if not isinstance(value, np.ndarray) or value.dtype.itemsize == 1:
            continue
        swapped = call | {name: value.astype(value.dtype.newbyteorder(order))}
        try:
            found = call_op(op, swapped)
        except (TypeError, ValueError) as error:
            assert name in str(error), error
        else:
            assert same_answer(found, expected), name


def test_unaligned_arrays() -> None:
    """A field of a packed record: float32 at an odd address."""
    record = np.zeros((5, 9), dtype=np.dtype([("tag", np.uint8), ("value", np.float32)]))
    record["value"] = np.random.default_rng(1).standard_normal((5, 9))
    expected = np.packbits(record["value"] > 0, axis=1, bitorder="little")
    np.testing.assert_array_equal(dshc_fast.pack_codes(record["value"]), expected)


@pytest.mark.parametrize(
    "dtype",
    (
        np.float16,
        np.float32,
        np.float64,
        np.int8,
        np.uint8,
        np.int16,
        np.uint16,
        np.int32,
        np.uint32,
        np.int64,
        np.uint64,
        np.bool_,
    ),
)
def test_pack_every_numpy_dtype(dtype) -> None:
    values = np.random.default_rng(2).integers(0, 2, (5, 19)).astype(dtype)
    if np.issubdtype(dtype, np.unsignedinteger):
        values *= np.iinfo(dtype).max  # the top bit is set: > 0 all the same
    expected = np.packbits(values > 0, axis=1, bitorder="little")
    np.testing.assert_array_equal(dshc_fast.pack_codes(values), expected)


def test_results_are_owned_and_writable() -> None:
    """An answer is the caller's: writable, C-contiguous, not a view of an input."""
    for op in OPS:
        call = good_calls()[op]
        for part in leaves(call_op(op, call)):
            if isinstance(part, np.ndarray) and part.ndim:
                assert part.flags.writeable and part.flags.c_contiguous, op
                assert not any(
                    np.shares_memory(part, v) for v in call.values() if isinstance(v, np.ndarray)
                ), op


def test_packbits_users() -> None:
    """Codes from numpy's default (MSB first) bit order, converted, are pack_codes' own."""
    ones = np.random.default_rng(3).random((7, 30)) < 0.5
    np.testing.assert_array_equal(
        dshc_fast.reverse_bit_order(np.packbits(ones, axis=1)), dshc_fast.pack_codes(ones)
    )
