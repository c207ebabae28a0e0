"""CenterNet for poses ("Objects as Points", Zhou, Wang and Krähenbühl, 2019, section 4.2): the first stage of the model
that comes with the package, with the backbone, the feature pyramid and the heads of MoveNet MultiPose.

A person is the cell of a map where the middle of their keypoints lies, and rough keypoints are read there; joints are
spots in heatmaps, which are exact and to which the rough ones are drawn (`pave_ros.postprocessing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models import mobilenet
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import HALF, ModelInfo
from pave_ros.models.layers import cell_centres, constant

PRIOR = -4.0  # First logit of people and joints in all cells: they are rare.
ELSEWHERE = -20.0  # Logit of cells beside those where a person is.


@dataclass(frozen=True)
class Variant:
    """One row of the family."""

    width: float  # Of the backbone.
    people: int  # Cells that are read as people at the most.
    input_size: tuple[int, int]


VARIANTS = {"lite": Variant(1.5, 60, (320, 320))}


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
        self.people = variant.people
        joints = len(skeletons.get(info.skeleton))
        self.backbone = mobilenet.MobileNet(variant.width)
        self.pyramid = mobilenet.Pyramid(self.backbone.channels)
        self.centre_head, self.joint_head = mobilenet.head(1), mobilenet.head(joints)
        self.pose_head = mobilenet.head(2 * joints)
        for head in (self.centre_head, self.joint_head):
            nn.init.constant_(head[-1].get_parameter("bias"), PRIOR)

    def encode(self, images: Tensor) -> Features:
        """The map (B, C, H / 4, W / 4) that the heads read, from normalised RGB pictures (B, 3, H, W)."""
        return (self.pyramid(self.backbone(images)),)

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the newest frame of the window.

        Returns:
            ``pred_logits`` (B, Q) before the sigmoid and ``pred_keypoints`` (B, Q, 2 K) of x, y pairs relative to the
            input picture, rough, best first; ``joints`` (B, K, H / 4, W / 4) 0..1, where each joint is.
        """
        centres, poses, joints = self.maps(window[-1][0])
        highest = F.max_pool2d(centres, 3, stride=1, padding=1)
        peaks = torch.where(centres == highest, centres, ELSEWHERE).flatten(1)
        best = peaks.topk(min(self.people, peaks.shape[1]), dim=1)
        keypoints = (
            poses.flatten(2).transpose(1, 2).gather(1, best.indices.unsqueeze(-1).expand(-1, -1, poses.shape[1]))
        )
        return {"pred_logits": best.values, "pred_keypoints": keypoints, "joints": joints.sigmoid()}

    def maps(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the heads make of the map: logits (B, 1, h, w) of people, their keypoints (B, 2 K, h, w) of x, y pairs
        relative to the picture, logits (B, K, h, w) of joints."""
        steps = self.pose_head(features).unflatten(1, (-1, 2))
        height, width = steps.shape[-2:]
        size = constant((width, height), steps.dtype, steps.device).view(2, 1, 1)
        cells = cell_centres([(height, width)], steps.device).T.unflatten(1, (height, width))
        return self.centre_head(features), (cells + steps / size).flatten(1, 2), self.joint_head(features)
