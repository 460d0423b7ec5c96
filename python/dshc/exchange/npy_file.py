"""numpy: the packed codes as an ``.npy`` file, uint8 ``(n, ceil(n_bits / 8))``, and what else is known in the JSON
beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..storage import written_whole
from .beside import check_beside, write_beside
from .source import Found, found_with_beside
from .target import Job, check_new_file, starts_with

__all__ = ["read", "write"]

_MAGIC = b"\x93NUMPY"


def write(job: Job) -> str:
    """Write ``out`` chunk by chunk, never a pickle, and ``out.json``."""
    source = job.source
    path = check_new_file(job, "an .npy file", lambda path: starts_with(path, _MAGIC), by_text=False)
    check_beside(path, job.overwrite)
    with written_whole(path) as temporary:
        # Not through a memory map, which a full disk ends with a signal instead of an error.
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": source.codes.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in source.chunks():
                file.write(np.ascontiguousarray(chunk.codes).data)
                job.done(chunk.stop)
        write_beside(path, source, with_numbers=True)
    database = f'np.load({str(path)!r}, mmap_mode="r")'
    return f'dshc_fast.hamming_topk(queries, {database}, k=10, score="{source.score}")'


def read(path: Path) -> Found:
    """Packed codes from an ``.npy`` file of uint8 ``(n, bytes)``."""
    try:
        codes = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(
            f"{path}: must be an .npy file, got another or a damaged one ({_reason(error)})"
        ) from None
    if not isinstance(codes, np.ndarray):
        raise InputError(f"{path}: must be an .npy file, got an archive of several arrays")
    if codes.dtype != np.uint8 or codes.ndim != 2:
        raise InputError(
            f"{path}: must hold packed codes, uint8 of shape (n, bytes), got {codes.dtype} of shape {codes.shape}"
        )
    return found_with_beside(path, codes, None)


def _reason(error: Exception) -> str:
    text = str(error)
    return "it is no array" if "allow_pickle" in text else text
