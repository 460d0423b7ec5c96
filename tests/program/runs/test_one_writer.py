"""One process a folder: a second training is refused and told who holds it; one that is killed holds nothing."""

import contextlib
import importlib
import os
import shutil
import signal

import pytest
from training_runs import SMALL, child, contents, final, final_bytes, train

from dshc.errors import InputError
from dshc.storage import folder_lock


@contextlib.contextmanager
def training(folder, step):
    """A child process that trains in ``folder`` and stands still in a step; killed at the end."""
    process = child({**SMALL, "out": str(folder)}, step=step, action="wait")
    try:
        assert process.stdout.readline() == "waiting\n", process.communicate()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.deep
def test_a_folder_that_is_being_trained_in_is_left_alone_and_killed_it_is_resumed(finished, tmp_path):
    folder = tmp_path / "run"
    with training(folder, step=8) as process:
        before = contents(folder)
        for options in ({"resume": True}, {"overwrite": True}):
            words = rf"another process \({process.pid} on .*\) is writing .*run; wait until it ends"
            with pytest.raises(InputError, match=words):
                train(folder, **options)
        with pytest.raises(InputError, match="holds a run; continue it with --resume"):
            train(folder)
        assert contents(folder) == before
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        train(folder, resume=True)  # at once
    assert final(folder) == final(finished.folder)


def test_a_folder_that_is_locked_before_its_first_file(tmp_path):
    """Two that start at once: the second finds an empty folder, and a lock."""
    with (
        folder_lock(tmp_path / "run"),
        pytest.raises(InputError, match=rf"another process \({os.getpid()} on"),
    ):
        train(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_run_that_another_replaced_is_resumed_as_it_is_now(copy, monkeypatch):
    """The lock comes before the reading: what was put there until then is what goes on."""
    module = importlib.import_module("dshc.runs.train")  # `dshc.runs.train` itself is the function
    real, other = module.folder_lock, copy.parent / "other"
    there = train(other)  # the same settings, another run

    def replaced_before(folder):
        shutil.rmtree(copy)
        shutil.move(other, copy)
        return real(folder)

    with monkeypatch.context() as patch:
        patch.setattr(module, "folder_lock", replaced_before)
        run = train(copy, resume=True)
    assert run.hasher.about == there.hasher.about
    before = final_bytes(copy)
    train(copy, resume=True)
    assert final_bytes(copy) == before
