"""Small images enlarged before a network of timm."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from dshc.backbones import timm_backbone
from dshc.backbones.enlarged import enlarged

pytest.importorskip("timm", reason="timm is not installed (extra 'vision')")


def images(side):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def tiny(**values):
    torch.manual_seed(0)  # one draws what another does
    return timm_backbone("test_efficientnet", (32, 32, 3), **values)


def test_images_are_enlarged_before_the_network():
    plain, large = tiny(finetune="none"), tiny(finetune="none", input_size=64)
    x = images(side=32)
    expected = interpolate(x, size=(64, 64), mode="bicubic", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(large.eval()(x), plain.eval()(expected))
        torch.testing.assert_close(large.frozen_features(x), plain.frozen_features(expected))
        assert not torch.allclose(large(x), plain(x))
    assert large.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [((32, 32), 64, (64, 64)), ((8, 16), 32, (16, 32)), ((3, 16), 17, (3, 17)), ((5, 5), 5, (5, 5))],
)
def test_the_longer_side_is_the_input_size(shape, side, expected):
    assert enlarged(torch.zeros(1, 2, *shape), side).shape == (1, 2, *expected)


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (20, 31), (7, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_images_are_enlarged_as_torch_interpolates(shape, layout):
    images = torch.randn(3, 3, *shape).contiguous(memory_format=layout)
    found = enlarged(images, 48)
    expected = torch.nn.functional.interpolate(
        images, size=found.shape[2:], mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)  # torch rounds places to float32
    exact = torch.nn.functional.interpolate(
        images.double(), size=found.shape[2:], mode="bicubic", align_corners=False
    )
    torch.testing.assert_close(enlarged(images.double(), 48), exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=2e-6)
    assert found.is_contiguous(memory_format=layout)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(enlarged(images, 48), found)


def test_a_constant_image_stays_constant_when_enlarged():
    x = torch.full((1, 3, 4, 4), -1.75)
    torch.testing.assert_close(enlarged(x, 13), torch.full((1, 3, 13, 13), -1.75))


def test_a_network_that_takes_one_size_takes_images_enlarged_to_it():
    name = "vit_tiny_patch16_224"
    net = timm_backbone(name, (32, 32, 3), input_size=224)
    assert net(images(side=32)).shape == (2, net.n_features)
    with pytest.raises(ValueError, match=f"input_size must be one that timm:{name} accepts, got 96x96"):
        timm_backbone(name, (32, 32, 3), input_size=96)


def test_images_are_not_made_smaller():
    with pytest.raises(ValueError, match="input_size must be at least 32, the side of the images, got 31"):
        timm_backbone("test_efficientnet", (32, 16, 3), input_size=31)
