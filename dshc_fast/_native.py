"""Loads the compiled module `_dshc_fast` and checks that it belongs to this Python side."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

ABI = 14  # raised by hand with any change of a signature in csrc/bind

try:
    import _dshc_fast as native
except ImportError as error:
    raise ImportError(
        "dshc_fast: the compiled module _dshc_fast could not be loaded "
        f"({error}). Build and install it with `pip install .` in the checkout."
    ) from error

if native.ABI != ABI:
    raise ImportError(
        f"dshc_fast: the Python files have ABI {ABI}, the compiled module {native.__file__} has ABI {native.ABI}. "
        "One of them is older than the other; run `pip install .` again in the checkout."
    )


def set_simd_level(level: str | None) -> None:
    """Choose the instruction set of the CPU back end.

    Args:
        level: "avx512", "avx2", "neon" or "generic"; None goes back to the best this processor runs. The
            environment variable ``DSHC_SIMD`` sets it at import. Every level gives the same integers. It is for the
            whole process and holds from the next call on: a call that is under way in another thread keeps its own.

    Raises:
        TypeError: `level` is neither a string nor None.
        ValueError: the level is unknown, or this processor does not have it.
    """
    if level is not None and not isinstance(level, str):
        raise TypeError(f"level must be a string or None, got {type(level).__name__}")
    # Looked up here, because the native side has a C string, which ends at a NUL.
    known = level is None or level in native.simd_levels()
    if not known or not native.set_simd_level(level):
        raise ValueError(
            f"level must be one of {', '.join(native.simd_levels())}, which this processor runs, got {level!r}"
        )


def get_simd_level() -> str:
    """The instruction set that the CPU back end uses now."""
    return native.simd_level()


def version_text(version: int) -> str:
    """CUDA's number for a version, 13000, as people write it, 13.0."""
    return f"{version // 1000}.{version % 1000 // 10}"


def gpus() -> list[str]:
    names = []
    for device in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(device)
        names.append(f"{torch.cuda.get_device_name(device)} ({major}.{minor})")
    return names


def build_info() -> dict[str, Any]:
    """What this installation consists of: versions, compiler, SIMD levels, CUDA.

    Returns:
        A dict with `version`, `abi`, `compiler`, `module` (its path), `simd_level`, `simd_levels` (best
        first, those this processor runs), `cuda` (whether CUDA kernels were built in), `cuda_runtime` (of
        the build, "13.0", or None), `cuda_architectures` (those built for), `gpus` (those torch sees, with
        their compute capability), `torch`, `python`, `platform`, `n_threads`.
    """
    return {
        "version": native.VERSION,
        "abi": native.ABI,
        "compiler": native.COMPILER,
        "module": native.__file__,
        "simd_level": native.simd_level(),
        "simd_levels": list(native.simd_levels()),
        "cuda": bool(native.CUDA),
        "cuda_runtime": version_text(native.CUDA_RUNTIME) if native.CUDA else None,
        "cuda_architectures": native.CUDA_ARCHITECTURES.split() if native.CUDA else [],
        "gpus": gpus(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "n_threads": torch.get_num_threads(),
    }


if os.environ.get("DSHC_SIMD"):
    try:
        set_simd_level(os.environ["DSHC_SIMD"])
    except ValueError as error:
        raise ImportError(f"environment variable DSHC_SIMD: {error}") from None
