"""The torch-free test program of csrc/native_test, under sanitizers on this machine and emulated on aarch64.

It runs every op on every instruction set against loops of its own; this is where a read beyond a buffer or of a
misaligned word shows, and where the NEON kernels run on machines that have none.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = "dshc_native_test"
CROSS_COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"


def build_tool(name: str) -> str | None:
    """cmake or ninja from the path, else from the Python package of that name."""
    found = shutil.which(name)
    if found is None:
        try:
            package = importlib.import_module(name)
        except ImportError:
            return None
        folder = getattr(package, "CMAKE_BIN_DIR" if name == "cmake" else "BIN_DIR", "")
        found = shutil.which(name, path=folder)
    return found


def run(command: list[str], timeout: int, **variables: str) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout[-8000:]}"
    return done.stdout


def build(folder: Path, *options: str) -> Path:
    cmake, ninja = build_tool("cmake"), build_tool("ninja")
    if cmake is None or ninja is None:
        missing = "cmake" if cmake is None else "ninja"
        pytest.skip(f"no {missing} to build the test program with: the path and the Python package have none")
    common = ["-DDSHC_PYTHON=OFF", "-DDSHC_NATIVE_TEST=ON", "-DCMAKE_BUILD_TYPE=Release"]
    source = ["-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    run([cmake, *source, *common, *options], timeout=300)
    run([cmake, "--build", str(folder), "--parallel", "2"], timeout=900)
    return folder / PROGRAM


def levels(output: str) -> list[str]:
    first = output.splitlines()[0]
    assert first.startswith("levels: "), first
    return first.split()[1:]


@pytest.mark.slow
def test_under_sanitizers(tmp_path_factory: pytest.TempPathFactory) -> None:
    if sys.platform != "linux":
        pytest.skip("the sanitizers' options are set up for Linux only")
    program = build(
        tmp_path_factory.mktemp("native"),
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


@pytest.mark.slow
def test_aarch64_emulated(tmp_path_factory: pytest.TempPathFactory) -> None:
    missing = [tool for tool in (CROSS_COMPILER, EMULATOR) if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"no {' and no '.join(missing)}; Debian packages g++-aarch64-linux-gnu and qemu-user")
    program = build(
        tmp_path_factory.mktemp("aarch64"),
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={CROSS_COMPILER}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",  # the emulator then needs no aarch64 libraries
        "-DCMAKE_CXX_FLAGS_RELEASE=-O2",
    )
    output = run([EMULATOR, str(program)], timeout=900)
    assert levels(output) == ["neon", "generic"]
    assert output.splitlines()[-1] == "all agree"
