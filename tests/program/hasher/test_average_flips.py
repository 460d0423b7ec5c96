"""Codes by the mean of an image's outputs and its mirror image's: encoded, validated, saved, exported, refused."""

import numpy as np
import pytest
import torch
from extras import needs
from training_runs import SMALL, rows, train

from dshc import Hasher


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("flips") / "run", SMALL, average_flips=True)


def plain(hasher):
    """The same weights, images as they are."""
    own = Hasher.load(hasher, device="cpu")
    own.encoder_settings = own.encoder_settings.replaced(average_flips=False)
    return own


def test_outputs_are_the_mean_of_both(run):
    images = run.dataset.inputs[:40]
    hasher, other = Hasher.load(run.folder, device="cpu"), plain(run.folder)
    both = [other.outputs(images), other.outputs(np.ascontiguousarray(images[:, :, ::-1]))]
    assert torch.allclose(hasher.outputs(images), (both[0] + both[1]) / 2, atol=1e-6)
    assert torch.equal(hasher.outputs(images), run.hasher.outputs(images)) and not torch.equal(*both)
    # An image and its mirror image have one code.
    assert np.array_equal(hasher.encode(images), hasher.encode(np.ascontiguousarray(images[:, :, ::-1])))


def test_training_sees_images_as_they_are(run, tmp_path):
    other = train(tmp_path / "plain", SMALL)
    same, others = rows(run.folder), rows(other.folder)
    assert [row["loss"] for row in same] == [row["loss"] for row in others]
    assert [row["validation_map"] for row in same] != [row["validation_map"] for row in others]
    for name, tensor in Hasher.load(other.folder, weights="last", device="cpu").state_dict().items():
        assert torch.equal(tensor, Hasher.load(run.folder, weights="last", device="cpu").state_dict()[name])
    assert run.settings.fingerprint() != other.settings.fingerprint()


def test_it_is_saved_and_in_the_graph(run, tmp_path):
    images = run.dataset.inputs[:9]
    saved = Hasher.load(run.hasher.save(tmp_path / "saved"), device="cpu")
    assert saved.encoder_settings.average_flips
    expected = run.hasher.outputs(images)
    assert torch.equal(saved.outputs(images), expected)
    with torch.no_grad():
        assert torch.allclose(run.hasher.graph()(torch.from_numpy(images)), expected, atol=1e-6)


@pytest.mark.deep
@needs("onnx")
def test_it_is_in_what_is_exported(run, tmp_path):
    import onnxruntime

    images = run.dataset.inputs[:9]
    session = onnxruntime.InferenceSession(str(run.hasher.export(tmp_path / "hasher.onnx")))
    (outputs,) = session.run(None, {"items": images})
    assert np.allclose(outputs, run.hasher.outputs(images).numpy(), atol=1e-4)


def test_features_have_no_mirror_image(features, tmp_path):
    with pytest.raises(
        ValueError, match="average_flips must go with images and a network that is trained, got features"
    ):
        train(tmp_path / "run", {"source": str(features), "average_flips": True, "threads": 1})
    assert not (tmp_path / "run").exists()


def test_a_frozen_network_has_no_mirror_image():
    from dshc.backbones import EncoderSettings
    from dshc.methods import get

    with pytest.raises(ValueError, match="average_flips must go with .*, got finetune none"):
        Hasher.build(EncoderSettings(backbone="small_net", average_flips=True, finetune="none"), get("itq").Settings(),
                     kind="images", item_shape=(8, 8, 1), label_kind="none", class_names=(), mean=torch.zeros(1),
                     std=torch.ones(1))  # fmt: skip
