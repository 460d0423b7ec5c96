"""What a method is told by a training: stages, iterations, items, passes over all items. On a method of this file."""

from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn
from training_plans import fitted, planned, write_features
from training_runs import Stopped, at_step, final, stop, train

import dshc
import dshc_fast
from dshc import methods
from dshc.methods import Method, MethodSettings, PerClass, Stage
from dshc.settings import setting

SMALL = {"method": "staged", "bits": 8, "epochs": 1, "batch_size": 16, "validation": 0.0, "width": 8}
N_STEPS = 8  # 128 items
LAST = 11  # steps of the second stage: an epoch, and 3


class StagedSettings(MethodSettings):
    name: Literal["staged"] = "staged"
    bits: int | None = setting(None, "code length in bits", ge=1)


class Staged(Method):
    """Two stages, one in epochs and one in iterations; it keeps what it is told."""

    name = "staged"
    title = "a method of a test"
    source = "nowhere"
    Settings = StagedSettings
    label_kinds = ("ids",)
    told: list = []

    def __init__(self, settings, spec):
        super().__init__(settings, spec)
        self.n_bits = self.n_outputs = settings.bits
        self.head = nn.Linear(spec.n_features, self.n_bits)

    def stages(self, epochs):
        return (Stage("warm", epochs=epochs), Stage("fine", iterations=LAST))

    def begin(self, training):
        self.told.append(("begin", training))

    def begin_epoch(self, everything):
        outputs, features = everything.outputs(), everything.features()
        expected = Staged.expected() if hasattr(Staged, "expected") else None
        self.told.append(("epoch", everything, outputs, features, self.training, expected))

    def loss(self, outputs, step):
        self.told.append(("loss", step, self.training))
        return (outputs.tanh() - torch.randn(outputs.shape, generator=step.generator)).square().mean()

    def finish(self, everything):
        self.told.append(("finish", everything))

    def encode(self, outputs):
        return dshc_fast.pack_codes(outputs)


class OnPairs(Staged):
    """Four items of each class of a batch."""

    sampling = PerClass(4)


@pytest.fixture
def staged(monkeypatch):
    real = methods._table()
    monkeypatch.setattr(methods, "_table", lambda: {**real, "staged": Staged})
    monkeypatch.setattr(Staged, "told", [])
    return Staged.told


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("stages") / "features.npz")


def test_stages_iterations_and_progress_in_order(staged, source):
    plan = planned(source, **SMALL)
    assert (plan.n_steps, plan.n_total, plan.n_epochs) == (N_STEPS, N_STEPS + LAST, 3)
    fitted(plan)
    told = Staged.told
    n_total = N_STEPS + LAST
    steps = [entry[1] for entry in told if entry[0] == "loss"]
    assert [step.iteration for step in steps] == [*range(n_total)]
    assert [step.stage for step in steps] == ["warm"] * N_STEPS + ["fine"] * LAST
    assert [step.epoch for step in steps] == [0] * 8 + [1] * 8 + [2] * 3
    assert [step.progress for step in steps] == [i / n_total for i in range(n_total)]
    assert all(entry[2] for entry in told if entry[0] == "loss")  # in training mode
    for epoch in (0, 1):
        items = torch.cat([step.items for step in steps if step.epoch == epoch])
        assert items.sort().values.tolist() == [*range(128)]
    for step in steps:
        assert torch.equal(step.labels, plan.train_labels[step.items])
        assert torch.equal(step.gather(step.labels)[step.own], step.labels)
        assert step.averaged_outputs() is None
    kinds = [entry[0] for entry in told]
    one = ["epoch", *["loss"] * 8, "finish"]
    assert kinds == ["begin", *one, *one, "epoch", *["loss"] * 3, "finish"]


def test_a_pass_gives_all_items_in_item_order_in_evaluation_mode(staged, source, monkeypatch):
    plan = planned(source, **SMALL)
    values = plan.batches.batch(torch.from_numpy(plan.split.train))

    @torch.no_grad()
    def expected():
        hasher = plan.hasher
        training = hasher.training
        hasher.eval()
        features = hasher.backbone(values)
        outputs = hasher.method.head(features)
        hasher.train(training)
        return outputs, features

    monkeypatch.setattr(Staged, "expected", staticmethod(expected), raising=False)
    fitted(plan)
    passes = [entry for entry in Staged.told if entry[0] == "epoch"]
    assert [(p[1].epoch, p[1].stage) for p in passes] == [(0, "warm"), (1, "fine"), (2, "fine")]
    for _, everything, outputs, features, training, (their_outputs, their_features) in passes:
        assert training and outputs.shape == (128, 8) and features.shape == (128, 8)
        assert torch.equal(outputs, their_outputs) and torch.equal(features, their_features)
        assert not outputs.requires_grad and torch.equal(everything.labels, plan.train_labels)
    assert not torch.equal(passes[0][2], passes[1][2])
    begin = Staged.told[0][1]
    assert begin.n_items == 128 and torch.equal(begin.labels, plan.train_labels)


def test_averaged_outputs_are_those_of_the_averaged_weights(staged, source, monkeypatch):
    plan = planned(source, **SMALL, ema=0.5, backbone="identity")
    seen = []

    def loss(self, outputs, step):
        seen.append((outputs.detach(), step.averaged_outputs(), step.iteration))
        return (outputs - 1).square().mean()

    monkeypatch.setattr(Staged, "loss", loss)
    fitted(plan)
    assert torch.equal(seen[0][0], seen[0][1])  # nothing was averaged yet: the weights as they began
    assert not any(torch.equal(live, averaged) for live, averaged, i in seen if i > 1)
    assert not any(averaged.requires_grad for _, averaged, _ in seen)


def test_stopped_in_either_stage_it_comes_to_the_same(staged, source, tmp_path, monkeypatch):
    settings = {**SMALL, "source": str(source), "validation": 0.2, "checkpoint_every": 2, "threads": 1}
    whole = train(tmp_path / "whole", settings)
    for step in (4, 11, 16):
        folder = tmp_path / str(step)
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            at_step(patch, step, stop, Staged)
            train(folder, settings)
        train(folder, settings, resume=True)
        assert final(folder) == final(whole.folder)
    again = dshc.load_run(whole.folder)
    assert again.encode(again.split.query)[1] is None  # it predicts nothing
    np.testing.assert_array_equal(again.encode(again.split.query)[0], whole.encode(whole.split.query)[0])


def test_batches_of_some_items_of_each_class(staged, source, monkeypatch):
    real = methods._table()
    monkeypatch.setattr(methods, "_table", lambda: {**real, "staged": OnPairs})
    plan = planned(source, **{**SMALL, "batch_size": 11})
    assert plan.batch_size == 8 and plan.n_steps == 16
    fitted(plan)
    steps = [entry[1] for entry in Staged.told if entry[0] == "loss"]
    assert steps and all(torch.bincount(step.labels).tolist() == [4, 4] for step in steps)
    with pytest.raises(
        ValueError,
        match="batch_size must leave at least .* items per step .*, got 3, which cuts 128",
    ):
        planned(source, **{**SMALL, "batch_size": 3})


def test_another_package_registers_its_method_by_entry_point(monkeypatch, source):
    class Point:
        name, value = "staged", "their.module:Staged"

        def load(self):
            return Staged

    monkeypatch.setattr(methods, "entry_points", lambda group: [Point()] if group == "dshc.methods" else [])
    methods._table.cache_clear()
    try:
        assert methods.available()[-1] == "staged" and methods.get("staged") is Staged
        assert isinstance(planned(source, **SMALL).hasher.method, Staged)
        monkeypatch.setattr(Point, "name", "dshc")
        methods._table.cache_clear()
        with pytest.raises(
            ValueError, match=r"method 'dshc' is there already; their\.module:Staged must take"
        ):
            methods.available()
    finally:
        monkeypatch.undo()
        methods._table.cache_clear()
    assert "staged" not in methods.available()


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ({}, "must have a length in epochs or in iterations, and not both"),
        ({"epochs": 1, "iterations": 1}, "must have a length in epochs or in iterations, and not both"),
        ({"epochs": 0}, "stage 'x' must last at least 1, got 0"),
        ({"iterations": -1}, "stage 'x' must last at least 1, got -1"),
    ],
)
def test_a_stage_has_one_length(length, message):
    with pytest.raises(ValueError, match=message):
        Stage("x", **length)
