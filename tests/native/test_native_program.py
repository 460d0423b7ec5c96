"""The torch-free test program of csrc/native_test, under sanitizers on this machine and emulated on aarch64.

It runs every op on every instruction set against loops of its own; this is where a read beyond a buffer or of a
misaligned word shows, and where the NEON kernels run on machines that have none.
"""

from __future__ import annotations

import platform
import shutil
import sys

import pytest
from native_build import build, run

PROGRAM = "dshc_native_test"
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def levels(output: str) -> list[str]:
    first = output.splitlines()[0]
    assert first.startswith("levels: "), first
    return first.split()[1:]


@pytest.mark.deep
def test_under_sanitizers() -> None:
    if sys.platform != "linux":
        pytest.skip("the sanitizers' options are set up for Linux only")
    program = build(
        "native",
        PROGRAM,
        "-DDSHC_NATIVE_TEST=ON",
        "-DDSHC_SANITIZE=address,undefined",
        "-DCMAKE_CXX_FLAGS_RELEASE=-O1",  # NDEBUG stays off; more optimisation costs more to build than it saves
    )
    # Leaks are not looked for: that needs ptrace, which many containers forbid.
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    output = run([str(program)], timeout=900, **options)
    assert output.splitlines()[-1] == "all agree"
    if platform.machine() in ("aarch64", "arm64"):
        assert "neon" in levels(output)
    assert levels(output)[-1] == "generic"


@pytest.mark.deep
def test_aarch64_emulated() -> None:
    missing = [tool for tool in (CROSS_COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}; Debian packages g++-aarch64-linux-gnu and qemu-user")
    program = build(
        "aarch64",
        PROGRAM,
        "-DDSHC_NATIVE_TEST=ON",
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={CROSS_COMPILER}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",  # the emulator then needs no aarch64 libraries
        "-DCMAKE_CXX_FLAGS_RELEASE=-O2",
    )
    output = run([EMULATOR, str(program)], timeout=900)
    assert levels(output) == ["neon", "generic"]
    assert output.splitlines()[-1] == "all agree"
