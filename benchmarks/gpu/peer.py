"""A peer on CUDA: exact search of binary codes by faiss's method, WarpSelect (warp_select.cu), compiled with nvcc and
called through ctypes."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gpu.limits import find_nvcc

SOURCE = Path(__file__).with_name("warp_select.cu")
CODE_BYTES = (4, 8, 16, 32)
MOST_K = 2048
USUAL = (32, 64, 128, 256, 512, 1024)  # the queues that are built where none is asked for
SECONDS = 240  # for the compiler
ALIGNED = 16  # bytes: the database is copied in vectors of so many
POINTER, INT64, INT32 = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32


def queue_rows(k: int) -> int:
    """The rows of 32 places of the warp queue that holds k: a power of two."""
    return 1 << max(0, (k - 1).bit_length() - 5)


def compile_command(nvcc: str, capability: tuple[int, int], rows: int, library: Path) -> list[str]:
    architecture = "sm_90a" if capability == (9, 0) else f"sm_{capability[0]}{capability[1]}"
    return [nvcc, "-O3", "-std=c++17", f"-arch={architecture}", "-Xcompiler", "-fPIC", "-shared",
            f"-DWARP_SELECT_ROWS={rows}", str(SOURCE), "-o", str(library)]  # fmt: skip


class WarpSelect:
    """Made by `build`. One library for each length of the queue, so that they compile side by side."""

    def __init__(self, libraries: dict[int, ctypes.CDLL]) -> None:
        self._libraries = libraries
        for library in libraries.values():
            library.warp_select_workspace.argtypes = [INT64, INT64, INT32, INT32]
            library.warp_select_workspace.restype = INT64
            library.warp_select_topk.argtypes = [POINTER, POINTER, INT64, INT64, INT32, INT32, *[POINTER] * 4]
            library.warp_select_topk.restype = ctypes.c_int

    @classmethod
    def build(cls, capability: tuple[int, int], ks: Sequence[int] = USUAL) -> WarpSelect | str:
        """With the queues that these k need, each up to 2048; or why it could not be built. A longer queue serves a
        smaller k too, only slower."""
        if not all(1 <= k <= MOST_K for k in ks):
            raise ValueError(f"k must be between 1 and {MOST_K}, got {sorted(ks)}")
        if capability < (8, 0):
            return "it needs a device of capability 8.0 or higher"
        nvcc = find_nvcc()
        if nvcc is None:
            return "nvcc was not found"
        with tempfile.TemporaryDirectory() as folder:
            paths = {
                rows: Path(folder) / f"warp_select_{rows}.so" for rows in sorted(set(map(queue_rows, ks)))
            }
            running = [subprocess.Popen(compile_command(nvcc, capability, rows, path), stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
                       for rows, path in paths.items()]  # fmt: skip
            try:
                said = [process.communicate(timeout=SECONDS)[0] for process in running]
            except subprocess.TimeoutExpired:
                return f"nvcc was stopped after {SECONDS} s"
            finally:
                for process in running:
                    process.kill()
            for process, text in zip(running, said, strict=True):
                if process.returncode:
                    return f"nvcc failed: {text.strip()[:300]}"
            return cls({rows: ctypes.CDLL(str(path)) for rows, path in paths.items()})

    def topk(self, queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """int32 distances and int64 indices (n_query, k) of uint8 codes on CUDA, by distance; which of several items at
        one distance come, and in what order, is not defined. On torch's current stream; never synchronises."""
        self._check(queries, database, k)
        rows = min(rows for rows in self._libraries if rows >= queue_rows(k))
        n_query, n_db, n_bytes = len(queries), len(database), queries.shape[1]
        with torch.cuda.device(queries.device):
            distances = torch.empty((n_query, k), dtype=torch.int32, device=queries.device)
            indices = torch.empty((n_query, k), dtype=torch.int64, device=queries.device)
            if n_query == 0:
                return distances, indices
            library = self._libraries[rows]
            n_workspace = library.warp_select_workspace(n_query, n_db, n_bytes, k)
            workspace = torch.empty(n_workspace, dtype=torch.uint8, device=queries.device)
            status = library.warp_select_topk(
                queries.data_ptr(), database.data_ptr(), n_query, n_db, n_bytes, k, workspace.data_ptr(),
                distances.data_ptr(), indices.data_ptr(), torch.cuda.current_stream().cuda_stream)  # fmt: skip
        if status:
            raise RuntimeError(f"WarpSelect was not launched: CUDA error {status}")
        return distances, indices

    def _check(self, queries: Tensor, database: Tensor, k: int) -> None:
        for name, codes in (("queries", queries), ("database", database)):
            if codes.device.type != "cuda" or codes.device != queries.device:
                raise ValueError(f"{name} must be on the one CUDA device, got {codes.device}")
            if codes.dtype != torch.uint8 or codes.ndim != 2 or not codes.is_contiguous():
                raise ValueError(
                    f"{name} must be uint8 (n, bytes), contiguous, got {codes.dtype} {tuple(codes.shape)}"
                )
            if codes.shape[1] not in CODE_BYTES or codes.shape[1] != queries.shape[1]:
                raise ValueError(
                    f"{name} must have 4, 8, 16 or 32 bytes a code, both the same, got {codes.shape[1]}"
                )
            if codes.data_ptr() % ALIGNED:
                raise ValueError(f"{name} must begin at a multiple of {ALIGNED} bytes")
        most = min(len(database), 32 * max(self._libraries))
        if not 1 <= k <= most:
            raise ValueError(f"k must be between 1 and {most}, got {k}")
