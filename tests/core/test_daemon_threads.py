"""A daemon thread that is inside a native call when the program ends does not abort it.

Calls are bare native ones. On the way to an op and back a thread passes torch's dispatcher, which takes the GIL in C++
of its own: before Python 3.14 a thread that the interpreter's end meets there still aborts the process. Calls through
the op ended well in 95 of 95 tries, and then one on a loaded machine did not.
"""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

SCRIPT = """
import sys, threading, time
import numpy as np, torch
from dshc_fast._arguments import Pairs
from dshc_fast._native import native

n_threads, n_query, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
codes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300_000, 8), dtype=np.uint8))
queries = codes[:1000]
pairs = Pairs(queries[:n_query], codes, "hamming")
counts, indices = torch.empty(1000, 3, dtype=torch.int32), torch.empty(1000, 3, dtype=torch.int64)
begun = threading.Event()


def search():
    while True:
        begun.set()
        native.hamming_topk(pairs.native, 3, counts.data_ptr(), indices.data_ptr(), n_threads)


for _ in range(2):
    threading.Thread(target=search, daemon=True).start()
begun.wait()
time.sleep(seconds)
"""


@pytest.mark.deep
@pytest.mark.parametrize(("n_threads", "n_query", "n_tries"), ((2, 1000, 8), (1, 1, 8)))
def test_clean_end(n_threads: int, n_query: int, n_tries: int) -> None:
    """A call of 1,000 queries takes 100 ms or so, one of a single query less than 1 ms: the end comes at any moment."""
    rng = random.Random(0)
    for attempt in range(n_tries):
        arguments = [str(n_threads), str(n_query), str(rng.uniform(0.0, 0.1))]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (attempt, arguments, done.returncode, done.stderr[-2000:])
