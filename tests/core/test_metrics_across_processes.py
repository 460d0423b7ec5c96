"""Metrics of codes whose batches came to several processes: gathered by torchmetrics, one answer on all."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from strategies import make_codes

import dshc_fast

pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")

Batch = tuple[Any, Any, Any]


def batch(seed: int, n: int = 40, dtype: torch.dtype = torch.int64, share: float = 0.3) -> Batch:
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(make_codes(rng, n, 2, "near"))
    labels = torch.from_numpy(rng.integers(0, 4, n)).to(dtype)
    return codes, labels, torch.from_numpy(rng.random(n) < share)


def on_ranks(n: int, work: Callable[[int, dict], Any]) -> list[Any]:
    """What `work(rank, options of a metric)` returns or raises, of n threads that gather as processes do."""
    barrier, slots, answers = threading.Barrier(n, timeout=30), [None] * n, [None] * n

    def gather_of(rank: int) -> Callable:
        def gather(tensor: torch.Tensor, group: Any = None) -> list[torch.Tensor]:
            slots[rank] = tensor
            barrier.wait()
            found = [each.clone() for each in slots]
            barrier.wait()
            return found

        return gather

    def run(rank: int) -> None:
        options = {"distributed_available_fn": lambda: True, "dist_sync_fn": gather_of(rank)}
        try:
            answers[rank] = work(rank, options)
        except Exception as error:
            answers[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def of_all(batches: Sequence[Batch], name: str = "HammingMAP", **options: Any) -> torch.Tensor:
    metric = getattr(dshc_fast, name)(**options)
    for each in batches:
        metric.update(*each)
    return metric.compute()


@pytest.mark.parametrize("name", ("HammingMAP", "HammingNDCG", "HammingPrecision", "HammingRPrecision"))
@pytest.mark.parametrize("updates", (1, 3))
@pytest.mark.parametrize("kept_on_cpu", (False, True))
def test_one_answer_on_all(name: str, updates: int, kept_on_cpu: bool) -> None:
    batches = [[batch(10 * rank + i, 30 + 7 * rank) for i in range(updates)] for rank in range(3)]
    wanted = of_all([each for of_rank in batches for each in of_rank], name)

    def work(rank: int, options: dict) -> list[torch.Tensor]:
        metric = getattr(dshc_fast, name)(compute_on_cpu=kept_on_cpu, **options)
        for each in batches[rank]:
            metric.update(*each)
        first = metric.compute()
        metric.update(*batch(99))  # what was gathered is not this process's own
        alone = sum(len(part) for part in (*metric.query_codes, *metric.database_codes))
        assert alone == sum(len(each[0]) for each in batches[rank]) + 40
        return [first, metric.compute()]

    answers = on_ranks(3, work)
    again = of_all([each for of_rank in batches for each in of_rank] + [batch(99)] * 3, name)
    for answer in answers:
        assert not isinstance(answer, Exception), answer
        torch.testing.assert_close(answer[0], wanted, rtol=1e-12, atol=0)
        torch.testing.assert_close(answer[1], again, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", ("ids", "multi-hot"))
def test_a_process_to_which_nothing_came(rows: str) -> None:
    codes, labels, is_query = batch(1)
    if rows == "multi-hot":
        labels = torch.nn.functional.one_hot(labels, 5).bool()
    given = [[(codes, labels, is_query)], [], [(codes, labels, False)]]

    def work(rank: int, options: dict) -> torch.Tensor:
        metric = dshc_fast.HammingMAP(**options)
        for each in given[rank]:
            metric.update(*each)
        metric.update_called or setattr(metric, "_update_count", 1)  # torchmetrics warns else
        return metric.compute()

    for answer in on_ranks(3, work):
        torch.testing.assert_close(answer, of_all([*given[0], *given[2]]), rtol=1e-12, atol=0)


def test_dtypes_of_labels_meet() -> None:
    dtypes = (torch.uint16, torch.int8, torch.uint32)
    batches = [batch(rank, dtype=dtype) for rank, dtype in enumerate(dtypes)]

    def work(rank: int, options: dict) -> torch.Tensor:
        metric = dshc_fast.HammingMAP(**options)
        metric.update(*batches[rank])
        return metric.compute()

    wanted = of_all([(codes, labels.long(), is_query) for codes, labels, is_query in batches])
    for answer in on_ranks(3, work):
        torch.testing.assert_close(answer, wanted, rtol=1e-12, atol=0)


def test_labels_beyond_int64() -> None:
    codes, labels, is_query = batch(2)
    wide = (labels.numpy().astype(np.uint64) + np.uint64(2**63)) * np.uint64(1)

    def work(rank: int, options: dict) -> torch.Tensor:
        metric = dshc_fast.HammingMAP(**options)
        metric.update(codes, wide, is_query)
        return metric.compute()

    wanted = of_all([(codes, labels, is_query)] * 2)
    for answer in on_ranks(2, work):
        torch.testing.assert_close(answer, wanted, rtol=1e-12, atol=0)


def test_what_differs_is_refused_on_all() -> None:
    """Nobody is left waiting for the others, and each goes on with what it had."""
    codes, labels, is_query = batch(3)
    wider = torch.cat([codes, codes], 1)

    def work(rank: int, options: dict) -> list[str]:
        metric = dshc_fast.HammingMAP(**options)
        mine = wider if rank else codes
        metric.update(mine, labels, is_query)
        told = []
        for _ in range(2):
            with pytest.raises(ValueError, match="on all processes") as refused:
                metric.compute()
            told.append(str(refused.value))
        metric.distributed_available_fn = lambda: False
        assert torch.equal(metric.compute(), of_all([(mine, labels, is_query)]))
        return told

    words = "codes and labels must be of one shape on all processes, got 2 bytes with class ids, 4 bytes with class ids"
    assert on_ranks(2, work) == [[words, words]] * 2


def test_nothing_came_to_anyone() -> None:
    def work(rank: int, options: dict) -> str:
        metric = dshc_fast.HammingMAP(**options)
        metric._update_count = 1
        with pytest.raises(ValueError, match="at least one database item") as refused:
            metric.compute()
        metric.update(*batch(4))
        return str(refused.value)

    assert len(set(on_ranks(2, work))) == 1


def test_an_error_of_the_answer_leaves_the_metric_its_own() -> None:
    codes, labels, _ = batch(5)

    def work(rank: int, options: dict) -> int:
        metric = dshc_fast.HammingMAP(empty="error", **options)
        metric.update(codes[:2], torch.tensor([50, 51]), True)
        metric.update(codes, labels, False)
        with pytest.raises(ValueError, match="relevant"):
            metric.compute()
        return sum(map(len, metric.query_codes))

    assert on_ranks(2, work) == [2, 2]


def test_a_refused_forward_changes_no_mode() -> None:
    """Or every later answer would be that of this process alone."""
    metric = dshc_fast.HammingMAP(compute_on_cpu=True, empty="error")
    before = dict(vars(metric))
    wrong = (
        (TypeError, (np.zeros((1, 1), np.float32), np.array([1]), True)),
        (ValueError, (np.array([[1], [2]], np.uint8), np.array([1, 2]), np.array([True, False]))),
    )
    for kind, arguments in wrong:
        with pytest.raises(kind):
            metric(*arguments)
        for name in (
            "compute_on_cpu",
            "_to_sync",
            "_should_unsync",
            "_enable_grad",
            "_is_synced",
            "_update_count",
        ):
            assert getattr(metric, name) == before[name], name
    batches = [batch(rank) for rank in range(2)]

    def work(rank: int, options: dict) -> torch.Tensor:
        metric = dshc_fast.HammingMAP(**options)
        with pytest.raises(TypeError):
            metric(*wrong[0][1])
        metric(*batches[rank])
        return metric.compute()

    for answer in on_ranks(2, work):
        torch.testing.assert_close(answer, of_all(batches), rtol=1e-12, atol=0)


def test_the_batch_of_all_processes() -> None:
    """dist_sync_on_step: forward answers for the batches of all."""
    batches = [batch(rank) for rank in range(2)]

    def work(rank: int, options: dict) -> tuple[torch.Tensor, torch.Tensor]:
        metric = dshc_fast.HammingMAP(dist_sync_on_step=True, **options)
        metric(*batch(7 + rank))
        return metric(*batches[rank]), metric.compute()

    for of_batch, whole in on_ranks(2, work):
        torch.testing.assert_close(of_batch, of_all(batches), rtol=1e-12, atol=0)
        torch.testing.assert_close(whole, of_all([*batches, batch(7), batch(8)]), rtol=1e-12, atol=0)


def test_a_synced_metric_takes_no_batch() -> None:
    metric = dshc_fast.HammingMAP(
        distributed_available_fn=lambda: True, dist_sync_fn=lambda tensor, group=None: [tensor, tensor]
    )
    metric.update(*batch(1))
    metric.sync(dist_sync_fn=metric.dist_sync_fn)
    with pytest.raises(RuntimeError, match="HammingMAP must be unsynced before update"):
        metric.update(*batch(2))
    metric.unsync()
    metric.update(*batch(2))


PROCESS = """
import sys
import torch, torch.distributed as group, dshc_fast
rank, port = int(sys.argv[1]), sys.argv[2]
group.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
generator = torch.Generator().manual_seed(rank)
for kind in ("ids", "multi-hot", "uint64"):
    metric = dshc_fast.HammingMAP()
    parts = []
    for each in range(2):
        g = torch.Generator().manual_seed(each)
        n = 20 + 5 * each
        codes = torch.randint(256, (n, 2), generator=g, dtype=torch.uint8)
        labels = torch.randint(3, (n,), generator=g)
        if kind == "multi-hot":
            labels = torch.nn.functional.one_hot(labels, 3).bool()
        if kind == "uint64":
            labels = (labels - 2**63).view(torch.uint64)
        parts.append((codes, labels, torch.arange(n) % 3 == 0))
    metric.update(*parts[rank])
    alone = dshc_fast.HammingMAP(sync_on_compute=False)
    for part in parts:
        alone.update(*part)
    torch.testing.assert_close(metric.compute(), alone.compute(), rtol=1e-12, atol=0)
metric = dshc_fast.HammingMAP()
if rank == 0:
    metric.update(*parts[0])
print(float(metric.compute()))
"""


@pytest.mark.deep
def test_real_processes(tmp_path: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    path = tmp_path / "process.py"
    path.write_text(textwrap.dedent(PROCESS))
    processes = [
        subprocess.Popen([sys.executable, str(path), str(rank), port], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert told[0].split()[-1] == told[1].split()[-1]
