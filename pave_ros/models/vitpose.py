"""ViTPose (Xu et al., NeurIPS 2022): a plain vision transformer and a light heatmap decoder, for one person's crop.

The first stage of TAR-ViTPose, and a model of its own: what a video model is measured against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo

PATCH = 16
POSITIONS = (16, 12)  # Patches of the 256 x 192 crop that the position embedding is made for.
DECODER_CHANNELS = 256


@dataclass(frozen=True)
class Variant:
    """One size of the encoder (published configurations).

    Attributes:
        backbone: timm's name of the same transformer.
        channels, depth, heads: of the encoder.
        drop_path: chance in training that its last layer is left out, less for those before.
    """

    backbone: str
    channels: int
    depth: int
    heads: int
    drop_path: float


VARIANTS = {
    "s": Variant("vit_small_patch16_224", 384, 12, 12, 0.1),
    "b": Variant("vit_base_patch16_224", 768, 12, 12, 0.3),
    "l": Variant("vit_large_patch16_224", 1024, 24, 16, 0.5),
    "h": Variant("vit_huge_patch14_224", 1280, 32, 16, 0.55),
}


def build(variant: str, skeleton: str = "coco17") -> ViTPose:
    """The network of one variant with untrained weights."""
    return ViTPose(VARIANTS[variant], crop_info("vitpose", variant, skeleton, (256, 192)))


def crop_info(
    system: str, variant: str, skeleton: str, input_size: tuple[int, int], window: int = 1, bgr: bool = False
) -> ModelInfo:
    """What the models of one person's crop have in common."""
    return ModelInfo(
        system=system,
        variant=variant,
        skeleton=skeleton,
        input_size=input_size,
        stride=PATCH,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        window=window,
        bgr=bgr,
    )


class ViTPose(PoseModel):
    """The network: crops of people in, one heatmap for each keypoint out, a quarter of the crop's size."""

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        self.backbone = Encoder(variant)
        self.head = HeatmapHead(variant.channels, len(skeletons.get(info.skeleton)))

    def encode(self, images: Tensor) -> Features:
        """The feature map (B, C, H / 16, W / 16) of crops (B, 3, H, W)."""
        return (self.backbone(images),)

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """``heatmaps`` (B, K, H / 4, W / 4) of the newest crop."""
        return {"heatmaps": self.head(window[-1][0])}


class Encoder(nn.Module):
    """The vision transformer: patches of 16 x 16 pixels, no class token, its output as a map."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        # The published padding of 2 shifts the patches: each covers its cell of the picture less the last two pixels.
        self.patch = nn.Conv2d(3, variant.channels, PATCH, PATCH, padding=2)
        self.positions = nn.Parameter(torch.empty(1, POSITIONS[0] * POSITIONS[1], variant.channels))
        nn.init.trunc_normal_(self.positions, std=0.02)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(
                variant.channels,
                variant.heads,
                qkv_bias=True,
                drop_path=variant.drop_path * i / (variant.depth - 1),
                norm_layer=norm,
            )
            for i in range(variant.depth)
        )
        self.norm = norm(variant.channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 16, W / 16)"""
        patches = self.patch(images)
        size = (patches.shape[2], patches.shape[3])
        tokens = (patches + self.positions_for(size)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, size)

    def positions_for(self, size: tuple[int, int]) -> Tensor:
        """(1, C, h, w) position embedding, interpolated bicubically where the map has another size: in float32 whatever
        the model computes in, as published."""
        positions = self.positions.transpose(1, 2).unflatten(2, POSITIONS)
        if size == POSITIONS:
            return positions
        return F.interpolate(positions.float(), size, mode="bicubic", align_corners=False).to(positions.dtype)


class HeatmapHead(nn.Module):
    """The classic decoder: twice twice as large, then one map for each keypoint."""

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (channels, DECODER_CHANNELS):
            layers += [
                nn.ConvTranspose2d(inputs, DECODER_CHANNELS, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(DECODER_CHANNELS),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.final = nn.Conv2d(DECODER_CHANNELS, joints, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)  # As published: heatmaps start near zero.
        nn.init.zeros_(self.final.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, K, 4 h, 4 w)"""
        heatmaps: Tensor = self.final(self.layers(features))
        return heatmaps
