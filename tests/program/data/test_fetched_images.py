"""Images that are fetched from files: byte for byte what they are in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fetching import PICKS, SIDE, SMALL
from training_runs import final, rows, train

from dshc.data import ImageFiles
from dshc.data.batches import make_batches
from dshc.data.fetched_images import FetchedImages
from dshc.data.image_batches import TensorImages


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


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
