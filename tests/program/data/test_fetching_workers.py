"""What goes wrong in, or is sent to, the processes that decode."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from extras import needs
from fetching import AUGMENTING
from training_runs import PIPES, at_step, environment, final, train

from dshc.data.fetched_images import FetchedImages
from dshc.errors import InputError
from dshc.training import Interrupted

needs_vision = needs("torchvision")


class Dying:
    """Images of which one ends the process that asks for it."""

    shape = (8, 4, 4, 3)

    def __init__(self, action):
        self.action = action

    def __len__(self):
        return 8

    def __getitem__(self, item):
        if item == 5:
            self.action()
        return np.zeros((4, 4, 3), np.uint8)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def give_up():
    raise ValueError("a.png: cannot be read (damaged)")


def of_dying(action, workers=1):
    return FetchedImages(Dying(action), mean=torch.zeros(3), std=torch.ones(3), workers=workers)


def test_a_worker_that_dies_is_named():
    batches = of_dying(kill).fetch([np.array([1]), np.array([5]), np.array([2])], (0, 0))
    with pytest.raises(
        InputError, match="workers must be fewer, or 0, where memory is short, got 1: .* died"
    ):
        list(batches)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_that_cannot_be_read_is_named_as_without_workers(workers):
    batches = of_dying(give_up, workers).fetch([np.array([1]), np.array([2, 5]), np.array([2])], (0, 0))
    assert next(batches).shape == (1, 4, 4, 3)
    with pytest.raises(ValueError) as caught:
        next(batches)
    assert str(caught.value) == "a.png: cannot be read (damaged)"


def test_a_defect_in_a_worker_keeps_its_traceback():
    batches = of_dying(lambda: 1 / 0).fetch([np.array([5])], (0, 0))
    with pytest.raises(ZeroDivisionError, match="Original Traceback"):
        list(batches)


@pytest.mark.deep
@needs_vision
def test_a_worker_that_dies_while_the_network_works_ends_the_training(folder, tmp_path, monkeypatch):
    """torch raises it wherever the program is; a checkpoint is there."""
    others = multiprocessing.active_children()

    def kill_a_worker():
        (worker,) = (child for child in multiprocessing.active_children() if child not in others)
        os.kill(worker.pid, signal.SIGKILL)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)

    settings = {**AUGMENTING, "source": str(folder), "workers": 1}
    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="where memory is short, got 1: .* died"),
    ):
        at_step(patch, 2, kill_a_worker)
        train(tmp_path / "run", settings)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(train(tmp_path / "whole", settings, workers=0).folder)


@needs_vision
def test_ctrl_c_ends_the_step_and_resumes(folder, tmp_path, monkeypatch):
    settings = {**AUGMENTING, "source": str(folder), "workers": 2, "checkpoint_every": None}
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a job in the background
    try:
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match="in epoch 1, step 2 of"):
            at_step(patch, 2, lambda: signal.raise_signal(signal.SIGINT))
            train(tmp_path / "run", settings)
    finally:
        signal.signal(signal.SIGINT, before)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(train(tmp_path / "whole", settings, workers=0).folder)


def in_session(leader):
    """The processes of a session, in whatever group they are."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(int(name)) == leader:
                found.append(int(name))
    return found


CHILD = """
import json, os, signal, sys
import dshc
from dshc.methods import DSHC

signal.signal(signal.SIGINT, signal.default_int_handler)
settings, real, n = json.loads(sys.argv[1]), DSHC.loss, 0

def loss(self, outputs, about):
    global n
    n += 1
    if n == 2:
        print("waiting", flush=True)
        sys.stdin.readline()
    return real(self, outputs, about)

DSHC.loss = loss
dshc.train(settings.pop("source"), **settings)
"""


@needs_vision
@pytest.mark.deep
@pytest.mark.parametrize("options", [{}, {"batch_size": 3, "accumulate": 5, "workers": 1}], ids=str)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_all_processes_leaves_a_checkpoint_and_no_process(folder, tmp_path, name, options):
    """As Ctrl-C at a terminal; a step that adds up batches has to fetch the rest of them."""
    settings = {**AUGMENTING, "source": str(folder), "workers": 2, "checkpoint_every": None, "device": "cpu"}
    settings |= options
    arguments = json.dumps({**settings, "out": str(tmp_path / "run")})
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, arguments], env=environment(), start_new_session=True, **PIPES
    )
    try:
        assert process.stdout.readline() == "waiting\n"
        os.killpg(process.pid, getattr(signal, name))
        _, errors = process.communicate("\n", timeout=120)
    finally:
        if process.poll() is None:  # a test that fails leaves no process either
            for pid in in_session(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait()
    where = f"Interrupted: interrupted in epoch 1, step {5 if options else 2} of"
    assert where in errors and "DataLoader worker" not in errors
    assert not in_session(process.pid)
    del settings["device"]
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(train(tmp_path / "whole", settings, workers=0).folder)
