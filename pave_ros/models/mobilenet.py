"""MobileNetV2 with a feature pyramid and heads, as MoveNet has them: what both stages of the model that comes with the
package are made of.

The network of Sandler et al. (CVPR 2018), any width; a pyramid (Lin et al., CVPR 2017) of separable convolutions brings
its maps to a quarter of the picture's size. Neither timm nor torchvision has it as MoveNet was published: with
normalisation folded into the convolutions, and strides that begin at the first pixel, as TensorFlow counts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEEPEST = 1280  # Channels of the last map, whatever the width.
PYRAMID = (64, 32, 24)  # Channels of the pyramid, from the deepest map on.
CHANNELS = PYRAMID[-1]  # Of what the heads read, at STRIDE.
STRIDE = 4
_HEAD = 96
# Expansion, channels at width 1, number of blocks, stride: table 2 of the paper.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_TAPPED = (1, 2, 3)  # Stages whose maps the pyramid takes, of strides 4, 8 and 16.


class MobileNet(nn.Module):
    """The backbone: pictures (B, 3, H, W) to maps of strides 4, 8, 16 and 32; H and W are multiples of 32.

    Attributes:
        channels: of the maps but the last, which has `DEEPEST`.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = _rounded(32 * width)
        self.stem = _Strided(3, channels)
        stages: list[nn.Module] = []
        made: list[int] = []
        for expansion, outputs, count, stride in STAGES:
            blocks: list[nn.Module] = []
            for i in range(count):
                blocks.append(_Block(channels, _rounded(outputs * width), expansion, stride if i == 0 else 1))
                channels = _rounded(outputs * width)
            stages.append(nn.Sequential(*blocks))
            made.append(channels)
        self.stages = nn.ModuleList(stages)
        self.last = nn.Conv2d(channels, DEEPEST, 1)
        self.channels = [made[stage] for stage in _TAPPED]
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(images))
        maps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in _TAPPED:
                maps.append(x)
        return [*maps, F.relu6(self.last(x))]


class Pyramid(nn.Module):
    """The maps of the backbone as one (B, CHANNELS, H / 4, W / 4)."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.top = nn.Conv2d(DEEPEST, PYRAMID[0], 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, p, 1) for c, p in zip(reversed(channels), PYRAMID, strict=True))
        following = (*PYRAMID[1:], CHANNELS)
        self.merge = nn.ModuleList(_separable(p, out) for p, out in zip(PYRAMID, following, strict=True))
        initialise(self)

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.levels(maps)[-1]

    def levels(self, maps: list[Tensor]) -> list[Tensor]:
        """All maps of the pyramid, of strides 16, 8 and 4."""
        *finer, deepest = maps
        x: Tensor = self.top(deepest)
        levels = []
        for lateral, merge, level in zip(self.lateral, self.merge, reversed(finer), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = merge(x + lateral(level))
            levels.append(x)
        return levels


class BackboneWithFPN(nn.Module):
    """Backbone and pyramid for who looks at two maps, of strides 8 and 16. The finest of the pyramid, where small
    things are, is in that of stride 8, its cells in fours.

    Attributes:
        channels: of the two maps.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.backbone = MobileNet(width)
        self.pyramid = Pyramid(self.backbone.channels)
        self.channels = (4 * CHANNELS + PYRAMID[2], PYRAMID[1])

    def forward(self, images: Tensor) -> list[Tensor]:
        coarse, middle, fine = self.pyramid.levels(self.backbone(images))
        return [torch.cat((F.pixel_unshuffle(fine, 2), middle), 1), coarse]


def head(outputs: int) -> nn.Sequential:
    """What reads the pyramid: (B, CHANNELS, h, w) to (B, outputs, h, w)."""
    last = nn.Conv2d(_HEAD, outputs, 1)
    made = nn.Sequential(*_separable(CHANNELS, _HEAD), last)
    initialise(made)
    nn.init.normal_(last.weight, std=0.01)  # Nothing is said before anything is known.
    return made


def initialise(module: nn.Module) -> None:
    """Weights that keep the size of what passes through, as nothing normalises it."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class _Strided(nn.Conv2d):
    """3x3 with stride 2 that begins at the first pixel: the border is at the right and below only."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=2, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class _Block(nn.Module):
    """Inverted residual: wide, each channel by itself, narrow again."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = nn.Conv2d(inputs, wide, 1) if expansion > 1 else None
        self.depthwise = (
            _Strided(wide, wide, groups=wide) if stride == 2 else nn.Conv2d(wide, wide, 3, padding=1, groups=wide)
        )
        self.project = nn.Conv2d(wide, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        narrow: Tensor = self.project(F.relu6(self.depthwise(wide)))
        return x + narrow if self.residual else narrow


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1), nn.ReLU())


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is not less than nine tenths."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
