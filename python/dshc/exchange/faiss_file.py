"""faiss: an ``IndexBinaryFlat`` in a file, which ``faiss.read_index_binary`` reads, in ``IndexBinaryIDMap`` where
ids are numbers.

faiss fills bytes from the lowest bit, as we do, and wants a multiple of 8 bits: the padding bits of our codes, all
0, are further bits to it, which change no distance. Ids are int64 and -1 means none, so that they must not be
negative; names lie in the JSON beside the index.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..storage import written_whole
from .beside import check_beside, write_beside
from .source import Found, found_with_beside
from .target import Job, check_new_file, need, starts_with

__all__ = ["read", "write"]

_PACKAGE = "faiss-cpu"
_MAGIC = b"IB"  # of every binary index (faiss/impl/index_write.cpp: IBxF, IBMp, ...)


def write(job: Job) -> str:
    """Write the index, which must fit into memory, and ``out.json``."""
    source = job.source
    path = check_new_file(job, "a binary index of faiss", lambda path: starts_with(path, _MAGIC))
    check_beside(path, job.overwrite)
    faiss = need("faiss", _PACKAGE)
    with_ids = isinstance(source.ids, np.ndarray)
    if with_ids and int(source.ids.min()) < 0:
        raise InputError(
            f"ids must be at least 0 for faiss (-1 means no result), got {int(source.ids.min())}"
        )
    flat = faiss.IndexBinaryFlat(8 * source.codes.shape[1])
    index = faiss.IndexBinaryIDMap(flat) if with_ids else flat
    with written_whole(path) as temporary:
        for chunk in source.chunks():
            if with_ids:
                index.add_with_ids(chunk.codes, chunk.ids)
            else:
                index.add(chunk.codes)
            job.done(chunk.stop)
        try:
            faiss.write_index_binary(index, str(temporary))
        except RuntimeError as error:
            raise InputError(f"{path}: faiss could not write it ({_reason(error)})") from None
        write_beside(path, source, with_numbers=False)
    return f"faiss.read_index_binary({str(path)!r}).search(queries, 10)"


def read(path: Path) -> Found:
    """The codes of any binary index of faiss that can give them back, in the order of its ids."""
    faiss = need("faiss", _PACKAGE)
    try:
        index = faiss.read_index_binary(str(path))
    except RuntimeError as error:
        raise InputError(
            f"{path}: must be a binary index of faiss, got another file ({_reason(error)})"
        ) from None
    ids = None
    if isinstance(index, faiss.IndexBinaryIDMap):
        ids = tuple(map(str, faiss.vector_to_array(index.id_map).tolist()))
        inner = faiss.downcast_IndexBinary(index.index)
    else:
        inner = index
    try:
        own, codes = _in_order_of_ids(faiss, inner)
    except RuntimeError as error:
        raise InputError(
            f"{path}: must be an index that keeps its codes, such as IndexBinaryFlat, got "
            f"{type(inner).__name__} ({_reason(error)})"
        ) from None
    if ids is not None and own is not None:
        raise InputError(
            f"{path}: must count its codes from 0 to n - 1 below its ids, got others; it is damaged"
        )
    return found_with_beside(path, codes, ids if own is None else tuple(map(str, own.tolist())))


def _in_order_of_ids(faiss: Any, index: Any) -> tuple[np.ndarray | None, np.ndarray]:
    """The ids of an index, ascending, and its codes in their order; no ids where these are 0 to n - 1.

    IVF has ids of its own and gives back codes by them, and whatever lies in memory for those that it does not have.
    """
    if not isinstance(index, faiss.IndexBinaryIVF):
        n = index.ntotal
        return None, index.reconstruct_n(0, n) if n else np.zeros((0, index.code_size), np.uint8)
    ids, codes = [np.zeros(0, np.int64)], [np.zeros((0, index.code_size), np.uint8)]
    for number in range(index.nlist):
        n = index.invlists.list_size(number)
        if n:
            ids.append(faiss.rev_swig_ptr(index.invlists.get_ids(number), n).copy())
            rows = faiss.rev_swig_ptr(index.invlists.get_codes(number), n * index.code_size).copy()
            codes.append(rows.reshape(n, index.code_size))
    found = np.concatenate(ids)
    order = np.argsort(found, kind="stable")
    found = found[order]
    counted = np.array_equal(found, np.arange(len(found)))
    return None if counted else found, np.concatenate(codes)[order]


def _reason(error: RuntimeError) -> str:
    """The last part of a message of faiss, which begins with the function and the line of its source."""
    return str(error).rsplit(": ", 1)[-1]
