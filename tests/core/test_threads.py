"""The same answers for every thread count, after fork, and from several Python threads at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from ops_table import OPS, good_calls, same_answer, tensors

import dshc_fast

THREAD_COUNTS = (1, 2, 3, 7)


def large_calls() -> dict[str, dict]:
    """Big enough that an op shares the work out; odd sizes, so that shares differ."""
    return {op: tensors(call) for op, call in good_calls(seed=1, n_query=67, n_db=2011, n_bytes=8).items()}


def answer(op: str, call: dict):
    return getattr(dshc_fast, op)(**call)


@pytest.mark.parametrize("op", OPS)
def test_thread_counts(op: str, simd_level: str, threads) -> None:
    """Integers, codes, AP and per-row losses to the bit."""
    call = large_calls()[op]
    if op == "class_softmax_loss":
        call["reduction"] = "none"
    torch.set_num_threads(1)
    expected = answer(op, call)
    for count in THREAD_COUNTS[1:]:
        torch.set_num_threads(count)
        assert same_answer(answer(op, call), expected), f"{count} threads"


def test_few_queries_and_large_database(simd_level: str, threads) -> None:
    """One query: the database is what can be shared out; ties must not move."""
    call = {op: tensors(call) for op, call in good_calls(seed=2, n_query=1, n_db=30_011, n_bytes=1).items()}
    for op in ("hamming_topk", "hamming_radius", "hamming_histogram", "average_precision"):
        options = [{}]
        if op == "hamming_topk":
            options = [{"k": 1}, {"k": 1000}, {"k": 30_011}]
        elif op == "average_precision":
            options = [
                {"ties": ties, "k": k} for ties in ("expected", "index", "best", "worst") for k in (None, 500)
            ]
        for extra in options:
            torch.set_num_threads(1)
            expected = answer(op, call[op] | extra)
            for count in THREAD_COUNTS[1:]:
                torch.set_num_threads(count)
                assert same_answer(answer(op, call[op] | extra), expected), f"{op} {extra} {count} threads"


@pytest.mark.parametrize("n_query", [1, 3, 20, 100])
def test_threads_that_share_bounds(n_query: int, simd_level: str, threads) -> None:
    """Each thread has a part of the database, and what one found narrows what the others take: ties must not move."""
    draw = torch.Generator().manual_seed(n_query)
    database = torch.randint(0, 256, (600_011, 8), dtype=torch.uint8, generator=draw)
    database[400_000:400_300] = database[:300]  # equals in another part
    queries = torch.cat(
        [database[:1], torch.randint(0, 256, (n_query - 1, 8), dtype=torch.uint8, generator=draw)]
    )
    for k in (1, 10, 300):
        torch.set_num_threads(1)
        expected = dshc_fast.hamming_topk(queries, database, k)
        for count in THREAD_COUNTS[1:]:
            torch.set_num_threads(count)
            assert same_answer(dshc_fast.hamming_topk(queries, database, k), expected), (
                f"k {k}, {count} threads"
            )


def test_loss_gradient_thread_counts(simd_level: str, threads) -> None:
    call = large_calls()["class_softmax_loss"]
    gradients = []
    for count in THREAD_COUNTS:
        torch.set_num_threads(count)
        leaf = call["logits"].clone().requires_grad_()
        answer("class_softmax_loss", call | {"logits": leaf}).backward()
        gradients.append(leaf.grad)
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def run_in_child(function) -> int:
    """Fork, run, give the child's exit code: 0 where `function` was True. A hang is killed after a minute."""
    pid = os.fork()
    if pid == 0:
        code = 3
        try:
            code = 0 if function() else 1
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the forked child hangs")


def in_fresh_process(function) -> None:
    """Run a function of this file in a process of its own: one that forks has no threads of other tests, nor what these
    have left to the garbage collector.
    """
    here = Path(__file__).resolve()
    paths = [str(here.parents[1] / "helpers"), str(here.parent), *filter(None, sys.path)]
    code = f"import sys; sys.path[:0] = {paths!r}; import {here.stem}; {here.stem}.{function.__name__}()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr


def survive_fork() -> None:
    torch.set_num_threads(3)
    calls = large_calls()
    # Their means and matrix products run in torch's own threads (OpenMP's, which do not survive a fork), not in ours.
    of_torch = ("retrieval_curves", "class_softmax_linear_loss", "codes_from_features")
    ops = [op for op in OPS if op not in of_torch]
    expected = {op: answer(op, calls[op]) for op in ops}

    def all_same() -> bool:
        return all(same_answer(answer(op, calls[op]), expected[op]) for op in ops)

    assert run_in_child(all_same) == 0
    assert all_same(), "the parent after the fork"
    assert run_in_child(lambda: run_in_child(all_same) == 0) == 0, "a grandchild"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_survives_fork() -> None:
    """Worker threads do not cross a fork: the child must not wait for them, nor the parent miss them."""
    in_fresh_process(survive_fork)


def fork_while_others_compute() -> None:
    torch.set_num_threads(2)
    call = large_calls()["hamming_topk"]
    expected = answer("hamming_topk", call)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            answer("hamming_topk", call)

    worker = threading.Thread(target=keep_busy)
    worker.start()
    try:
        codes = [run_in_child(lambda: same_answer(answer("hamming_topk", call), expected)) for _ in range(5)]
    finally:
        stop.set()
        worker.join()
    assert codes == [0] * 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_while_others_compute() -> None:
    """A fork in the middle of another thread's call leaves no lock taken in the child."""
    in_fresh_process(fork_while_others_compute)


@pytest.mark.parametrize("count", (1, 3))
def test_concurrent_calls(count: int, threads) -> None:
    """Several Python threads, several ops, one pool: nobody's answer is another's."""
    torch.set_num_threads(count)
    calls = large_calls()
    expected = {op: answer(op, calls[op]) for op in OPS}
    wrong: list[str] = []

    def work(offset: int) -> None:
        torch.set_num_threads(count)
        for step in range(2 * len(OPS)):
            op = OPS[(offset + step) % len(OPS)]
            try:
                if not same_answer(answer(op, calls[op]), expected[op]):
                    wrong.append(op)
            except Exception as error:  # noqa: BLE001 - reported below, from the main thread
                wrong.append(f"{op}: {error!r}")

    workers = [threading.Thread(target=work, args=(3 * i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_the_gil_is_released(threads) -> None:
    """Another Python thread moves on while a long call runs."""
    torch.set_num_threads(1)
    call = tensors(good_calls(seed=3, n_query=4_000, n_db=200_000, n_bytes=64)["hamming_topk"])
    ticks, stop = [], threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    clock = threading.Thread(target=tick)
    clock.start()
    start = time.perf_counter()
    answer("hamming_topk", call)
    end = time.perf_counter()
    stop.set()
    clock.join()
    inside = [t for t in ticks if start < t < end]
    assert len(inside) >= 3, f"{len(inside)} ticks in {end - start:.3f} s"
