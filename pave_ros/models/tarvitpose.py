"""TAR-ViTPose: Temporal Aggregate-and-Restore Vision Transformer (Fang, Cai, Wang and Yang, CVPR 2026).

The crops of one person in T frames go through ViTPose's encoder one by one. One query for each joint gathers what all
frames show where ViTPose's own heatmaps expect the joint (joint-centric temporal aggregation); then the tokens of the
middle frame look at the joints (global restoring attention), and ViTPose's head makes heatmaps of that frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models import layers, vitpose
from pave_ros.models.base import Features
from pave_ros.models.info import ModelInfo
from pave_ros.models.vitpose import ViTPose

HEADS = 4
LAYERS = 6
WINDOW = 5
MASK_THRESHOLD = 0.2  # Cells where a joint is less likely than this share of its maximum are not looked at.


@dataclass(frozen=True)
class Variant:
    """One row of the family.

    Attributes:
        encoder: size of the vision transformer.
        published_reshapes: two reshapes in the published code do not do what the paper says, and the trained weights
            depend on them. Maps (C, h w) are read as tokens (h w, C) without being transposed, so a token is a piece
            of a channel and not a cell; and the mask (T, K, h w) is read as (K, T, h w), so joints look where other
            joints of other frames are. True computes the same; False transposes, for weights trained that way.
        layers: of the aggregation.
    """

    encoder: vitpose.Variant
    published_reshapes: bool = True
    layers: int = LAYERS


VARIANTS = {
    **{size: Variant(encoder) for size, encoder in vitpose.VARIANTS.items()},
    **{f"{size}_corrected": Variant(encoder, published_reshapes=False) for size, encoder in vitpose.VARIANTS.items()},
}


def build(variant: str, skeleton: str = "posetrack17", layers: int = LAYERS) -> TARViTPose:
    """The network of one variant with untrained weights and so many layers of aggregation."""
    row = replace(VARIANTS[variant], layers=layers)
    # The published code trains and measures on what TurboJPEG decodes, which is BGR, with mean and deviation of RGB.
    return TARViTPose(row, vitpose.crop_info("tarvitpose", variant, skeleton, (384, 288), WINDOW, bgr=True))


class TARViTPose(ViTPose):
    """The network. It takes windows of any length; the answer is for the frame in the middle."""

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__(variant.encoder, info)
        channels, joints = variant.encoder.channels, len(skeletons.get(info.skeleton))
        self.published_reshapes = variant.published_reshapes
        self.query_content = nn.Embedding(joints, channels)
        self.query_position = nn.Embedding(joints, channels)
        self.aggregation = nn.ModuleList(AggregationLayer(channels) for _ in range(variant.layers))
        self.restoring = Attention(channels)

    def encode(self, images: Tensor) -> Features:
        """Everything that is known of one frame without the others.

        Returns:
            The feature map (B, C, h, w) of crops (B, 3, 16 h, 16 w), and how likely each joint is in each cell
            (B, K, h, w), 0..1 relative to the joint's own minimum and maximum.
        """
        features = self.backbone(images)
        heatmaps = self.head(features).detach()
        low, high = heatmaps.amin((2, 3), keepdim=True), heatmaps.amax((2, 3), keepdim=True)
        likely = F.interpolate(
            (heatmaps - low) / (high - low + 1e-6), features.shape[2:], mode="bilinear", align_corners=False
        )
        return features, likely

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """``heatmaps`` (B, K, 4 h, 4 w) of the frame in the middle of the window."""
        tokens = [self._tokens(features) for features, _ in window]
        hidden = self._hidden(torch.stack([likely for _, likely in window], 1))
        joints = (self.query_content.weight + self.query_position.weight).expand(tokens[0].shape[0], -1, -1)
        everywhere = torch.cat(tokens, 1)
        for layer in self.aggregation:
            joints = layer(joints, everywhere, hidden)
        middle = len(window) // 2
        restored = self.restoring(tokens[middle], joints)
        return {"heatmaps": self.head(self._map(restored, window[middle][0].shape))}

    def _tokens(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h w, C)"""
        if self.published_reshapes:
            return features.reshape(features.shape[0], -1, features.shape[1])
        return features.flatten(2).transpose(1, 2)

    def _map(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """(B, h w, C) -> (B, C, h, w), back from `_tokens`"""
        return (tokens if self.published_reshapes else tokens.transpose(1, 2)).reshape(shape)

    def _hidden(self, likely: Tensor) -> Tensor:
        """What the joints must not look at (B, 1, K, T h w), from how likely they are (B, T, K, h, w)."""
        mask = (likely < MASK_THRESHOLD).flatten(3)
        if not self.published_reshapes:
            mask = mask.transpose(1, 2)
        mask = mask.reshape(mask.shape[0], likely.shape[2], -1)
        # A joint that may look nowhere would become NaN, so it looks everywhere. Heatmaps with a single sharp peak,
        # which scaling down can miss, come from untrained heads only.
        mask = mask & ~mask.all(-1, keepdim=True)
        return mask.unsqueeze(1)


class Attention(nn.Module):
    """Attention with its residual sum and normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mha = layers.Attention(channels, HEADS)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, context: Tensor, hidden: Tensor | None = None) -> Tensor:
        """queries (B, N, C), context (B, M, C), hidden (B, 1, N, M) True where not to look -> (B, N, C)"""
        seen = self.mha(queries, context, context, hidden)
        out: Tensor = self.norm(queries + seen)
        return out


class AggregationLayer(nn.Module):
    """The joints look at the frames, then at each other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cross_attention = Attention(channels)
        self.self_attention = Attention(channels)
        self.fc1 = nn.Linear(channels, 2 * channels)
        self.fc2 = nn.Linear(2 * channels, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, joints: Tensor, tokens: Tensor, hidden: Tensor) -> Tensor:
        """joints (B, K, C), tokens (B, M, C), hidden (B, 1, K, M) -> (B, K, C)"""
        joints = self.cross_attention(joints, tokens, hidden)
        joints = self.self_attention(joints, joints)
        out: Tensor = self.norm(joints + self.fc2(F.gelu(self.fc1(joints))))
        return out
