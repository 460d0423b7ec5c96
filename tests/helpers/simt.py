"""Runs the program dshc_simt, which runs CUDA kernels on the CPU (csrc/simt).

`Simt` keeps one process. A mistake that the interpreter or a sanitizer sees ends it and raises SimtError with
what it wrote; the next call starts another one. Each kernel's own arguments: simt_kernels.py.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from native_build import build

# Of threads and blocks. "interleaved" is "random" in a program that also lets others come before plain stores, but has
# no sanitizers.
ORDERS = ("ascending", "descending", "random", "interleaved")


class SimtError(AssertionError):
    """The kernel did something that is wrong on a GPU; or its launch was refused."""


class Output(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any

    def size(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


class Virtual(NamedTuple):
    """An array of more bytes than there is memory: zeros, but for what is put at some bytes.

    As an output, `get` says which parts are answered, as (byte, Output).
    """

    n_bytes: int
    put: tuple[tuple[int, Any], ...] = ()
    get: tuple[tuple[int, Output], ...] = ()


def program(name: str) -> Path:
    """dshc_simt or dshc_simt_races."""
    if sys.platform != "linux":
        pytest.skip("the sanitizers' options are set up for Linux only")
    return build("simt", name, "-DDSHC_SIMT=ON")


def raw(array: np.ndarray | torch.Tensor) -> bytes:
    if isinstance(array, torch.Tensor):  # bfloat16 has no numpy type
        array = array.contiguous().view(torch.uint8).numpy() if array.numel() else np.empty(0, np.uint8)
    return np.ascontiguousarray(array).tobytes()


class Simt:
    """`order`, `seed` and `offset` are of the calls that follow.

    `offset` moves every input so many of its own elements from an aligned address, as a slice of a larger tensor
    would lie.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.process = path, None
        self.order, self.seed, self.offset = "ascending", 0, 0
        atexit.register(self.close)

    def using(self, order: str, seed: int = 0, offset: int = 0) -> Simt:
        self.order, self.seed, self.offset = order, seed, offset
        return self

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait(timeout=60)
            self.process.stdout.close()
            self.errors.close()
            self.process = None

    def _start(self) -> None:
        options = {
            # Leaks are not looked for: that needs ptrace, which many containers forbid.
            "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:malloc_context_size=5",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody empties could fill up
        self.process = subprocess.Popen(
            [str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, **options},
        )

    def call(self, op: str, inputs: dict[str, Any], outputs: dict[str, Output], **scalars: Any) -> tuple:
        """The status, then the outputs in their order. Inputs that are None are null pointers."""
        inputs = {name: array for name, array in inputs.items() if array is not None}
        order = "random" if self.order == "interleaved" else self.order
        words = [op, f"order={order}", f"seed={self.seed}"]
        words += [
            f"{k}={float(v)!r}" if isinstance(v, float) else f"{k}={int(v)}" for k, v in scalars.items()
        ]
        contents, answered = [], []
        for name, array in inputs.items():
            if isinstance(array, Virtual):
                words.append(f"{name}:virtual:0:{array.n_bytes}")
                parts = [("put", at, part) for at, part in array.put]
            else:
                itemsize = array.element_size() if isinstance(array, torch.Tensor) else array.itemsize
                parts = [("in", self.offset * itemsize, array)]
            for kind, at, part in parts:
                contents.append(raw(part))
                words.append(f"{name}:{kind}:{at}:{len(contents[-1])}")
        for name, output in outputs.items():
            if isinstance(output, Virtual):
                words.append(f"{name}:virtual:0:{output.n_bytes}")
                parts = [("get", *part) for part in output.get]
            else:
                parts = [("out", 0, output)]
            words += [f"{name}:{kind}:{at}:{part.size()}" for kind, at, part in parts]
            answered += [part for _, _, part in parts]
        request = (" ".join(words) + "\n").encode() + b"".join(contents)
        status, answer = self._exchange(request, sum(part.size() for part in answered))
        arrays, at = [], 0
        for part in answered:
            values = np.frombuffer(answer, part.dtype, count=int(np.prod(part.shape)), offset=at)
            arrays.append(values.reshape(part.shape))
            at += part.size()
        return status, *arrays

    def _exchange(self, request: bytes, n_bytes: int) -> tuple[int, bytes]:
        if self.process is None:
            self._start()
        try:
            self.process.stdin.write(request)
            self.process.stdin.flush()
            head = self.process.stdout.readline()
        except BrokenPipeError:
            head = b""
        if not head:
            self._raise_end()
        status, size = (int(word) for word in head.split())
        assert size == n_bytes
        return status, self.process.stdout.read(size)

    def _raise_end(self) -> None:
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        code = self.process.wait(timeout=60)
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        self.process.stdout.close()
        self.errors.close()
        self.process = None
        raise SimtError(
            f"dshc_simt exited with {code} (order {self.order}, seed {self.seed}):\n{said[:6000]}"
        )

    def run(self, op: str, inputs: dict[str, Any], outputs: dict[str, Output], **scalars: Any) -> tuple:
        """The outputs of a call whose launches all succeed."""
        status, *arrays = self.call(op, inputs, outputs, **scalars)
        if status != 0:
            raise SimtError(f"{op}: status {status}")
        return tuple(arrays)
