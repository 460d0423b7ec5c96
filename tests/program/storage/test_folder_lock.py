"""The writer's lock of a folder: held by one, named to others, free once its process is gone."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from holders import holder

from dshc.errors import InputError
from dshc.storage.folder_lock import folder_lock

module = sys.modules[folder_lock.__module__]  # the package has the function by this name

HOLD = """
import sys, types
storage = types.ModuleType("dshc.storage")  # the one file, without what the others load
import dshc
storage.__path__ = [dshc.__path__[0] + "/storage"]
sys.modules["dshc.storage"] = storage
from dshc.storage.folder_lock import folder_lock
with folder_lock(sys.argv[1]):
    {inside}
"""


def writer(
    folder: Path, inside: str = "print('held', flush=True); sys.stdin.read()"
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Another process that has the lock of ``folder`` and does ``inside``."""
    return holder(HOLD.format(inside=inside), str(folder), says="held")


def is_free(folder: Path) -> bool:
    try:
        with folder_lock(folder):
            return True
    except InputError:
        return False


def test_held_inside_and_free_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with folder_lock(folder):
        assert (folder / ".lock").read_text().startswith(f"{os.getpid()} on ")
        assert not is_free(folder)
        assert not is_free(folder)  # a refused attempt has not freed it
    assert is_free(folder)
    with pytest.raises(KeyError), folder_lock(folder):
        raise KeyError
    assert is_free(folder)


def test_folders_do_not_share_a_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path / "a"), folder_lock(tmp_path / "b"):
        assert not is_free(tmp_path / "a") and not is_free(tmp_path / "b")


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = opened()
    for _ in range(3):
        with folder_lock(tmp_path):
            assert not is_free(tmp_path)
            assert opened() == before + 1
    assert opened() == before


def test_another_process_is_named(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        for _ in range(2):  # the refused must not wipe out the name
            with pytest.raises(InputError) as caught, folder_lock(tmp_path):
                pass
            assert f"another process ({process.pid} on " in str(caught.value)
            assert f"is writing {tmp_path}; wait until it ends, or use another folder" in str(caught.value)
        process.stdin.close()
        process.wait(timeout=20)
        assert is_free(tmp_path)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        assert not is_free(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
        assert is_free(tmp_path)
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} on ")


def test_a_worker_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    inside = "\n    ".join(
        [
            "import os, time",
            "worker = os.fork()",
            "if worker == 0: os.close(1); time.sleep(60); os._exit(0)",
            "open(sys.argv[1] + '/worker', 'w').write(str(worker))",
            "print('held', flush=True); sys.stdin.read()",
        ]
    )
    with writer(tmp_path, inside) as process:
        worker = int((tmp_path / "worker").read_text())
        try:
            assert not is_free(tmp_path)
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=20)
            os.kill(worker, 0)  # it lives
            # The child closes its copy in its own time.
            end = time.monotonic() + 20
            while not is_free(tmp_path):
                assert time.monotonic() < end
                time.sleep(0.01)
        finally:
            os.kill(worker, signal.SIGKILL)


def _leave(lock: object, folder: str, results: object) -> None:
    results.put(is_free(Path(folder)))  # type: ignore[attr-defined]
    lock.__exit__(None, None, None)  # type: ignore[attr-defined]
    results.put(is_free(Path(folder)))  # type: ignore[attr-defined]


def test_a_fork_neither_holds_nor_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    lock = folder_lock(tmp_path)
    with lock:
        child = context.Process(target=_leave, args=(lock, str(tmp_path), results))
        child.start()
        assert [results.get(), results.get()] == [False, False]
        child.join(20)
        assert child.exitcode == 0
        assert not is_free(tmp_path)  # the child, which left the block too, has freed nothing
    assert is_free(tmp_path)


def test_a_lock_file_that_says_nothing(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        os.truncate(tmp_path / ".lock", 0)
        with pytest.raises(InputError, match=r"another process \(unknown\)"), folder_lock(tmp_path):
            pass


def test_what_the_file_says_is_not_the_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1 on another machine, and some more that was there\n")
    with folder_lock(tmp_path):
        assert (tmp_path / ".lock").read_text().split() == [str(os.getpid()), "on", os.uname().nodename]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: object, *arguments: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "open", refuse)
        with pytest.raises(OSError) as caught, folder_lock(tmp_path):
            pass
    assert caught.value.errno == number and caught.value.filename == str(tmp_path)


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(module.fcntl, "flock", refuse)
        with pytest.raises(OSError, match="No locks available") as caught, folder_lock(tmp_path):
            pass
    assert caught.value.filename == str(tmp_path) and len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError) as caught, folder_lock(tmp_path):
            pass
    finally:
        tmp_path.chmod(0o755)
    assert caught.value.filename == str(tmp_path)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(FileExistsError, match="run"), folder_lock(tmp_path / "run"):
        pass
