"""Radius search holds what it found, not something for every query."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import numpy as np
import dshc_fast, torch

torch.set_num_threads(2)
rng = np.random.default_rng(0)
n_query = int(sys.argv[1])
queries = rng.integers(0, 256, (n_query, 8), dtype=np.uint8)
database = rng.integers(0, 256, (64, 8), dtype=np.uint8)
dshc_fast.hamming_radius(queries[:5000], database, 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = dshc_fast.hamming_radius(queries, database, int(sys.argv[2]))
kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(kilobytes * 1024, len(found.indices))
"""


def extra_bytes(n_query: int, radius: int) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n_query), str(radius)],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    used, n_found = map(int, done.stdout.split())
    return used, n_found


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts in kilobytes on Linux")
@pytest.mark.deep
@pytest.mark.parametrize(("n_query", "radius"), ((600_000, 6), (300_000, 32)))
def test_memory_is_that_of_the_answer(n_query: int, radius: int) -> None:
    """600,000 queries that find nothing took 2.4 GB; 300,000 that find 40 items each are bounded by the answer."""
    used, n_found = extra_bytes(n_query, radius)
    # 12 bytes an item of the answer, 8 held until it is written; offsets and sizes of queries; room for each thread.
    assert used < 24 * n_found + 48 * n_query + 64 * 2**20, (used, n_found)
