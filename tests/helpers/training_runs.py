"""Small runs for the tests of training; conftest.py makes the fixtures known."""

import json

import numpy as np
import pytest

from dshc.config import Config
from dshc.methods import DSHC
from dshc.training import train

SMALL = {"dataset": "digits", "width": 4, "epochs": 2, "batch_size": 128, "threads": 1, "checkpoint_every": 3}
PER_EPOCH = 11  # 1,293 training digits


@pytest.fixture(scope="session")
def features(tmp_path_factory):
    """A file of embeddings of three classes that lie apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    values = rng.normal(size=(240, 12)) + 4 * np.eye(3, 12)[labels]
    path = tmp_path_factory.mktemp("features") / "features.npz"
    np.savez(path, features=values.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """A file of embeddings with several labels each."""
    rng = np.random.default_rng(1)
    labels = (rng.random((300, 5)) < 0.3).astype(np.uint8)
    labels[labels.sum(1) == 0, 0] = 1
    values = labels @ rng.normal(size=(5, 16)) + 0.1 * rng.normal(size=(300, 16))
    path = tmp_path_factory.mktemp("labelled") / "labelled.npz"
    np.savez(path, features=values.astype(np.float32), labels=labels)
    return path


@pytest.fixture(scope="session")
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

    def loss(self, outputs, labels, items=None):
        count[0] += 1
        if count[0] == step:
            action()
        return real(self, outputs, labels, items)

    monkeypatch.setattr(DSHC, "loss", loss)


class Stopped(Exception):
    pass


def stop():
    raise Stopped


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to damage."""
    import shutil

    return shutil.copytree(finished.folder, tmp_path / "copy")
