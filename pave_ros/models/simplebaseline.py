"""The second stage of the model that comes with the package: heatmaps of one person's crop.

A simple baseline in the sense of Xiao, Wu and Wei (ECCV 2018): a classifier's backbone, and its maps enlarged to
heatmaps. Unlike there, the finer maps of the backbone help (a feature pyramid, Lin et al. 2017), and a heatmap is a
probability: a joint lies in one of the cells or nowhere in the crop. That teaches from the first picture on, where the
squared error of mostly empty maps teaches nothing for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.hybrid_encoder import ConvNorm
from pave_ros.models.info import HALF, ModelInfo

SPREAD = 1.5  # Standard deviation, in cells, of the places where a joint may lie whose place is known.


@dataclass(frozen=True)
class Variant:
    """One row of the family.

    Attributes:
        backbone: timm's name.
        last: how many blocks of the backbone's stage of stride 32 are used; its widest is left out.
        hidden: channels of the pyramid.
        input_size: height and width of the crops.
    """

    backbone: str
    last: int
    hidden: int
    input_size: tuple[int, int]


VARIANTS = {"lite": Variant("efficientnet_lite0", 3, 128, (192, 160))}


def build(variant: str, skeleton: str = "coco17") -> SimpleBaseline:
    """The network of one variant with untrained weights."""
    row = VARIANTS[variant]
    info = ModelInfo("simplebaseline", variant, skeleton, row.input_size, stride=32, mean=HALF, std=HALF, bf16=True)
    return SimpleBaseline(row, info)


class SimpleBaseline(PoseModel):
    """The network: crops of people in, one heatmap for each keypoint out, a quarter of the crop's size."""

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        joints = len(skeletons.get(info.skeleton))
        backbone: Any = timm.create_model(variant.backbone, features_only=True, out_indices=(1, 2, 3, 4))
        backbone.blocks[5] = backbone.blocks[5][: variant.last]
        backbone.blocks[6] = nn.Identity()
        deepest = backbone.blocks[5][-1].conv_pwl.out_channels
        channels = [*backbone.feature_info.channels()[:-1], deepest]
        self.backbone: nn.Module = freeze_batch_norm_2d(backbone)
        self.lateral = nn.ModuleList(ConvNorm(inputs, variant.hidden, 1) for inputs in channels)
        self.merge = nn.ModuleList(_merging(variant.hidden) for _ in channels)
        self.heatmaps = nn.Conv2d(variant.hidden, joints, 1)
        self.nowhere = nn.Linear(deepest, joints)

    def encode(self, images: Tensor) -> Features:
        """Logits (B, K, h, w) of the cells and (B, K) of their being nowhere, from crops (B, 3, 4 h, 4 w)."""
        maps = self.backbone(images)
        x = self.merge[-1](self.lateral[-1](maps[-1]))
        for level in range(len(maps) - 2, -1, -1):
            finer = self.lateral[level](maps[level])
            x = self.merge[level](finer + F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.heatmaps(x), self.nowhere(maps[-1].mean((2, 3)))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """``heatmaps`` (B, K, h, w) of the newest crop: near 1 where a joint lies for sure, and lower the less sure its
        place is or the likelier it is nowhere in the crop."""
        cells, nowhere = window[-1]
        shares = torch.cat((cells.flatten(2), nowhere.unsqueeze(-1)), -1).softmax(-1)
        peak = 2 * torch.pi * SPREAD**2  # One over the share of the middle cell, if the place is known.
        return {"heatmaps": peak * shares[..., :-1].unflatten(-1, (cells.shape[-2], cells.shape[-1]))}


def _merging(channels: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(channels, channels, 5, groups=channels), ConvNorm(channels, channels, 1, act=True))
