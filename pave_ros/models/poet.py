"""POET: end-to-end multi-instance pose estimation with transformers (Stoffl, Vidal and Mathis, 2021).

DETR with a head for poses: a picture becomes one coarse map (ResNet-50), a transformer encoder lets its cells see each
other, and a decoder turns learned queries into people. Each query says what it is (a person, a person without
keypoints, nobody) and gives a centre and, for each keypoint, its offset from the centre and whether it is visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models import backbones
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo
from pave_ros.models.layers import MLP, Attention, EncoderLayer, cell_encoding

HIDDEN = 256
HEADS = 8
FFN = 2048
DEPTH = 6  # Layers of the encoder, and of the decoder.
DROPOUT = 0.1
CLASSES = 3  # Without labelled keypoints, person, nobody.


@dataclass(frozen=True)
class Variant:
    """One row of the family (published configurations)."""

    backbone: str
    stride: int  # Of the map that the transformer works on.
    input_size: tuple[int, int] = (800, 1333)


VARIANTS = {
    "r50": Variant("resnet50", 32),
    "dc5_r50": Variant("resnet50", 16),  # The last stage is dilated in place of a stride.
}
QUERIES = 25  # Of the released weights; the authors' training command makes 50.


def build(variant: str, skeleton: str = "coco17", queries: int = QUERIES) -> POET:
    """The network of one variant with untrained weights."""
    row = VARIANTS[variant]
    info = ModelInfo(
        system="poet",
        variant=variant,
        skeleton=skeleton,
        input_size=row.input_size,
        stride=1,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resize="fit_detr",
        pillow=True,
    )
    return POET(row, info, queries)


class POET(PoseModel):
    """The network. Poses come out relative to the input picture, so any input size serves."""

    def __init__(self, variant: Variant, info: ModelInfo, queries: int) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        backbone: Any = timm.create_model(
            variant.backbone, features_only=True, out_indices=(4,), output_stride=variant.stride
        )
        self.backbone: nn.Module = backbones.frozen(backbone, backbones.STEM)
        self.project = nn.Conv2d(backbone.feature_info.channels()[-1], HIDDEN, 1)
        self.encoder = nn.ModuleList(EncoderLayer(HIDDEN, HEADS, FFN, dropout=DROPOUT) for _ in range(DEPTH))
        self.decoder = nn.ModuleList(DecoderLayer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(HIDDEN)
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        self.queries = nn.Parameter(torch.randn(queries, HIDDEN))
        self.class_head = nn.Linear(HIDDEN, CLASSES)
        self.pose_head = MLP(HIDDEN, HIDDEN, 2 + 3 * len(skeletons.get(info.skeleton)), 3)

    def encode(self, images: Tensor) -> Features:
        """One map (B, 256, H / s, W / s), rounded up, of stride s, from normalised RGB pictures (B, 3, H, W)."""
        cells = self.project(self.backbone(images)[0])
        positions, tokens = self.positions(cells), cells.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            tokens = layer(tokens, positions)
        return (tokens.transpose(1, 2).unflatten(2, cells.shape[2:]),)

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the newest frame of the window.

        Returns:
            ``pred_logits`` (B, Q, 3) before the softmax, and ``pred_kpts`` (B, Q, 2 + 3 K) in 0..1: x and y of the
            centre relative to the input picture, then for each keypoint its offset from the centre as 0.5 + dx / 2 and
            0.5 + dy / 2, and how visible it is.
        """
        return self.read(self.attend(window[-1])[-1])

    def forward_training(self, images: Tensor) -> list[dict[str, Tensor]]:
        """What `decode` returns, for each layer of the decoder, all of which training supervises."""
        return [self.read(tokens) for tokens in self.attend(self.encode(images))]

    def attend(self, features: Features) -> list[Tensor]:
        """The queries (B, Q, C) as each decoder layer leaves them, normalised."""
        (cells,) = features
        memory = cells.flatten(2).transpose(1, 2)
        places = memory + self.positions(cells)
        tokens = torch.zeros_like(self.queries).expand(memory.shape[0], -1, -1)
        outputs = []
        for layer in self.decoder:
            tokens = layer(tokens, self.queries, memory, places)
            outputs.append(self.norm(tokens))
        return outputs

    def read(self, tokens: Tensor) -> dict[str, Tensor]:
        """What the queries (B, Q, C) say."""
        return {"pred_logits": self.class_head(tokens), "pred_kpts": self.pose_head(tokens).sigmoid()}

    @staticmethod
    def positions(cells: Tensor) -> Tensor:
        """(H * W, C) encoding of the places of a map (B, C, H, W)."""
        _, channels, height, width = cells.shape
        return cell_encoding(height, width, channels, temperature=10000, device=cells.device).to(cells.dtype)


class DecoderLayer(nn.Module):
    """Attention among the queries and into the map, normalised after each part (DETR)."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn = Attention(HIDDEN, HEADS, DROPOUT)
        self.cross_attn = Attention(HIDDEN, HEADS, DROPOUT)
        self.linear1 = nn.Linear(HIDDEN, FFN)
        self.linear2 = nn.Linear(FFN, HIDDEN)
        self.norm1 = nn.LayerNorm(HIDDEN)
        self.norm2 = nn.LayerNorm(HIDDEN)
        self.norm3 = nn.LayerNorm(HIDDEN)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor, queries: Tensor, memory: Tensor, places: Tensor) -> Tensor:
        """tokens (B, Q, C), queries (Q, C), memory and the same with positions, `places`, (B, N, C) -> (B, Q, C)"""
        q = k = tokens + queries
        tokens = self.norm1(tokens + self.dropout(self.self_attn(q, k, tokens)))
        seen = self.cross_attn(tokens + queries, places, memory)
        tokens = self.norm2(tokens + self.dropout(seen))
        inner = self.dropout(F.relu(self.linear1(tokens)))
        return self.norm3(tokens + self.dropout(self.linear2(inner)))
