"""Swin Transformer as a backbone for pictures of any size (Liu et al., 2021).

The layers are timm's and so are the names of the tensors, but not the order of two steps: here, as in the backbones of
detectors that published weights come from, a map is first padded to whole windows and then shifted. timm shifts first,
which gives other windows wherever a map is no multiple of seven.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from timm.layers import DropPath, Mlp
from timm.models.swin_transformer import PatchMerging, WindowAttention, window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 7
LARGE = (192, (2, 2, 18, 2), (6, 12, 24, 48))  # Swin-L: width, depths and heads.


class Swin(nn.Module):
    """The maps of all four stages, without the normalisation that each system puts behind them.

    Args:
        width: channels of the first stage; each further stage has twice as many.
        depths: blocks of each stage.
        heads: of the attention in each stage.
        drop_path: chance in training that the last block is left out; the others in proportion to their depth.
    """

    def __init__(self, width: int, depths: Sequence[int], heads: Sequence[int], drop_path: float) -> None:
        super().__init__()
        self.channels = tuple(width * 2**stage for stage in range(len(depths)))
        self.patch_embed = PatchEmbedding(width)
        before = [0, *accumulate(depths)]
        rates = [drop_path * block / (before[-1] - 1) for block in range(before[-1])]
        self.layers = nn.ModuleList(
            Stage(channels, heads[i], rates[before[i] : before[i + 1]], first=i == 0)
            for i, channels in enumerate(self.channels)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Pictures (B, 3, H, W) -> maps (B, H / s, W / s, C) for the strides 4, 8, 16 and 32, rounded up."""
        x = self.patch_embed(images)
        maps = []
        for stage in self.layers:
            x = stage(x)
            maps.append(x)
        return maps


class PatchEmbedding(nn.Module):
    """Squares of four by four pixels become vectors."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / 4, W / 4, C)"""
        height, width = images.shape[-2:]
        return self.norm(self.proj(F.pad(images, (0, -width % 4, 0, -height % 4))).permute(0, 2, 3, 1))


class Stage(nn.Module):
    """Blocks at one resolution, every second one with shifted windows."""

    def __init__(self, channels: int, heads: int, rates: Sequence[float], first: bool) -> None:
        super().__init__()
        self.downsample = nn.Identity() if first else PatchMerging(channels // 2)
        self.blocks = nn.ModuleList(Block(channels, heads, i % 2 * (WINDOW // 2), rate) for i, rate in enumerate(rates))

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)
        height, width = x.shape[1:3]
        mask = shift_mask(height + -height % WINDOW, width + -width % WINDOW, x)
        for block in self.blocks:
            x = block(x, mask)
        return x


class Block(nn.Module):
    """Attention within windows, and a feed-forward network."""

    def __init__(self, channels: int, heads: int, shift: int, rate: float) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window_size=WINDOW)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels, 4 * channels)
        self.drop_path = DropPath(rate)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) -> the same; `mask` keeps apart what lies in one shifted window without being neighbours."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        size = x.shape[1:3]
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        windows = window_partition(x, (WINDOW, WINDOW)).flatten(1, 2)
        windows = self.attn(windows, mask=mask if self.shift else None)
        x = window_reverse(windows.unflatten(1, (WINDOW, WINDOW)), (WINDOW, WINDOW), *size)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


def shift_mask(height: int, width: int, like: Tensor) -> Tensor:
    """(windows, 49, 49) of zero, and -100 for pairs that shifting brought into one window of a map of this size."""
    regions = torch.zeros(1, height, width, 1, dtype=like.dtype, device=like.device)
    bounds = (slice(-WINDOW, -(WINDOW // 2)), slice(-(WINDOW // 2), None))
    for index, part in enumerate(bounds):
        regions[:, part] += 3 * (index + 1)
        regions[:, :, part] += index + 1
    windows = window_partition(regions, (WINDOW, WINDOW)).flatten(1)
    different = windows[:, None] != windows[:, :, None]
    return different.to(like.dtype) * -100.0


class OutputNorms(nn.ModuleList):
    """The normalisation behind the stages whose maps a detector uses; the maps come out channels first.

    Args:
        channels: of each of these stages.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__(nn.LayerNorm(c) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, H, W, C), as many as there are norms -> (B, C, H, W)"""
        return [norm(x).permute(0, 3, 1, 2) for norm, x in zip(self, maps, strict=True)]
