"""Disks that stand in for the real one: one kills its process, one is full, one remembers what is certain."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dshc.storage.disk import Disk, NewFile


class KillingDisk(Disk):
    """Kills its own process at the n-th byte written or the n-th of all other calls, which count as one byte each."""

    def __init__(self, n: int) -> None:
        self.left = n

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def new_file(self, path: Path) -> NewFile:
        self.step()
        return _KillingFile(path, self)

    def replace(self, source: Path, target: Path) -> None:
        self.step()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        self.step()
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self.step()
        super().sync_folder(path)


class _KillingFile(NewFile):
    def __init__(self, path: Path, disk: KillingDisk) -> None:
        super().__init__(path)
        self._disk = disk

    def write(self, data: Any) -> None:
        data = memoryview(data).cast("B")
        super().write(data[: max(0, self._disk.left)])
        if len(data) > self._disk.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self._disk.left -= len(data)

    def sync(self) -> None:
        self._disk.step()  # the machine goes on: what was written is there, synced or not


class FullDisk(Disk):
    """Takes ``n`` bytes in all, then says that it is full."""

    def __init__(self, n: int) -> None:
        self.left = n

    def new_file(self, path: Path) -> NewFile:
        return _FullFile(path, self)


class _FullFile(NewFile):
    def __init__(self, path: Path, disk: FullDisk) -> None:
        super().__init__(path)
        self._disk = disk

    def write(self, data: Any) -> None:
        data = memoryview(data).cast("B")
        fits = data[: max(0, self._disk.left)]
        super().write(fits)
        self._disk.left -= len(data)
        if len(fits) < len(data):
            raise OSError(28, os.strerror(28), str(self.path))


@dataclass
class _Content:
    """Of a file what is certain, and what was written since."""

    certain: bytes = b""
    writes: list[bytes] = field(default_factory=list)


class RememberingDisk(Disk):
    """The real disk; beside it what a power cut could leave of one folder.

    Of writes that were not synced any may be lost, and of the last that is there any part: blocks come in any order. Of
    names that were made, replaced or removed since their folder was synced any may be as before.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, _Content] = {}  # as a sync left them
        self._changes: list[tuple[str, _Content | None]] = []
        self._now: dict[str, _Content] = {}

    def new_file(self, path: Path) -> NewFile:
        content = _Content()
        self._name(path, content)
        return _RememberedFile(path, content)

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)

    def replace(self, source: Path, target: Path) -> None:
        super().replace(source, target)
        self._name(target, self._now[self._key(source)])
        self._name(source, None)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._name(path, None)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        here, others = [], []
        for change in self._changes:
            (here if (self._root / change[0]).parent == path else others).append(change)
        _apply(self._names, here)
        self._changes = others

    def after_a_power_cut(self, target: Path, rng: np.random.Generator) -> None:
        """Write into ``target`` one of the states that a power cut now could leave."""
        names = dict(self._names)
        _apply(names, [change for change in self._changes if rng.random() < 0.5])
        shutil.rmtree(target, ignore_errors=True)
        (target / "parts").mkdir(parents=True)
        for name, content in names.items():
            target.joinpath(name).write_bytes(_left_of(content, rng))

    def _name(self, path: Path, content: _Content | None) -> None:
        change = (self._key(path), content)
        self._changes.append(change)
        _apply(self._now, [change])

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self._root))


class _RememberedFile(NewFile):
    def __init__(self, path: Path, content: _Content) -> None:
        super().__init__(path)
        self._content = content

    def write(self, data: Any) -> None:
        super().write(data)
        self._content.writes.append(bytes(memoryview(data).cast("B")))

    def sync(self) -> None:
        self._content.certain += b"".join(self._content.writes)
        self._content.writes = []


def _apply(names: dict[str, _Content], changes: list[tuple[str, _Content | None]]) -> None:
    for name, content in changes:
        if content is None:
            names.pop(name, None)
        else:
            names[name] = content


def _left_of(content: _Content, rng: np.random.Generator) -> bytes:
    left = bytearray(content.certain)
    for data in content.writes:
        kept = data if rng.random() < 0.5 else bytes(len(data)) if rng.random() < 0.5 else b""
        if rng.random() < 0.3:
            kept = kept[: int(rng.integers(0, len(kept) + 1))]
        left += kept
    return bytes(left)
