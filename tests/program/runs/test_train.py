"""Training: what is learned, what it may see, and which ops ran."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import SMALL, final, final_bytes, rows, train

import dshc
import dshc_fast
from dshc.data.image_batches import TensorImages


def test_two_runs_are_equal_to_the_bit(finished, tmp_path):
    train(tmp_path / "run")
    assert final(tmp_path / "run") == final(finished.folder)
    assert rows(tmp_path / "run") == rows(finished.folder)
    # The files differ, for each says whose it is.
    assert final_bytes(tmp_path / "run") != final_bytes(finished.folder)


def test_another_seed_is_another_run(finished, tmp_path):
    other = train(tmp_path / "run", seed=1, epochs=1)
    assert other.split != finished.split
    assert final(other.folder)[0][0] != final(finished.folder)[0][0]


def test_settings_by_name_and_as_an_object_are_the_same(features, tmp_path):
    values = {"epochs": 1, "bits": 9, "width": 8, "optim.lr": 0.01, "device": "cpu", "threads": 1}
    dshc.train(str(features), **values, out=tmp_path / "by name")
    settings = dshc.RunSettings.of(source=str(features), **values, out=tmp_path / "object")
    dshc.train(settings)
    assert final(tmp_path / "by name") == final(tmp_path / "object")


def test_metrics_carry_their_conventions(finished):
    assert [row["epoch"] for row in finished.metrics] == [1, 2]
    row = finished.metrics[-1]
    assert {
        "loss",
        "lr",
        "train_accuracy",
        "validation_accuracy",
        "validation_map",
        "seconds",
    } < row.keys()
    for convention in ("mAP@all", "ties=expected", "denominator=retrieved", "score=hamming", "144 queries"):
        assert convention in row["validation_conventions"]


def test_a_run_learns_and_encodes(features, tmp_path):
    settings = {"source": str(features), "epochs": 6, "bits": 9, "width": 32, "batch_size": 16}
    run = train(tmp_path / "run", settings)
    codes, predictions = run.encode(run.split.query)
    assert codes.dtype == np.uint8 and codes.shape == (len(run.split.query), 2)
    assert (predictions == run.dataset.labels[run.split.query]).mean() > 0.9
    assert run.metrics[-1]["validation_map"] > 0.7
    inputs = run.dataset.inputs[run.split.query]
    hasher = dshc.load_run(tmp_path / "run").hasher
    assert np.array_equal(hasher.encode(inputs), codes) and np.array_equal(
        hasher.predict(inputs), predictions
    )
    assert run.encode(np.array([], dtype=np.int64))[0].shape == (0, 2)
    with pytest.raises(ValueError, match=r"items must have shape \(n, 12\), got \(1, 3\)"):
        run.hasher.encode(np.zeros((1, 3), np.float32))


def test_multilabel_data(labelled, tmp_path):
    settings = {"source": str(labelled), "method": "dshc-multilabel", "epochs": 8, "width": 64}
    run = train(tmp_path / "run", settings)
    codes, predictions = run.encode(run.split.query)
    assert predictions.dtype == bool and predictions.shape == (len(run.split.query), 5)
    assert np.array_equal(np.unpackbits(codes, axis=1, count=5, bitorder="little"), predictions)
    row = run.metrics[-1]
    assert row["validation_micro_f1"] > 0.8 and "score=overlap" in row["validation_conventions"]
    assert dshc.load_run(run.folder).hasher.class_names == run.dataset.class_names


def test_bf16_on_a_cpu_without_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("dshc.hasher.arithmetic._cpu_has_bfloat16", lambda: False)
    with pytest.warns(
        UserWarning,
        match="precision bf16 must have a processor with it, got one without; float32 takes its place",
    ):
        found = train(tmp_path / "run", precision="bf16", epochs=1)
    expected = train(tmp_path / "exact", precision="fp32", epochs=1)
    assert found.hasher.precision == "bf16"
    weights = (run.hasher.state_dict() for run in (found, expected))
    assert all(torch.equal(*pair) for pair in zip(*(one.values() for one in weights), strict=True))


def test_bf16_trains_and_resumes(tmp_path):
    run = train(tmp_path / "run", precision="bf16", epochs=1)
    assert np.isfinite(run.metrics[0]["loss"])
    assert run.hasher.precision == "bf16"
    assert run.encode(run.split.query)[0].shape == (360, 4)
    before = final_bytes(run.folder)
    train(tmp_path / "run", precision="bf16", epochs=1, resume=True)
    assert final_bytes(run.folder) == before


def test_without_validation_the_last_weights_are_taken(tmp_path, features):
    run = train(tmp_path / "run", {"source": str(features), "epochs": 2, "bits": 9, "validation": 0.0})
    assert run.weights == "last" and not (run.folder / "best.safetensors").exists()
    assert "validation_map" not in run.metrics[0]
    assert len(run.split.train) == len(run.split.database)


def test_queries_never_select(monkeypatch, tmp_path):
    seen, real = [], TensorImages.batch

    def batch(self, indices, **keywords):
        seen.append(np.asarray(indices))
        return real(self, indices, **keywords)

    monkeypatch.setattr(TensorImages, "batch", batch)
    run = train(tmp_path / "run")
    assert np.isin(run.split.train, np.concatenate(seen)).all()
    assert not np.isin(np.concatenate(seen), run.split.query).any()


def test_what_it_changes_in_torch_is_given_back(finished):
    before = torch.get_num_threads()
    state = torch.get_rng_state()
    train(finished.folder, resume=True)
    assert torch.get_num_threads() == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_data_are_read_once(monkeypatch, tmp_path, features):
    import dshc.data

    real, calls = dshc.data.load, []

    def load(*arguments, **options):
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(dshc.data, "load", load)
    run = train(tmp_path / "run", {"source": str(features), "epochs": 1, "bits": 9, "width": 8})
    assert run.encode(run.split.query)[0].shape[1] == 2 and len(calls) == 1


def test_one_class_alone_is_warned_of(tmp_path):
    path = tmp_path / "one.npz"
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.savez(path, features=values, labels=np.zeros(40, np.int64))
    with pytest.warns(UserWarning, match="one: all 40 items are of one class"):
        train(tmp_path / "run", {"source": str(path), "epochs": 1, "width": 8})


def test_events_and_a_line_an_epoch(finished, tmp_path, capsys):
    """Off a terminal, such as here, stderr gets a line an epoch; stdout nothing."""
    events = []
    train(tmp_path / "run", checkpoint_every=6, on_event=lambda name, values: events.append((name, values)))
    names = [name for name, _ in events]
    saved = ["checkpoint"]
    assert names == ["read", "start", *saved * 2, "epoch", *saved * 3, "epoch", "end"]
    places = [(values["epoch"], values["step"]) for name, values in events if name == "checkpoint"]
    # Every 6 steps of 11 an epoch, counted over epochs, and at the end of each.
    assert places == [(0, 6), (1, 0), (1, 1), (1, 7), (2, 0)]
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == "" and [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    row = finished.metrics[1]
    assert f"loss {row['loss']:.4f}, train accuracy {row['train_accuracy']:.4f}, validation mAP " in lines[1]
    assert f"{row['validation_map']:.4f}" in lines[1] and lines[1].endswith(" s")
    selected = [i for i, line in enumerate(lines, 1) if "(selected)" in line]
    assert selected[-1] == finished.epoch


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
        if callable(value) and getattr(value, "__module__", "").startswith(dshc_fast.reference.__name__):
            monkeypatch.setattr(dshc_fast.reference, name, never)

    def ops(action):
        with Recorder() as recorder:
            result = action()
        return result, {op.split(".")[1] for op in recorder.ops if op.startswith("dshc_fast.")}

    run, trained = ops(lambda: train(tmp_path / "run", SMALL, epochs=1))
    assert {"class_softmax_loss", "codes_from_logits", "center_codes_from_logits"} <= trained
    assert trained & {"average_precision", "hamming_histogram"}
    (codes, _), encoded = ops(lambda: run.encode(run.split.query))
    assert encoded == {"codes_from_logits", "center_codes_from_logits"}
    labels = torch.from_numpy(run.dataset.labels[run.split.query])
    codes = torch.from_numpy(codes)
    _, ranked = ops(lambda: dshc_fast.mean_average_precision(codes, codes, labels, labels, n_bits=30))
    assert ranked & {"average_precision", "hamming_histogram"}


def test_multilabel_loops_run_on_the_registered_ops(labelled, tmp_path):
    settings = {"source": str(labelled), "method": "dshc-multilabel", "epochs": 1}
    with Recorder() as recorder:
        train(tmp_path / "run", settings)
    assert any(op.startswith("dshc_fast.multilabel_codes") for op in recorder.ops)
    assert any(
        op.startswith(("dshc_fast.average_precision", "dshc_fast.hamming_histogram")) for op in recorder.ops
    )
