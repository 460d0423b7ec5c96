"""A daemon thread that is inside a call when the program ends does not abort it."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

# In the second way the calls are bare native ones: torch's own functions, which take the GIL too, are not in between.
SCRIPT = """
import sys, threading, time
import numpy as np, torch
import dshc_fast
from dshc_fast._arguments import Pairs
from dshc_fast._native import native

torch.set_num_threads(int(sys.argv[2]))
codes = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (300_000, 8), dtype=np.uint8))
queries = codes[:1000]
pairs = Pairs(queries[:int(sys.argv[3])], codes, "hamming")
counts, indices = torch.empty(1000, 3, dtype=torch.int32), torch.empty(1000, 3, dtype=torch.int64)
begun = threading.Event()


def search():
    torch.set_num_threads(int(sys.argv[2]))
    while True:
        begun.set()
        if sys.argv[1] == "op":
            dshc_fast.hamming_topk(queries, codes, 10)
        else:
            native.hamming_topk(pairs.native, 3, counts.data_ptr(), indices.data_ptr(), int(sys.argv[2]))


for _ in range(2):
    threading.Thread(target=search, daemon=True).start()
begun.wait()
time.sleep(float(sys.argv[4]))
"""


@pytest.mark.deep
@pytest.mark.parametrize(
    ("way", "n_threads", "n_query", "n_tries"),
    (("op", 2, 1000, 8), ("native", 2, 1000, 4), ("native", 1, 1, 8)),
)
def test_clean_end(way: str, n_threads: int, n_query: int, n_tries: int) -> None:
    """A call of the op takes 100 ms or so, one of a single query less than 1 ms: the end comes at any moment."""
    rng = random.Random(0)
    for attempt in range(n_tries):
        arguments = [way, str(n_threads), str(n_query), str(rng.uniform(0.0, 0.1))]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (attempt, arguments, done.returncode, done.stderr[-2000:])
