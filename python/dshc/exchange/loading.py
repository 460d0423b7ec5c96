"""The kinds of files that codes are imported from, and the one function that reads any of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

import dshc_fast

from ..errors import InputError, one_of
from ..storage import CodeFile
from . import faiss_file, npy_file, parquet_file
from .beside import Beside
from .exported import check_ids
from .source import Found

__all__ = ["SOURCES", "load"]

SOURCES: dict[str, Callable[[Path], Found]] = {
    "faiss": faiss_file.read,
    "npy": npy_file.read,
    "parquet": parquet_file.read,
}
"""What can be imported from, by name."""
_ORDERS = ("little", "big")


def load(
    path: str | os.PathLike[str], from_: str, *, n_bits: int | None = None, bit_order: str = "little"
) -> CodeFile:
    """Codes from a file of another program, or from one that :func:`export` wrote.

    Args:
        path: the file; what lies beside it as ``path.json`` is read too.
        from_: a name of :data:`SOURCES`.
        n_bits: code length; None: what the file tells, else all bits of its bytes.
        bit_order: ``"big"`` for bytes that are filled from the highest bit, as ``numpy.packbits`` does by default.

    Returns:
        :class:`dshc.storage.CodeFile`, to be searched or saved; ids that are numbers become text.

    Raises:
        FileNotFoundError: no such file.
        InputError: a file of another kind, a damaged one, a length that is not its codes', ids given twice.
        ImportError: the library that reads it is missing.

    >>> import numpy as np
    >>> np.save("big.npy", np.packbits([[1, 0, 0, 1]], axis=1))
    >>> load("big.npy", "npy", n_bits=4, bit_order="big").codes
    array([[9]], dtype=uint8)
    """
    if from_ not in SOURCES:
        raise one_of("kind of file", from_, SOURCES)
    if bit_order not in _ORDERS:
        raise one_of("bit order", bit_order, _ORDERS)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    found = SOURCES[from_](path)
    codes = found.codes if bit_order == "little" else dshc_fast.reverse_bit_order(found.codes)
    told = found.told or Beside(n_bits=8 * codes.shape[1])
    if n_bits is not None and found.told is not None and n_bits != told.n_bits:
        raise InputError(f"{path}: n_bits must be {told.n_bits}, as the file tells, got {n_bits}")
    if found.told is not None and bit_order != "little":
        raise InputError(f"{path}: bit_order must be little, as the file tells, got {bit_order}")
    try:
        check_ids(found.ids, len(codes))
        return CodeFile(
            codes=np.ascontiguousarray(codes),
            n_bits=told.n_bits if n_bits is None else n_bits,
            labels=told.labels,
            ids=found.ids,
            class_names=told.class_names,
            model=told.model,
            score=told.score,
            path=path,
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None
