"""RandAugment and TrivialAugment: random by (seed, epoch, item) alone, with workers or without."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import torch
from extras import needs
from fetching import AUGMENTING, PICKS, SIDE, fetched
from training_runs import Stopped, at_step, final, rows, stop, train

from dshc.data.fetched_images import FetchedImages

needs_vision = needs("torchvision")
AUGMENTED = [pytest.param(name, marks=needs_vision) for name in ("randaugment", "trivialaugment")]


def augmented(source, name, workers=0):
    return FetchedImages(source, mean=torch.zeros(3), std=torch.ones(3), augment=name, workers=workers)


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
