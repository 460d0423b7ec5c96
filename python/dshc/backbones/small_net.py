"""A small residual network for images of up to 64 pixels, trained in minutes on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

from .enlarged import Enlarging

__all__ = ["ConvNet", "conv_net", "small_net"]


class ConvNet(Enlarging, nn.Sequential):
    """Layers one after the other; ``n_features`` is the width of what the last one gives."""

    def __init__(self, *layers: nn.Module, n_features: int) -> None:
        super().__init__(*layers)
        self.n_features = n_features

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.enlarge(images))

    def at_size(self) -> nn.Module:
        return nn.Sequential(*self)


def small_net(n_channels: int, *, width: int = 64, image_size: int = 32) -> ConvNet:
    """A small residual network over images ``(b, n_channels, h, w)``; ``n_features`` is ``4 * width``.

    Three stages of ``width``, ``2 * width`` and ``4 * width`` channels. Above 16 pixels the first convolution
    halves the image at once, for a fourth of the work; images that are enlarged to twice their side (``input_size``)
    pass it at their own.
    """
    stride = 2 if image_size > 16 else 1
    return ConvNet(
        *_convolution(n_channels, width, kernel=4 if stride == 2 else 3, stride=stride),
        *_convolution(width, 2 * width),
        nn.MaxPool2d(2),
        _Residual(2 * width),
        *_convolution(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        n_features=4 * width,
    )


def conv_net(n_channels: int, *, width: int = 32, image_size: int = 32) -> ConvNet:
    """Three convolutions over images ``(b, n_channels, h, w)``; ``n_features`` is ``4 * width``.

    ``small_net`` without its residual blocks: for comparisons of losses on a network as small as their papers', and
    the fastest that there is here.
    """
    net = small_net(n_channels, width=width, image_size=image_size)
    layers = (layer for layer in net if not isinstance(layer, _Residual))
    return ConvNet(*layers, n_features=net.n_features)


class _Residual(nn.Module):
    """x plus two convolutions of x."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(n_channels, n_channels), *_convolution(n_channels, n_channels)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.body(inputs)


def _convolution(n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
