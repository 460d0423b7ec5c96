"""What callers set for tensors of their own changes nothing in a training or a hasher, and is there behind it."""

import contextlib
import threading

import numpy as np
import pytest
import torch
from small_hashers import VALUES, a_hasher, items_of
from training_runs import final, train

import dshc
from dshc.index.sources import backbone_features
from dshc.torch_defaults import torch_defaults


@contextlib.contextmanager
def of_float64():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CALLERS = {
    "float64": of_float64,
    "another device": lambda: torch.device("meta"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def state():
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize("caller", CALLERS)
def test_training(caller, features, finished, tmp_path):
    more = {"source": str(features), "epochs": 2, "threads": 1, "method": "dcwh"}
    want = train(tmp_path / "plain", more)
    with CALLERS[caller]():
        before = state()
        found = train(tmp_path / "run", more)
        assert state() == before
    for one, other in zip(final(found.folder), final(want.folder), strict=True):
        assert one[0] == other[0]


@pytest.mark.parametrize("caller", CALLERS)
def test_hasher(caller, finished, tmp_path):
    items = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    loaded = dshc.Hasher.load(finished.folder, device="cpu")
    want, outputs = loaded.encode_and_predict(items), loaded.outputs(items)
    network = torch.nn.Linear(12, 3)
    of_features = np.random.default_rng(1).normal(size=(30, 12)).astype(np.float32)
    classifier = dshc.from_classifier(network, bits=16, item_shape=(12,))
    with CALLERS[caller]():
        before = state()
        for hasher in (loaded, dshc.Hasher.load(finished.folder, device="cpu")):
            for found in (hasher.encode_and_predict(items), (hasher.encode(items), hasher.predict(items))):
                np.testing.assert_array_equal(found[0], want[0])
                np.testing.assert_array_equal(found[1], want[1])
            assert hasher.outputs(items).dtype == torch.float32
            assert hasher.outputs(items).numpy().tobytes() == outputs.numpy().tobytes()
        np.testing.assert_array_equal(
            dshc.from_classifier(network, bits=16, item_shape=(12,)).encode(of_features),
            classifier.encode(of_features),
        )
        loaded.export(tmp_path / "hasher.pt2")
        assert state() == before
    program = torch.export.load(tmp_path / "hasher.pt2").module()
    torch.testing.assert_close(program(torch.from_numpy(items)), outputs)


def test_threads():
    """The default dtype is one for all: the first that leaves does not take it from the others."""
    inside, leave = threading.Barrier(2), threading.Event()

    def stay():
        with torch_defaults():
            inside.wait(30)
            leave.wait(30)
            kept.append(torch.get_default_dtype())

    kept: list[torch.dtype] = []
    with of_float64():
        other = threading.Thread(target=stay)
        other.start()
        with torch_defaults():
            inside.wait(30)
        assert torch.get_default_dtype() == torch.float32
        leave.set()
        other.join(30)
        assert kept == [torch.float32] and torch.get_default_dtype() == torch.float64


def test_encoding_leaves_other_threads_alone(finished):
    """The default dtype is one for all threads."""
    hasher = dshc.Hasher.load(finished.folder, device="cpu")
    items = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype(np.uint8)
    seen = []
    handle = hasher.register_forward_hook(lambda *_: seen.append(torch.get_default_dtype()))
    with of_float64():
        hasher.encode(items)
        hasher.outputs(items)
        hasher.predict(items)
    handle.remove()
    assert seen == [torch.float64] * 3


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_method_encodes_the_same(name):
    hasher = a_hasher(name)
    items = items_of("features", 30)
    want = hasher.outputs(items), hasher.encode(items), hasher.predict(items)
    with of_float64():
        found = hasher.outputs(items), hasher.encode(items), hasher.predict(items)
    assert found[0].dtype == torch.float32 and torch.equal(found[0], want[0])
    for one, other in zip(found[1:], want[1:], strict=True):
        assert (one is None) == (other is None)
        np.testing.assert_array_equal(one, other)


def test_features_that_are_kept():
    """Those of an index are compared with others, of calls outside."""
    hasher, items = a_hasher("dpsh", "images"), items_of("images", 5)
    want = backbone_features(hasher, [items])
    with torch.autocast("cpu", torch.bfloat16):
        assert backbone_features(hasher, [items]).tobytes() == want.tobytes()
