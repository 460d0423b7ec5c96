"""Epochs that are too short to be written one by one: fewer checkpoints, the same bytes, nothing lost by a stop."""

import os
import random
import signal

import pytest
from training_runs import Stopped, at_step, final, rows, stop, train

from dshc.methods import DSHC
from dshc.runs.run_folder import CHECKPOINT
from dshc.training import Interrupted

PER_EPOCH = 6  # steps
EPOCHS = 6


@pytest.fixture
def settings(features):
    small = {
        "source": str(features),
        "epochs": EPOCHS,
        "bits": 9,
        "width": 16,
        "batch_size": 32,
        "threads": 1,
    }
    return {**small, "checkpoint_seconds": 10_000}


@pytest.fixture
def whole(settings, tmp_path):
    """With a checkpoint after every epoch."""
    run = train(tmp_path / "whole", {**settings, "checkpoint_seconds": 0})
    assert -(-len(run.split.train) // 32) == PER_EPOCH
    return run.folder


def test_only_the_first_and_the_last_epoch_are_written(settings, whole, tmp_path):
    events = []
    train(tmp_path / "run", settings, on_event=lambda name, values: events.append(name))
    assert events.count("checkpoint") == 2 and events.count("epoch") == EPOCHS
    assert final(tmp_path / "run") == final(whole) and rows(tmp_path / "run") == rows(whole)


@pytest.mark.parametrize("step", [3, PER_EPOCH + 2, None])
def test_stopped_without_warning_it_comes_to_the_same(settings, whole, tmp_path, monkeypatch, step):
    """At chosen steps, and at a random one."""
    step = step or random.SystemRandom().randrange(1, EPOCHS * PER_EPOCH + 1)
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, step, stop, DSHC)
        train(folder, settings)
    train(folder, settings, resume=True)
    assert final(folder) == final(whole), f"step {step}"
    assert rows(folder) == rows(whole), f"step {step}"


@pytest.mark.parametrize("step", [3 * PER_EPOCH, 3 * PER_EPOCH + 2])
def test_a_signal_leaves_a_checkpoint_of_where_it_came(settings, whole, tmp_path, monkeypatch, step):
    """In an epoch's last step, which ends the epoch, and within one."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM), DSHC)
        train(folder, settings)
    done = len(rows(folder))
    assert done == step // PER_EPOCH - (step % PER_EPOCH == 0)  # the epoch under way is continued
    assert (folder / "best.safetensors").is_file() and (folder / CHECKPOINT).is_file()
    seen = []
    train(
        folder,
        settings,
        resume=True,
        on_event=lambda name, values: seen.append((name, values.get("epoch"))),
    )
    assert [epoch for name, epoch in seen if name == "epoch"] == list(range(done + 1, EPOCHS + 1))
    assert final(folder) == final(whole) and rows(folder) == rows(whole)
