"""Holds numpy, torch and faiss to the level that the command line names: imported before them, because they read these
variables once, as their documentation says. Below AVX2 they keep the popcnt instruction, which they count on."""

from __future__ import annotations

import os
import sys

HELD = {
    "avx2": {"FAISS_SIMD_LEVEL": "AVX2", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
             "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
             "OPENBLAS_CORETYPE": "Haswell"},
    "generic": {"FAISS_SIMD_LEVEL": "NONE", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
                "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
                "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Nehalem"},
}  # fmt: skip

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
for _level, _variables in HELD.items():
    if f"--level={_level}" in sys.argv or ("--level", _level) in zip(sys.argv, sys.argv[1:], strict=False):
        os.environ.update(_variables)
