"""Feature pyramids: the maps of a backbone become maps of equal width at the strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork

WIDTH = 256


class FPN(FeaturePyramidNetwork):  # type: ignore[misc]  # torchvision tells no types
    """Feature pyramid network (Lin et al., 2017): what the coarse maps know flows into the fine ones.

    Args:
        channels: of the four maps, the finest first.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(list(channels), WIDTH)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, C_l, H_l, W_l), each half as large as the one before -> four maps (B, 256, H_l, W_l)"""
        return list(super().forward({str(level): each for level, each in enumerate(maps)}).values())


class _HighResolutionFPN(nn.Module):
    """All maps of an HRNet, enlarged to the finest, are mixed; coarser maps are averages of the mixture.

    Args:
        channels: of the four maps, the finest first.
        bias: of the convolutions that make the output.
    """

    def __init__(self, channels: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.mix = nn.Conv2d(sum(channels), WIDTH, 1)
        # The fifth would make a map of stride 64, which nothing uses; published checkpoints hold it.
        self.output = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=bias) for _ in range(len(channels) + 1))

    def mixed(self, maps: Sequence[Tensor]) -> Tensor:
        enlarged = [F.interpolate(m, scale_factor=2**i, mode="bilinear") for i, m in enumerate(maps[1:], 1)]
        return self.mix(torch.cat((maps[0], *enlarged), 1))


class HRFPN(_HighResolutionFPN):
    """Pyramid of HRNet as for detection (Sun et al., 2019)."""

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, C_l, H_l, W_l), each half as large as the one before -> four maps (B, 256, H_l, W_l)"""
        mixed = self.mixed(maps)
        pooled = [mixed, *(F.avg_pool2d(mixed, 2**i) for i in range(1, len(maps)))]
        return [output(m) for output, m in zip(self.output, pooled, strict=False)]


class HRFPNLateral(_HighResolutionFPN):
    """The same, but each coarser map also takes the backbone's own map of that size."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(channels, bias=False)
        # The first goes unused, as published.
        self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1, bias=False) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, C_l, H_l, W_l), each half as large as the one before -> four maps (B, 256, H_l, W_l)"""
        flowing = self.mixed(maps)
        outputs = [self.output[0](flowing)]
        for lateral, output, own in zip(self.lateral[1:], self.output[1:-1], maps[1:], strict=True):
            flowing = F.avg_pool2d(flowing, 2) + lateral(own)
            outputs.append(output(flowing))
        return outputs
