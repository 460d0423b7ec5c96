"""Killed at any byte, out of power, out of room: what was acknowledged is there, and nothing by half."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from effort import examples
from failing_disks import FullDisk, KillingDisk, RememberingDisk
from index_model import Model, add_random, create

from dshc.index import HashIndex
from dshc.storage.disk import Disk

pytest.importorskip("pyarrow")

Step = Callable[[HashIndex, Model, np.random.Generator], None]


def steps(rng: np.random.Generator) -> list[Step]:
    """A writer's day: additions that merge, removals, replacements, a compaction. The same for the same generator."""
    chosen: list[Step] = []
    for number in range(12):
        kind = str(rng.choice(["add", "add", "add", "add", "remove", "update", "compact"]))

        def step(
            index: HashIndex,
            model: Model,
            draws: np.random.Generator,
            kind: str = kind,
            start: int = 100 * number,
        ) -> None:
            if kind == "compact":
                index.compact()
                return
            some = [model.ids[i] for i in draws.permutation(len(model.ids))[:3]]
            if kind == "add" or not some:
                n = int(draws.integers(1, 6))
                add_random(index, model, draws, n, list(range(start, start + n)))
            elif kind == "remove":
                index.remove(some)
                model.remove(some)
            else:
                add_random(index, model, draws, len(some), some, update=True)

        chosen.append(step)
    return chosen


def states(seed: int, folder: Path) -> list[Model]:
    """The model after each step of a day that nothing disturbs; the first is the empty one."""
    rng = np.random.default_rng(seed)
    day, model, found = steps(rng), Model(), [Model()]
    with create(folder) as index:
        for number, step in enumerate(day):
            step(index, model, np.random.default_rng([seed, number]))
            copy = Model()
            copy.__dict__.update({name: value.copy() for name, value in model.__dict__.items()})
            found.append(copy)
    return found


def is_state(index: HashIndex, model: Model) -> bool:
    return index.ids().tolist() == model.ids and np.array_equal(index.get(model.ids).codes, model.codes)


def one_of(index: HashIndex, known: list[Model]) -> Model:
    """Which of the states an index is in: the last of equal ones. Every file must be sound."""
    index.check()
    same = [model for model in known if is_state(index, model)]
    assert same, "the index is in no state that a change led to"
    return same[-1]


def test_killed_at_any_byte(tmp_path: Path) -> None:
    """A writer, forked from this warm process, ends itself at a byte of what it writes."""
    rng = np.random.default_rng(0)
    day = 0
    for number in range(examples(1000) if examples(1000) >= 1000 else 20):
        if number % 20 == 0:
            day += 1
            shutil.rmtree(tmp_path / "whole", ignore_errors=True)
            known = states(day, tmp_path / "whole")
            total = bytes_of_a_day(day, tmp_path / "measured")
        path = tmp_path / f"index{number}"
        create(path).close()
        limit = int(rng.integers(0, total))
        done = run_and_die(path, day, limit)
        with HashIndex.open(path, read_only=True) as reader:
            at = known.index(one_of(reader, known[done : done + 2]))
        assert at in (done, done + 1)
        with HashIndex.open(path) as index:  # and it can be written on
            assert sorted(os.listdir(path / "parts")) == sorted(
                file.name for part in index._manifest.parts for file in part.files
            )
            model = known[at]
            copy = Model()
            copy.__dict__.update({name: value.copy() for name, value in model.__dict__.items()})
            add_random(index, copy, rng, 3, [10_001, 10_000, 10_002])
            copy.check(index, rng)
        shutil.rmtree(path)


def run_and_die(path: Path, seed: int, n_bytes: int) -> int:
    """Work through a day in a forked process that dies after so many bytes; returns what was acknowledged."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(120)  # a child that hangs must not hang the tests
        try:
            os.close(read)
            day, model = steps(np.random.default_rng(seed)), Model()
            index = HashIndex.open(path, disk=KillingDisk(n_bytes))
            for number, step in enumerate(day):
                step(index, model, np.random.default_rng([seed, number]))
                os.write(write, b".")
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        acknowledged = len(pipe.read())
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return acknowledged


def bytes_of_a_day(seed: int, path: Path) -> int:
    disk = KillingDisk(1 << 40)
    create(path).close()
    day, model = steps(np.random.default_rng(seed)), Model()
    with HashIndex.open(path, disk=disk) as index:
        for number, step in enumerate(day):
            step(index, model, np.random.default_rng([seed, number]))
    shutil.rmtree(path)
    return (1 << 40) - disk.left


class Stop(Exception):
    pass


class CountingDisk(RememberingDisk):
    """Stops at the n-th call."""

    def __init__(self, root: Path, n: int) -> None:
        super().__init__(root)
        self.left = n

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop

    def new_file(self, path: Path):  # noqa: ANN201
        self._step()
        return super().new_file(path)

    def replace(self, source: Path, target: Path) -> None:
        self._step()
        super().replace(source, target)

    def remove(self, path: Path) -> None:
        if self.left < 0:
            return  # no power: nothing is cleaned up
        self._step()
        super().remove(path)

    def sync_folder(self, path: Path) -> None:
        self._step()
        super().sync_folder(path)


def test_a_power_cut_at_any_moment(tmp_path: Path) -> None:
    """What the disk had not been told to keep may be lost, in any part and order."""
    seeds = range(1, 2 + examples(10) // 3)
    for seed in seeds:
        shutil.rmtree(tmp_path / "whole", ignore_errors=True)
        known = states(seed, tmp_path / "whole")
        rng = np.random.default_rng(seed)
        cut = 0
        while cut_off(tmp_path, seed, cut, known, rng):
            cut += 1
        assert cut > 50


def cut_off(tmp_path: Path, seed: int, cut: int, known: list[Model], rng: np.random.Generator) -> bool:
    """A day that ends at the n-th call to the disk; False where it was over before."""
    path = tmp_path / "running"
    shutil.rmtree(path, ignore_errors=True)
    disk = CountingDisk(path.resolve(), 1 << 30)
    index, model, done = create(path.resolve(), disk=disk), Model(), 0
    disk.left = cut
    try:
        for number, step in enumerate(steps(np.random.default_rng(seed))):
            step(index, model, np.random.default_rng([seed, number]))
            done += 1
        over = True
    except Stop:
        over = False
    index.close()
    for _ in range(3):
        disk.after_a_power_cut(tmp_path / "left", rng)
        with HashIndex.open(tmp_path / "left") as left:
            one_of(left, known[done : done + 2])
    return not over


@pytest.mark.parametrize("seed", [1, 2])
def test_a_full_disk(tmp_path: Path, seed: int) -> None:
    """The change raises and is not there; what was there is, and the next one goes on."""
    whole = states(seed, tmp_path / "whole")
    rng = np.random.default_rng(seed)
    day = steps(np.random.default_rng(seed))
    index, model = create(tmp_path / "index"), Model()
    n_full = 0
    for number, step in enumerate(day):
        for room in (0, 1, 50, 900, 3000):
            before = Model()
            before.__dict__.update({name: value.copy() for name, value in model.__dict__.items()})
            index._disk = FullDisk(room)
            try:
                step(index, before, np.random.default_rng([seed, number]))
            except OSError as error:
                n_full += 1
                assert error.errno == 28
                model.check(index, rng)
                assert sorted(os.listdir(tmp_path / "index" / "parts")) == sorted(
                    file.name for part in index._manifest.parts for file in part.files
                )
                with HashIndex.open(tmp_path / "index", read_only=True) as reader:
                    assert is_state(reader, model)
            else:
                break
        else:
            index._disk = Disk()
            step(index, model, np.random.default_rng([seed, number]))
            continue
        model = before
    assert n_full > 10 and model.ids == whole[-1].ids
    index.check()
    index.close()
