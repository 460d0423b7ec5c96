"""Files are there whole or not at all, and arrays come back as they were or are refused by name."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from dshc.storage import whole_files as module
from dshc.storage.array_files import load_arrays, save_arrays
from dshc.storage.whole_files import (
    check_can_write,
    remove_left_overs,
    safetensors_bytes,
    write_whole,
    written_whole,
)

ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scalar": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.uint8),
    "turned": np.arange(6, dtype=np.int32).reshape(2, 3).T,
}


@pytest.mark.parametrize(("data", "expected"), [(b"\0\xff", b"\0\xff"), ("grün", "grün".encode())])
def test_written_with_its_folders(tmp_path: Path, data: bytes | str, expected: bytes) -> None:
    path = tmp_path / "a" / "b" / "file"
    assert write_whole(str(path), data) == path
    assert path.read_bytes() == expected
    write_whole(path, b"other")
    assert path.read_bytes() == b"other" and os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        path = write_whole(tmp_path / "file", b"x")
        assert os.umask(mask) == mask  # as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.parametrize("step", ["replace", "fsync", "chmod"])
def test_a_failed_write_leaves_what_was_and_names_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = write_whole(tmp_path / "codes.bin", b"before")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/.codes.bin.x.tmp")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, step, full)
        with pytest.raises(OSError) as caught:
            write_whole(path, b"x")
    assert caught.value.filename == str(path) and caught.value.errno == 28
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["codes.bin"]


def test_where_a_file_could_be_written_is_known_before(tmp_path: Path) -> None:
    check_can_write(tmp_path / "file")
    check_can_write(tmp_path / "new" / "folder" / "file")
    assert os.listdir(tmp_path) == []
    (tmp_path / "taken").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name in ("taken/file", "taken/new/file", "dangling/file"):
        with pytest.raises(OSError) as caught:
            check_can_write(tmp_path / name)
        assert caught.value.filename == str(tmp_path / name) and caught.value.strerror


def test_what_a_library_writes_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "index.bin"
    with pytest.raises(ValueError, match="half"), written_whole(path) as temporary:
        temporary.write_bytes(b"half")
        (temporary.parent / "index.bin.log").write_bytes(b"what the library puts beside")
        assert not path.exists()
        raise ValueError("half of it")
    assert os.listdir(tmp_path) == []
    with written_whole(path) as temporary:
        temporary.write_bytes(b"whole")
        assert temporary.name == "index.bin"
    assert path.read_bytes() == b"whole" and os.listdir(path.parent) == ["index.bin"]
    with pytest.raises(KeyboardInterrupt), written_whole(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"whole" and os.listdir(path.parent) == ["index.bin"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_library_that_fails_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = write_whole(tmp_path / "index.bin", b"before")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "/somewhere/.index.bin.x.tmp/index.bin")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, step, full)
        with pytest.raises(OSError) as caught, written_whole(path) as temporary:
            temporary.write_bytes(b"after")
    assert caught.value.filename == str(path) and caught.value.errno == 28
    assert path.read_bytes() == b"before" and os.listdir(tmp_path) == ["index.bin"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_closed_folder_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(PermissionError, match="closed/new/file"):
        check_can_write(tmp_path / "closed" / "new" / "file")


def test_file_and_folder_are_flushed_before_and_after_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(source: str, target: Path) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(module.os, "fsync", noted_fsync)
    monkeypatch.setattr(module.os, "replace", noted_replace)
    write_whole(tmp_path / "file", b"x")
    assert done == ["file", "name", "folder"]


def test_a_killed_write_leaves_what_was_and_left_overs_that_go(tmp_path: Path) -> None:
    program = f"""
import os, runpy, signal
names = runpy.run_path({module.__file__!r})
os.replace = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
names["write_whole"]({str(tmp_path / "file[1]")!r}, b"new")
"""
    write_whole(tmp_path / "file[1]", b"before")
    found = subprocess.run([sys.executable, "-c", program], check=False)
    assert found.returncode == -signal.SIGKILL
    assert (tmp_path / "file[1]").read_bytes() == b"before" and len(os.listdir(tmp_path)) == 2
    others = {".file1.x.tmp", ".file[1].tmp", "file[1].y.tmp", ".file[1].x.tmp.txt", ".other.x.tmp"}
    for name in others:
        (tmp_path / name).write_bytes(b"")
    remove_left_overs(tmp_path / "file[1]")
    assert set(os.listdir(tmp_path)) == {"file[1]", *others}
    remove_left_overs(tmp_path / "nosuch" / "file")


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    path = save_arrays(tmp_path / "a.safetensors", "test/1", ARRAYS, {"name": "ü", "empty": ""})
    arrays, metadata = load_arrays(path, "test/1")
    assert metadata == {"name": "ü", "empty": ""} and set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].shape == array.shape
        assert np.array_equal(arrays[name], array)


def test_equal_content_gives_equal_bytes_in_every_process(tmp_path: Path) -> None:
    metadata = {f"m{i}": str(i) for i in range(20)}
    whole = safetensors_bytes(ARRAYS, metadata)
    assert safetensors_bytes(ARRAYS, dict(reversed(metadata.items()))) == whole
    program = f"""
import runpy, sys, numpy as np
names = runpy.run_path({module.__file__!r})
arrays = {{"a": np.arange(3), "b": np.zeros((2, 2), np.uint8)}}
sys.stdout.buffer.write(names["safetensors_bytes"](arrays, {metadata!r}))
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert safetensors.numpy.load(found.pop())["a"].tolist() == [0, 1, 2]


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    save_arrays(path, "test/1", ARRAYS, {"name": "x"})
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    try:
        arrays, metadata = load_arrays(path, "test/1")
    except ValueError as error:
        assert str(path) in str(error)
    else:  # such as a space behind the header, which nothing depends on
        assert metadata == {"name": "x"}
        assert all(np.array_equal(arrays[name], array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = save_arrays(tmp_path / "a.safetensors", "test/1", ARRAYS, {})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="a.safetensors: damaged"):
        load_arrays(path, "test/1")


def test_what_is_another_file_is_refused(tmp_path: Path) -> None:
    path = save_arrays(tmp_path / "a.safetensors", "test/1", ARRAYS, {})
    with pytest.raises(ValueError, match="a.safetensors: must hold 'test/2', got 'test/1'"):
        load_arrays(path, "test/2")
    safetensors.numpy.save_file({"a": np.ones(2)}, path)
    with pytest.raises(ValueError, match="must hold 'test/1', got None"):
        load_arrays(path, "test/1")
    safetensors.numpy.save_file({"a": np.ones(2)}, path, {"kind": "test/1", "_scalars": json.dumps([])})
    with pytest.raises(ValueError, match="does not match its checksum"):
        load_arrays(path, "test/1")
    with pytest.raises(FileNotFoundError, match="b.safetensors: no such file"):
        load_arrays(tmp_path / "b.safetensors", "test/1")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_arrays(tmp_path, "test/1")


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("q" * 251 + ".bin")
    check_can_write(path)
    assert write_whole(path, b"x").read_bytes() == b"x" and os.listdir(tmp_path) == [path.name]
    with pytest.raises(OSError, match="File name too long"):
        check_can_write(tmp_path / ("q" * 256))
    assert os.listdir(tmp_path) == [path.name]
