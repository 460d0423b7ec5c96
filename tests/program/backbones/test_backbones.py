"""Backbones: shapes, weights, and what is refused."""

import re

import pytest
import safetensors.torch
import torch
from extras import needs

from dshc.backbones import EncoderSettings, build_backbone, conv_net, identity, mlp, small_net, timm_backbone

needs_timm = needs("timm")


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (16, 3), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize(("make", "n_convolutions"), [(small_net, 7), (conv_net, 3)])
def test_small_nets_take_small_images(make, n_convolutions, side, channels):
    net = make(channels, width=4, image_size=side)
    assert net.n_features == 16
    assert net(torch.zeros(2, channels, side, side)).shape == (2, 16)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in net.modules()) == n_convolutions


def test_mlp_takes_features():
    net = mlp(7, width=5)
    assert net.n_features == 5 and net(torch.zeros(2, 7)).shape == (2, 5)


def test_identity_hands_features_on():
    net = build_backbone(EncoderSettings(backbone="identity"), (7,))
    inputs = torch.randn(2, 7)
    assert net.n_features == identity((7,)).n_features == 7 and torch.equal(net(inputs), inputs)
    images = build_backbone(EncoderSettings(backbone="identity"), (4, 5, 3))
    assert images.n_features == 60 and images(torch.zeros(2, 3, 4, 5)).shape == (2, 60)


@pytest.mark.parametrize(
    ("backbone", "shape"),
    [
        ("mlp", (8, 8, 1)),
        ("small_net", (12,)),
        ("resnet18", (8, 8, 3)),
        ("timm:x", (5,)),
        (None, (5,)),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(backbone, shape):
    known = "mlp or identity" if len(shape) == 1 else "small_net, conv_net, identity or timm:NAME"
    message = re.escape(f"backbone must be {known} for items of shape {shape}, got '{backbone or ''}'")
    with pytest.raises(ValueError, match=message):
        build_backbone(EncoderSettings(backbone=backbone), shape)


def test_the_remedy_is_named_where_timm_is_absent(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'dshc-fast\[vision\]'"):
        build_backbone(EncoderSettings(backbone="timm:resnet18"), (32, 32, 3))


@needs_timm
def test_timm_models_and_their_weights(tmp_path):
    net = build_backbone(EncoderSettings(backbone="timm:resnet10t"), (32, 48, 1))
    assert net(torch.zeros(2, 1, 32, 48)).shape == (2, net.n_features)
    assert net.training

    import timm

    torch.manual_seed(1)
    whole = timm.create_model("resnet10t", num_classes=11)
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": whole.state_dict()}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        loaded = timm_backbone("resnet10t", (32, 32, 3), weights=tmp_path / name)
        inputs = torch.randn(2, 3, 32, 32)
        expected = whole.eval().forward_head(whole.forward_features(inputs), pre_logits=True)
        assert torch.equal(loaded.eval()(inputs), expected)
    grey = timm_backbone("resnet10t", (32, 32, 1), weights=tmp_path / "w.pth").eval()
    one = torch.randn(2, 1, 32, 32)
    colour = timm_backbone("resnet10t", (32, 32, 3), weights=tmp_path / "w.pth").eval()
    torch.testing.assert_close(grey(one), colour(one.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=r"w\.pth: not the weights of this model"):
        timm_backbone("resnet18", (32, 32, 3), weights=tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"weights: .*w\.pth: damaged"):
        timm_backbone("resnet10t", (32, 32, 3), weights=tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        timm_backbone("resnet10t", (32, 32, 3), weights=tmp_path / "gone.pth")


@needs_timm
def test_unknown_timm_models_and_sizes_are_refused():
    with pytest.raises(ValueError, match="models, got 'resnet1800'"):
        timm_backbone("resnet1800", (32, 32, 3))
    with pytest.raises(
        ValueError, match="image_size must be one that timm:vit_tiny_patch16_224 accepts, got 32x32"
    ):
        timm_backbone("vit_tiny_patch16_224", (32, 32, 3))


@pytest.mark.parametrize(("backbone", "shape"), [("mlp", (5,)), ("identity", (5,)), ("small_net", (8, 8, 1))])
def test_weights_are_not_taken_and_ignored(backbone, shape):
    with pytest.raises(ValueError, match=r"weights must go with a backbone timm:NAME; .* got 'w\.pth'"):
        build_backbone(EncoderSettings(backbone=backbone, weights="w.pth"), shape)


@pytest.mark.parametrize("name", ["small_net", "conv_net"])
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 3, 1), (2, 8, 1), (32, 3, 3)])
def test_small_nets_refuse_what_is_too_small(name, shape):
    with pytest.raises(
        ValueError, match=f"image_size must be one that {name} accepts, got {shape[0]}x{shape[1]}"
    ):
        build_backbone(EncoderSettings(backbone=name, width=4), shape)
    assert build_backbone(EncoderSettings(backbone=name, width=4), (4, 4, 1)).training


# Images that are enlarged before the network


@pytest.mark.parametrize("name", ["small_net", "conv_net"])
def test_small_nets_enlarge_their_images(name):
    torch.manual_seed(0)
    net = build_backbone(EncoderSettings(backbone=name, width=4, input_size=20), (10, 8, 3))
    make = small_net if name == "small_net" else conv_net
    plain = make(3, width=4, image_size=20)  # halves images of more than 16 pixels, as this one does
    plain.load_state_dict(net.state_dict())
    images = torch.randn(5, 3, 10, 8)
    expected = torch.nn.functional.interpolate(images, size=(20, 16), mode="bicubic", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images), plain.eval()(expected), rtol=1e-4, atol=1e-5)
        net.train_size = 10
        torch.testing.assert_close(net(images), plain(expected), rtol=1e-4, atol=1e-5)
        assert torch.equal(net.train()(images), plain.train()(images))
        assert torch.equal(net.at_size()(images), plain(images))


@pytest.mark.parametrize(
    ("backbone", "shape"), [("mlp", (5,)), ("identity", (5,)), ("identity", (8, 8, 3)), ("small_net", (5,))]
)
def test_only_networks_of_images_enlarge(backbone, shape):
    message = "input_size must go with a backbone small_net, conv_net or timm:NAME; "
    message += f"{backbone!r} reads items as they are, got 64"
    with pytest.raises(ValueError, match=message):
        build_backbone(EncoderSettings(backbone=backbone, input_size=64), shape)


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.parametrize("weights", [None, "w.pth"])
def test_networks_of_timm_take_images_alone(weights, pretrained):
    settings = EncoderSettings(backbone="timm:resnet18", weights=weights, pretrained=pretrained)
    with pytest.raises(ValueError, match=r"backbone must be mlp or identity for items of shape \(5,\), got"):
        build_backbone(settings, (5,))


def test_the_setting_that_chose_the_size_is_named():
    for side, name in ((None, "image_size"), (3, "input_size")):
        with pytest.raises(ValueError, match=f"{name} must be one that small_net accepts, got"):
            build_backbone(EncoderSettings(backbone="small_net", width=4, input_size=side), (2, 2, 1))


@pytest.mark.parametrize("name", ["small_net", "conv_net"])
def test_small_nets_do_not_make_images_smaller(name):
    with pytest.raises(ValueError, match="input_size must be at least 10, the side of the images, got 9"):
        build_backbone(EncoderSettings(backbone=name, width=4, input_size=9), (10, 8, 3))
