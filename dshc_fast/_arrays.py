"""numpy in, numpy out: how arrays of both kinds become tensors, and how results turn back."""

from __future__ import annotations

import warnings
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray
_USUAL = "?bBhilqefd"  # numpy's letters of the dtypes that every torch has
# Of a function that answers in the kind of its first argument: numpy for numpy, torch for torch.
Kind = TypeVar("Kind", Tensor, np.ndarray)


def as_tensor(value: object, name: str) -> Tensor:
    """A tensor over the same memory where possible. Copies what torch cannot view: negative
    strides, unaligned items, foreign byte order."""
    if isinstance(value, Tensor):
        if value.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}")
        if value.is_nested or value.is_quantized:
            kind = "nested" if value.is_nested else "quantized"
            raise TypeError(f"{name} must be a dense tensor, got a {kind} one")
        return value
    if type(value) is np.ndarray:
        flags, dtype = value.flags, value.dtype
        if (
            flags.c_contiguous
            and flags.aligned
            and flags.writeable
            and dtype.isnative
            and dtype.char in _USUAL
        ):
            try:
                return torch.from_numpy(value)  # what follows is for all other arrays
            except (
                ValueError
            ):  # of an axis of length 1 torch looks at the stride too, which means nothing there
                pass
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a numpy array or a torch tensor, got {type(value).__name__}")
    if type(value) is not np.ndarray:
        value = _plain_array(value, name)
    if value.dtype.kind not in "biufc":  # others may have items of no bytes, of which no stride is a multiple
        raise TypeError(f"{name} must hold numbers or bools, got dtype {value.dtype}")
    if not value.dtype.isnative:
        value = value.astype(value.dtype.newbyteorder("="))
    if any(stride < 0 or stride % value.itemsize for stride in value.strides) or not value.flags.aligned:
        value = value.copy()
    try:
        if value.flags.writeable:
            return torch.from_numpy(value)
        with (
            warnings.catch_warnings()
        ):  # torch warns of arrays it must not write to; nothing here writes to inputs
            warnings.simplefilter("ignore")
            return torch.from_numpy(value)
    except TypeError:
        raise TypeError(f"{name} must hold numbers or bools, got dtype {value.dtype}") from None


def _plain_array(value: np.ndarray, name: str) -> np.ndarray:
    """An array of numpy's own class, over the same memory. A mask is not dropped in silence."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        n_masked = int(np.ma.getmaskarray(value).sum())
        raise ValueError(f"{name} must have no masked entries, got a masked array with {n_masked}")
    return np.asarray(value)


def answer(result: Tensor, like: Kind) -> Kind:
    """`result` in the kind of the first argument: numpy for numpy (a scalar for 0-d), else the tensor
    itself."""
    if isinstance(like, Tensor):
        return result
    array = result.numpy()
    return array[()] if array.ndim == 0 else array
