"""Small images enlarged before the network: trained, saved, kept as features, exported, continued."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from extras import needs
from frozen_backbones import NAME
from training_runs import Stopped, at_step, final, stop, train

from dshc import Hasher
from dshc.backbones import Enlarging, enlarged
from dshc.hasher.frozen import frozen_features

pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
pytestmark = pytest.mark.usefixtures("cache")

COMMON = {
    "source": "digits",
    "train_per_class": 6,
    "input_size": 32,
    "bits": 9,
    "epochs": 1,
    "batch_size": 20,
    "threads": 1,
}


@pytest.fixture
def of_timm(weights):
    return {
        **COMMON,
        "backbone": f"timm:{NAME}",
        "weights": str(weights),
        "finetune": "all",
    }


@pytest.fixture(params=["timm", "small_net"])
def settings(request, of_timm):
    return of_timm if request.param == "timm" else {**COMMON, "backbone": "small_net", "width": 4}


def test_a_saved_hasher_enlarges_as_it_was_trained(settings, tmp_path):
    run = train(tmp_path / "run", settings)
    images = run.dataset.inputs[:5]
    hasher = Hasher.load(tmp_path / "run", device="cpu")
    assert images.shape[1:] == (8, 8, 1) and hasher.item_shape == (8, 8, 1)
    assert hasher.encoder_settings.input_size == hasher.backbone.input_size == 32
    assert hasher.seen_shape == (32, 32, 1) and hasher.behind_backbone() is None
    assert torch.equal(hasher.outputs(images), run.hasher.outputs(images))
    card = (hasher.save(tmp_path / "saved") / "README.md").read_text()
    assert "| input | images 8 x 8 x 1, enlarged to 32 x 32 x 1 before the network |" in card
    hasher.backbone.input_size = None
    assert not torch.equal(hasher.outputs(images), run.hasher.outputs(images))


def test_kept_features_are_those_of_their_size(of_timm, tmp_path, calls):
    settings = of_timm
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
    for name in ("backbone", "weights", "input_size", "width"):
        start.pop(name, None)
    with pytest.raises(ValueError, match="input_size must be at least 8, the side of the images, got 7"):
        train(tmp_path / "small", start, input_size=7)
    assert train(tmp_path / "larger", start, input_size=48).hasher.backbone.input_size == 48
    assert train(tmp_path / "same", start).hasher.backbone.input_size == 32


@pytest.mark.parametrize(
    "suffix",
    [".pt2", pytest.param(".onnx", marks=(needs("onnx", "onnxscript", "onnxruntime"), pytest.mark.deep))],
)
def test_what_is_exported_enlarges(settings, tmp_path, suffix):
    run = train(tmp_path / "run", settings)
    images = run.dataset.inputs[:7]
    before = run.hasher.outputs(images)
    enlarged._bicubic.cache_clear()
    hasher = Hasher.load(tmp_path / "run", device="cpu")
    for _ in range(2):  # what traces a call leaves nothing behind
        path = hasher.export(tmp_path / f"hasher{suffix}")
    assert torch.equal(hasher.outputs(images), before)
    if suffix == ".pt2":
        outputs = torch.export.load(path).module()(torch.from_numpy(images)).detach().numpy()
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"items": images})[0]
    expected = run.hasher.outputs(images).numpy()
    assert np.abs(outputs - expected).max() <= 1e-4 * np.abs(expected).max()


# Smaller in the first epochs


class Sizes:
    """The sides that a network has seen, in training and otherwise."""

    def __init__(self, monkeypatch):
        self.trained, self.measured, real = [], set(), Enlarging.enlarge

        def seen(backbone, images):
            larger = real(backbone, images)
            if backbone.training:
                self.trained.append(larger.shape[-1])
            else:
                self.measured.add(larger.shape[-1])
            return larger

        monkeypatch.setattr(Enlarging, "enlarge", seen)


@pytest.mark.parametrize(
    ("first_epochs", "expected"), [(1, [16, 32, 32, 32]), (None, [16, 16, 32, 32]), (3, [16, 16, 16, 32])]
)
def test_the_first_epochs_are_trained_smaller(settings, tmp_path, monkeypatch, first_epochs, expected):
    sizes = Sizes(monkeypatch)
    run = train(tmp_path / "run", settings, epochs=4, first_size=16, first_epochs=first_epochs)
    n_steps = len(sizes.trained) // 4
    assert sizes.trained == [side for side in expected for _ in range(n_steps)] and n_steps > 1
    assert sizes.measured == {32}
    assert run.hasher.backbone.input_size == 32


@pytest.mark.parametrize("step", [2, 5])
def test_stopped_within_the_first_epochs_or_behind_it_comes_to_the_same(
    settings, tmp_path, monkeypatch, step
):
    settings = {**settings, "epochs": 3, "first_size": 16, "first_epochs": 1, "checkpoint_every": 1}
    whole = train(tmp_path / "whole", settings)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        at_step(patch, step, stop)
        train(tmp_path / "run", settings)
    train(tmp_path / "run", settings, resume=True)
    assert final(tmp_path / "run") == final(whole.folder)


def test_a_network_that_takes_one_size_has_no_smaller_epochs(of_timm, tmp_path):
    settings = {**of_timm, "backbone": "timm:vit_tiny_patch16_224", "input_size": 224, "pretrained": False}
    del settings["weights"]
    with pytest.raises(ValueError, match="first_size must be one that timm:vit_tiny_.* accepts, got 96x96"):
        train(tmp_path / "run", settings, first_size=96)
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"first_size": 7},
            "first_size must be at least 8, the side of the images, and below input_size 32, got 7",
        ),
        ({"first_size": 32}, "first_size must be at least 8, .* and below input_size 32, got 32"),
        (
            {"first_size": 16, "input_size": None},
            "first_size must go with input_size and a network that is trained",
        ),
        ({"first_epochs": 2}, "first_epochs must go with first_size, got 2"),
        ({"first_size": 16}, "first_size must go with at least 2 epochs, got 1"),
        (
            {"first_size": 16, "first_epochs": 4, "epochs": 4},
            "first_epochs must be fewer than the 4 epochs, got 4",
        ),
    ],
)
def test_sizes_that_no_training_has_are_refused(settings, tmp_path, more, message):
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", settings, **more)


def test_a_frozen_network_has_no_smaller_epochs(of_timm, tmp_path):
    with pytest.raises(
        ValueError, match="first_size must go with input_size and a network that is trained, got 16"
    ):
        train(tmp_path / "run", of_timm, first_size=16, finetune="none")


def test_a_small_net_refuses_a_first_size_that_is_too_small_for_it(tmp_path):
    source = tmp_path / "two.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 1), dtype=np.uint8)
    np.savez(source, images=images, labels=np.arange(20) % 2)
    small = {**COMMON, "source": str(source), "train_per_class": None, "backbone": "small_net", "width": 4}
    with pytest.raises(ValueError, match="first_size must be one that small_net accepts, got 3x5"):
        train(tmp_path / "run", small, first_size=5, epochs=2)
    assert not (tmp_path / "run" / "config.toml").exists()
