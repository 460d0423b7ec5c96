"""Features of a frozen backbone: kept once for all that they depend on, and the part of a hasher behind them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from frozen_backbones import SIDE, a_hasher
from photos import KINDS, write_photos

from dshc import Hasher
from dshc.data import Dataset, ImageFiles, load
from dshc.hasher.frozen import frozen_features
from dshc.hasher.hasher import encoding_batch
from dshc.storage import cache_folder

pytestmark = pytest.mark.usefixtures("cache")


def by_hand(hasher, dataset):
    """What the network before the neck gives, in the batches of encoding."""
    step = encoding_batch(hasher.item_shape)
    with torch.no_grad():
        parts = [
            hasher.preprocessing(torch.from_numpy(np.array(dataset.inputs[start : start + step])))
            for start in range(0, dataset.n_items, step)
        ]
        return torch.cat([hasher.backbone.net(part).float() for part in parts]).numpy()


# The features


def test_features_are_the_networks_before_the_neck_and_are_computed_once(weights, dataset, calls, cache):
    hasher = a_hasher(weights)
    expected = by_hand(hasher, dataset)
    features = frozen_features(hasher, dataset)
    assert features.dtype == np.float32 and np.array_equal(features, expected)
    assert calls.since() == 36 and len(np.unique(features, axis=0)) == 36
    again = frozen_features(a_hasher(weights), dataclasses.replace(dataset))
    assert np.array_equal(again, features) and calls.since() == 0
    assert len(list((cache / "features").iterdir())) == 1
    with torch.no_grad():
        inputs = hasher.preprocessing(torch.from_numpy(dataset.inputs))
        expected = hasher.features(inputs)
        neck = hasher.backbone.neck(torch.from_numpy(np.array(features)))
    torch.testing.assert_close(neck, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(hasher.backbone.neck(hasher.frozen_features(inputs)), expected)


def test_a_hasher_in_training_mode_gives_the_same(weights, dataset):
    hasher = a_hasher(weights).train()
    expected = by_hand(a_hasher(weights), dataset)
    assert np.array_equal(frozen_features(hasher, dataset), expected)


def test_under_autocast_of_the_caller_they_are_the_same(weights, dataset):
    """They are kept for calls outside."""
    with torch.autocast("cpu", torch.bfloat16):
        features = frozen_features(a_hasher(weights), dataset)
    assert np.array_equal(features, by_hand(a_hasher(weights), dataset))


def test_the_head_and_the_neck_have_no_part_in_it(weights, dataset, calls):
    frozen_features(a_hasher(weights), dataset)
    other = a_hasher(weights, width=5)
    assert calls.since() == 36
    frozen_features(other, dataset)
    assert calls.since() == 0


def test_whatever_they_depend_on_makes_others(weights, dataset, folder, calls, tmp_path):
    frozen_features(a_hasher(weights), dataset)
    calls.since()
    pixels = dataset.inputs.copy()
    pixels[17, 3, 4, 1] ^= 1
    changed = a_hasher(weights)
    with torch.no_grad():
        weight = changed.backbone.net.conv_stem.weight
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    statistics = a_hasher(weights)
    statistics.backbone.net.bn1.running_mean[0] += 1e-3
    for hasher, items in (
        (a_hasher(weights), dataclasses.replace(dataset, inputs=pixels)),
        (a_hasher(weights), dataclasses.replace(dataset, inputs=dataset.inputs[::-1].copy())),
        (a_hasher(weights, mean=0.41), dataset),
        (a_hasher(weights, precision="bf16"), dataset),
        (changed, dataset),
        (statistics, dataset),
        (a_hasher(weights, shape=(40, 40, 3)), load(folder, image_size=40)),
    ):
        features = frozen_features(hasher, items)
        assert calls.since() == 36
        frozen_features(hasher, items)
        assert calls.since() == 0 and np.isfinite(features).all()
    # Labels and names are no part of it.
    renamed = dataclasses.replace(dataset, labels=dataset.labels[::-1].copy(), name="other")
    frozen_features(a_hasher(weights), renamed)
    assert calls.since() == 0


def test_a_byte_of_a_file_counts_and_its_place_does_not(weights, folder, calls, tmp_path):
    def files(root):
        found = load(root, image_size=SIDE, max_memory_mib=0)
        assert isinstance(found.inputs, ImageFiles)
        return found

    in_memory = frozen_features(a_hasher(weights), load(folder, image_size=SIDE))
    assert np.array_equal(frozen_features(a_hasher(weights), files(folder)), in_memory)
    calls.since()
    moved = write_photos(tmp_path / "moved", side=40, kinds=KINDS[:3])
    frozen_features(a_hasher(weights), files(moved))
    assert calls.since() == 0
    changed = moved / KINDS[0] / "03.jpg"
    changed.write_bytes(changed.read_bytes() + b"\0")
    frozen_features(a_hasher(weights), files(moved))
    assert calls.since() == 36


def test_bf16_is_cast_back_and_near(weights, dataset):
    features = frozen_features(a_hasher(weights, precision="bf16"), dataset)
    expected = frozen_features(a_hasher(weights), dataset)
    assert features.dtype == np.float32 and not np.array_equal(features, expected)
    assert np.abs(features - expected).max() < 0.05 * np.abs(expected).max()


def many(n=5):
    """Images at random, some more batches than are written at a time."""
    random = np.random.default_rng(0)
    return Dataset("many", "images", random.integers(0, 256, (n, SIDE, SIDE, 3), np.uint8), None, ())


def test_an_interrupted_pass_goes_on_where_it_was(weights, calls, monkeypatch):
    import dshc.hasher.frozen as module

    monkeypatch.setattr(module, "encoding_batch", lambda shape: 2)
    monkeypatch.setattr(module, "_PART", 2)
    dataset, real, seen = many(15), Hasher.frozen_features, []

    def interrupted(hasher, inputs):
        seen.append(len(inputs))
        if len(seen) == 6:
            raise KeyboardInterrupt
        return real(hasher, inputs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Hasher, "frozen_features", interrupted)
        frozen_features(a_hasher(weights), dataset)
    calls.since()
    found = frozen_features(a_hasher(weights), dataset)
    assert calls.since() == 15 - 8  # two parts of two batches of two were there
    monkeypatch.setenv("DSHC_CACHE", str(cache_folder()) + "-fresh")
    assert np.array_equal(frozen_features(a_hasher(weights), dataset), found)


def test_what_is_not_kept_is_the_same(weights, dataset, cache):
    features = frozen_features(a_hasher(weights), dataset, keep=False)
    assert not cache.exists()
    assert np.array_equal(features, frozen_features(a_hasher(weights), dataset))


def test_they_go_with_the_set(weights, dataset, calls, monkeypatch, tmp_path):
    """Of other weights, and of the set read again, there are others."""
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "1"))
    frozen_features(a_hasher(weights), dataset)
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "2"))
    frozen_features(a_hasher(weights), dataset)
    assert calls.since() == 36
    frozen_features(a_hasher(weights, mean=0.41), dataset)
    frozen_features(a_hasher(weights), dataclasses.replace(dataset))
    assert calls.since() == 2 * 36


# The part behind them


def test_what_is_behind_shares_its_modules(weights, dataset):
    hasher = a_hasher(weights)
    behind = hasher.behind_backbone()
    assert behind.method is hasher.method and behind.backbone is hasher.backbone.neck
    assert (behind.kind, behind.item_shape, behind.precision) == ("features", (256,), "fp32")
    features = frozen_features(hasher, dataset)
    outputs = hasher.outputs(dataset.inputs)
    torch.testing.assert_close(behind.outputs(features), outputs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        hasher.backbone.neck[1].weight.mul_(2)
    torch.testing.assert_close(behind.outputs(features), hasher.outputs(dataset.inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("finetune", ["last", "all"])
def test_nothing_is_behind_what_is_trained(weights, finetune):
    assert a_hasher(weights, finetune=finetune).behind_backbone() is None
