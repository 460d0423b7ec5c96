"""Rows on disk: complete, interrupted, damaged, held by another process, in a folder that cannot be written."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from holders import holder
from hypothesis import given
from hypothesis import strategies as st

from dshc.storage import cache_folder, open_rows

N, D, PART = 10, 3, 4
ROWS = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)

HOLD = """
import sys
from dshc.storage import open_rows
with open_rows("kind", "key", (10, 3)) as cache:
    print(cache.n_done, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache without anything in it."""
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(cache: Path) -> Path:
    return cache / "kind" / "key"


def completed(stop_at: int = N, *, keep: bool = True, part: int = PART) -> tuple[int, np.ndarray]:
    """Write what is missing, part by part, up to ``stop_at``; how many rows were found, and the matrix."""
    with open_rows("kind", "key", (N, D), keep=keep) as rows:
        found = rows.n_done
        for start in range(found, stop_at, part):
            rows.append(ROWS[start : min(start + part, stop_at)])
        return found, rows.rows


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_what_is_complete_is_found_and_read_through_the_page_cache(folder: Path) -> None:
    found, rows = completed()
    assert found == 0 and np.array_equal(rows, ROWS)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    found, rows = completed()
    assert found == N and rows.dtype == np.float32 and np.array_equal(rows, ROWS)
    assert isinstance(rows, np.memmap)
    rows[0] = 7  # its own copy of the page: the file is what it was
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert np.array_equal(np.load(folder / "rows.npy"), ROWS)


def test_what_an_interruption_left_is_continued(folder: Path) -> None:
    assert completed(4)[0] == 0
    assert completed(8)[0] == 4
    with open_rows("kind", "key", (N, D)) as rows:
        assert rows.n_done == 8 and np.array_equal(rows.rows[:8], ROWS[:8])
    assert completed()[0] == 8
    assert completed()[0] == N


@given(st.lists(st.tuples(st.integers(1, N), st.integers(1, 5)), max_size=4))
def test_however_often_it_is_interrupted(tmp_path_factory: pytest.TempPathFactory, stops: list) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSHC_CACHE", str(tmp_path_factory.mktemp("cache")))
        done = 0
        for stop, part in stops:
            assert completed(stop, part=part)[0] == done
            done = max(done, stop)
        found, rows = completed()
        assert found == done and np.array_equal(rows, ROWS)


@pytest.mark.parametrize(("row", "kept"), [(0, 0), (3, 0), (4, 4), (7, 4), (9, 8)])
def test_a_changed_byte_has_its_part_and_those_behind_it_written_anew(
    folder: Path, row: int, kept: int
) -> None:
    completed()
    head = (folder / "rows.npy").stat().st_size - ROWS.nbytes
    flip(folder / "rows.npy", head + row * D * 4)
    found, rows = completed()
    assert found == kept and np.array_equal(rows, ROWS)
    assert completed()[0] == N


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "done.json").unlink(),
        lambda folder: (folder / "done.json").write_text(""),
        lambda folder: (folder / "done.json").write_text("[[4]]"),
        lambda folder: (folder / "done.json").write_text("5"),
        lambda folder: (folder / "done.json").write_bytes(b"\xff\xfe"),
        lambda folder: (folder / "rows.npy").unlink(),
        lambda folder: (folder / "rows.npy").write_bytes(b""),
        lambda folder: (folder / "rows.npy").write_bytes(b"no array"),
        lambda folder: np.save(folder / "rows.npy", ROWS.astype(np.float64)),
        lambda folder: np.save(folder / "rows.npy", ROWS[:, :2]),
    ],
    ids=["gone", "empty", "short", "number", "bytes", "no rows", "empty rows", "text", "float64", "narrow"],
)
def test_what_cannot_be_read_is_written_anew(folder: Path, damage) -> None:
    completed()
    damage(folder)
    found, rows = completed()
    assert found == 0 and np.array_equal(rows, ROWS)
    assert completed()[0] == N


def test_a_file_cut_short_keeps_what_is_whole(folder: Path) -> None:
    completed()
    os.truncate(folder / "rows.npy", (folder / "rows.npy").stat().st_size - 2 * D * 4)
    found, rows = completed()
    assert found == 8 and np.array_equal(rows, ROWS)
    assert completed()[0] == N


def test_keys_and_kinds_do_not_share_rows(cache: Path) -> None:
    completed()
    for kind, key in (("kind", "other"), ("other", "key")):
        with open_rows(kind, key, (N, D)) as rows:
            assert rows.n_done == 0
    with open_rows("kind", "key", (N + 1, D)) as rows:  # of another shape
        assert rows.n_done == 0


def test_while_another_process_writes_them_rows_are_temporary(folder: Path) -> None:
    with holder(HOLD, says="0") as process:
        message = rf"kind are not kept for the next time \(another process \({process.pid} on .* is writing "
        with pytest.warns(UserWarning, match=message):
            found, rows = completed()
        assert found == 0 and np.array_equal(rows, ROWS)
        assert not (folder / "done.json").exists()
        process.stdin.close()
        process.wait(timeout=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert completed()[0] == 0
        assert completed()[0] == N


def test_what_is_complete_needs_no_lock() -> None:
    completed()
    from dshc.storage import folder_lock

    with folder_lock(cache_folder() / "kind" / "key"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert completed()[0] == N


def test_a_file_in_the_place_of_the_cache_folder(cache: Path) -> None:
    cache.write_text("x")
    with pytest.warns(
        UserWarning, match=r"kind are not kept for the next time \(.*: (Not a directory|File exists)"
    ):
        found, rows = completed()
    assert found == 0 and np.array_equal(rows, ROWS) and cache.read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_folder_that_cannot_be_written(cache: Path) -> None:
    cache.mkdir(mode=0o555)
    with pytest.warns(UserWarning, match="kind are not kept for the next time .*Permission denied"):
        found, rows = completed()
    assert found == 0 and np.array_equal(rows, ROWS) and not any(cache.iterdir())


def test_a_disk_without_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then they lie in memory."""
    import errno

    def refuse(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.warns(UserWarning, match="kind are not kept for the next time .*No space left"):
            found, rows = completed()
    assert found == 0 and np.array_equal(rows, ROWS)
    with warnings.catch_warnings():  # and with room again they are kept
        warnings.simplefilter("error")
        assert completed()[0] == 0
        assert completed()[0] == N


def test_what_is_not_to_be_kept_leaves_nothing(cache: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, rows = completed(keep=False)
    assert found == 0 and np.array_equal(rows, ROWS) and not cache.exists()
    completed(4)
    before = {path.name: path.read_bytes() for path in (cache / "kind" / "key").iterdir()}
    assert np.array_equal(completed(keep=False)[1], ROWS)
    assert {path.name: path.read_bytes() for path in (cache / "kind" / "key").iterdir()} == before
    completed()
    assert completed(keep=False)[0] == N  # what is there is read


@pytest.mark.parametrize("error", [KeyError("x"), OSError(28, "full"), KeyboardInterrupt()])
def test_errors_inside_go_through_and_what_was_written_is_there(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, open_rows("kind", "key", (N, D)) as rows:
        rows.append(ROWS[:4])
        raise error
    assert caught.value is error
    assert completed()[0] == 4


def test_where_caches_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("DSHC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "dshc"
    monkeypatch.setenv("DSHC_CACHE", "")  # set to nothing is not set
    assert cache_folder() == tmp_path / "xdg" / "dshc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "dshc"


def test_what_is_done_is_said_only_once_it_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    completed(4)
    assert [count for count, _ in json.loads((folder / "done.json").read_text())] == [4]
    import dshc.storage.row_cache as module

    def refuse(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(module, "write_whole", refuse)
        completed()
    assert completed()[0] == 4
