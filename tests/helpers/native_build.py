"""Builds the torch-free programs of csrc/ with CMake, for tests."""

from __future__ import annotations

import fcntl
import functools
import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


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


@functools.cache
def build(name: str, target: str, *options: str) -> Path:
    """The path of the program, built in build/tests/`name`; skips where there is nothing to build it with.

    The folder is kept: what has not changed since is not built again. Of the processes that share the tests one builds,
    the others wait for it.
    """
    cmake, ninja = build_tool("cmake"), build_tool("ninja")
    if cmake is None or ninja is None:
        missing = "cmake" if cmake is None else "ninja"
        pytest.skip(f"no {missing} to build the test program with: the path and the Python package have none")
    folder = ROOT / "build" / "tests" / name
    folder.mkdir(parents=True, exist_ok=True)
    common = ["-DDSHC_PYTHON=OFF", "-DDSHC_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release"]
    configure = [cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            run([*configure, *common, *options], timeout=300)
        except AssertionError:  # of another compiler, or a checkout that was moved
            shutil.rmtree(folder / "CMakeFiles", ignore_errors=True)
            (folder / "CMakeCache.txt").unlink(missing_ok=True)
            run([*configure, *common, *options], timeout=300)
        run([cmake, "--build", str(folder), "--target", target, "--parallel", "2"], timeout=900)
        # Before another process configures anew, which removes folders.
        found = (path for path in folder.rglob(target) if path.is_file() and os.access(path, os.X_OK))
        return next(found)
