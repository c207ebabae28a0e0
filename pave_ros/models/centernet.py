"""CenterNet for poses ("Objects as Points", Zhou, Wang and Krähenbühl, 2019, section 4.2): the small model that comes
with the package.

A person is a cell of a map, from which rough keypoints are read; joints are spots in heatmaps, which are exact and to
which the rough ones are drawn (`pave_ros.postprocessing`). Every pixel near a joint teaches something, so this learns
from far fewer pictures than queries do. Unlike the paper, three maps share the people by size, and the maps come from
the hybrid encoder of RT-DETR, which the other systems here have too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from pave_ros import skeletons
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.hybrid_encoder import HybridEncoder, fuse_convolutions
from pave_ros.models.info import HALF, ModelInfo
from pave_ros.models.layers import MLP, cell_centres

JOINT_PRIOR = -4.0  # First logit of all joints in all cells: joints are rare.


@dataclass(frozen=True)
class Variant:
    """One row of the family."""

    backbone: str
    levels: tuple[int, ...]  # Which of timm's feature maps are used.
    hidden: int
    encoder_ffn: int
    people: int  # Cells that are read as people at the most.
    input_size: tuple[int, int]


VARIANTS = {"lite": Variant("efficientnet_lite0", (2, 3, 4), 128, 512, 100, (320, 320))}


def build(variant: str, skeleton: str = "coco17") -> CenterNet:
    """The network of one variant with untrained weights."""
    row = VARIANTS[variant]
    info = ModelInfo("centernet", variant, skeleton, row.input_size, stride=32, mean=HALF, std=HALF, bf16=True)
    return CenterNet(row, info)


class CenterNet(PoseModel):
    """The network. Keypoints come out relative to the input picture, so any input size serves."""

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        self.people = variant.people
        joints = len(skeletons.get(info.skeleton))
        backbone: Any = timm.create_model(variant.backbone, features_only=True, out_indices=variant.levels)
        self.backbone: nn.Module = freeze_batch_norm_2d(backbone)
        self.strides: tuple[int, ...] = tuple(backbone.feature_info.reduction())
        channels, hidden = backbone.feature_info.channels(), variant.hidden
        self.encoder = HybridEncoder(channels, hidden, variant.encoder_ffn, depth_mult=0.34, expansion=0.34)
        self.project = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.score_head = nn.Linear(hidden, 1)
        self.pose_head = MLP(hidden, 2 * hidden, 2 * joints, 4)
        self.joint_head = nn.Conv2d(hidden, joints, 1)
        nn.init.constant_(self.score_head.bias, -math.log(99))
        nn.init.constant_(self.joint_head.get_parameter("bias"), JOINT_PRIOR)

    def encode(self, images: Tensor) -> Features:
        """Feature maps (B, C, H / s, W / s) for each stride s, from normalised RGB pictures (B, 3, H, W)."""
        return tuple(self.encoder(self.backbone(images)))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the newest frame of the window, each maybe several times.

        Returns:
            ``pred_logits`` (B, Q) before the sigmoid and ``pred_keypoints`` (B, Q, 2 K) of x, y pairs relative to the
            input picture, rough, best first; ``joints`` (B, K, H / s, W / s) 0..1, where each joint is.
        """
        memory, logits, anchors = self.cells(window[-1])
        count = min(self.people, logits.shape[1])
        best = logits.topk(count, dim=1)
        index = best.indices.unsqueeze(-1)
        memory = memory.gather(1, index.expand(-1, -1, memory.shape[-1]))
        anchors = anchors.expand(index.shape[0], -1, -1).gather(1, index.expand(-1, -1, 2))
        return {
            "pred_logits": best.values,
            "pred_keypoints": self.keypoints(memory, anchors).flatten(2),
            "joints": self.joint_head(window[-1][0]).sigmoid(),
        }

    def forward_training(self, images: Tensor, pictures: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What training supervises.

        Args:
            images: (B, 3, H, W) RGB, normalised.
            pictures, cells: (P,) each: cells, counted over all maps, finest first and row by row, of these pictures.

        Returns:
            Logits (B, S) of all cells, keypoints (P, K, 2) of the given cells, logits (B, K, H_0, W_0) of the joints.
        """
        features = self.encode(images)
        memory, logits, anchors = self.cells(features)
        return logits, self.keypoints(memory[pictures, cells], anchors[0, cells]), self.joint_head(features[0])

    def cells(self, features: Features) -> tuple[Tensor, Tensor, Tensor]:
        """Content (B, S, C), logits (B, S), and centres before the sigmoid (1, S, 2) of the cells of all maps."""
        memory = torch.cat([f.flatten(2).transpose(1, 2) for f in features], 1)
        memory = self.norm(self.project(memory))
        centres = cell_centres([(f.shape[-2], f.shape[-1]) for f in features], memory.device)
        return memory, self.score_head(memory).squeeze(-1), torch.log(centres / (1 - centres)).unsqueeze(0)

    def keypoints(self, memory: Tensor, anchors: Tensor) -> Tensor:
        """(..., K, 2) of cells with content (..., C) and centres (..., 2)"""
        return torch.sigmoid(self.pose_head(memory).unflatten(-1, (-1, 2)) + anchors.unsqueeze(-2))

    def fuse(self) -> CenterNet:
        fuse_convolutions(self)
        return self
