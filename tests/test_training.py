"""Training: what a run folder holds, kills and Ctrl-C, which ops ran, and what is refused."""

import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import dshc_fast
from dshc.checkpoint import CHECKPOINT
from dshc.config import Config
from dshc.data import Split
from dshc.methods import DSHC
from dshc.training import Interrupted, _learning_rate, load_run, train
from dshc.validation import Validation

SMALL = {"dataset": "digits", "width": 4, "epochs": 2, "batch_size": 128, "threads": 1, "checkpoint_every": 3}
PER_EPOCH = 11  # 1,293 training digits


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A file of embeddings of three classes that lie apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    values = rng.normal(size=(240, 12)) + 4 * np.eye(3, 12)[labels]
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, features=values.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A file of embeddings with several labels each."""
    rng = np.random.default_rng(1)
    labels = (rng.random((300, 5)) < 0.3).astype(np.uint8)
    labels[labels.sum(1) == 0, 0] = 1
    values = labels @ rng.normal(size=(5, 16)) + 0.1 * rng.normal(size=(300, 16))
    path = tmp_path_factory.mktemp("labelled") / "labelled.npz"
    np.savez(path, features=values.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on the digits that nothing disturbed; tests only read it."""
    return train(Config(**SMALL, out=str(tmp_path_factory.mktemp("finished") / "run")))


def final_bytes(folder):
    return (folder / "model.safetensors").read_bytes(), (folder / "best.safetensors").read_bytes()


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


def at_step(monkeypatch, step, action):
    """Do ``action`` in the loss of the ``step``-th step from now, counted from 1."""
    real, count = DSHC.loss, [0]

    def loss(self, outputs, labels):
        count[0] += 1
        if count[0] == step:
            action()
        return real(self, outputs, labels)

    monkeypatch.setattr(DSHC, "loss", loss)


class Stopped(Exception):
    pass


def stop():
    raise Stopped


# What a run leaves behind


def test_the_run_folder(finished):
    names = {"config.toml", "split.json", "codebook.safetensors", "metrics.jsonl", "best.safetensors"}
    names |= {"model.safetensors", "checkpoint"}
    assert {path.name for path in finished.folder.iterdir()} == names
    assert [path.name for path in (finished.folder / "checkpoint").iterdir()] == [CHECKPOINT.name]
    config = Config.from_toml(finished.folder / "config.toml")
    assert (config.bits, config.lr, config.width) == (30, finished.config.lr, 4)
    assert Split.load(finished.folder / "split.json") == finished.split


def test_metrics_carry_their_conventions(finished):
    assert [row["epoch"] for row in finished.metrics] == [1, 2]
    row = finished.metrics[-1]
    assert {"loss", "lr", "train_accuracy", "validation_accuracy", "validation_map", "seconds"} < row.keys()
    for convention in ("mAP@all", "ties=expected", "denominator=retrieved", "score=hamming", "144 queries"):
        assert convention in row["validation_conventions"]


def test_a_run_learns_and_encodes(features, tmp_path):
    run = train(
        Config(dataset=str(features), epochs=6, bits=9, width=32, batch_size=16, out=str(tmp_path / "run"))
    )
    codes, predictions = run.encode(run.split.query)
    assert codes.dtype == np.uint8 and codes.shape == (len(run.split.query), 2)
    assert (predictions == run.dataset.labels[run.split.query]).mean() > 0.9
    assert run.metrics[-1]["validation_map"] > 0.7
    again = load_run(tmp_path / "run").encode_inputs(run.dataset.inputs[run.split.query])
    assert np.array_equal(again[0], codes) and np.array_equal(again[1], predictions)
    assert run.encode(np.array([], dtype=np.int64))[0].shape == (0, 2)
    with pytest.raises(ValueError, match=r"inputs: got items of shape \(3,\), this run takes \(12,\)"):
        run.encode_inputs(np.zeros((1, 3), np.float32))


def test_multilabel_data(labelled, tmp_path):
    config = Config(
        dataset=str(labelled), method="dshc-multilabel", epochs=8, width=64, out=str(tmp_path / "run")
    )
    run = train(config)
    codes, predictions = run.encode(run.split.query)
    assert predictions.dtype == bool and predictions.shape == (len(run.split.query), 5)
    assert np.array_equal(np.unpackbits(codes, axis=1, count=5, bitorder="little"), predictions)
    row = run.metrics[-1]
    assert row["validation_micro_f1"] > 0.8 and "score=overlap" in row["validation_conventions"]
    assert not (run.folder / "codebook.safetensors").exists()
    assert load_run(run.folder).class_names == run.class_names


def test_bf16_trains(tmp_path):
    run = train(Config(**{**SMALL, "epochs": 1, "precision": "bf16"}, out=str(tmp_path / "run")))
    assert np.isfinite(run.metrics[0]["loss"])
    assert run.encode(run.split.query)[0].shape == (360, 4)


def test_without_validation_the_last_weights_are_taken(tmp_path, features):
    run = train(Config(dataset=str(features), epochs=2, bits=9, validation=0.0, out=str(tmp_path / "run")))
    assert run.weights == "last" and not (run.folder / "best.safetensors").exists()
    assert "validation_map" not in run.metrics[0]
    assert len(run.split.train) == len(run.split.database)


def test_queries_never_select(monkeypatch, finished, tmp_path):
    seen = []
    real = type(finished._batches).batch
    monkeypatch.setattr(
        type(finished._batches),
        "batch",
        lambda self, indices, **keywords: seen.append(np.asarray(indices)) or real(self, indices, **keywords),
    )
    run = train(Config(**SMALL, out=str(tmp_path / "run")))
    assert not np.isin(np.concatenate(seen), run.split.query).any()


def test_the_threads_are_given_back(finished):
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    train(Config(**SMALL, out=str(finished.folder)), resume=True)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_0(schedule):
    config = Config(lr=0.4, schedule=schedule)
    rates = np.array([_learning_rate(config, done) for done in np.linspace(0, 1, 1001)[:-1]])
    peak = rates.argmax()
    assert rates[peak] == pytest.approx(0.4, rel=1e-3) and peak in (50, 300)
    assert (np.diff(rates[: peak + 1]) > 0).all() and (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] < 1e-5


# The same bytes, whatever happens


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

def loss(self, outputs, labels):
    global steps
    steps -= 1
    if steps == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, outputs, labels)

DSHC.loss = loss
train(Config(**settings), resume=resume)
"""


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


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd", "lr": 0.1, "schedule": "onecycle"},
        {"checkpoint_every": None},
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
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        at_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        train(Config(**{**SMALL, "checkpoint_every": None}, out=str(folder)))
    assert f"dshc train --resume --out {folder}" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
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


# Which code ran


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.ops = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.add(str(func))
        return func(*args, **(kwargs or {}))


def test_the_loops_run_on_the_registered_ops_and_never_on_the_reference(monkeypatch, tmp_path):
    def never(*_, **__):
        raise AssertionError("the reference was called")

    for name, value in vars(dshc_fast.reference).items():
        if callable(value) and getattr(value, "__module__", "") == dshc_fast.reference.__name__:
            monkeypatch.setattr(dshc_fast.reference, name, never)

    def ops(action):
        with Recorder() as recorder:
            result = action()
        return result, {op.split(".")[1] for op in recorder.ops if op.startswith("dshc_fast.")}

    run, trained = ops(lambda: train(Config(**{**SMALL, "epochs": 1}, out=str(tmp_path / "run"))))
    assert {"class_softmax_loss", "codes_from_logits", "center_codes_from_logits"} <= trained
    assert trained & {"average_precision", "hamming_histogram"}
    (codes, _), encoded = ops(lambda: run.encode(run.split.query))
    assert encoded == {"codes_from_logits", "center_codes_from_logits"}
    labels = torch.from_numpy(run.dataset.labels[run.split.query])
    codes = torch.from_numpy(codes)
    _, ranked = ops(lambda: dshc_fast.mean_average_precision(codes, codes, labels, labels, n_bits=30))
    assert ranked & {"average_precision", "hamming_histogram"}


def test_multilabel_loops_run_on_the_registered_ops(labelled, tmp_path):
    config = Config(dataset=str(labelled), method="dshc-multilabel", epochs=1, out=str(tmp_path / "run"))
    with Recorder() as recorder:
        train(config)
    assert any(op.startswith("dshc_fast.multilabel_codes") for op in recorder.ops)
    assert any(
        op.startswith(("dshc_fast.average_precision", "dshc_fast.hamming_histogram")) for op in recorder.ops
    )


# What is refused, and that nothing is half written


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 9}, "n_bits: cpbc needs at least one bit a class"),
        ({"topk": 311}, "topk: got 311"),
        ({"method": "dshc-multilabel"}, "method: got 'dshc-multilabel', single-label data take dshc"),
        ({"method": "nothing"}, "method: got 'nothing'"),
        ({"backbone": "mlp"}, "backbone: got 'mlp'"),
        ({"protocol": "cifar10-full"}, "cifar10-full"),
        ({"dataset": "no-such-set"}, "no-such-set"),
    ],
)
def test_nothing_is_written_for_settings_that_cannot_be(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        train(Config(**{**SMALL, **settings}, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_longer_finite_ends_the_run(tmp_path):
    with pytest.raises(
        ValueError, match=r"lr: the loss is (nan|inf) in epoch 1 with lr = 1e\+30; take a lower one"
    ):
        train(Config(**{**SMALL, "lr": 1e30}, out=str(tmp_path / "run")))


def test_a_folder_that_holds_a_run_is_not_overwritten(finished):
    before = final_bytes(finished.folder)
    with pytest.raises(ValueError, match=r"out: .* holds a run; continue it with --resume"):
        train(Config(**SMALL, out=str(finished.folder)))
    assert final_bytes(finished.folder) == before


def test_resuming_what_is_not_there_or_otherwise_made_is_refused(finished, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no run \(config.toml is missing\)"):
        train(Config(**SMALL, out=str(tmp_path)), resume=True)
    with pytest.raises(ValueError, match=r"lr: got 0.2, the run in .* has 0"):
        train(Config(**{**SMALL, "lr": 0.2}, out=str(finished.folder)), resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out: .*file is a file"):
        train(Config(**SMALL, out=str(tmp_path / "file")))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to damage."""
    import shutil

    return shutil.copytree(finished.folder, tmp_path / "copy")


def damages(path):
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    return whole[: 2 * len(whole) // 5], bytes(flipped), b""


@pytest.mark.parametrize("name", [str(CHECKPOINT), "codebook.safetensors", "split.json", "config.toml"])
def test_a_damaged_file_stops_resuming_by_name(copy, name):
    config = Config(**SMALL, out=str(copy))
    for damaged in damages(copy / name)[: 1 if name == "config.toml" else 3]:
        (copy / name).write_bytes(damaged)
        before = final_bytes(copy)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            train(config, resume=True)
        assert final_bytes(copy) == before


@pytest.mark.parametrize("name", ["best.safetensors", "codebook.safetensors", "split.json", "metrics.jsonl"])
def test_a_damaged_file_is_refused_by_name(copy, name):
    for damaged in damages(copy / name)[: 1 if name == "metrics.jsonl" else 3]:
        (copy / name).write_bytes(damaged)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            run = load_run(copy)
            assert run.split and run.metrics


@pytest.mark.parametrize(
    ("row", "best", "expected"),
    [
        ({"validation_map": 0.90, "validation_map_error": 0.02}, None, True),
        ({"validation_map": 0.90, "validation_map_error": 0.02}, 0.91, True),
        ({"validation_map": 0.88, "validation_map_error": 0.02}, 0.91, False),
        ({"validation_map": 0.91, "validation_map_error": None}, 0.91, True),
        ({"validation_map": 0.90, "validation_map_error": None}, 0.91, False),
        ({"validation_map": None, "validation_map_error": None}, None, False),
        ({}, None, False),
    ],
)
def test_the_latest_epoch_within_a_standard_error_is_selected(row, best, expected):
    assert Validation.selects(row, best) is expected


def test_missing_files_are_named(copy, tmp_path):
    (copy / "best.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"best\.safetensors: no such file, though the run is finished"
    ):
        load_run(copy)
    assert load_run(copy, weights="last").weights == "last"
    (copy / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors.*not finished"):
        load_run(copy)
    with pytest.raises(FileNotFoundError, match=r"holds no run \(config.toml is missing\)"):
        load_run(tmp_path / "nothing")


def test_a_full_disk_leaves_the_checkpoint_before(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    real, writes = os.replace, []

    def full(source, target):
        writes.append(str(target))
        if sum(CHECKPOINT.name in write for write in writes) == 3:
            raise OSError(28, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("dshc.files.os.replace", full)
        train(Config(**SMALL, out=str(folder)))
    assert not list(folder.rglob("*.tmp"))
    train(Config(**SMALL, out=str(folder)), resume=True)
    assert final_bytes(folder) == final_bytes(finished.folder)


def test_weights_that_diverge_in_the_last_step_are_blamed_on_the_rate(features, tmp_path):
    settings = {"optimizer": "sgd", "lr": 1e30, "epochs": 2, "batch_size": 1000, "bits": 9}
    with pytest.raises(ValueError, match=r"lr: the sum of the outputs is (nan|inf|-inf) in epoch 2"):
        train(Config(dataset=str(features), **settings, out=str(tmp_path / "run")))


@pytest.mark.parametrize(("name", "found"), [("model.safetensors", "model"), ("report/mine.txt", "report")])
def test_files_of_somebody_else_are_left_alone(tmp_path, features, name, found):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    config = Config(dataset=str(features), epochs=1, bits=9, width=8, out=str(tmp_path))
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=f"is no run, but holds {found}"):
            train(config, overwrite=overwrite)
    assert (tmp_path / name).read_text() == "mine"
    assert not (tmp_path / "config.toml").exists()


def test_only_temporary_files_of_a_run_are_cleared_away(tmp_path, features):
    for name in (".mine.tmp", ".split.json.abc.tmp"):
        (tmp_path / name).write_text("")
    train(Config(dataset=str(features), epochs=1, bits=9, width=8, out=str(tmp_path)))
    assert [path.name for path in tmp_path.glob(".*.tmp")] == [".mine.tmp"]


@pytest.mark.parametrize("settings", [{"dataset": "no-such-set"}, {"batch_size": 1}, {"topk": 9999}])
def test_a_run_is_replaced_only_by_one_that_can_be(copy, settings):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError):
        train(Config(**{**SMALL, **settings}, out=str(copy)), overwrite=True)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_settings_of_something_else_are_not_replaced(tmp_path):
    (tmp_path / "config.toml").write_text("[tool]\nname = 1\n")
    with pytest.raises(ValueError, match=r"config\.toml"):
        train(Config(**SMALL, out=str(tmp_path)), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_run_killed_before_its_first_file_but_one_is_a_run(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Split, "save", lambda self, path: stop())
        train(Config(**SMALL, out=str(folder)))
    assert [path.name for path in folder.iterdir()] == ["config.toml"]
    train(Config(**SMALL, out=str(folder)), resume=True)
    assert final_bytes(folder) == final_bytes(finished.folder)


def test_a_checkpoint_without_its_split_is_not_resumed(copy):
    (copy / "split.json").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"split\.json"):
        train(Config(**SMALL, out=str(copy)), resume=True)


@pytest.mark.parametrize(("n_items", "batch_size"), [(40, 1), (5, 2)])
def test_batches_of_one_are_refused(tmp_path, n_items, batch_size):
    path = tmp_path / "few.npz"
    values = np.random.default_rng(0).normal(size=(n_items, 3)).astype(np.float32)
    np.savez(path, features=values, labels=np.arange(n_items) % 2, n_train=n_items - 2)
    config = Config(dataset=str(path), batch_size=batch_size, bits=9, validation=0.0)
    with pytest.raises(ValueError, match=f"batch_size: got {batch_size}, which cuts {n_items - 2} training"):
        train(config.override(out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_images_too_small_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "tiny.npz"
    np.savez(path, x=np.zeros((40, 3, 3, 1), np.uint8), labels=np.arange(40) % 2)
    with pytest.raises(ValueError, match="image_size: small_net does not take 3x3 images"):
        train(Config(dataset=str(path), out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_the_data_are_read_once(monkeypatch, tmp_path, features):
    import dshc.training

    real, calls = dshc.training.load_data, []
    for module in ("dshc.training", "dshc.run"):
        monkeypatch.setattr(f"{module}.load_data", lambda config: calls.append(1) or real(config))
    run = train(Config(dataset=str(features), epochs=1, bits=9, width=8, out=str(tmp_path / "run")))
    assert run.encode(run.split.query)[0].shape[1] == 2 and len(calls) == 1


def test_one_class_alone_is_warned_of(tmp_path):
    path = tmp_path / "one.npz"
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(path, features=values, labels=np.zeros(40, np.int64))
    with pytest.warns(UserWarning, match="one: all 40 items are of one class"):
        train(Config(dataset=str(path), epochs=1, width=8, out=str(tmp_path / "run")))


@pytest.mark.parametrize("line", ["[1]", "null", "3"])
def test_rows_of_metrics_are_objects(copy, line):
    (copy / "metrics.jsonl").write_text(f"{{}}\n{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl: damaged \(line 2"):
        _ = load_run(copy).metrics


def test_the_hint_to_resume_can_be_pasted(tmp_path, monkeypatch):
    folder = tmp_path / "my run"
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match=r"--resume --out '.*my run'"):
        at_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        train(Config(**SMALL, out=str(folder)))
