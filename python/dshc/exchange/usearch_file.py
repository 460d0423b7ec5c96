"""usearch: an index of ``b1`` vectors under the Hamming metric, in a file that ``usearch.index.Index.restore``
reads or maps.

Bytes are stored as they are, so that a query is a packed code as it is; what is no multiple of 8 bits is padded
with the zeros of our codes. Keys are unsigned 64-bit numbers; names lie in the JSON beside the index. Writing
builds usearch's graph, which a search may use (approximate) or pass over (``exact=True``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..storage import written_whole
from .beside import check_beside, write_beside
from .target import Job, check_new_file, need

__all__ = ["write"]

_ROWS = 1 << 12  # adding builds a graph, which takes seconds for a chunk of the usual size


def write(job: Job) -> str:
    """Build the index, which must fit into memory, and write it and ``out.json``."""
    source = job.source
    usearch = need("usearch.index", "usearch")
    path = check_new_file(job, "an index of usearch", lambda path: _is_index(usearch, path))
    check_beside(path, job.overwrite)
    with_ids = isinstance(source.ids, np.ndarray)
    if with_ids and int(source.ids.min()) < 0:
        raise InputError(f"ids must be at least 0 for usearch, got {int(source.ids.min())}")
    index = usearch.Index(
        ndim=8 * source.codes.shape[1], metric=usearch.MetricKind.Hamming, dtype=usearch.ScalarKind.B1
    )
    with written_whole(path) as temporary:
        start = 0
        for chunk in source.chunks(_ROWS):
            keys = chunk.ids if with_ids else np.arange(start, chunk.stop)
            index.add(keys.astype(np.uint64), chunk.codes)
            start = chunk.stop
            job.done(start)
        try:
            index.save(str(temporary))
        except RuntimeError as error:
            raise InputError(f"{path}: usearch could not write it ({error})") from None
        write_beside(path, source, with_numbers=False)
    return f"usearch.index.Index.restore({str(path)!r}, view=True).search(queries, 10, exact=True)"


def _is_index(usearch: Any, path: Path) -> bool:
    try:
        return usearch.Index.metadata(str(path)) is not None
    except (ValueError, RuntimeError):
        return False
