"""Training: what a run folder holds, what is learned, and which ops ran."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import SMALL

import dshc_fast
from dshc.checkpoint import CHECKPOINT
from dshc.config import Config
from dshc.data import Split
from dshc.training import _learning_rate, load_run, train


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
