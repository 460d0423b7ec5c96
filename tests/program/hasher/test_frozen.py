"""Features of a frozen backbone: kept once for all they depend on, and the hasher that is trained on them."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from photos import KINDS, write_photos
from training_runs import Stopped, at_step, environment, final, rows, stop, train

from dshc import Hasher, methods
from dshc.backbones import EncoderSettings
from dshc.data import Dataset, ImageFiles, load
from dshc.hasher.frozen import frozen_features
from dshc.hasher.hasher import encoding_batch
from dshc.runs.encoding import encode_part
from dshc.storage import cache_folder

timm = pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
NAME, SIDE = "test_efficientnet", 32


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache without anything in it."""
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", side=40, kinds=KINDS[:3])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights whose normalisation has seen pictures, so that features differ between images."""
    torch.manual_seed(1)
    net = timm.create_model(NAME).train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(16, 3, SIDE, SIDE))
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def dataset(folder):
    return load(folder, image_size=SIDE)


def a_hasher(weights, *, precision="fp32", width=16, finetune="none", mean=0.4, shape=(SIDE, SIDE, 3)):
    torch.manual_seed(0)
    return Hasher.build(
        EncoderSettings(backbone=f"timm:{NAME}", weights=str(weights), finetune=finetune, width=width),
        methods.get("dshc").Settings(bits=9),
        kind="images",
        item_shape=shape,
        label_kind="ids",
        class_names=("a", "b", "c"),
        mean=torch.full((3,), mean),
        std=torch.full((3,), 0.25),
        precision=precision,
    ).eval()


class Calls:
    """How many images a backbone has seen."""

    def __init__(self, monkeypatch):
        self.images, real = 0, Hasher.frozen_features

        def counted(hasher, inputs):
            self.images += len(inputs)
            return real(hasher, inputs)

        monkeypatch.setattr(Hasher, "frozen_features", counted)

    def since(self):
        seen, self.images = self.images, 0
        return seen


@pytest.fixture
def calls(monkeypatch):
    return Calls(monkeypatch)


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


# A training on them


@pytest.fixture
def settings(folder, weights):
    return {
        "source": str(folder),
        "backbone": f"timm:{NAME}",
        "weights": str(weights),
        "image_size": SIDE,
        "bits": 9,
        "width": 24,
        "epochs": 12,
        "batch_size": 8,
        "threads": 1,
        "checkpoint_every": 2,
    }


def test_a_saved_hasher_encodes_images_as_features(settings, tmp_path, calls):
    run = train(tmp_path / "run", settings)
    assert run.settings.encoder.finetune == "none" and calls.since() == 36
    assert run.metrics[-1]["train_accuracy"] > 0.9
    file, predictions = encode_part(run, "database")
    assert calls.since() == 0  # from the features that the training left
    hasher = Hasher.load(tmp_path / "run", device="cpu")
    images = run.dataset.inputs[run.split.database]
    codes, again = hasher.encode_and_predict(images)
    # The last bits of a real value depend on which images share a batch; a code may differ where an output is near
    # the border.
    behind = hasher.behind_backbone()
    outputs = behind.outputs(frozen_features(hasher, run.dataset)[run.split.database])
    torch.testing.assert_close(outputs, hasher.outputs(images), rtol=1e-4, atol=1e-4)
    top = outputs.topk(2).values
    clear = (top[:, 0] - top[:, 1] > 1e-3).numpy()
    assert clear.mean() > 0.9 and np.array_equal(codes[clear], file.codes[clear])
    assert np.array_equal(again[clear], predictions[clear])
    # And from the files themselves.
    paths = [run.settings.data.source + "/" + run.dataset.ids[i] for i in run.split.database]
    assert np.array_equal(hasher.encode(paths), codes)


def test_the_backbone_is_that_of_the_file(settings, weights, tmp_path):
    run = train(tmp_path / "run", settings)
    net = run.hasher.backbone.net.state_dict()
    expected = {k: v for k, v in torch.load(weights).items() if not k.startswith("classifier.")}
    assert net.keys() == expected.keys() and all(torch.equal(net[name], expected[name]) for name in net)
    fresh = a_hasher(weights, width=24).backbone.neck.state_dict()
    neck = run.hasher.backbone.neck.state_dict()
    assert not any(torch.equal(neck[name], fresh[name]) for name in neck)


@pytest.mark.parametrize("step", [2, 5])
@pytest.mark.parametrize("more", [{}, {"ema": 0.9}, {"precision": "bf16"}], ids=str)
def test_stopped_and_resumed_it_comes_to_the_same(settings, tmp_path, monkeypatch, step, more):
    """From the features that are kept, and from features computed anew without the file of weights."""
    settings = {**settings, "epochs": 3, **more}
    whole = train(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, step + 1, stop)
        train(tmp_path / "run", settings)
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "another"))
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder) and rows(tmp_path / "run") == rows(whole.folder)
    kept = {path.name for path in (tmp_path / "another" / "features").iterdir()}
    assert kept == {path.name for path in (tmp_path / "cache" / "features").iterdir()}


def test_a_second_training_computes_no_features(settings, tmp_path, calls):
    train(tmp_path / "1", settings)
    assert calls.since() == 36
    train(tmp_path / "2", settings, lr=1e-2, width=8, bits=12, method="hashnet")
    assert calls.since() == 0
    train(tmp_path / "3", settings, max_memory_mib=0)  # files have a digest of their own
    assert calls.since() == 36
    assert final(tmp_path / "3") == final(tmp_path / "1")


def test_a_folder_that_cannot_be_written_is_warned_of_and_changes_nothing(settings, tmp_path, cache):
    train(tmp_path / "1", settings)
    with pytest.MonkeyPatch.context() as patch:
        (tmp_path / "file").write_text("")
        patch.setenv("DSHC_CACHE", str(tmp_path / "file"))
        with pytest.warns(UserWarning, match="features are not kept for the next time"):
            train(tmp_path / "2", settings)
    assert final(tmp_path / "2") == final(tmp_path / "1")


@pytest.mark.parametrize("method", ["hashnet", "dpsh", "itq"])
def test_other_methods_are_trained_on_them(settings, tmp_path, method):
    run = train(tmp_path / "run", settings, method=method, bits=8, epochs=None if method == "itq" else 2)
    assert run.settings.encoder.finetune == "none"
    file, _ = encode_part(run, "database")
    assert len(np.unique(file.codes, axis=0)) > 3


def test_itq_rotates_the_features_themselves(settings, tmp_path):
    """A neck that nothing trains would only blur them (as ITQ's recipe says of any network)."""
    del settings["width"], settings["epochs"]
    run = train(tmp_path / "run", settings, method="itq", bits=8)
    assert run.hasher.backbone.n_features == 256


def test_from_random_weights_nothing_can_be_frozen(settings, tmp_path):
    del settings["weights"]
    with pytest.raises(
        ValueError, match="finetune must be 'all' where the backbone starts from random weights"
    ):
        train(tmp_path / "run", settings, finetune="none", pretrained=False)
    assert not (tmp_path / "run").exists()


TWO = """
import sys
from pathlib import Path
import json, dshc
settings = json.loads(sys.argv[1])
dshc.train(settings.pop("source"), **settings)
"""


@pytest.mark.deep
def test_two_processes_train_on_the_same_features(settings, tmp_path):
    import json

    script = tmp_path / "script.py"
    script.write_text(TWO)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    for out in ("1", "2"):  # without features, and with those that the first left
        arguments = json.dumps({**settings, "device": "cpu", "out": str(tmp_path / out)})
        done = subprocess.run(
            [*command, arguments], capture_output=True, text=True, check=False, env=environment() | os.environ
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "are not kept" not in done.stderr
    assert final(tmp_path / "1") == final(tmp_path / "2")
    one = train(tmp_path / "one", settings)
    assert len(list((cache_folder() / "features").iterdir())) == 1
    two = Hasher.load(tmp_path / "1", device="cpu")
    state = one.hasher.backbone.net.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in two.backbone.net.state_dict().items())
