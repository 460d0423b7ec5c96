"""What training refuses, and that nothing is half written."""

import os
import signal

import numpy as np
import pytest
from training_runs import SMALL, Stopped, at_step, final_bytes, stop

from dshc.checkpoint import CHECKPOINT
from dshc.config import Config
from dshc.data import Split
from dshc.training import Interrupted, load_run, train
from dshc.validation import Validation


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
