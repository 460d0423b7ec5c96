"""Several processes of a training, as threads: a `gather` that waits for all, as `Step.gather` does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def in_processes(n: int, work: Callable[[int, Callable[[Tensor], Tensor]], Result]) -> list[Result]:
    """What `work(rank, gather)` returns for every rank; gathered rows are without gradients."""
    barrier, slots = threading.Barrier(n, timeout=20), [torch.zeros(0)] * n

    def run(rank: int) -> Result:
        def gather(rows: Tensor) -> Tensor:
            slots[rank] = rows.detach().clone()
            barrier.wait()
            everyone = torch.cat(slots)
            barrier.wait()
            return everyone

        try:
            return work(rank, gather)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))
