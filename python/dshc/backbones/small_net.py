"""A small residual network for images of up to 64 pixels, trained in minutes on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["conv_net", "small_net"]


def small_net(n_channels: int, *, width: int = 64, image_size: int = 32) -> nn.Sequential:
    """A small residual network over images ``(b, n_channels, h, w)``; ``n_features`` is ``4 * width``.

    Three stages of ``width``, ``2 * width`` and ``4 * width`` channels. Above 16 pixels the first convolution
    halves the image at once: most of the time at full resolution goes into memory traffic, and costs little
    accuracy to save.
    """
    stride = 2 if image_size > 16 else 1
    net = nn.Sequential(
        *_convolution(n_channels, width, kernel=4 if stride == 2 else 3, stride=stride),
        *_convolution(width, 2 * width),
        nn.MaxPool2d(2),
        _Residual(2 * width),
        *_convolution(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(4 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
    )
    net.n_features = 4 * width
    return net


def conv_net(n_channels: int, *, width: int = 32, image_size: int = 32) -> nn.Sequential:
    """Three convolutions over images ``(b, n_channels, h, w)``; ``n_features`` is ``4 * width``.

    ``small_net`` without its residual blocks: for comparisons of losses on a network as small as their papers', and
    the fastest that there is here.
    """
    net = small_net(n_channels, width=width, image_size=image_size)
    plain = nn.Sequential(*(layer for layer in net if not isinstance(layer, _Residual)))
    plain.n_features = net.n_features
    return plain


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
