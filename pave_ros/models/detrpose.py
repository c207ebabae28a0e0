"""DETRPose: real-time end-to-end multi-person pose estimation (Janampa and Pattichis, 2025).

A picture becomes feature maps (HGNetv2 and a hybrid encoder as in RT-DETR and D-FINE); the best cells of
the maps become queries, each made of one instance token and one token per keypoint; decoder layers refine the
keypoints as distributions over offsets (D-FINE's fine-grained distribution refinement, here of joints).
No boxes, no cropping, no NMS.
"""

from __future__ import annotations

import math
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
from pave_ros.models.deformable import Maps, map_units, sampling_locations
from pave_ros.models.folding import fold_affine
from pave_ros.models.hybrid_encoder import HybridEncoder, fuse_convolutions
from pave_ros.models.info import ModelInfo
from pave_ros.models.layers import MLP, Attention, cell_centres, constant, inverse_sigmoid, products, sine_encoding

HEADS = 8
CLASSES = 2  # Label 1 is the person, label 0 is never assigned.
BINS = 33  # Bins of each offset distribution.
LQE_CHANNELS = 4  # Strongest feature channels at a joint that the quality estimate looks at.


@dataclass(frozen=True)
class Variant:
    """One row of the family (published configurations)."""

    backbone: str
    levels: tuple[int, ...]  # Which of timm's feature maps are used.
    hidden: int
    encoder_ffn: int
    depth_mult: float
    expansion: float
    decoder_layers: int
    decoder_ffn: int
    points: int
    reg_scale: int
    queries: int = 60
    input_size: tuple[int, int] = (640, 640)
    mean: float = 0.0
    std: float = 1.0


VARIANTS = {
    "n": Variant("hgnetv2_b0", (2, 3), 128, 512, 0.5, 0.34, 3, 512, 6, 4),
    "s": Variant("hgnetv2_b0", (1, 2, 3), 256, 1024, 0.34, 0.5, 3, 1024, 4, 4),
    "m": Variant("hgnetv2_b2", (1, 2, 3), 256, 1024, 0.67, 1.0, 4, 1024, 4, 4),
    "l": Variant("hgnetv2_b4", (1, 2, 3), 256, 1024, 1.0, 1.0, 6, 1024, 4, 4),
    "x": Variant("hgnetv2_b5", (1, 2, 3), 384, 2048, 1.0, 1.0, 6, 1024, 4, 8),
    # Not published: the project's own small one, on a backbone with pretrained weights under a clear licence.
    "lite": Variant("efficientnet_lite0", (2, 3, 4), 128, 512, 0.34, 0.34, 3, 512, 4, 4, 30, (320, 320), 0.5, 0.5),
}


@dataclass(frozen=True)
class Prediction:
    """Logits (B, Q, 2) and keypoints (B, Q, K, 2) relative to the picture."""

    logits: Tensor
    keypoints: Tensor


@dataclass(frozen=True)
class NoisedQueries:
    """Queries that start from noised people (training only).

    Attributes:
        labels: (B, N) class of each query's content, 0..80.
        points: (B, N, K, 2) noised keypoints in 0..1.
        used: (B, N), False for the padding of pictures with fewer people.
        groups: (N,) number of each query's group; queries of different groups must not see each other.
    """

    labels: Tensor
    points: Tensor
    used: Tensor
    groups: Tensor

    def mask(self, count: int) -> Tensor:
        """(N + count, N + count), True where one must not see the other: a group no other group, and the `count`
        real queries no group at all."""
        n = len(self.groups)
        mask = torch.zeros(n + count, n + count, dtype=torch.bool, device=self.groups.device)
        mask[:n, :n] = self.groups[:, None] != self.groups[None]
        mask[n:, :n] = True
        return mask


def build(variant: str, skeleton: str = "coco17") -> DETRPose:
    """The network of one variant with untrained weights."""
    row = VARIANTS[variant]
    info = ModelInfo(
        system="detrpose",
        variant=variant,
        skeleton=skeleton,
        input_size=row.input_size,
        stride=32,
        mean=(row.mean,) * 3,
        std=(row.std,) * 3,
        pillow=True,
    )
    return DETRPose(row, info)


class DETRPose(PoseModel):
    """The network. Keypoints come out relative to the input picture, so any input size serves."""

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        joints = len(skeletons.get(info.skeleton))
        backbone: Any = timm.create_model(variant.backbone, features_only=True, out_indices=variant.levels)
        self.backbone: nn.Module = backbones.frozen(backbone)  # Frozen in training too, as published.
        self.strides: tuple[int, ...] = tuple(backbone.feature_info.reduction())
        self.encoder = HybridEncoder(
            backbone.feature_info.channels(),
            variant.hidden,
            variant.encoder_ffn,
            variant.depth_mult,
            variant.expansion,
        )
        self.selection = QuerySelection(variant.hidden, joints, variant.queries)
        self.decoder = PoseDecoder(variant, joints)
        self.denoising = DenoisingEmbedding(variant.hidden, joints)
        self._initialise()

    def _initialise(self) -> None:
        """Start as published: tables and the decoder's layers spread evenly (Xavier), attention looks into eight
        directions whatever the query, first poses are the cells where they are and do not move, people are unlikely."""
        selection, decoder = self.selection, self.decoder
        tables = (selection.query_embedding, selection.keypoint_embedding, selection.instance_embedding)
        for part in (decoder.layers, decoder.position_head, *tables, self.denoising):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for projection in self.encoder.input_proj:
            nn.init.xavier_uniform_(projection.get_parameter("conv.weight"))
        for module in (selection.pose_head, *decoder.modules()):
            if isinstance(module, DeformableAttention):
                module.look_around()
            elif isinstance(module, MLP) and module is not decoder.position_head:
                module.zero_last()
        for head in (selection.class_head, *decoder.class_heads):
            nn.init.constant_(head.get_parameter("bias"), -math.log(99))

    def encode(self, images: Tensor) -> Features:
        """Feature maps (B, C, H / s, W / s) for each stride s, from RGB pictures (B, 3, H, W) in 0..1."""
        return tuple(self.encoder(self.backbone(images)))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the newest frame of the window.

        Returns:
            ``pred_logits`` (B, 60, 2) before the sigmoid and ``pred_keypoints`` (B, 60, 2 K) of x, y pairs
            relative to the input picture.
        """
        features = window[-1]
        best = self.selection(features)
        final = self.decoder(self.selection.tokens(best), best.keypoints, features)[-1]
        return {"pred_logits": final.logits, "pred_keypoints": final.keypoints.flatten(2)}

    def forward_training(
        self, images: Tensor, noised: NoisedQueries | None
    ) -> tuple[list[Prediction], list[Prediction]]:
        """All predictions that training supervises.

        Args:
            images: (B, 3, H, W) RGB in 0..1.
            noised: people with noise added, from whom the truth is to be restored; None for none.

        Returns:
            The predictions for the queries, of the first stage, of the decoder's initial guess and of each of its
            layers, in this order, and those for the noised queries, without a first stage.
        """
        features = self.encode(images)
        best = self.selection(features)
        tokens, points, mask = self.selection.tokens(best), best.keypoints.detach(), None
        if noised is not None:
            tokens = torch.cat((self.denoising(noised), tokens), 1)
            points = torch.cat((noised.points, points), 1)
            mask = noised.mask(best.logits.shape[1])
        count = tokens.shape[1] - best.logits.shape[1]
        predictions = self.decoder(tokens, points, features, mask, every_layer=True)
        ours = [Prediction(p.logits[:, count:], p.keypoints[:, count:]) for p in predictions]
        restored = [Prediction(p.logits[:, :count], p.keypoints[:, :count]) for p in predictions]
        return [best, *ours], restored

    def fuse(self) -> DETRPose:
        """Fold normalisation and parallel branches into single convolutions; the outputs stay the same."""
        super().fuse()
        fold_affine(self.backbone)
        fuse_convolutions(self)
        return self


# --- query selection ----------------------------------------------------------------------------------------------


class QuerySelection(nn.Module):
    """First stage: the best cells of all maps become people with rough keypoints."""

    def __init__(self, hidden: int, joints: int, queries: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.class_head = nn.Linear(hidden, CLASSES)
        self.pose_head = MLP(hidden, 2 * hidden, 2 * joints, 4)
        self.query_embedding = nn.Embedding(queries, hidden)
        self.keypoint_embedding = nn.Embedding(joints, hidden)
        self.instance_embedding = nn.Embedding(1, hidden)

    def forward(self, features: Features) -> Prediction:
        """Maps (B, C, H_l, W_l) -> the best cells of each picture, or all where there are fewer"""
        anchors, valid = self.anchors(features)
        memory = torch.cat([f.flatten(2).transpose(1, 2) for f in features], 1)
        memory = self.norm(self.project(memory * valid.to(memory.dtype)))
        logits = self.class_head(memory)
        count = min(self.query_embedding.num_embeddings, memory.shape[1])
        best = logits.amax(-1).topk(count, dim=1).indices.unsqueeze(-1)
        memory = memory.gather(1, best.expand(-1, -1, memory.shape[-1]))
        anchors = anchors.expand(best.shape[0], -1, -1).gather(1, best.expand(-1, -1, 2))
        keypoints = torch.sigmoid(self.pose_head(memory).unflatten(-1, (-1, 2)) + anchors.unsqueeze(2))
        return Prediction(logits.gather(1, best.expand(-1, -1, CLASSES)), keypoints)

    def tokens(self, best: Prediction) -> Tensor:
        """(B, Q, 1 + K, C) learned content of the chosen queries, the token of the whole person first."""
        batch, count = best.logits.shape[:2]
        joints = self.keypoint_embedding.weight + self.query_embedding.weight[:count].unsqueeze(1)
        instance = self.instance_embedding.weight.expand(count, 1, -1)
        return torch.cat((instance, joints), 1).expand(batch, -1, -1, -1)

    @staticmethod
    def anchors(features: Features) -> tuple[Tensor, Tensor]:
        """Cell centres before the sigmoid (1, S, 2) and which of them do not lie at the border (1, S, 1).

        In float32 whatever the model computes in: the published checkpoints hold them so, and half precision
        is too coarse for coordinates.
        """
        points = cell_centres([(f.shape[-2], f.shape[-1]) for f in features], features[0].device).unsqueeze(0)
        valid = ((points > 0.01) & (points < 0.99)).all(-1, keepdim=True)
        return torch.log(points / (1 - points)), valid


def with_centre(joints: Tensor) -> Tensor:
    """(B, Q, K, 2) -> (B, Q, 1 + K, 2), the mean of the joints first."""
    return torch.cat((joints.mean(2, keepdim=True), joints), 2)


# --- decoder ------------------------------------------------------------------------------------------------------


class DeformableAttention(nn.Module):
    """Deformable attention straight on the raw maps: neither the values nor the result are projected."""

    def __init__(self, hidden: int, levels: int, points: int) -> None:
        super().__init__()
        self.levels, self.points = levels, points
        self.sampling_offsets = nn.Linear(hidden, HEADS * levels * points * 2)
        self.attention_weights = nn.Linear(hidden, HEADS * levels * points)

    def look_around(self) -> None:
        """Start as published: whatever the query, each head looks into a direction of its own, each point a step
        further, all alike; into none with points that are no multiple of four."""
        for layer in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.points % 4 == 0:
            angles = torch.arange(HEADS) * (2 * math.pi / HEADS)
            directions = torch.stack((angles.cos(), angles.sin()), -1)
            directions /= directions.abs().amax(-1, keepdim=True)
            grid = directions[:, None, None] * (1 + torch.arange(self.points) % 4)[:, None]
            with torch.no_grad():
                self.sampling_offsets.bias.copy_(grid.expand(-1, self.levels, -1, -1).flatten())

    def forward(self, queries: Tensor, references: Tensor, maps: Maps) -> Tensor:
        """queries (B, N, C), references (B, N, 2) -> (B, N, C)"""
        batch, table = queries.shape[0], queries.flatten(0, 1)
        shape = (batch, -1, HEADS, self.levels, self.points)
        weights = self.attention_weights(table).unflatten(-1, (HEADS, -1)).softmax(-1).view(shape)
        offsets = self.sampling_offsets(table).view(*shape, 2)
        places = sampling_locations(references[:, :, None, None], offsets, map_units(maps.shapes, references))
        return maps.seen(places, weights).to(queries.dtype)


class Gate(nn.Module):
    """Learned mixture of two inputs, in place of a residual sum."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * hidden, 2 * hidden)
        self.norm = nn.LayerNorm(hidden)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        gate_a, gate_b = products([torch.cat((a, b), -1)] * 2, self.gate.weight, self.gate.bias)
        return self.norm(gate_a.sigmoid() * a + gate_b.sigmoid() * b)


class DecoderLayer(nn.Module):
    """Attention among the tokens of a person, among people for each token, and into the maps."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        hidden, ffn = variant.hidden, variant.decoder_ffn
        self.within_attn = Attention(hidden, HEADS)
        self.within_norm = nn.LayerNorm(hidden)
        self.across_attn = Attention(hidden, HEADS)
        self.across_norm = nn.LayerNorm(hidden)
        self.cross_attn = DeformableAttention(hidden, len(variant.levels), variant.points)
        self.gateway = Gate(hidden)
        self.linear1 = nn.Linear(hidden, ffn)
        self.linear2 = nn.Linear(ffn, hidden)
        self.norm2 = nn.LayerNorm(hidden)

    def forward(self, tokens: Tensor, positions: Tensor, references: Tensor, maps: Maps, mask: Tensor | None) -> Tensor:
        """One refinement of the tokens (B, Q, 1 + K, C); `mask` (Q, Q) is True where people must not see each other.

        The published code adds the positions in place. So they are part of queries, keys, values and residuals
        alike, and the trained weights expect that: `tokens` comes with `positions` already added.
        """
        batch, queries, size, _ = tokens.shape
        x = tokens.flatten(0, 1)
        x = self.within_norm(x + self.within_attn(x, x, x))
        x = x.unflatten(0, (batch, queries)).transpose(1, 2).flatten(0, 1)  # (B * (1 + K), Q, C)
        x = self.across_norm(x + self.across_attn(x, x, x, mask))
        x = (x.unflatten(0, (batch, size)).transpose(1, 2) + positions).flatten(0, 2)
        seen = self.cross_attn(x.unflatten(0, (batch, -1)), references.flatten(1, 2), maps)
        x = self.gateway(x, seen.flatten(0, 1))
        # The clamp is the published guard against float16 overflow.
        x = self.norm2((x + self.linear2(F.relu(self.linear1(x)))).clamp(-65504, 65504))
        return x.view(batch, queries, size, -1)


class QualityEstimate(nn.Module):
    """Corrects a person's score by what the finest map shows at the predicted joints (D-FINE's LQE)."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.reg_conf = MLP(joints * (LQE_CHANNELS + 1), 256, 1, 2)

    def forward(self, keypoints: Tensor, feature: Tensor) -> Tensor:
        """keypoints (B, Q, K, 2), feature (B, C, H, W) -> (B, Q, 1), to be added to the logits"""
        sampled = F.grid_sample(feature.to(keypoints.dtype), 2 * keypoints - 1, align_corners=False)
        top = sampled.to(feature.dtype).topk(LQE_CHANNELS, dim=1).values.permute(0, 2, 3, 1)
        return self.reg_conf(torch.cat((top, top.mean(-1, keepdim=True)), -1).flatten(2))


class PoseDecoder(nn.Module):
    """Second stage: refines the joints of every query layer by layer."""

    reg_scale: Tensor
    up: Tensor

    def __init__(self, variant: Variant, joints: int) -> None:
        super().__init__()
        hidden, depth = variant.hidden, variant.decoder_layers
        self.layers = nn.ModuleList(DecoderLayer(variant) for _ in range(depth))
        self.position_head = MLP(hidden, hidden, hidden, 2)
        self.initial_pose_head = MLP(hidden, hidden, 2, 3)
        self.pose_heads = nn.ModuleList(MLP(hidden, hidden, 2 * BINS, 3) for _ in range(depth))
        self.class_heads = nn.ModuleList(nn.Linear(hidden, CLASSES) for _ in range(depth))
        self.quality_heads = nn.ModuleList(QualityEstimate(joints) for _ in range(depth))
        # Curvature and reach of the bins; the published checkpoints carry both.
        self.register_buffer("reg_scale", torch.tensor([float(variant.reg_scale)]))
        self.register_buffer("up", torch.tensor([0.5]))

    def forward(
        self,
        tokens: Tensor,
        keypoints: Tensor,
        features: Features,
        mask: Tensor | None = None,
        every_layer: bool = False,
    ) -> list[Prediction]:
        """tokens (B, Q, 1 + K, C) and first keypoints (B, Q, K, 2) -> the prediction of the last layer,
        or of the initial guess and of every layer.

        Points keep their own precision (at least float32) when the rest computes in half. Each layer starts from
        points without gradient, as published.
        """
        maps = Maps(features, HEADS, keypoints.dtype)
        bins = self.bin_values().to(keypoints.dtype)
        points = with_centre(keypoints)
        corners = torch.zeros(1, dtype=keypoints.dtype, device=keypoints.device)
        # The person's own token has no position.
        placed = constant(((0.0,), *[(1.0,)] * keypoints.shape[2]), tokens.dtype, tokens.device)
        predictions = []
        for index, layer in enumerate(self.layers):
            positions = sine_encoding(points, tokens.shape[-1], temperature=10000).to(tokens.dtype)
            positions = self.position_head(positions) * placed
            tokens = tokens + positions
            before = tokens[:, :, 1:].detach()
            tokens = layer(tokens, positions, points, maps, mask)
            instance, joints = tokens[:, :, 0], tokens[:, :, 1:]
            if index == 0:
                guess = torch.sigmoid(self.initial_pose_head(joints) + inverse_sigmoid(points[:, :, 1:], eps=1e-3))
                initial = guess.detach()
                before = torch.zeros_like(before)
                if every_layer:
                    predictions.append(Prediction(self.class_heads[0](instance), guess))
            corners = self.pose_heads[index](joints + before) + corners
            offsets = (corners.unflatten(-1, (2, BINS)).to(points.dtype).softmax(-1) * bins).sum(-1)
            keypoints = initial + offsets / self.reg_scale
            if every_layer or index == len(self.layers) - 1:
                quality = self.quality_heads[index](keypoints, features[0])
                predictions.append(Prediction(self.class_heads[index](instance) + quality, keypoints))
            points = with_centre(keypoints.detach())
        return predictions

    def bin_values(self) -> Tensor:
        """(33,) offsets that the bins stand for: dense around zero, far apart at the ends (D-FINE, eq. 4)."""
        reach = (self.up * self.reg_scale).abs()
        half = BINS // 2
        exponents = torch.arange(1, half, dtype=reach.dtype, device=reach.device)
        inner = (reach + 1) ** (exponents * 2 / (BINS - 3)) - 1
        zero = torch.zeros_like(reach)
        return torch.cat((-2 * reach, -inner.flip(0), zero, inner, 2 * reach))


class DenoisingEmbedding(nn.Module):
    """Content of the noised queries that training adds; part of every published checkpoint, unused at run time."""

    def __init__(self, hidden: int, joints: int) -> None:
        super().__init__()
        self.label_embedding = nn.Embedding(81, hidden)
        self.pose_embedding = nn.Embedding(joints, hidden)

    def forward(self, noised: NoisedQueries) -> Tensor:
        """Tokens (B, N, 1 + K, C), the token of the whole person first; zeros for padding."""
        instance = self.label_embedding(noised.labels).unsqueeze(2)
        joints = self.pose_embedding.weight.expand(*noised.labels.shape, -1, -1)
        return torch.cat((instance, joints), 2) * noised.used[..., None, None]
