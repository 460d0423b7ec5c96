"""Checkpoints: what is written comes back, and what is none is refused by name."""

import dataclasses

import pytest
import safetensors.numpy
import torch
from training_plans import Recorder, planned, write_features

from dshc.training import Trainer
from dshc.training.checkpoint import Position, read_checkpoint, restore, write_checkpoint

SMALL = {"epochs": 1, "bits": 8, "batch_size": 16, "validation": 0.0, "width": 8}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("checkpoint") / "features.npz")


def trained(source, **values):
    trainer = Trainer(planned(source, **SMALL, **values), [Recorder()])
    with torch.random.fork_rng():
        return trainer, trainer.fit()


def write(path, trainer, position):
    average = {} if trainer.average is None else trainer.average.state()
    return write_checkpoint(
        path, trainer.hasher, trainer.optimizers, average, position, run="r", settings="s"
    )


def flat(optimizers):
    return {
        (number, index, name): value
        for number, optimizer in enumerate(optimizers)
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "sgd", "lr": 0.1},
        {"optimizer": "adamw", "ema": 0.5},
        {"optimizer": "muon"},
        {"optimizer": "rmsprop"},
        {"method": "dpsh"},
        {"subclass": "learned", "assignment": "sinkhorn", "queue": 4},
    ],
    ids=str,
)
def test_what_is_written_comes_back(tmp_path, source, values):
    trainer, position = trained(source, **values)
    position = dataclasses.replace(position, step=3, loss=1 / 3, tally=[4, 5], counted=[[0.1, 2.0]])
    checkpoint = read_checkpoint(write(tmp_path / "state.safetensors", trainer, position))
    assert checkpoint.position == position and (checkpoint.run, checkpoint.settings) == ("r", "s")

    other = Trainer(planned(source, **SMALL, **values, seed=1))
    other._begin(None)
    restore(checkpoint, other.hasher, other.optimizers)
    state = trainer.hasher.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in other.hasher.state_dict().items())
    before, after = flat(trainer.optimizers), flat(other.optimizers)
    assert before and {*before} == {*after}
    for key, value in before.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(after[key])), key
    kept = other.hasher.method.training_state()
    assert {*kept} == {*trainer.hasher.method.training_state()}
    for name, value in trainer.hasher.method.training_state().items():
        assert torch.equal(kept[name], value)
    # The same bytes again, momenta lying in memory as their weights do.
    average = {} if trainer.average is None else checkpoint.tensors["average"]
    again = write_checkpoint(
        tmp_path / "again", other.hasher, other.optimizers, average, position, run="r", settings="s"
    )
    assert again.read_bytes() == (tmp_path / "state.safetensors").read_bytes()
    for optimizer in other.optimizers:
        for weight, state in optimizer.state.items():
            same_shape = [v for v in state.values() if torch.is_tensor(v) and v.shape == weight.shape]
            assert same_shape and all(v.stride() == weight.stride() for v in same_shape)


@pytest.mark.parametrize("values", [{"width": 9}, {"bits": 10}, {"method": "dpsh"}])
def test_a_checkpoint_of_another_network_is_refused(tmp_path, source, values):
    trainer, position = trained(source, optimizer="adamw")
    checkpoint = read_checkpoint(write(tmp_path / "state.safetensors", trainer, position))
    plan = planned(source, **{**SMALL, "optimizer": "adamw", **values})
    other = Trainer(plan)
    with pytest.raises(ValueError, match="checkpoint must be of this network, got another"):
        restore(checkpoint, other.hasher, other.optimizers)


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, source):
    trainer, position = trained(source)
    path = write(tmp_path / "state.safetensors", trainer, position)
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors: no such file"):
        read_checkpoint(tmp_path / "nothing.safetensors")
    content = bytearray(path.read_bytes())
    for place in (len(content) // 2, len(content) - 1, 200):
        damaged = content.copy()
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"state\.safetensors: damaged"):
            read_checkpoint(path)
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match=r"state\.safetensors: damaged"):
        read_checkpoint(path)
    safetensors.numpy.save_file({}, path, metadata={"kind": "dshc.checkpoint/1"})
    with pytest.raises(
        ValueError,
        match=r"state\.safetensors: written by an earlier version .dshc.checkpoint.1., .* train again",
    ):
        read_checkpoint(path)
    safetensors.numpy.save_file({}, path, metadata={"kind": "dshc.hasher/1"})
    with pytest.raises(
        ValueError, match=r"state\.safetensors: must hold 'dshc\.checkpoint/2', got 'dshc\.hasher/1'"
    ):
        read_checkpoint(path)


def test_a_position_begins_at_nothing():
    assert dataclasses.asdict(Position()) == {
        **{"epoch": 0, "step": 0, "loss": 0.0, "items": 0, "tally": [0, 0], "seconds": 0.0},
        **{"selected_epoch": None, "best_map": None, "threads": None, "processes": 1, "counted": None},
        "history": [],
    }
