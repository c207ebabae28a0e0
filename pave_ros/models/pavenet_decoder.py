"""The transformer of PAVE-Net and PETR: the spatial encoder of a frame, and the two decoders over a window of frames.

Frames of a window are told apart by their offset from the one that is answered for: -1, 0, 1 for three of them.
People and joints are queries that belong to no frame; each frame has its own weights for where a query looks, and its
own pose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pave_ros.models.deformable import map_units, sampled_attention, sampling_locations
from pave_ros.models.layers import MLP, Attention, cell_centres, cell_encoding, inverse_sigmoid

HEADS = 8
POINTS = 4  # Of each head on each map, where a query is one place and not a pose.
DROPOUT = 0.1
EPS = 1e-5  # Of the inverse sigmoid.

Shapes = Sequence[tuple[int, int]]


def frame_offsets(frames: int) -> range:
    """Offsets of the frames of a window from its centre; ValueError unless they are an odd number."""
    if frames < 1 or frames % 2 == 0:
        raise ValueError(f"a window has an odd number of frames, not {frames}")
    return range(-(frames // 2), frames // 2 + 1)


def per_frame(frames: int, make: Callable[[], nn.Module]) -> nn.ModuleDict:
    """A module of its own for each frame of a window, by its offset."""
    return nn.ModuleDict({str(offset): make() for offset in frame_offsets(frames)})


def heads(layers: int, *sizes: int) -> nn.ModuleList:
    """An `MLP` for each layer of a decoder."""
    return nn.ModuleList(MLP(*sizes) for _ in range(layers))


class FramesAttention(nn.Module):
    """Deformable attention on the maps of several frames at once; the weights of a query sum to one over all of them.

    Args:
        hidden: channels.
        levels: maps of each frame.
        points: places on each map that each head looks at.
        frames: in a window; 1 is the attention of Deformable DETR.
    """

    def __init__(self, hidden: int, levels: int, points: int, frames: int = 1) -> None:
        super().__init__()
        self.shape = (HEADS, levels, points)
        self.sampling_offsets = per_frame(frames, lambda: nn.Linear(hidden, HEADS * levels * points * 2))
        self.attention_weights = per_frame(frames, lambda: nn.Linear(hidden, HEADS * levels * points))
        self.value_proj = nn.Linear(hidden, hidden)
        self.output_proj = nn.Linear(hidden, hidden)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Look at the anchors with equal weights; where there is only one anchor, around it, as in Deformable DETR."""
        for linear in (*self.sampling_offsets.values(), *self.attention_weights.values()):
            nn.init.zeros_(linear.get_parameter("weight"))
            nn.init.zeros_(linear.get_parameter("bias"))
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def look_around(self) -> None:
        """Start with each head looking in a direction of its own, each of its points further."""
        heads, levels, points = self.shape
        angles = torch.arange(heads) * (2 * math.pi / heads)
        ways = torch.stack((angles.cos(), angles.sin()), -1)
        ways = ways / ways.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, points + 1).view(1, 1, points, 1)
        bias = (ways.view(heads, 1, 1, 2) * reach).expand(heads, levels, points, 2)
        for linear in self.sampling_offsets.values():
            with torch.no_grad():
                linear.get_parameter("bias").copy_(bias.flatten())

    def forward(
        self,
        queries: Tensor,
        anchors: Sequence[Tensor],
        units: Sequence[Tensor],
        values: Sequence[Tensor],
        shapes: Shapes,
    ) -> Tensor:
        """What the queries see.

        Args:
            queries: (B, Q, C) with their positions.
            anchors: where offsets start in each frame: (B, Q, 1 or L, 1 or P, 2), x and y in 0..1 of the picture.
            units: what an offset of one means there, broadcast in the same way.
            values: (B, S, C) for each frame, made by `value_proj` from its memory.
            shapes: (H_l, W_l) of the maps.

        Returns:
            (B, Q, C)
        """
        weights = torch.stack([linear(queries) for linear in self.attention_weights.values()], -1)  # (B, Q, H L P, T)
        weights = weights.unflatten(2, (self.shape[0], -1)).flatten(3).softmax(-1).unflatten(3, (-1, len(values)))
        seen = torch.zeros_like(queries)
        frames = zip(self.sampling_offsets.values(), anchors, units, values, weights.unbind(-1), strict=True)
        for linear, anchor, unit, value, weight in frames:
            offsets = linear(queries).unflatten(2, (*self.shape, 2))
            places = sampling_locations(anchor, offsets, unit)
            seen = seen + sampled_attention(value, shapes, places, weight.unflatten(3, self.shape[1:]))
        return self.output_proj(seen)


class FeedForward(nn.Sequential):
    """Two linear layers with ReLU between them, each followed by dropout."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__(
            nn.Linear(hidden, inner),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
            nn.Linear(inner, hidden),
            nn.Dropout(DROPOUT),
        )
        for layer in self:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)


# --- encoder ------------------------------------------------------------------------------------------------------


class EncoderLayer(nn.Module):
    """Every cell of the maps looks at a few others."""

    def __init__(self, hidden: int, inner: int, levels: int) -> None:
        super().__init__()
        self.attention = FramesAttention(hidden, levels, POINTS)
        self.attention.look_around()
        self.ffn = FeedForward(hidden, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor, positions: Tensor, anchors: Tensor, units: Tensor, shapes: Shapes) -> Tensor:
        values = self.attention.value_proj(tokens)
        seen = self.attention(tokens + positions, [anchors], [units], [values], shapes)
        tokens = self.norms[0](tokens + self.dropout(seen))
        return self.norms[1](tokens + self.ffn(tokens))


class SpatialEncoder(nn.Module):
    """The maps of one frame exchange what they know (encoder of Deformable DETR)."""

    def __init__(self, hidden: int, inner: int, levels: int, layers: int) -> None:
        super().__init__()
        self.level_embeds = nn.Parameter(torch.randn(levels, hidden))
        self.layers = nn.ModuleList(EncoderLayer(hidden, inner, levels) for _ in range(layers))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, C, H_l, W_l) -> tokens (B, S, C), the cells row by row, one map after the other"""
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        hidden, device = tokens.shape[-1], tokens.device
        encodings = [
            cell_encoding(*shape, hidden, temperature=10000, device=device, first=0.5).to(tokens.dtype) + embed
            for shape, embed in zip(shapes, self.level_embeds, strict=True)
        ]
        positions = torch.cat(encodings)
        anchors = cell_centres(shapes, device)[None, :, None, None]
        units = map_units(shapes, tokens)
        for layer in self.layers:
            tokens = layer(tokens, positions, anchors, units, shapes)
        return tokens


# --- decoders -----------------------------------------------------------------------------------------------------


class DecoderLayer(nn.Module):
    """Queries look at each other, then at the frames."""

    def __init__(self, hidden: int, inner: int, levels: int, points: int, frames: int) -> None:
        super().__init__()
        self.self_attention = Attention(hidden, HEADS, DROPOUT)
        nn.init.xavier_uniform_(self.self_attention.out_proj.weight)
        self.attention = FramesAttention(hidden, levels, points, frames)
        self.ffn = FeedForward(hidden, inner)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def attend(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens and positions (N, Q, C): the Q of each row look at each other -> (N, Q, C)"""
        query = tokens + positions
        seen = self.self_attention(query, query, tokens)
        return self.norms[0](tokens + self.dropout(seen))

    def look(
        self, tokens: Tensor, positions: Tensor, anchors: Sequence[Tensor], units: Sequence[Tensor],
        values: Sequence[Tensor], shapes: Shapes,
    ) -> Tensor:  # fmt: skip
        """tokens (B, Q, C): they look at the frames, see `FramesAttention` -> (B, Q, C)"""
        seen = self.attention(tokens + positions, anchors, units, values, shapes)
        tokens = self.norms[1](tokens + self.dropout(seen))
        return self.norms[2](tokens + self.ffn(tokens))


class PoseDecoder(nn.Module):
    """One query for each person in the window; at the joints of its pose in each frame it looks around."""

    def __init__(self, hidden: int, inner: int, levels: int, joints: int, frames: int, layers: int) -> None:
        super().__init__()
        self.layers: Any = nn.ModuleList(DecoderLayer(hidden, inner, levels, joints, frames) for _ in range(layers))
        self.pose_heads: Any = per_frame(frames, lambda: heads(layers, hidden, 2 * hidden, 2 * joints, 4))
        for head in self.modules():
            if isinstance(head, MLP):
                head.zero_last()

    def forward(
        self, tokens: Tensor, positions: Tensor, poses: Tensor, values: Sequence[Sequence[Tensor]], shapes: Shapes,
        detach: bool,
    ) -> tuple[list[Tensor], list[list[Tensor]]]:  # fmt: skip
        """Refine people layer by layer.

        Args:
            tokens: (B, Q, C) what is known of each.
            positions: (Q, C) learned, added whenever the queries look.
            poses: (B, Q, K, 2) where they are thought to be in every frame, in 0..1 of the picture.
            values: (B, S, C) for each layer and frame.
            shapes: (H_l, W_l) of the maps.
            detach: whether each layer starts from poses without gradient, as PETR does and PAVE-Net does not.

        Returns:
            Of every layer, tokens (B, Q, C), and poses (B, Q, K, 2) for each frame.
        """
        positions = positions.expand_as(tokens)
        references = [poses] * len(self.pose_heads)
        all_tokens, all_poses = [], []
        for index, layer in enumerate(self.layers):
            tokens = layer.attend(tokens, positions)
            anchors = [pose.unsqueeze(2) for pose in references]
            units = [extent(pose) * 0.5 for pose in references]
            tokens = layer.look(tokens, positions, anchors, units, values[index], shapes)
            references = [
                move(pose, self._head(offset, index)(tokens).unflatten(-1, (-1, 2)))
                for pose, offset in zip(references, self.pose_heads, strict=True)
            ]
            all_tokens.append(tokens)
            all_poses.append(references)
            if detach:
                references = [pose.detach() for pose in references]
        return all_tokens, all_poses

    def _head(self, offset: str, layer: int) -> nn.Module:
        """What moves the poses of a frame. In the last layer the published code takes the head of the next frame for
        the one after it, too; its weights were trained so."""
        last = layer == len(self.layers) - 1
        head: nn.Module = self.pose_heads["1" if last and int(offset) > 1 else offset][layer]
        return head


class JointDecoder(nn.Module):
    """One query for each joint of a person, which refines it in every frame."""

    def __init__(self, hidden: int, inner: int, levels: int, joints: int, frames: int, layers: int) -> None:
        super().__init__()
        self.query_embedding = nn.Embedding(joints, 2 * hidden)
        self.layers: Any = nn.ModuleList(DecoderLayer(hidden, inner, levels, POINTS, frames) for _ in range(layers))
        self.point_heads: Any = per_frame(frames, lambda: heads(layers, hidden, hidden, 2, 3))
        for part in self.modules():
            if isinstance(part, FramesAttention):
                part.look_around()

    def forward(
        self, poses: Sequence[Tensor], values: Sequence[Sequence[Tensor]], shapes: Shapes, detach: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Refine joints layer by layer.

        Args:
            poses: (B, N, K, 2) of each frame, from the pose decoder.
            values, shapes, detach: as in the pose decoder.

        Returns:
            Of every layer, tokens (B, N, K, C), and poses (B, N, K, 2) of the frame that is answered for.
        """
        batch, people, joints, _ = poses[0].shape
        positions, tokens = (part.repeat(batch * people, 1, 1) for part in self.query_embedding.weight.chunk(2, -1))
        joints_of_picture = positions.view(batch, people * joints, -1)
        references = list(poses)
        units = [map_units(shapes, poses[0])] * len(poses)
        all_tokens, all_poses = [], []
        for index, layer in enumerate(self.layers):
            tokens = layer.attend(tokens, positions).view(batch, people * joints, -1)
            anchors = [pose.flatten(1, 2)[:, :, None, None] for pose in references]
            tokens = layer.look(tokens, joints_of_picture, anchors, units, values[index], shapes)
            tokens = tokens.view(batch, people, joints, -1)
            references = [
                move(pose, heads[index](tokens))
                for pose, heads in zip(references, self.point_heads.values(), strict=True)
            ]
            all_tokens.append(tokens)
            all_poses.append(references[len(references) // 2])
            if detach:
                references = [pose.detach() for pose in references]
            tokens = tokens.flatten(0, 1)
        return all_tokens, all_poses


def move(points: Tensor, by: Tensor) -> Tensor:
    """Points in 0..1, moved on the scale before the sigmoid."""
    return torch.sigmoid(by + inverse_sigmoid(points, EPS))


def extent(poses: Tensor) -> Tensor:
    """(B, Q, K, 2) -> (B, Q, 1, 1, 2) width and height of each pose, never quite zero"""
    size = poses.amax(2) - poses.amin(2)
    return size.clamp(min=1e-4)[:, :, None, None]


def sigma_head(hidden: int, outputs: int) -> nn.Sequential:
    """Three linear layers with nothing between them, as published."""
    return nn.Sequential(nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs))
