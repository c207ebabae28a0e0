"""The second stage of the model that comes with the package: heatmaps of one person's crop.

A simple baseline in the sense of Xiao, Wu and Wei (ECCV 2018): a backbone, and its maps enlarged to heatmaps; here with
the backbone and the feature pyramid of MoveNet. Unlike in both, a heatmap is a probability: a joint lies in one of the
cells or nowhere in the crop, so that the network can say that nobody is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pave_ros import skeletons
from pave_ros.models import mobilenet
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import HALF, ModelInfo

SPREAD = 1.5  # Standard deviation, in cells, of the places where a joint may lie whose place is known.


@dataclass(frozen=True)
class Variant:
    """One row of the family.

    Attributes:
        width: of the backbone.
        input_size: height and width of the crops.
    """

    width: float
    input_size: tuple[int, int]


VARIANTS = {"lite": Variant(1.75, (256, 192))}


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
        joints = len(skeletons.get(info.skeleton))
        self.backbone = mobilenet.MobileNet(variant.width)
        self.pyramid = mobilenet.Pyramid(self.backbone.channels)
        self.joint_head = mobilenet.head(joints)
        self.nowhere = nn.Linear(mobilenet.DEEPEST, joints)

    def encode(self, images: Tensor) -> Features:
        """Logits (B, K, h, w) of the cells and (B, K) of their being nowhere, from crops (B, 3, 4 h, 4 w)."""
        maps = self.backbone(images)
        return self.joint_head(self.pyramid(maps)), self.nowhere(maps[-1].mean((2, 3)))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """``heatmaps`` (B, K, h, w) of the newest crop: near 1 where a joint lies for sure, and lower the less sure its
        place is or the likelier it is nowhere in the crop."""
        cells, nowhere = window[-1]
        shares = torch.cat((cells.flatten(2), nowhere.unsqueeze(-1)), -1).softmax(-1)
        peak = 2 * torch.pi * SPREAD**2  # One over the share of the middle cell, if the place is known.
        return {"heatmaps": peak * shares[..., :-1].unflatten(-1, (cells.shape[-2], cells.shape[-1]))}
