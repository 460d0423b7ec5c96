"""Kills, Ctrl-C and resuming: the same bytes, whatever happens."""

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from training_runs import PER_EPOCH, SMALL, Stopped, at_step, final_bytes, rows, stop

from dshc.config import Config
from dshc.training import Interrupted, train
from dshc.validation import Validation


def test_two_runs_are_equal_to_the_byte(finished, tmp_path):
    train(Config(**SMALL, out=str(tmp_path / "run")))
    assert final_bytes(tmp_path / "run") == final_bytes(finished.folder)
    assert rows(tmp_path / "run") == rows(finished.folder)


KILL = """
import os, signal, sys, json
from dshc.config import Config
from dshc.methods import DSHC
from dshc.training import train

settings, resume, steps = json.loads(sys.argv[1])
real = DSHC.loss

def loss(self, outputs, labels, items=None):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, outputs, labels, items)

DSHC.loss = loss
train(Config(**settings), resume=resume)
"""


@pytest.mark.deep
def test_killed_twice_at_random_steps_and_resumed(finished, tmp_path):
    settings = {**SMALL, "out": str(tmp_path / "run")}
    steps = sorted(random.SystemRandom().sample(range(2, 2 * PER_EPOCH + 1), 2))
    done = 0
    for resume, step in zip((False, True), steps, strict=True):
        arguments = json.dumps([settings, resume, step - done])
        killed = subprocess.run(
            [sys.executable, "-c", KILL, arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert killed.returncode == -signal.SIGKILL, f"steps {steps}"
        assert not (tmp_path / "run" / "model.safetensors").exists()
        done = max((step - 1) // 3 * 3, (step - 1) // PER_EPOCH * PER_EPOCH)  # the last checkpoint
    events = []
    train(Config(**settings), resume=True, on_event=lambda name, values: events.append((name, values)))
    assert events[0][0] == ("resume" if done else "start")
    assert final_bytes(tmp_path / "run") == final_bytes(finished.folder), f"steps {steps}"
    assert rows(tmp_path / "run") == rows(finished.folder), f"steps {steps}"


@pytest.mark.deep
@pytest.mark.parametrize("assignment", [{"assignment": "kmeans"}, {"assignment": "sinkhorn", "queue": 20}])
def test_learned_sub_classes_killed_and_resumed(tmp_path, assignment):
    settings = {**SMALL, "subclass": "learned", "per_class": 4, **assignment}
    whole = train(Config(**settings, out=str(tmp_path / "whole")))
    settings["out"] = str(tmp_path / "run")
    step = random.SystemRandom().randrange(5, 2 * PER_EPOCH + 1)
    killed = subprocess.run(
        [sys.executable, "-c", KILL, json.dumps([settings, False, step])],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert killed.returncode == -signal.SIGKILL, f"step {step}"
    train(Config(**settings), resume=True)
    assert final_bytes(tmp_path / "run") == final_bytes(whole.folder), f"step {step}"
    assert rows(tmp_path / "run") == rows(whole.folder), f"step {step}"


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "lr": 0.1, "schedule": "onecycle"},
        {"checkpoint_every": None},
        {"subclass": "learned", "per_class": 3},
        {"subclass": "learned", "assignment": "sinkhorn", "queue": 5},
    ],
)
def test_stopped_anywhere_with_dropout_and_either_optimizer(features, tmp_path, monkeypatch, settings):
    settings = {
        **{
            "dataset": str(features),
            "epochs": 3,
            "bits": 9,
            "width": 16,
            "batch_size": 32,
            "checkpoint_every": 2,
        },
        **settings,
    }
    whole = train(Config(**settings, out=str(tmp_path / "whole")))
    n_steps = 3 * -(-len(whole.split.train) // 32)
    for step in random.SystemRandom().sample(range(1, n_steps + 1), 3):
        folder = tmp_path / f"stopped-{step}"
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            at_step(patch, step, stop)
            train(Config(**settings, out=str(folder)))
        train(Config(**settings, out=str(folder)), resume=True)
        assert final_bytes(folder) == final_bytes(whole.folder), f"step {step}"
        assert rows(folder) == rows(whole.folder), f"step {step}"


@pytest.mark.parametrize("step", [1, PER_EPOCH, PER_EPOCH + 4, 2 * PER_EPOCH])
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(finished, tmp_path, monkeypatch, step):
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)  # a shell starts background jobs with SIGINT ignored
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        train(Config(**{**SMALL, "checkpoint_every": None}, out=str(folder)))
    assert f"dshc train --resume --out {folder}" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is before
    steps = []
    train(
        Config(**{**SMALL, "checkpoint_every": None}, out=str(folder)),
        resume=True,
        on_event=lambda name, values: (
            steps.append((values["epoch"], values["step"])) if name == "resume" else None
        ),
    )
    epoch = (step - 1) // PER_EPOCH
    assert steps == [(epoch, step - epoch * PER_EPOCH)]
    assert final_bytes(folder) == final_bytes(finished.folder)


def test_ctrl_c_while_validating_stops_after_the_epoch(finished, tmp_path, monkeypatch):
    real = Validation.measure

    def measure(*arguments):
        signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after epoch 1 of 2"):
        patch.setattr(Validation, "measure", measure)
        train(Config(**SMALL, out=str(folder)))
    train(Config(**SMALL, out=str(folder)), resume=True)
    assert final_bytes(folder) == final_bytes(finished.folder)


def test_killed_between_checkpoint_and_selected_weights(finished, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("dshc.training.write_metrics", lambda folder, position: position.epoch == 2 and stop())
        train(Config(**SMALL, out=str(tmp_path / "run")))
    train(Config(**SMALL, out=str(tmp_path / "run")), resume=True)
    assert final_bytes(tmp_path / "run") == final_bytes(finished.folder)
    assert rows(tmp_path / "run") == rows(finished.folder)


def test_what_a_killed_write_left_is_cleared_away(finished):
    left_over = finished.folder / ".model.safetensors.abc.tmp"
    left_over.write_bytes(b"half")
    before = final_bytes(finished.folder)
    train(Config(**SMALL, out=str(finished.folder)), resume=True)
    assert not left_over.exists() and final_bytes(finished.folder) == before
