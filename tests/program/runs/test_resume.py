"""Kills, Ctrl-C and resuming: the same bytes, whatever happens."""

import random
import signal

import pytest
from effort import PROFILE
from training_runs import PER_EPOCH, SMALL, Stopped, at_step, child, contents, final, rows, stop, train

from dshc.methods import DPSH, DSHC, HashNet
from dshc.runs.run_folder import RunFolder
from dshc.training import Interrupted
from dshc.training.validation import Validation


@pytest.mark.deep
def test_killed_twice_at_random_steps_and_resumed(finished, tmp_path):
    folder = tmp_path / "run"
    steps = sorted(random.SystemRandom().sample(range(2, 2 * PER_EPOCH + 1), 2))
    done = 0
    for resume, step in zip((False, True), steps, strict=True):
        killed = child({**SMALL, "out": str(folder)}, step=step - done, action="kill", resume=resume)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL, f"steps {steps}"
        assert not (folder / "last.safetensors").exists()
        done = max((step - 1) // 3 * 3, (step - 1) // PER_EPOCH * PER_EPOCH)  # the last checkpoint
    events = []
    train(folder, resume=True, on_event=lambda name, values: events.append(name))
    assert events[:2] == ["read", "resume" if done else "start"]
    assert final(folder) == final(finished.folder), f"steps {steps}"
    assert rows(folder) == rows(finished.folder), f"steps {steps}"


@pytest.mark.deep
@pytest.mark.parametrize("assignment", [{"assignment": "kmeans"}, {"assignment": "sinkhorn", "queue": 20}])
def test_learned_sub_classes_killed_and_resumed(tmp_path, assignment):
    settings = {**SMALL, "subclass": "learned", "per_class": 4, **assignment}
    whole = train(tmp_path / "whole", settings)
    step = random.SystemRandom().randrange(5, 2 * PER_EPOCH + 1)
    killed = child({**settings, "out": str(tmp_path / "run")}, step=step, action="kill")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, f"step {step}"
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder), f"step {step}"
    assert rows(tmp_path / "run") == rows(whole.folder), f"step {step}"


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "lr": 0.1, "schedule": "onecycle"},
        {"optimizer": "rmsprop", "lr": 1e-3, "schedule": "constant"},
        {"optimizer": "muon", "schedule": "step", "lr_every": 1},
        {"optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "schedule": "exponential"},
        {"checkpoint_every": None},
        {"subclass": "learned", "per_class": 3},
        {"subclass": "learned", "assignment": "sinkhorn", "queue": 5},
        {"ema": 0.8},
        {"ema": 0.8, "accumulate": 2, "clip_norm": 0.5, "backbone_lr": 1e-4},
        {"accumulate": 4, "checkpoint_every": 3},  # 3 is no end of a group
        {"sampler": "balanced"},
        {"label_smoothing": 0.1},
        {"method": "dpsh"},
        {"method": "hashnet"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_stopped_anywhere_it_comes_to_the_same(features, tmp_path, monkeypatch, settings):
    """With dropout; at random steps."""
    small = {"source": str(features), "epochs": 3, "bits": 9, "width": 16, "batch_size": 32, "threads": 1}
    settings = {**small, "checkpoint_every": 2, **settings}
    method = {"dpsh": DPSH, "hashnet": HashNet}.get(settings.get("method"), DSHC)
    whole = train(tmp_path / "whole", settings)
    n_steps = 3 * -(-len(whole.split.train) // 32)
    for step in random.SystemRandom().sample(range(1, n_steps + 1), 1 if PROFILE == "quick" else 3):
        folder = tmp_path / f"stopped-{step}"
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            at_step(patch, step, stop, method)
            train(folder, settings)
        train(folder, settings, resume=True)
        assert final(folder) == final(whole.folder), f"step {step}"
        assert rows(folder) == rows(whole.folder), f"step {step}"


@pytest.mark.parametrize("step", [1, PER_EPOCH, PER_EPOCH + 4, 2 * PER_EPOCH])
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_resume(finished, tmp_path, monkeypatch, step):
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT)
    # A shell starts jobs in the background with SIGINT ignored, and what is ignored stays so.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
            at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
            train(folder, checkpoint_every=None)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert f"dshc train --resume --out {folder}" in str(caught.value)
    assert caught.value.signal_name == "SIGINT"
    steps = []

    def note(name, values):
        if name == "resume":
            steps.append((values["epoch"], values["step"]))

    train(folder, checkpoint_every=None, resume=True, on_event=note)
    epoch = (step - 1) // PER_EPOCH
    assert steps == [(epoch, step - epoch * PER_EPOCH)]
    assert final(folder) == final(finished.folder)


def test_a_signal_while_validating_stops_after_the_epoch(finished, tmp_path, monkeypatch):
    real = Validation.measure

    def measure(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after epoch 1 of 2") as caught:
        patch.setattr(Validation, "measure", measure)
        train(folder)
    assert caught.value.signal_name == "SIGTERM"
    train(folder, resume=True)
    assert final(folder) == final(finished.folder)


def test_the_hint_to_resume_can_be_pasted(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=r"--resume --out '.*my run'"):
        at_step(patch, 1, lambda: signal.raise_signal(signal.SIGTERM))
        train(tmp_path / "my run")


def test_accumulated_batches_are_stopped_between_steps_of_the_optimizer(features, tmp_path, monkeypatch):
    """Gradients are in no checkpoint: a signal in the first batch of three waits for the third."""
    small = {"source": str(features), "epochs": 1, "bits": 9, "width": 8, "batch_size": 16, "threads": 1}
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="epoch 1, step 6 of 11"):
        at_step(patch, 4, lambda: signal.raise_signal(signal.SIGTERM))
        train(tmp_path / "run", small, accumulate=3)
    whole = train(tmp_path / "whole", small, accumulate=3)
    train(tmp_path / "run", small, accumulate=3, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_between_checkpoint_and_selected_weights(finished, tmp_path, monkeypatch, epoch):
    real = RunFolder.write_metrics

    def write_metrics(self, history):
        if len(history) == epoch:
            stop()
        real(self, history)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(RunFolder, "write_metrics", write_metrics)
        train(tmp_path / "run")
    train(tmp_path / "run", resume=True)
    assert final(tmp_path / "run") == final(finished.folder)
    assert rows(tmp_path / "run") == rows(finished.folder)


def test_resuming_a_finished_run_changes_nothing(copy):
    before = contents(copy)
    run = train(copy, resume=True)
    assert contents(copy) == before and run.epoch in (1, 2)
