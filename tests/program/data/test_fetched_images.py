"""Images fetched one by one: as in memory, augmented by (seed, epoch, item) alone, by workers or without."""

from __future__ import annotations

import gc
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest
import torch
from photos import KINDS, write_photos
from training_runs import PIPES, Stopped, at_step, environment, final, rows, stop, train

from dshc.data import ImageFiles, load
from dshc.data.ahead import ahead
from dshc.data.batches import make_batches
from dshc.data.fetched_images import FetchedImages
from dshc.data.image_batches import TensorImages
from dshc.errors import InputError
from dshc.training import Interrupted

SIDE = 16
SMALL = {
    "image_size": SIDE,
    "backbone": "small_net",
    "width": 4,
    "bits": 9,
    "epochs": 2,
    "batch_size": 8,
    "threads": 1,
    "flip": True,
}
needs_vision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed (extra 'vision')"
)
AUGMENTED = [pytest.param(name, marks=needs_vision) for name in ("randaugment", "trivialaugment")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three kinds of twelve pictures, larger than they are needed and not square to a multiple."""
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", side=24, suffix=".png", kinds=KINDS[:3])


@pytest.fixture(scope="module")
def in_files(folder):
    return load(folder, image_size=SIDE, max_memory_mib=0).inputs


@pytest.fixture(scope="module")
def in_memory(folder):
    return load(folder, image_size=SIDE).inputs


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmented(source, name, workers=0):
    return FetchedImages(source, mean=torch.zeros(3), std=torch.ones(3), augment=name, workers=workers)


PICKS = [np.array([3, 0, 35]), np.array([7, 7, 1]), np.array([2])]


def fetched(images, numbers, picks=PICKS):
    return [batch.numpy() for batch in images.fetch(picks, numbers)]


# In files and in memory


def test_the_folder_is_read_either_way(in_files, in_memory):
    assert isinstance(in_files, ImageFiles) and isinstance(in_memory, np.ndarray)
    assert in_files.shape == in_memory.shape == (36, SIDE, SIDE, 3)


@pytest.mark.parametrize(
    "options", [{}, {"flip": True}, {"crop": True}, {"crop": True, "flip": True}], ids=str
)
@pytest.mark.parametrize("train", [False, True])
def test_batches_are_equal_byte_for_byte(in_files, in_memory, options, train):
    known = np.arange(0, 36, 2)
    files, memory = (make_batches(x, train_indices=known, **options) for x in (in_files, in_memory))
    assert isinstance(files, FetchedImages) and isinstance(memory, TensorImages)
    assert torch.equal(files.mean, memory.mean) and torch.equal(files.std, memory.std)
    assert len(files) == len(memory) == 36 and files.padding == memory.padding
    for number, pick in enumerate(PICKS):
        expected = memory.batch(pick, train=train, generator=generator(number))
        found = files.batch(pick, train=train, generator=generator(number))
        assert torch.equal(found, expected) and found.stride() == expected.stride()
    for batches in (files, memory):
        again = [
            batches.inputs(part, train=train, generator=generator(number))
            for number, part in enumerate(batches.fetch(PICKS, (0, 0)))
        ]
        assert torch.equal(again[-1], expected) and len(again) == len(PICKS)


@pytest.mark.parametrize("picks", [[], [np.zeros(0, np.int64)], [torch.tensor([1, 2])]], ids=str)
def test_nothing_few_and_tensors_may_be_asked_for(in_files, in_memory, picks):
    files, memory = (make_batches(x, train_indices=np.arange(36)) for x in (in_files, in_memory))
    found, expected = ([b.inputs(part) for part in b.fetch(picks)] for b in (files, memory))
    assert len(found) == len(expected) == len(picks)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("pick", [[36], [-1], [0.5], [True], [[1]]])
def test_numbers_of_no_item_are_refused_alike(in_files, in_memory, pick):
    errors = []
    for source in (in_files, in_memory):
        with pytest.raises((ValueError, TypeError)) as caught:
            make_batches(source, train_indices=np.arange(36)).batch(np.array(pick))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_statistics_of_many_files_are_of_a_part_of_them(in_files, in_memory, monkeypatch):
    import dshc.data.fetched_images as module

    monkeypatch.setattr(module, "_STATISTICS_ITEMS", 5)
    files = make_batches(in_files, train_indices=np.arange(1, 36))
    memory = make_batches(in_memory, train_indices=np.array([1, 9, 18, 26, 35]))
    assert torch.equal(files.mean, memory.mean) and torch.equal(files.std, memory.std)


def test_whole_trainings_are_equal_byte_for_byte(folder, tmp_path):
    settings = {**SMALL, "source": str(folder)}
    memory = train(tmp_path / "memory", settings)
    files = train(tmp_path / "files", settings, max_memory_mib=0)
    assert isinstance(files.dataset.inputs, ImageFiles) and isinstance(memory.dataset.inputs, np.ndarray)
    assert final(tmp_path / "files") == final(tmp_path / "memory")
    assert rows(tmp_path / "files") == rows(tmp_path / "memory")


# Augmented


@pytest.mark.parametrize("name", AUGMENTED)
def test_what_is_random_follows_from_seed_epoch_and_item(in_files, in_memory, name):
    expected = fetched(augmented(in_memory, name), (5, 2))
    assert [batch.shape for batch in expected] == [(len(pick), SIDE, SIDE, 3) for pick in PICKS]
    assert all(batch.dtype == np.uint8 for batch in expected)
    assert np.array_equal(expected[1][0], expected[1][1])  # the same item
    state = torch.get_rng_state()
    for source in (in_memory, in_files):
        for workers in (0, 1, 2):
            found = fetched(augmented(source, name, workers), (5, 2))
            assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True)), workers
    assert torch.equal(torch.get_rng_state(), state)  # nothing of it is drawn where a step draws
    # Alone, or in another batch, an item is the same.
    alone = fetched(augmented(in_files, name), (5, 2), [np.array([35])])
    assert np.array_equal(alone[0][0], expected[0][2])


@pytest.mark.parametrize("name", AUGMENTED)
def test_another_epoch_or_seed_shows_another_picture(in_memory, name):
    every = [np.arange(36)]
    images = augmented(in_memory, name)
    plain = fetched(images, None, every)[0]
    assert np.array_equal(plain, in_memory)  # to measure, they are left as they are
    versions = [fetched(images, numbers, every)[0] for numbers in ((0, 0), (0, 1), (1, 0))]
    for i, one in enumerate([plain, *versions]):
        for other in [plain, *versions][:i]:
            differ = (one != other).any((1, 2, 3))
            assert differ.sum() > 18


@needs_vision
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_are_augmented_too(in_memory, channels):
    images = in_memory[..., :channels].copy()
    options = {"mean": torch.zeros(channels), "std": torch.ones(channels), "augment": "randaugment"}
    found = fetched(FetchedImages(images, workers=0, **options), (0, 0), [np.arange(36)])[0]
    assert found.shape == images.shape and (found != images).any()


def test_without_torchvision_the_extra_is_named(in_memory, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(ImportError, match=r"augment 'randaugment' needs torchvision.*dshc-fast\[vision\]"):
        augmented(in_memory, "randaugment")
    augmented(in_memory, "none")


@needs_vision
def test_workers_are_one_per_core_where_images_are_augmented(in_memory, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert augmented(in_memory, "randaugment", None).workers == 3
    assert augmented(in_memory, "none", None).workers == 0
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert augmented(in_memory, "randaugment", None).workers == 8


AUGMENTING = {**SMALL, "augment": "randaugment", "checkpoint_every": 1}


@needs_vision
def test_stopped_within_an_epoch_and_resumed_with_other_workers(folder, tmp_path, monkeypatch):
    settings = {**AUGMENTING, "source": str(folder)}
    whole = train(tmp_path / "whole", settings, workers=0)
    assert rows(whole.folder) != rows(train(tmp_path / "plain", settings, augment="none").folder)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 3, stop)
        train(tmp_path / "run", settings, workers=2)
    train(tmp_path / "run", settings, workers=1, resume=True)
    assert final(tmp_path / "run") == final(whole.folder) and rows(tmp_path / "run") == rows(whole.folder)


@needs_vision
@pytest.mark.parametrize("options", [{"augment": "randaugment", "workers": 0}, {"workers": 1}], ids=str)
def test_dropout_draws_the_same_after_an_interruption(folder, tmp_path, monkeypatch, options):
    """The network behind them draws from torch's own generator, which fetching must not move."""
    pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
    settings = {**AUGMENTING, "source": str(folder), "max_memory_mib": 0, "augment": "none", **options}
    settings |= {"backbone": "timm:test_efficientnet", "pretrained": False, "epochs": 1, "image_size": 32}
    whole = train(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, 2, stop)
        train(tmp_path / "run", settings)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)
    if "augment" not in options:  # and workers change nothing
        train(tmp_path / "threads", settings, workers=0)
        assert final(tmp_path / "threads") == final(whole.folder)


# What goes wrong in a worker


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
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_to_all_processes_leaves_a_checkpoint_and_no_process(folder, tmp_path, name):
    """As Ctrl-C at a terminal: workers get it too."""
    settings = {**AUGMENTING, "source": str(folder), "workers": 2, "checkpoint_every": None, "device": "cpu"}
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
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert "Interrupted: interrupted in epoch 1, step 2 of" in errors and "DataLoader worker" not in errors
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    del settings["device"]
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(train(tmp_path / "whole", settings, workers=0).folder)


# The next one ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_ahead_keeps_the_order(n):
    assert list(ahead(range(n))) == list(range(n))
    assert list(ahead(iter([None] * n))) == [None] * n  # None is an item as any other
    assert not threads()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StopAsyncIteration()])
def test_what_raises_ahead_is_raised_in_its_place(error):
    def items():
        yield 1
        yield 2
        raise error

    found, source = [], ahead(items())
    with pytest.raises(type(error)) as caught:
        for item in source:
            found.append(item)
    assert found == [1, 2] and caught.value is error and not threads()


def test_ahead_makes_one_while_one_is_in_use_and_no_more():
    made, now, let = [], threading.Event(), threading.Event()

    def items():
        for i in range(5):
            made.append(i)
            if i == 1:
                now.set()
                assert let.wait(20)
            yield i

    source = ahead(items())
    assert next(source) == 0
    assert now.wait(20)  # item 1 is being made while 0 is in use
    let.set()
    time.sleep(0.05)
    assert made == [0, 1]
    assert next(source) == 1
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(source) == [2, 3, 4] and not threads()


def test_ahead_lets_go_of_what_was_used():
    class Item:
        pass

    references = []

    def items():
        for _ in range(4):
            item = Item()
            references.append(weakref.ref(item))
            yield item
            del item

    most = 0
    for item in ahead(items()):
        time.sleep(0.02)
        gc.collect()
        most = max(most, sum(reference() is not None for reference in references))
        del item
    assert most == 2


@pytest.mark.parametrize("how", ["close", "forget", "raise"])
def test_ahead_ends_its_thread_when_it_is_abandoned(how):
    source = ahead(range(100))
    assert next(source) == 0 and len(threads()) == 1
    if how == "close":
        source.close()
    elif how == "raise":
        with pytest.raises(KeyError):
            source.throw(KeyError())
    else:
        del source
        gc.collect()
    assert not threads()
