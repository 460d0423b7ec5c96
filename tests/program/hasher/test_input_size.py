"""Small images enlarged before the network: trained, saved, kept as features, exported, continued."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from extras import needs
from frozen_backbones import NAME
from training_runs import train

from dshc import Hasher
from dshc.hasher.frozen import frozen_features

pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def settings(weights):
    return {
        "source": "digits",
        "train_per_class": 6,
        "backbone": f"timm:{NAME}",
        "weights": str(weights),
        "finetune": "all",
        "input_size": 32,
        "bits": 9,
        "epochs": 1,
        "batch_size": 20,
        "threads": 1,
    }


def test_a_saved_hasher_enlarges_as_it_was_trained(settings, tmp_path):
    run = train(tmp_path / "run", settings)
    images = run.dataset.inputs[:5]
    hasher = Hasher.load(tmp_path / "run", device="cpu")
    assert images.shape[1:] == (8, 8, 1) and hasher.item_shape == (8, 8, 1)
    assert hasher.encoder_settings.input_size == hasher.backbone.input_size == 32
    assert hasher.seen_shape == (32, 32, 1) and hasher.behind_backbone() is None
    assert torch.equal(hasher.outputs(images), run.hasher.outputs(images))
    hasher.backbone.input_size = None
    assert not torch.equal(hasher.outputs(images), run.hasher.outputs(images))


def test_kept_features_are_those_of_their_size(settings, tmp_path, calls):
    run = train(tmp_path / "a", settings, finetune="none", width=16)
    n = run.dataset.n_items
    assert calls.since() == n
    features = frozen_features(run.hasher, run.dataset)
    assert calls.since() == 0
    larger = train(tmp_path / "b", settings, finetune="none", width=16, input_size=48)
    assert calls.since() == n
    assert not np.allclose(frozen_features(larger.hasher, larger.dataset), features)
    train(tmp_path / "c", settings, finetune="none", width=16, lr=0.01)
    assert calls.since() == 0


def test_a_training_goes_on_at_the_same_size_or_another(settings, tmp_path):
    train(tmp_path / "run", settings)
    start = {**settings, "start_from": str(tmp_path / "run"), "lr": 1e-4}
    for name in ("backbone", "weights", "input_size"):
        del start[name]
    with pytest.raises(ValueError, match="input_size must be at least 8, the side of the images, got 7"):
        train(tmp_path / "small", start, input_size=7)
    assert train(tmp_path / "larger", start, input_size=48).hasher.backbone.input_size == 48
    assert train(tmp_path / "same", start).hasher.backbone.input_size == 32


@pytest.mark.parametrize(
    "suffix", [".pt2", pytest.param(".onnx", marks=needs("onnx", "onnxscript", "onnxruntime"))]
)
def test_what_is_exported_enlarges(settings, tmp_path, suffix):
    run = train(tmp_path / "run", settings)
    path = run.hasher.export(tmp_path / f"hasher{suffix}")
    images = run.dataset.inputs[:7]
    if suffix == ".pt2":
        outputs = torch.export.load(path).module()(torch.from_numpy(images)).detach().numpy()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"items": images})[0]
    expected = run.hasher.outputs(images).numpy()
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()
