"""The hybrid encoder of RT-DETR and D-FINE: attention on the coarsest map, convolutions to fuse all maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pave_ros.models.layers import EncoderLayer, cell_encoding

HEADS = 8


class ConvNorm(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(outputs)
        self.act = nn.SiLU() if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def fuse(self) -> None:
        """Make the one convolution that does both steps."""
        if isinstance(self.norm, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()


class RepConv(nn.Module):
    """3x3 and 1x1 convolutions side by side, which fold into one 3x3 (RepVGG)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3)
        self.conv2: ConvNorm | None = ConvNorm(channels, channels, 1)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        return self.act(y if self.conv2 is None else y + self.conv2(x))

    def fuse(self) -> None:
        if self.conv2 is not None:
            self.conv1.fuse()
            self.conv2.fuse()
            one, other = self.conv1.conv, self.conv2.conv
            assert one.bias is not None and other.bias is not None
            with torch.no_grad():
                one.weight += F.pad(other.weight, [1, 1, 1, 1])
                one.bias += other.bias
            self.conv2 = None


def fuse_convolutions(network: nn.Module) -> None:
    """Fold the normalisation and the parallel branches of a network's convolutions into single ones."""
    for module in network.modules():
        if isinstance(module, (ConvNorm, RepConv)):
            module.fuse()


class CSPLayer(nn.Module):
    """Cross-stage partial layer: a chain of `RepConv` beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1, act=True)
        self.conv2 = ConvNorm(inputs, outputs, 1, act=True)
        self.bottlenecks = nn.Sequential(*(RepConv(outputs) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.bottlenecks(self.conv1(x)) + self.conv2(x)


class RepNCSPELAN4(nn.Module):
    """Fusion block of YOLOv9 and D-FINE: every intermediate result goes into the last convolution."""

    def __init__(self, inputs: int, outputs: int, middle: int, inner: int, depth: int) -> None:
        super().__init__()
        self.cv1 = ConvNorm(inputs, middle, 1, act=True)
        self.cv2 = nn.Sequential(CSPLayer(middle // 2, inner, depth), ConvNorm(inner, inner, 3, act=True))
        self.cv3 = nn.Sequential(CSPLayer(inner, inner, depth), ConvNorm(inner, inner, 3, act=True))
        self.cv4 = ConvNorm(middle + 2 * inner, outputs, 1, act=True)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.cv1(x).chunk(2, 1)
        third = self.cv2(second)
        return self.cv4(torch.cat((first, second, third, self.cv3(third)), 1))


class HybridEncoder(nn.Module):
    """Attention on the coarsest map, then fusion of all maps top-down and bottom-up (RT-DETR, D-FINE)."""

    def __init__(self, channels: Sequence[int], hidden: int, ffn: int, depth_mult: float, expansion: float) -> None:
        super().__init__()
        self.hidden = hidden
        inner = round(expansion * hidden // 2)
        depth = round(3 * depth_mult)
        steps = range(len(channels) - 1)
        self.input_proj = nn.ModuleList(ConvNorm(c, hidden, 1) for c in channels)
        self.attention = EncoderLayer(hidden, HEADS, ffn, F.gelu)
        self.lateral_convs = nn.ModuleList(ConvNorm(hidden, hidden, 1, act=True) for _ in steps)
        self.fpn_blocks = nn.ModuleList(RepNCSPELAN4(2 * hidden, hidden, 2 * hidden, inner, depth) for _ in steps)
        self.downsample_convs = nn.ModuleList(
            nn.Sequential(ConvNorm(hidden, hidden, 1), ConvNorm(hidden, hidden, 3, stride=2, groups=hidden))
            for _ in steps
        )
        self.pan_blocks = nn.ModuleList(RepNCSPELAN4(2 * hidden, hidden, 2 * hidden, inner, depth) for _ in steps)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_l, H_l, W_l), fine to coarse -> maps (B, hidden, H_l, W_l)"""
        maps = [project(feature) for project, feature in zip(self.input_proj, features, strict=True)]
        top = self.attend(maps.pop())
        lateral = []  # Coarse to fine.
        for conv, block in zip(self.lateral_convs, self.fpn_blocks, strict=True):
            lateral.append(conv(top))
            top = block(torch.cat((F.interpolate(lateral[-1], scale_factor=2.0, mode="nearest"), maps.pop()), 1))
        out = [top]
        for conv, block in zip(self.downsample_convs, self.pan_blocks, strict=True):
            out.append(block(torch.cat((conv(out[-1]), lateral.pop()), 1)))
        return out

    def attend(self, coarsest: Tensor) -> Tensor:
        """Attention among the cells of a map (B, C, H, W)."""
        height, width = coarsest.shape[-2:]
        positions = cell_encoding(height, width, self.hidden, temperature=20, device=coarsest.device)
        tokens = self.attention(coarsest.flatten(2).transpose(1, 2), positions.to(coarsest.dtype))
        return tokens.transpose(1, 2).unflatten(2, (height, width))
