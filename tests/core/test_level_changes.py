"""Another thread may choose another instruction set at any moment; a call keeps the one it began with."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
import torch
from backends import LEVEL, SIMD_LEVELS
from effort import deep
from ops_table import OPS, good_calls, same_answer, tensors

import dshc_fast

SECONDS = 3.0
# Their floats agree between levels to rounding only.
ROUNDED = ("class_softmax_loss", "class_softmax_linear_loss")


def close(a: object, b: object) -> bool:
    return torch.allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("count", (3, *deep(1)))
def test_answers_while_the_level_flips(count: int, threads) -> None:
    torch.set_num_threads(count)
    calls = {
        (op, n_bytes): tensors(call)
        for n_bytes in (8, 16)  # of both there are filters that only one level has
        for op, call in good_calls(seed=n_bytes, n_query=130, n_db=3001, n_bytes=n_bytes).items()
    }
    calls |= {
        (op, "index"): calls[op, 8] | {"ties": "index"}
        for op in ("average_precision", "mean_average_precision")
    }
    assert {op for op, _ in calls} == set(OPS)
    expected = {key: getattr(dshc_fast, key[0])(**call) for key, call in calls.items()}
    wrong: list[object] = []
    n_done = [0]
    stop = threading.Event()

    def flip() -> None:
        for level in itertools.cycle(SIMD_LEVELS):
            if stop.is_set():
                return
            dshc_fast.set_simd_level(level)

    def search(first: int) -> None:
        torch.set_num_threads(count)
        keys = list(calls)
        for key in itertools.islice(itertools.cycle(keys), first, None):
            if stop.is_set():
                return
            try:
                found = getattr(dshc_fast, key[0])(**calls[key])
                same = close if key[0] in ROUNDED else same_answer
                if not same(found, expected[key]):
                    wrong.append(key)
            except Exception as error:  # noqa: BLE001 - reported below, from the main thread
                wrong.append((key, error))
            n_done[0] += 1

    workers = [threading.Thread(target=flip)]
    workers += [threading.Thread(target=search, args=(5 * i,)) for i in range(2)]
    try:
        for worker in workers:
            worker.start()
        time.sleep(SECONDS)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        dshc_fast.set_simd_level(LEVEL)
    assert not wrong
    assert n_done[0] >= len(calls), "every op was called"
