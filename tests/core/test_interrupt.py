"""Ctrl-C ends a long call soon, with KeyboardInterrupt, and the next call works."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from ops_table import same_answer

import dshc_fast

# Seconds of the process's own time, which no work beside it stretches: until the signal comes, and from then on until
# the call has ended, all threads together.
WAIT, SOON = 0.05, 0.3


@functools.cache
def codes(n: int, n_bytes: int = 8, n_distinct: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(n + n_bytes)
    rows = torch.from_numpy(rng.integers(0, 256, (n_distinct or n, n_bytes), dtype=np.uint8))
    return rows[torch.from_numpy(rng.integers(0, n_distinct, n))] if n_distinct else rows


@functools.cache
def with_tables(n: int) -> dshc_fast.HammingDatabase:
    return dshc_fast.HammingDatabase(codes(n), tables=True)


@functools.cache
def near_centers(n: int, n_bytes: int = 8) -> torch.Tensor:
    """Codes around five hundred centers."""
    rng = np.random.default_rng(5)
    centers = rng.integers(0, 256, (500, n_bytes), dtype=np.uint8)
    rows = centers[rng.integers(0, 500, n)]
    rows[np.arange(n), rng.integers(0, n_bytes, n)] ^= (1 << rng.integers(0, 8, n)).astype(np.uint8)
    rows[np.arange(n), rng.integers(0, n_bytes, n)] ^= (1 << rng.integers(0, 8, n)).astype(np.uint8)
    return torch.from_numpy(rows)


@functools.cache
def with_clusters(n: int) -> dshc_fast.HammingDatabase:
    return dshc_fast.HammingDatabase(near_centers(n, 32), clusters=True)


@functools.cache
def ids(n: int, n_classes: int = 10) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(n).integers(0, n_classes, n))


@functools.cache
def floats(n: int, n_columns: int) -> torch.Tensor:
    return torch.rand(n, n_columns, generator=torch.Generator().manual_seed(0))


def normal(n: int, n_columns: int) -> torch.Tensor:
    return torch.randn(n, n_columns, generator=torch.Generator().manual_seed(0))


def half(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 2, shape, dtype=np.uint8)).bool()


def labelled(n_query: int, n_db: int, **options) -> dict:
    options = {"query_labels": ids(n_query), "database_labels": ids(n_db)} | options
    return {"queries": codes(n_query), "database": codes(n_db)} | options


def loss_of_a_leaf() -> Callable[[], torch.Tensor]:
    leaf = floats(800_000, 400).clone().requires_grad_()
    return lambda: dshc_fast.class_softmax_loss(leaf, ids(800_000), torch.arange(0, 401, 40))


def gradient() -> Callable[[], object]:
    loss = 3 * loss_of_a_leaf()()  # a factor, for which it is computed anew
    return lambda: loss.backward()


def loss(dtype: torch.dtype) -> Callable[[], object]:
    n = 8_000_000
    logits = floats(n, 10).to(dtype)
    return lambda: dshc_fast.class_softmax_loss(logits, ids(n, 2), torch.arange(0, 11, 5))


def call(name: str, /, **arguments) -> Callable[[], object]:
    return lambda: getattr(dshc_fast, name)(**arguments)


MANY, DB = 20_000, 1_000_000
# Calls that take at least three times WAIT on fast processors (a call looks for signals every 20 ms): one for every op
# and every way through it that has loops of its own. Rows are short where an op is as fast as memory, so that there is
# more to do for each byte.
CALLS: dict[str, Callable[[], Callable[[], object]]] = {
    "topk": lambda: call("hamming_topk", queries=codes(MANY), database=codes(DB), k=10),
    "topk, one group": lambda: call(
        "hamming_topk", queries=codes(MANY, 32)[:500], database=codes(8 * DB, 32), k=10
    ),
    "topk, large k": lambda: call("hamming_topk", queries=codes(MANY)[:200], database=codes(DB), k=500_000),
    "topk, equal codes": lambda: call(
        "hamming_topk", queries=codes(MANY), database=codes(DB, 8, 20_000), k=1000
    ),
    "topk, equal queries": lambda: call(
        "hamming_topk", queries=codes(MANY, 8, 5000), database=codes(4 * DB), k=100
    ),
    "topk, overlap": lambda: call(
        "hamming_topk", queries=codes(MANY), database=codes(DB), k=10, score="overlap", allowed=half(DB)
    ),
    "topk, long codes": lambda: call(
        "hamming_topk", queries=codes(MANY, 128), database=codes(100_000, 128), k=10
    ),
    "asymmetric": lambda: call("asymmetric_topk", outputs=normal(2500, 64), database=codes(DB), k=10),
    "asymmetric, equal codes": lambda: call(
        "asymmetric_topk",
        outputs=normal(400, 64) * 0,
        database=dshc_fast.HammingDatabase(codes(DB, 8, 20_000)),
        k=DB // 2,
    ),
    "asymmetric, one query": lambda: call(
        "asymmetric_topk", outputs=normal(12, 64), database=codes(8 * DB), k=DB
    ),
    "asymmetric, all items": lambda: call(
        "asymmetric_topk", outputs=normal(4, 64), database=codes(8 * DB), k=8 * DB
    ),
    "radius": lambda: call("hamming_radius", queries=codes(MANY), database=codes(DB), radius=12),
    "radius, equal codes": lambda: call(
        "hamming_radius", queries=codes(MANY), database=codes(DB, 8, 20_000), radius=18
    ),
    "radius, large": lambda: call("hamming_radius", queries=codes(MANY)[:150], database=codes(DB), radius=32),
    "pairs": lambda: call("hamming_pairs", codes=codes(8 * DB), radius=2),
    "pairs, blocks": lambda: call("hamming_pairs", codes=codes(200_000), radius=16),
    "pairs, groups": lambda: call("hamming_pairs", codes=codes(DB), radius=5),
    "pairs, equal codes": lambda: call("hamming_pairs", codes=codes(DB, 8, 20_000), radius=12),
    "radius, tables": lambda: call(
        "hamming_radius", queries=codes(5 * MANY), database=with_tables(DB), radius=8
    ),
    "distance": lambda: call("hamming_distance", queries=codes(MANY)[:400], database=codes(DB)),
    "histogram": lambda: call("hamming_histogram", **labelled(MANY, DB)),
    "histogram, scan": lambda: call("hamming_histogram", **labelled(MANY, DB), allowed=half(DB)),
    "histogram, masks": lambda: call(
        "hamming_histogram", **labelled(4000, 500_000), allowed=half(4000, 500_000)
    ),
    "histogram, multi-hot": lambda: call(
        "hamming_histogram",
        **labelled(MANY, DB, query_labels=half(MANY, 20), database_labels=half(DB, 20)),
    ),
    "histogram, equal codes": lambda: call(
        "hamming_histogram", **labelled(MANY, DB) | {"database": codes(DB, 8, 100_000)}
    ),
    "AP": lambda: call("average_precision", **labelled(MANY, DB)),
    "AP, index": lambda: call("average_precision", **labelled(MANY, DB), ties="index"),
    "AP, index, scan": lambda: call("average_precision", **labelled(80, 4 * DB), ties="index"),
    "mAP": lambda: call("mean_average_precision", **labelled(MANY, DB)),
    "curves": lambda: call("retrieval_curves", **labelled(MANY, DB)),
    "database": lambda: call("HammingDatabase", codes=codes(8 * DB, 16, 1_500_000)),
    "topk, clusters": lambda: call(
        "hamming_topk", queries=codes(5 * MANY, 32), database=with_clusters(DB), k=10
    ),
    "database, clusters": lambda: call("HammingDatabase", codes=near_centers(2 * DB, 32), clusters=True),
    "database, tables": lambda: call("HammingDatabase", codes=codes(8 * DB, 16), tables=True),
    "loss": lambda: loss(torch.float64),
    "loss, float16": lambda: loss(torch.float16),
    "loss, gradient": gradient,
    "loss with its gradient": loss_of_a_leaf,
    "codes_from_logits": lambda: call(
        "codes_from_logits", logits=floats(400_000, 400), codebook=codes(400), k=40, weighting="probability"
    ),
    "codes_from_features": lambda: call(
        "codes_from_features",
        features=floats(400_000, 4),
        weight=floats(1000, 4),
        bias=None,
        codebook=codes(1000),
        k=40,
        weighting="probability",
        chunk=100,
    ),
    "center_codes_from_logits": lambda: call(
        "center_codes_from_logits",
        logits=floats(8 * DB, 10),
        class_offsets=torch.arange(0, 11, 5),
        centers=codes(2),
    ),
    "multilabel_codes": lambda: call("multilabel_codes", logits=floats(20 * DB, 9).half()),
    "pack_codes": lambda: call("pack_codes", values=half(40 * DB, 9)),
    "unpack_codes": lambda: call("unpack_codes", codes=codes(80 * DB, 1) & 7, n_bits=3),
}
ONE_THREAD = (
    "pairs",
    "pack_codes",
    "unpack_codes",
    "multilabel_codes",
    "topk",
    "asymmetric",
    "AP",
    "histogram, scan",
    "database",
)


@pytest.fixture(scope="module", autouse=True)
def _free_memory() -> Iterator[None]:
    yield
    for made in (codes, near_centers, with_clusters, with_tables, ids, floats):
        made.cache_clear()


@pytest.fixture
def interrupted() -> Iterator[Callable[[Callable[[], object]], float]]:
    """Runs a call with a Ctrl-C after WAIT seconds of work; gives the seconds of work from then to the end."""

    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    def run(work: Callable[[], object]) -> float:
        begin = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, WAIT)
        with pytest.raises(KeyboardInterrupt):
            work()
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            pytest.fail(f"the call took {time.process_time() - begin:.2f} s of work only")
        return time.process_time() - begin - WAIT

    before = signal.signal(signal.SIGPROF, ring)
    yield run
    signal.setitimer(signal.ITIMER_PROF, 0.0)
    signal.signal(signal.SIGPROF, before)


def check_idle_and_well() -> None:
    torch.set_num_threads(2)
    small = {"queries": codes(MANY)[:50], "database": codes(DB)[:60_000], "k": 7}
    assert same_answer(dshc_fast.hamming_topk(**small), dshc_fast.reference.hamming_topk(**small))
    begin = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - begin < 0.1, "some worker still works"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "n_threads"), [(name, 2) for name in CALLS] + [(name, 1) for name in ONE_THREAD]
)
def test_every_long_call_stops(name: str, n_threads: int, interrupted, threads) -> None:
    torch.set_num_threads(n_threads)
    work = CALLS[name]()
    assert interrupted(work) < SOON
    check_idle_and_well()


@pytest.mark.deep
def test_a_call_that_waits_for_its_turn_stops(interrupted, threads) -> None:
    torch.set_num_threads(2)
    ended = []

    def occupy() -> None:
        torch.set_num_threads(2)
        dshc_fast.hamming_distance(codes(MANY)[:800], codes(DB))
        ended.append(time.perf_counter())

    other = threading.Thread(target=occupy)
    other.start()
    time.sleep(0.02)
    late = interrupted(CALLS["topk"]())
    stopped = time.perf_counter()
    other.join()
    # Nobody works but the other call: both its threads count, and the signal comes 25 ms after they began.
    assert late < 2 * SOON and stopped < ended[0], "the other thread's call goes on"


def test_a_handler_that_does_not_raise_changes_nothing(threads) -> None:
    """Even if it calls ops itself while the pool is taken."""
    torch.set_num_threads(2)
    work = call("hamming_topk", queries=codes(MANY)[:3000], database=codes(DB), k=10)
    inner = call("hamming_topk", queries=codes(MANY)[:60], database=codes(DB)[:100_000], k=10)
    expected, inner_expected, seen, found = work(), inner(), [], []
    before = signal.signal(signal.SIGPROF, lambda *_: seen.append(inner()))
    # Of the process's own time, as above: the call takes some 0.07 s of it.
    signal.setitimer(signal.ITIMER_PROF, 0.01, 0.06)
    try:
        while not seen and len(found) < 20:
            found.append(work())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    assert seen and all(same_answer(answer, inner_expected) for answer in seen)
    assert all(same_answer(answer, expected) for answer in found)


SCRIPT = """
import os, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may inherit that it is ignored
import numpy as np
import dshc_fast

codes = np.random.default_rng(0).integers(0, 256, (4_000_000, 8), dtype=np.uint8)
sent = []

def send():
    sent.append(time.process_time())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(0.3, send).start()
try:
    dshc_fast.hamming_topk(codes[:20_000], codes, 10)
except KeyboardInterrupt:
    late = time.process_time() - sent[0]
    print(late, dshc_fast.hamming_topk(codes[:1], codes[:9], 1).distances[0, 0])
"""


def test_ctrl_c() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},  # whose work is counted together
    )
    late, distance = done.stdout.split()
    assert float(late) < SOON and distance == "0"
