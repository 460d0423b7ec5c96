"""A small frozen backbone with weights in a file, and sets of photos; conftest.py of the tests that use it knows it."""

from __future__ import annotations

import pytest
import torch
from photos import KINDS, write_photos

from dshc import Hasher, methods
from dshc.backbones import EncoderSettings
from dshc.data import load

NAME, SIDE = "test_efficientnet", 32


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache without anything in it."""
    monkeypatch.setenv("DSHC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", side=40, kinds=KINDS[:3])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights whose normalisation has seen noise, so that features differ between images."""
    timm = pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
    torch.manual_seed(1)
    net = timm.create_model(NAME).train()
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(16, 3, SIDE, SIDE))
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture
def dataset(folder):
    """Read anew: features stay with a set."""
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
