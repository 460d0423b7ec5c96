"""Device time of one call: the median of several, between CUDA events, short calls replayed from a CUDA graph."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

Run = Callable[[], object]
FLUSH_BYTES = 256 << 20  # several times the second-level cache of any GPU
GRAPH_BELOW = 0.02  # seconds; what takes longer hides its launches anyway


class Timing(NamedTuple):
    seconds: float
    samples: int
    how: str  # "graph", "eager", "wall"


class CudaClock:
    """Before each sample a buffer is overwritten, so that a call finds nothing of its own in the cache, and so that the
    host is ahead of the device by the time it is reached."""

    def __init__(self, device: str = "cuda") -> None:
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)

    def time(self, run: Run, *, graph: bool = True, in_a_row: int = 1, samples: int = 7,
             at_most: float = 6.0) -> Timing:  # fmt: skip
        """At least five samples, fewer only where they would take longer than `at_most` seconds. `in_a_row`: a sample
        is so many calls, for those so short that the events themselves would count."""
        if in_a_row > 1:
            several = self.time(repeated(run, in_a_row), graph=graph, samples=samples, at_most=at_most)
            return Timing(several.seconds / in_a_row, several.samples, f"{several.how} of {in_a_row}")
        run()
        torch.cuda.synchronize()
        once, how = self._samples(run, 1)[0], "eager"
        if graph and once < GRAPH_BELOW:
            run, how = self._captured(run)
        fit = int(at_most / max(once, 1e-9))
        times = self._samples(run, max(1, min(samples, fit)))
        return Timing(statistics.median(times), len(times), how)

    def latency(self, run: Run, *, graph: bool) -> Timing:
        """Wall time until the answer is there, the cache as the call before left it."""
        run()
        torch.cuda.synchronize()
        how = "wall"
        if graph:
            run, how = self._captured(run)
            how = "wall, graph" if how == "graph" else how
        times = []
        for _ in range(200):
            begin = time.perf_counter()
            run()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return Timing(statistics.median(times), len(times), how)

    def peak(self, run: Run) -> int:
        """Bytes allocated at the peak, beyond what was there before."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def _samples(self, run: Run, n: int) -> list[float]:
        times = []
        for _ in range(n):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._flush.zero_()
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(1e-3 * begin.elapsed_time(end))
        return times

    def _captured(self, run: Run) -> tuple[Run, str]:
        try:
            return captured(run), "graph"
        except RuntimeError as error:
            first: BaseException = error  # what ended the capture; the end of it raises an error of its own
            while first.__context__ is not None:
                first = first.__context__
            return run, f"eager (no graph: {str(first).splitlines()[0][:160]})"


def repeated(run: Run, times: int) -> Run:
    return lambda: [run() for _ in range(times)]


def captured(run: Run) -> Run:
    """One call as a CUDA graph; what is returned replays it and keeps its results."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = run()

    def replay() -> object:
        graph.replay()
        return results

    return replay


class CpuClock:
    """The rehearsal's: wall time, two samples."""

    def time(self, run: Run, *, graph: bool = True, in_a_row: int = 1, samples: int = 2,
             at_most: float = 1.0) -> Timing:  # fmt: skip
        del graph, in_a_row, at_most
        times = []
        for _ in range(min(samples, 2)):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        return Timing(statistics.median(times), len(times), "rehearsal")

    def latency(self, run: Run, *, graph: bool) -> Timing:
        return self.time(run, graph=graph)

    def peak(self, run: Run) -> int:
        run()
        return 0
