"""The limits of this machine, measured in the same run as what is compared with them (limit_loops/*.cpp):

* `count`: XOR, popcount and add; `filter`: XOR, popcount, compare with a bound and branch on any survivor; `store`: the
  distance stored as a byte; all over codes that lie in the first-level cache, for each code length and SIMD level;
* `l3` and `dram`: bytes a second of a sum over 8 MiB and over 1 GiB.

Where there is more than one way (compare each vector, or the smallest of a group), the fastest on this machine is the
limit. `python benchmarks/limits.py [--dry]` prints them all and writes docs/results/limits.json.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

BITS = (32, 64, 128, 256)
FLAGS = {"avx512": ("-march=native",), "memory": ("-march=native",), "avx2": ("-mavx2", "-mbmi2", "-mpopcnt"),
         "generic": ()}  # fmt: skip
LOOPS = {("count", "avx512"): ("count_avx512",),
         ("filter", "avx512"): ("filter_each_avx512", "filter_smallest_avx512"),
         ("store", "avx512"): ("store_avx512",),
         ("filter", "avx2"): ("filter_smallest_avx2", "filter_table_avx2"),
         ("filter", "generic"): ("filter_generic",)}  # fmt: skip
_CODES_BYTES = 16 * 1024  # half of the first-level cache
_MEMORY_BYTES = {"l3": 8 << 20, "dram": 1 << 30}
_PAIRS = {"avx512": 60_000_000, "avx2": 30_000_000, "generic": 10_000_000}  # a call: about 4 ms


class Limit(NamedTuple):
    """One call of `run` does `amount` pairs or bytes."""

    run: Callable[[], None]
    amount: float
    loop: str

    def pace(self, calls: int = 9) -> float:
        times = []
        for _ in range(calls + 1):
            begin = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - begin)
        return self.amount / statistics.median(times[1:])


def _half_bytes(codes: np.ndarray) -> np.ndarray:
    """(n, bytes) -> (n, 2 * bytes) of 0 to 15."""
    return np.stack((codes & 15, codes >> 4), axis=-1).reshape(len(codes), -1)


class Limits:
    """Empty (`loops` gives none) where no C++ compiler is found; otherwise the levels this processor has."""

    def __init__(self) -> None:
        from dshc_fast import build_info

        self._library = self._compile()
        self.levels = [level for level in build_info()["simd_levels"] if self._has(("filter", level))]
        self._pool = ThreadPoolExecutor(2)
        self._memory: np.ndarray | None = None
        for bits in BITS:
            for level in self.levels:
                self._check(bits, level)

    def _compile(self) -> ctypes.CDLL | None:
        compiler = os.environ.get("CXX") or next(
            filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None
        )
        if compiler is None:
            return None
        native = platform.machine().lower() in ("x86_64", "amd64")
        with tempfile.TemporaryDirectory() as folder:
            objects = []
            for name, flags in FLAGS.items():
                source = Path(__file__).parent / "limit_loops" / f"{name}.cpp"
                objects.append(f"{folder}/{name}.o")
                subprocess.run([compiler, "-std=c++17", "-O3", "-fPIC", "-w", *(flags if native else ()), "-c",
                                str(source), "-o", objects[-1]], check=True)  # fmt: skip
            subprocess.run([compiler, "-shared", *objects, "-o", f"{folder}/limits.so"], check=True)
            return ctypes.CDLL(f"{folder}/limits.so")

    def _has(self, key: tuple[str, str]) -> bool:
        return self._library is not None and all(
            hasattr(self._library, loop) for loop in LOOPS.get(key, ("",))
        )

    def _call(self, loop: str, bits: int, queries: np.ndarray, codes: np.ndarray, bound: int,
              out: np.ndarray | None = None) -> int:  # fmt: skip
        """`queries` (n_query, bytes) and `codes` (n, bytes) as users have them; laid out here for the loop."""
        return self._prepare(loop, bits, queries, codes, bound, out)()

    def _prepare(self, loop: str, bits: int, queries: np.ndarray, codes: np.ndarray, bound: int,
                 out: np.ndarray | None = None) -> Callable[[], int]:  # fmt: skip
        n_query, n = len(queries), len(codes)
        if "table" in loop:
            half = _half_bytes(queries)
            tables = np.bitwise_count(half[..., None] ^ np.arange(16, dtype=np.uint8))
            queries, codes = np.tile(tables, 2), _half_bytes(codes).T
        else:
            codes = codes.view(np.uint32 if bits == 32 else np.uint64).T
        queries, codes = np.ascontiguousarray(queries), np.ascontiguousarray(codes)
        out = np.empty(n, np.uint8) if out is None else out
        function = getattr(self._library, loop)
        function.restype = ctypes.c_uint64
        arguments = (ctypes.c_int32(bits), ctypes.c_void_p(queries.ctypes.data), ctypes.c_int64(n_query),
                     ctypes.c_void_p(codes.ctypes.data), ctypes.c_int64(n), ctypes.c_uint64(bound),
                     ctypes.c_void_p(out.ctypes.data))  # fmt: skip
        held = (queries, codes, out)
        return lambda: function(*arguments) if held else 0

    def _check(self, bits: int, level: str) -> None:
        """Every loop counts what numpy counts, with a bound that many pairs are inside of."""
        rng = np.random.default_rng(bits)
        queries, codes = (rng.integers(0, 256, (n, bits // 8), dtype=np.uint8) for n in (8, 256))
        distances = np.bitwise_count(queries[:, None] ^ codes).sum(2, dtype=np.int64)
        bound, out = bits // 2 - 1, np.empty(256, np.uint8)
        wanted = {"count": distances.sum(), "filter": (distances < bound).sum(), "store": distances[-1].sum()}
        for (what, of_level), loops in LOOPS.items():
            for loop in loops if of_level == level else ():
                got = self._call(loop, bits, queries, codes, bound, out)
                if got != wanted[what] or (what == "store" and not np.array_equal(out, distances[-1])):
                    raise SystemExit(f"limits: {loop} counts {got} at {bits} bits, numpy {wanted[what]}")

    def loops(self, what: str, bits: int = 64, level: str = "avx512", threads: int = 1) -> list[Limit]:
        """All loops for `what` ("count", "filter", "store", "l3", "dram"): the fastest one is the limit. Empty where
        this machine has none."""
        if what in _MEMORY_BYTES:
            return self._memory_loops(what, threads)
        if not self._has((what, level)):
            return []
        return [self._pairs_loop(loop, bits, level, threads) for loop in LOOPS[what, level]]

    def _pairs_loop(self, loop: str, bits: int, level: str, threads: int) -> Limit:
        rng = np.random.default_rng(0)
        n = _CODES_BYTES // (bits // 4 if "table" in loop else bits // 8)
        n_query = 512 if "table" in loop else 4096  # tables lie in the second-level cache
        repeats = max(1, _PAIRS[level] // (n * n_query))
        calls = []
        for _ in range(threads):
            queries, codes = (rng.integers(0, 256, (m, bits // 8), dtype=np.uint8) for m in (n_query, n))
            calls.append(self._prepare(loop, bits, queries, codes, bits // 8))
        return Limit(self._on_threads(calls, repeats), float(n * n_query * repeats * threads), loop)

    def _memory_loops(self, what: str, threads: int) -> list[Limit]:
        if self._library is None:
            return []
        if self._memory is None:
            self._memory = np.ones(_MEMORY_BYTES["dram"] // 8, np.uint64)
        part = _MEMORY_BYTES[what] // 8 // threads
        repeats = 1 if what == "dram" else 64
        starts = [ctypes.c_void_p(self._memory[i * part :].ctypes.data) for i in range(threads)]
        loops = []
        for loop in ("read_in_order", "read_four_streams"):
            function = getattr(self._library, loop)
            function.restype = ctypes.c_uint64
            calls = [lambda f=function, start=start: f(start, ctypes.c_int64(part)) for start in starts]
            if any(call() != part for call in calls):
                raise SystemExit(f"limits: {loop} does not sum up to {part}")
            loops.append(Limit(self._on_threads(calls, repeats), float(8 * part * threads * repeats), loop))
        return loops

    def _on_threads(self, calls: list[Callable[[], int]], repeats: int) -> Callable[[], None]:
        def run(call: Callable[[], int]) -> None:
            for _ in range(repeats):
                call()

        if len(calls) == 1:
            return lambda: run(calls[0])
        return lambda: [*self._pool.map(run, calls)].clear()

    def measure(
        self, bits: tuple[int, ...] = BITS, threads: tuple[int, ...] = (1, 2)
    ) -> list[dict[str, object]]:
        """One row each: what, level, bits, threads, loop, pace (pairs or bytes a second)."""
        jobs = [(what, level, n_bits) for what, level in LOOPS for n_bits in bits]
        rows = []
        for what, level, n_bits in [*jobs, *((what, None, None) for what in _MEMORY_BYTES)]:
            for n_threads in threads:
                for limit in self.loops(what, n_bits, level, n_threads):
                    rows.append({"what": what, "level": level, "bits": n_bits, "threads": n_threads,
                                 "loop": limit.loop, "pace": limit.pace()})  # fmt: skip
        return rows


def main() -> None:
    from timing import write

    rows = Limits().measure()
    print(f"{'limit':8}{'level':9}{'bits':>5}{'threads':>9}  {'loop':24}{'G a second':>11}")
    for row in rows:
        print(f"{row['what']:8}{row['level'] or '':9}{row['bits'] or '':>5}{row['threads']:9}  {row['loop']:24}"
              f"{row['pace'] / 1e9:11.2f}")  # fmt: skip
    if "--dry" not in sys.argv:
        print("wrote", write("limits", rows))


if __name__ == "__main__":
    main()
