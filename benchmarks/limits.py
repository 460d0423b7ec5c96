"""The limit of one thread for 64-bit codes, measured in the same run as what is compared with it
(limits.cpp)."""

from __future__ import annotations

import ctypes
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

_N, _QUERIES = 2048, 4000  # 16 KiB of codes: the first-level cache


class Limits:
    """`count` and `filter`: pairs a second of one thread; None where no C++ compiler is found."""

    def __init__(self) -> None:
        compiler = (
            os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        )
        self._library = None
        if compiler is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "limits.so"
            source = Path(__file__).with_name("limits.cpp")
            subprocess.run(
                [compiler, "-O3", "-march=native", "-shared", "-fPIC", str(source), "-o", str(target)],
                check=True,
            )
            self._library = ctypes.CDLL(str(target))
        rng = np.random.default_rng(0)
        self._codes, self._queries = (rng.integers(0, 2**63, n, dtype=np.uint64) for n in (_N, _QUERIES))

    def measure(self) -> dict[str, float] | None:
        if self._library is None:
            return None
        arguments = (self._queries.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(_QUERIES),
                     self._codes.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(_N))  # fmt: skip
        paces = {}
        for name, call in (
            ("count", lambda: self._library.count_pairs(*arguments)),
            ("filter", lambda: self._library.filter_pairs(*arguments, ctypes.c_uint64(8))),
        ):
            # fmt: skip
            times = []
            for _ in range(15):
                begin = time.perf_counter()
                call()
                times.append(time.perf_counter() - begin)
            paces[name] = _N * _QUERIES / statistics.median(times)
        return paces
