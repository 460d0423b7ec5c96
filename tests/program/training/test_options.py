"""What the options of a training do to its steps: averaging, accumulation, clipping, rates, samplers."""

import numpy as np
import pytest
import torch
from training_plans import Recorder, fitted, planned, write_features

from dshc.methods import DSHC
from dshc.training import Trainer
from dshc.training.optimizers import OPTIMIZERS
from dshc.training.schedules import SCHEDULES

SMALL = {"epochs": 2, "bits": 8, "batch_size": 16, "validation": 0.0, "width": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """128 training items of two classes: batches of 16 and 32 leave none over."""
    return write_features(tmp_path_factory.mktemp("options") / "features.npz")


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first) and {*first} == {*second}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns(source, name):
    lr = {"sgd": 0.05, "rmsprop": 0.002}.get(name, 0.01)
    trainer, seen = fitted(planned(source, **{**SMALL, "epochs": 8, "width": 32}, optimizer=name, lr=lr))
    # No loss is below the entropy of equal targets on the sub-classes of a class.
    least = np.log(trainer.hasher.method.n_outputs / 2)
    assert least <= seen.rows[-1]["loss"] < least + (seen.rows[0]["loss"] - least) / 2
    assert seen.rows[-1]["train_accuracy"] > 0.9


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_sets_the_rates_of_the_steps(source, name):
    trainer, seen = fitted(
        planned(source, **SMALL, optimizer="sgd", lr=0.05, backbone_lr=0.01, schedule=name)
    )
    rates = np.array(seen.rates)
    assert rates.shape == (trainer.plan.n_total, 4)
    assert rates.max() <= 0.05 and rates[:, 2].max() == pytest.approx(0.05, rel=0.05)
    # Two groups of the backbone at a fifth of the two others.
    np.testing.assert_allclose(rates[:, :2], rates[:, 2:] / 5, rtol=1e-12)
    np.testing.assert_array_equal(rates[:, 0], rates[:, 1])
    assert seen.rows[1]["lr"] == rates[-1, 2]
    assert seen.rows[1]["loss"] < seen.rows[0]["loss"]


@pytest.mark.parametrize(("schedule", "peak"), [("cosine", 0.05), ("onecycle", 0.3)])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(source, schedule, peak):
    plan = planned(
        source, **{**SMALL, "epochs": 10, "batch_size": 8}, optimizer="sgd", lr=0.4, schedule=schedule
    )
    _, seen = fitted(plan)
    rates = np.array(seen.rates)[:, 0]
    top = rates.argmax()
    assert top == pytest.approx(peak * plan.n_total, abs=1) and rates[top] == pytest.approx(0.4, rel=1e-2)
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[-1] < 1e-3


def test_without_a_backbone_rate_all_train_at_one(source):
    _, seen = fitted(planned(source, **SMALL, lr=0.01))
    assert all(len({*rates}) == 1 for rates in seen.rates)


def test_averaged_weights_are_saved_and_live_ones_trained(source):
    decay = 0.7
    options = {**SMALL, "validation": 0.2, "lr": 0.01}
    _, plain = fitted(planned(source, **options))
    trainer, seen = fitted(planned(source, **options, ema=decay))
    for ours, theirs in zip(seen.steps, plain.steps, strict=True):
        assert same(ours, theirs)  # averaging does not change the training
    per_epoch = trainer.plan.n_steps
    for epoch, (state, _, last) in enumerate(seen.saved, 1):
        average = {name: value.double() for name, value in seen.steps[0].items()}
        for weights in seen.steps[1 : epoch * per_epoch]:
            average = {n: decay * average[n] + (1 - decay) * weights[n].double() for n in average}
        for name, value in average.items():
            torch.testing.assert_close(state[name].double(), value, rtol=1e-5, atol=1e-7)
            assert not torch.equal(state[name], seen.steps[epoch * per_epoch - 1][name])
        assert last == (epoch == 2)
    assert any(selected for _, selected, _ in seen.saved)
    # What is validated is what is saved.
    hasher = trainer.hasher
    hasher.load_state_dict(seen.saved[-1][0])
    row = trainer.validation.measure(hasher, trainer.plan.batches, trainer.processes)
    assert row["validation_map"] == seen.rows[-1]["validation_map"]


def test_two_batches_added_up_are_one_of_twice_the_size(source):
    """Without batch normalisation; a constant rate, for a schedule is looked up at the last batch of a group."""
    options = {**SMALL, "backbone": "identity", "schedule": "constant", "optimizer": "sgd", "lr": 0.1}
    _, one = fitted(planned(source, **{**options, "batch_size": 32}))
    _, two = fitted(planned(source, **options, accumulate=2))
    assert len(two.steps) == 2 * len(one.steps) == 16
    for i, weights in enumerate(one.steps):
        for name, value in weights.items():
            torch.testing.assert_close(two.steps[2 * i + 1][name], value, rtol=1e-4, atol=1e-6)
    assert two.rows[0]["loss"] == pytest.approx(one.rows[0]["loss"], rel=0.2)


def test_weights_move_where_a_group_of_batches_is_whole(source):
    _, seen = fitted(planned(source, **SMALL, lr=0.01, accumulate=3))
    moved = [i for i in range(1, 16) if not same(seen.steps[i - 1], seen.steps[i])]
    assert moved == [2, 5, 7, 10, 13, 15]  # 8 batches an epoch: 3, 3 and 2


def gradient_norms(plan):
    norms = []

    def note(optimizer, *_):
        gradients = [w.grad.flatten() for group in optimizer.param_groups for w in group["params"]]
        norms.append(torch.cat(gradients).norm().item())

    trainer = Trainer(plan, [recorder := Recorder()])
    trainer.optimizers[0].register_step_pre_hook(note)
    with torch.random.fork_rng():
        trainer.fit()
    return np.array(norms), recorder


def test_gradients_are_clipped_to_a_norm(source):
    options = {**SMALL, "optimizer": "sgd", "lr": 0.05}
    free, plain = gradient_norms(planned(source, **options))
    clipped, _ = gradient_norms(planned(source, **options, clip_norm=0.1))
    assert free.max() > 0.2 and clipped.max() <= 0.1 * (1 + 1e-5)
    assert clipped[0] == pytest.approx(0.1, rel=1e-5)
    _, far = gradient_norms(planned(source, **options, clip_norm=1e6))
    assert same(far.steps[-1], plain.steps[-1])


def test_classes_come_equally_often_where_asked_for(tmp_path, monkeypatch):
    source = write_features(tmp_path / "uneven.npz", counts=(96, 32))
    seen, real = [], DSHC.loss

    def loss(self, outputs, step):
        seen.append((step.epoch, step.items.clone(), step.labels.clone()))
        return real(self, outputs, step)

    monkeypatch.setattr(DSHC, "loss", loss)
    plan = planned(source, **SMALL, sampler="balanced")
    fitted(plan)
    for epoch in (0, 1):
        items = torch.cat([i for e, i, _ in seen if e == epoch])
        labels = torch.cat([c for e, _, c in seen if e == epoch])
        assert torch.equal(labels, plan.train_labels[items])
        assert torch.bincount(labels).tolist() == [64, 64]
        counts = torch.bincount(items[labels == 1], minlength=128)
        assert counts[counts > 0].tolist() == [2] * 32
    seen.clear()
    fitted(planned(source, **SMALL))
    assert torch.bincount(torch.cat([c for e, _, c in seen if e == 0])).tolist() == [96, 32]
