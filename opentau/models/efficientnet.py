"""The first stages of EfficientNet-Lite0, whose pre-trained weights see well for their size, as a vision tower."""

# Shapes: M images, Y and X rows and columns, R channels, P tokens of an image, W width of the backbone.

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from opentau.models.config import EfficientNetLiteConfig
from opentau.models.recomputing import Recomputation

STEM_CHANNELS = 32
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
"""Blocks, kernel size, stride of the first block, expansion and channels (EfficientNet, arXiv:1905.11946, table 1; the Lite
variants do without squeeze-and-excitation and clip at 6). The two further stages see less of where things are."""
RELU_GAIN = 2.0**0.5
"""Keeps the size of random activations that lose their negative half."""
PIXEL_OFFSET, PIXEL_SCALE = 127.0, 128.0
"""Its pixels are (x - 127) / 128, of x in 0 … 255."""
HALF_RANGE = 127.5
"""Ours are x / 127.5 - 1."""


class ScaledConv(nn.Conv2d):
    """A convolution with a gain of its own per output channel; it is padded as TensorFlow does, behind first.

    Gain and bias hold the batch norm that follows in the published network, with its statistics of inference: those stay what
    they are, and a batch says nothing about another sample.
    """

    def __init__(self, before: int, after: int, *, kernel_size: int, stride: int = 1, groups: int = 1, gain: float) -> None:
        super().__init__(before, after, kernel_size=kernel_size, stride=stride, groups=groups)
        self.scale = nn.Parameter(torch.full((after,), gain))

    def forward(self, x_MRYX: Tensor) -> Tensor:
        """Return [M, R', Y / stride, X / stride]."""
        (size, _), (stride, _) = self.kernel_size, self.stride
        down, right = (same_padding(length, kernel_size=size, stride=stride) for length in x_MRYX.shape[2:])
        if down % 2 or right % 2:
            x_MRYX = F.pad(x_MRYX, (right // 2, right - right // 2, down // 2, down - down // 2))
            down = right = 0
        weight = self.weight * self.scale[:, None, None, None]
        return F.conv2d(x_MRYX, weight, self.bias, self.stride, (down // 2, right // 2), groups=self.groups)


class InvertedBottleneck(nn.Module):
    """Wider, across space, narrower; added to its input where both have one shape (MobileNetV2, arXiv:1801.04381)."""

    def __init__(self, before: int, after: int, *, kernel_size: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.is_residual = stride == 1 and before == after
        self.expand = ScaledConv(before, wide, kernel_size=1, gain=RELU_GAIN) if expansion > 1 else None
        self.depthwise = ScaledConv(wide, wide, kernel_size=kernel_size, stride=stride, groups=wide, gain=RELU_GAIN)
        self.project = ScaledConv(wide, after, kernel_size=1, gain=1.0)

    def forward(self, x_MRYX: Tensor) -> Tensor:
        """Return [M, R', Y / stride, X / stride]."""
        wide_MRYX = x_MRYX if self.expand is None else F.relu6(self.expand(x_MRYX))
        change_MRYX = self.project(F.relu6(self.depthwise(wide_MRYX)))
        return x_MRYX + change_MRYX if self.is_residual else change_MRYX


class EfficientNetLiteTower(nn.Module):
    """A stem and blocks down to a sixteenth of the image, a norm, the projection into the backbone and learned positions."""

    def __init__(self, config: EfficientNetLiteConfig, *, width: int) -> None:
        super().__init__()
        self.call = Recomputation()
        self.stem = ScaledConv(3, STEM_CHANNELS, kernel_size=3, stride=2, gain=RELU_GAIN)
        blocks, before = [], STEM_CHANNELS
        for count, kernel_size, stride, expansion, after in STAGES:
            for index in range(count):
                first_stride = 1 if index else stride
                blocks.append(
                    InvertedBottleneck(before, after, kernel_size=kernel_size, stride=first_stride, expansion=expansion)
                )
                before = after
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(before)
        self.projection = nn.Linear(before, width)
        self.position_embedding = nn.Parameter(torch.zeros(config.num_tokens, width))

    def seen(self, pixels_MRYX: Tensor) -> Tensor:
        """Return what the published network sees, [M, 112, Y / 16, X / 16], from pixels in [-1, 1]."""
        offset = (HALF_RANGE - PIXEL_OFFSET) / PIXEL_SCALE
        x_MRYX = F.relu6(self.stem(pixels_MRYX * (HALF_RANGE / PIXEL_SCALE) + offset))
        for block in self.blocks:
            x_MRYX = self.call(block, x_MRYX)
        return x_MRYX

    def forward(self, pixels_MRYX: Tensor) -> Tensor:
        """Return tokens, [M, P, W], from pixels in [-1, 1]."""
        seen_MPR = self.seen(pixels_MRYX).flatten(2).transpose(1, 2)
        return self.projection(self.norm(seen_MPR)) + self.position_embedding


def same_padding(length: int, *, kernel_size: int, stride: int) -> int:
    """Return how many zeros are added along a side so that its length is divided by the stride, rounded up."""
    return max((-(-length // stride) - 1) * stride + kernel_size - length, 0)
