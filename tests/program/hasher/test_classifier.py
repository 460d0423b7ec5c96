"""Codes for a classifier that is ready: those of its likeliest class, which lie as far apart as they say."""

import doctest
import sys

import numpy as np
import pytest
import torch
from torch import nn

import dshc_fast
from dshc import Hasher
from dshc.codebooks import build
from dshc.errors import InputError
from dshc.hasher import from_classifier


def a_network(n_classes=7, seed=0):
    torch.manual_seed(seed)
    layers = (
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(5 * 16, n_classes),
    )
    return nn.Sequential(*layers)


def images(n=20):
    return torch.randn(n, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def centers_of(hasher):
    return hasher.method.codebook().centers


@pytest.mark.parametrize(("n_classes", "bits"), [(7, None), (7, 12), (2, 3), (40, None), (40, 24)])
def test_codes_of_logits_are_the_centers_of_the_likeliest_class(n_classes, bits):
    logits = np.random.default_rng(0).normal(size=(30, n_classes)).astype(np.float32)
    hasher = from_classifier(logits, bits)
    centers = centers_of(hasher)
    assert np.array_equal(hasher.encode(logits), centers[logits.argmax(1)])
    assert np.array_equal(hasher.predict(logits), logits.argmax(1))
    assert np.array_equal(
        from_classifier(torch.from_numpy(logits[:1]), bits).encode(logits), hasher.encode(logits)
    )
    distances = dshc_fast.hamming_distance(centers, centers)[~np.eye(n_classes, dtype=bool)]
    book = build("separated", n_classes, bits or hasher.n_bits, radius=0)
    assert distances.min() == book.center_distance and np.array_equal(book.centers, centers)
    assert hasher.n_bits == bits if bits else distances.min() >= 5


def test_codes_of_a_networks_inputs_are_the_centers_of_its_likeliest_class():
    network = a_network()
    hasher = from_classifier(network, item_shape=(3, 6, 6), class_names="abcdefg")
    with torch.no_grad():
        logits = network.eval()(images())
    assert len(logits.argmax(1).unique()) > 1
    assert torch.equal(hasher.outputs(images()), logits)
    assert np.array_equal(hasher.encode(images()), centers_of(hasher)[logits.argmax(1)])
    assert hasher.predict(images()).tolist() == logits.argmax(1).tolist()
    assert hasher.class_names == tuple("abcdefg") and hasher.item_shape == (3, 6, 6)
    assert hasher.about["made_from"] == "a classifier, without training"


def test_a_hasher_of_a_network_is_loaded_with_one_of_the_same_layers(tmp_path):
    hasher = from_classifier(a_network(), item_shape=(3, 6, 6))
    hasher.save(tmp_path / "saved")
    other = a_network(seed=5)
    for network in (other, a_network(seed=6)):
        loaded = Hasher.load(tmp_path / "saved", network=network)
        assert torch.equal(loaded.outputs(images()), hasher.outputs(images()))
        assert np.array_equal(loaded.encode(images()), hasher.encode(images()))
    loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "config.json", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_the_network_must_be_given_and_fit(tmp_path):
    hasher = from_classifier(a_network(), item_shape=(3, 6, 6))
    path = hasher.save_file(tmp_path / "one.safetensors")
    with pytest.raises(
        InputError,
        match=r"one\.safetensors: network must be given, this hasher was saved without the network",
    ):
        Hasher.load(path)
    with pytest.raises(InputError, match=r"one\.safetensors: not the weights of the hasher it describes"):
        Hasher.load(path, network=a_network(8))


def test_a_hasher_of_logits_is_saved_and_loaded(tmp_path):
    logits = np.random.default_rng(0).normal(size=(30, 9)).astype(np.float32)
    hasher = from_classifier(logits, 16, seed=3)
    loaded = Hasher.load(hasher.save(tmp_path / "saved"))
    assert np.array_equal(loaded.encode(logits), hasher.encode(logits))
    assert loaded.description() == hasher.description()


class _Pair(nn.Module):
    def forward(self, inputs):
        return inputs, inputs


class _Raw(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1) * inputs.shape[3]


def test_a_network_of_volumes_is_a_classifier_too(tmp_path):
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(16, 3))
    hasher = from_classifier(network, item_shape=(1, 4, 4, 4))
    items = np.random.default_rng(0).normal(size=(5, 1, 4, 4, 4)).astype(np.float32)
    assert len(hasher.encode(items)) == 5


def test_what_stands_beside_a_network_is_on_its_device():
    hasher = from_classifier(nn.Linear(4, 3, device="meta"), item_shape=(4,))
    assert hasher.preprocessing.mean.is_meta and hasher.preprocessing.std.is_meta


@pytest.mark.parametrize(
    ("classifier", "values", "message"),
    [
        (a_network(), {}, "item_shape must be given with a network"),
        (
            a_network(),
            {"item_shape": (3, 9, 9)},
            r"classifier must take items of shape \(3, 9, 9\), got an error",
        ),
        (nn.Identity(), {"item_shape": (3, 6, 6)}, r"classifier must give logits .* got \(1, 3, 6, 6\)"),
        (_Pair(), {"item_shape": (3,)}, r"classifier must give logits \(b, n_classes\), got tuple"),
        (np.zeros(4, np.float32), {}, r"logits must have shape \(n, n_classes\), got \(4,\)"),
        (np.zeros((1, 4), np.float32), {"class_names": "abc"}, "class_names must name the 4 classes, got 3"),
        (np.zeros((1, 40), np.float32), {"bits": 2}, "bits"),
        (np.zeros((1, 3), np.float32), {"class_names": range(3)}, "class_names must be text, got 0"),
        (
            np.zeros((1, 1), np.float32),
            {"class_names": ["\ud800"]},
            "class_names must be text that UTF-8 can hold",
        ),
        (a_network(), {"item_shape": 4}, "item_shape must be whole numbers, .*, got 4"),
        (a_network(), {"item_shape": (3, 0, 6)}, "item_shape must be whole numbers, .*, got"),
        (_Raw(), {"item_shape": (3,)}, "classifier must take items of shape .*, got an error: tuple index"),
        (nn.Linear(4, 3).bfloat16(), {"item_shape": (4,)}, "classifier must have weights .*, got bfloat16"),
    ],
)
def test_what_is_no_classifier_is_refused(classifier, values, message):
    with pytest.raises(ValueError, match=message):
        from_classifier(classifier, **values)


def test_the_example_runs():
    found = doctest.testmod(sys.modules[from_classifier.__module__])
    assert found.failed == 0 < found.attempted
