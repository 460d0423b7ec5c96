"""Small runs for the tests of training; conftest.py makes the fixtures known."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import dshc
from dshc.hasher.files import read_hasher
from dshc.methods import DSHC

SMALL = {"source": "digits", "width": 4, "epochs": 2, "batch_size": 128, "threads": 1, "checkpoint_every": 3}
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


def train(out, settings=SMALL, *, resume=False, overwrite=False, on_event=None, **more):
    """``dshc.train`` of settings by name, some of them changed, in the folder ``out``; devices: the CPU."""
    chosen = {"device": "cpu", **settings, **more, "out": str(out)}
    source = chosen.pop("source")
    return dshc.train(source, resume=resume, overwrite=overwrite, on_event=on_event, **chosen)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A small run on the digits that nothing disturbed; tests only read it."""
    return train(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, to damage."""
    return shutil.copytree(finished.folder, tmp_path / "copy")


def final_bytes(folder):
    return (folder / "last.safetensors").read_bytes(), (folder / "best.safetensors").read_bytes()


def final(folder):
    """What both files of weights hold, bit for bit: all but the run's id, of which every run has its own."""
    return [_without_run(folder / f"{name}.safetensors") for name in ("last", "best")]


def _without_run(path):
    state, description = read_hasher(path)
    del description["about"]["run"]
    return {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in state.items()}, description


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in lines]


def contents(folder):
    """Every file of a folder by name, the lock aside, which tells of its last holder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def at_step(monkeypatch, step, action, method=DSHC):
    """Do ``action`` in the loss of the ``step``-th step from now, counted from 1."""
    real, count = method.loss, [0]

    def loss(self, outputs, about):
        count[0] += 1
        if count[0] == step:
            action()
        return real(self, outputs, about)

    monkeypatch.setattr(method, "loss", loss)


class Stopped(Exception):
    pass


def stop():
    raise Stopped


# A training in a process of its own: settings, whether to resume, and at which step to do what: "kill" the process,
# or write a line and "wait" for one on stdin.
CHILD = """
import json, os, signal, sys
import dshc
from dshc.methods import DSHC

settings, resume, steps, action = json.loads(sys.argv[1])
real = DSHC.loss

def loss(self, outputs, about):
    global steps
    steps -= 1
    if steps == 0:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        print("waiting", flush=True)
        sys.stdin.readline()
    return real(self, outputs, about)

DSHC.loss = loss
dshc.train(settings.pop("source"), resume=resume, **settings)
"""


def child(settings, *, step, action, resume=False):
    """Start :data:`CHILD`; a ``Popen`` whose stdin and stdout are text pipes."""
    arguments = json.dumps([{"device": "cpu", **settings}, resume, step, action])
    return subprocess.Popen([sys.executable, "-c", CHILD, arguments], env=environment(), **PIPES)


def environment():
    """Of a child process that finds what this one imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
