"""PAVE-Net: end-to-end multi-person pose estimation in video; with a window of one frame, PETR (Shi et al., 2022).

Each frame of a window becomes tokens on its own (backbone, channel mapper, spatial encoder). The best cells of the
middle frame, which is answered for, become queries, one for each person in all frames; a pose decoder follows each
person's joints through the frames, a joint decoder refines the best people's joints. No boxes, no cropping, no NMS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pave_ros import skeletons
from pave_ros.models import backbones, mobilenet
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.deformable import map_units
from pave_ros.models.flow import RealNVP
from pave_ros.models.info import HALF, IMAGENET_MEAN, IMAGENET_STD, ModelInfo
from pave_ros.models.layers import MLP, cell_centres
from pave_ros.models.pavenet_decoder import (
    EncoderLayer,
    FramesAttention,
    JointDecoder,
    PoseDecoder,
    SpatialEncoder,
    sigma_head,
)
from pave_ros.models.swin import LARGE, OutputNorms, Swin

GROUPS = 32  # Of the normalisation in the neck.
SWIN = {"swin_l": LARGE}  # Backbones that timm has in another form, or has not.
MOBILE = {"mobilenet": 1.5}  # With the width of MoveNet MultiPose, from which it starts.


@dataclass(frozen=True)
class Variant:
    """One row of the family (published configurations).

    Attributes:
        backbone: timm's name, or one of `SWIN` or `MOBILE`.
        levels: which of its maps are used; another map is made from the last of them.
        options: further arguments of timm's backbone.
        frames: in the window, an odd number.
        encoder_layers, pose_layers, joint_layers: of the three parts of the transformer.
        hidden, inner: channels, and inside the feed-forward networks.
        queries: people that the pose decoder follows.
        persons: of them, those whose joints are refined and who are answered, the best.
        petr: queries start from learned content alone, joints have no deviations, and a heatmap is made in training.
        input_size, stride: bounds of the input, and what its sides are multiples of.
        mean, std: of the pictures that the backbone was trained on, in 0..1.
    """

    backbone: str
    levels: tuple[int, ...] = (2, 3, 4)
    options: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 3
    encoder_layers: int = 6
    pose_layers: int = 3
    joint_layers: int = 2
    hidden: int = 256
    inner: int = 1024
    queries: int = 300
    persons: int = 100
    petr: bool = False
    skeleton: str = "posetrack15"
    input_size: tuple[int, int] = (800, 1333)
    stride: int = 1
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


VARIANTS = {
    "r50": Variant("resnet50", persons=20),
    "swin_l": Variant("swin_l", (1, 2, 3)),
    # Nobody has published a video configuration or weights of this one; it is the picture model's, over three frames.
    # Its branches meet again only where both sides are multiples of 32.
    "hrnet_w48": Variant("hrnet_w48", options={"feature_location": ""}, stride=32),
    "petr_r50": Variant("resnet50", frames=1, petr=True, skeleton="coco17"),
    "petr_swin_l": Variant("swin_l", (1, 2, 3), frames=1, petr=True, skeleton="coco17"),
    # Of this project: as small as the embedded model, for processors.
    "lite": Variant(
        "mobilenet",
        encoder_layers=1,
        pose_layers=2,
        hidden=96,
        inner=512,
        queries=60,
        persons=20,
        skeleton="coco17",
        input_size=(256, 448),
        stride=32,
        mean=HALF,
        std=HALF,
    ),
}


@dataclass(frozen=True)
class Prediction:
    """People as one part of the network sees them in the frame that is answered for.

    Attributes:
        logits: (B, Q, 1) before the sigmoid, or None of joints, which have no class.
        poses: (B, Q, K, 2) in 0..1 of the picture.
        sigmas: (B, Q, K, 2) their deviations in 0..1, or None (PETR).
    """

    logits: Tensor | None
    poses: Tensor
    sigmas: Tensor | None


@dataclass(frozen=True)
class Predictions:
    """All that training supervises.

    Attributes:
        tokens: of the first stage, of all cells, Q = S.
        poses: of each layer of the pose decoder.
        joints: of each layer of the joint decoder, for the M people that were chosen.
        frames: poses (B, Q, K, 2) of the last layer of the pose decoder in each frame of the window.
        heatmaps: (B, K, H, W) before the sigmoid, of the finest map, of PETR; None otherwise.
    """

    tokens: Prediction
    poses: list[Prediction]
    joints: list[Prediction]
    frames: list[Tensor]
    heatmaps: Tensor | None = None


def build(
    variant: str,
    skeleton: str = "",
    frames: int | None = None,
    encoder_layers: int | None = None,
    pose_layers: int | None = None,
    joint_layers: int | None = None,
    queries: int | None = None,
) -> PAVENet:
    """The network of one variant with untrained weights; what is given takes the place of the variant's own."""
    given: dict[str, Any] = {
        "frames": frames,
        "encoder_layers": encoder_layers,
        "pose_layers": pose_layers,
        "joint_layers": joint_layers,
        "queries": queries,
    }
    row = replace(VARIANTS[variant], **{name: value for name, value in given.items() if value is not None})
    info = ModelInfo(
        system="pavenet",
        variant=variant,
        skeleton=skeleton or row.skeleton,
        input_size=row.input_size,
        stride=row.stride,
        mean=row.mean,
        std=row.std,
        resize="fit",
        antialias=False,
        window=row.frames,
    )
    return PAVENet(row, info)


class PAVENet(PoseModel):
    """The network. Poses come out relative to the input picture, so any input size serves.

    Attributes:
        variant: its row.
    """

    coordinates = (FramesAttention,)

    def __init__(self, variant: Variant, info: ModelInfo) -> None:
        super().__init__()
        self.info, self.variant = info, variant
        self.backbone_name = variant.backbone
        joints, hidden, frames = len(skeletons.get(info.skeleton)), variant.hidden, variant.frames
        self.backbone, channels = _backbone(variant)
        self.norms = OutputNorms(channels) if isinstance(self.backbone, Swin) else nn.Identity()
        self.neck = ChannelMapper(channels, hidden)
        levels = len(channels) + 1
        self.encoder = SpatialEncoder(hidden, variant.inner, levels, variant.encoder_layers)
        self.selection = QuerySelection(hidden, joints, variant.queries)
        self.pose_decoder = PoseDecoder(hidden, variant.inner, levels, joints, frames, variant.pose_layers)
        self.joint_decoder = JointDecoder(hidden, variant.inner, levels, joints, frames, variant.joint_layers)
        self.class_heads = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(variant.pose_layers))
        for head in (*self.class_heads, self.selection.class_head):
            nn.init.constant_(head.bias, -4.595)  # A person in one of a hundred queries.
        self.heatmap_head = nn.Linear(hidden, joints)  # PAVE-Net's checkpoints hold it too, but nothing uses it there.
        nn.init.normal_(self.heatmap_head.weight, std=0.01)
        nn.init.constant_(self.heatmap_head.bias, -2.197)  # A joint in one of ten cells.
        if variant.petr:
            self.heatmap_encoder = EncoderLayer(hidden, variant.inner, 1)
            for point_head in self.joint_decoder.point_heads["0"]:
                point_head.zero_last()
            return
        self.token_sigma_head = sigma_head(hidden, 2 * joints)
        self.pose_sigma_heads = nn.ModuleList(sigma_head(hidden, 2 * joints) for _ in range(variant.pose_layers))
        self.joint_sigma_heads = nn.ModuleList(sigma_head(hidden, 2) for _ in range(variant.joint_layers))
        # How each part's errors are distributed; only training asks.
        self.flows = nn.ModuleDict({part: RealNVP(mean=0.5) for part in ("tokens", "poses", "joints")})

    def encode(self, images: Tensor) -> Features:
        """All that is known of a frame without the others.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            The encoded maps (B, C, H_l, W_l), and then what each layer of the two decoders will look at in them,
            (B, S, C) with the S cells of all maps in a row: so that it is computed once for every frame, not for
            every window.
        """
        memory, shapes = self._memory(images)
        maps = [m.transpose(1, 2).unflatten(2, s) for m, s in zip(_split(memory, shapes), shapes, strict=True)]
        return (*maps, *self._values(memory))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the middle frame of the window, the best first.

        Returns:
            ``pred_logits`` (B, N, 1) before the sigmoid, ``pred_keypoints`` (B, N, 2 K) of x, y pairs relative to the
            input picture and, but for PETR, ``pred_sigmas`` (B, N, 2 K), their deviations.
        """
        maps, pose_values, joint_values = self._parts(window)
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        tokens, centres = self.selection(torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1), shapes)
        _, best = self.selection.best(tokens)
        all_tokens, all_poses = self._follow(tokens, centres, best, pose_values, shapes)
        logits = self.class_heads[-1](all_tokens[-1])
        order = logits[..., 0].topk(min(self.variant.persons, logits.shape[1]), dim=1).indices
        poses = [_take(pose, order) for pose in all_poses[-1]]
        joints, refined = self.joint_decoder(poses, joint_values, shapes, detach=self.variant.petr)
        outputs = {"pred_logits": _take(logits, order), "pred_keypoints": refined[-1].flatten(2)}
        if not self.variant.petr:
            outputs["pred_sigmas"] = self.joint_sigma_heads[-1](joints[-1]).sigmoid().flatten(2)
        return outputs

    def forward_training(self, clips: Tensor, choose: Callable[[Prediction], Tensor]) -> Predictions:
        """The predictions of every part for clips (B, T, 3, H, W), normalised; see `predict`."""
        features = [f.unflatten(0, clips.shape[:2]).unbind(1) for f in self.encode(clips.flatten(0, 1))]
        return self.predict(list(zip(*features, strict=True)), choose)

    def predict(self, window: Sequence[Features], choose: Callable[[Prediction], Tensor]) -> Predictions:
        """The predictions of every part for a window of frames.

        Args:
            window: oldest first.
            choose: which queries (B, M) of the last layer of the pose decoder the joint decoder refines.
        """
        maps, pose_values, joint_values = self._parts(window)
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        tokens, centres = self.selection(torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1), shapes)
        logits, best = self.selection.best(tokens)
        first = Prediction(logits, self.selection.poses(tokens, centres), self._sigmas("token_sigma_head", tokens))
        all_tokens, all_poses = self._follow(tokens, centres, best, pose_values, shapes)
        poses = [
            Prediction(head(t), p[len(p) // 2], self._sigmas(f"pose_sigma_heads.{i}", t))
            for i, (head, t, p) in enumerate(zip(self.class_heads, all_tokens, all_poses, strict=True))
        ]
        chosen = choose(poses[-1])
        starts = [_take(pose, chosen).detach() for pose in all_poses[-1]]
        all_joints, refined = self.joint_decoder(starts, joint_values, shapes, detach=self.variant.petr)
        joints = [
            Prediction(None, p, self._sigmas(f"joint_sigma_heads.{i}", t))
            for i, (t, p) in enumerate(zip(all_joints, refined, strict=True))
        ]
        return Predictions(first, poses, joints, all_poses[-1], self._heatmaps(maps[0]))

    # Parts of the way

    def _sigmas(self, head: str, tokens: Tensor) -> Tensor | None:
        """(B, Q, C) or (B, Q, K, C) -> (B, Q, K, 2)"""
        if self.variant.petr:
            return None
        sigmas: Tensor = self.get_submodule(head)(tokens).sigmoid()
        return sigmas if sigmas.dim() == 4 else sigmas.unflatten(-1, (-1, 2))

    def _heatmaps(self, finest: Tensor) -> Tensor | None:
        """(B, C, H, W) -> (B, K, H, W). The published code means to tell the cells where they are, and does not."""
        if not self.variant.petr:
            return None
        tokens, shapes = finest.flatten(2).transpose(1, 2), [(finest.shape[-2], finest.shape[-1])]
        anchors = cell_centres(shapes, finest.device)[None, :, None, None]
        seen = self.heatmap_encoder(tokens, torch.zeros_like(tokens), anchors, map_units(shapes, tokens), shapes)
        heatmaps: Tensor = self.heatmap_head(seen)
        return heatmaps.transpose(1, 2).unflatten(2, shapes[0])

    def _memory(self, images: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        maps = self.neck(self.norms(self._maps(images)))
        return self.encoder(maps), [(m.shape[-2], m.shape[-1]) for m in maps]

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = list(self.backbone(images))
        return maps[self.variant.levels[0] :] if isinstance(self.backbone, Swin) else maps

    def _values(self, memory: Tensor) -> list[Tensor]:
        layers = (*self.pose_decoder.layers, *self.joint_decoder.layers)
        return [layer.attention.value_proj(memory) for layer in layers]

    def _parts(self, window: Sequence[Features]) -> tuple[Features, list[list[Tensor]], list[list[Tensor]]]:
        """The maps of the middle frame, and for each layer of either decoder the values of all frames."""
        if len(window) != self.info.window:
            raise ValueError(f"{self.info.name} looks at {self.info.window} frames, not at {len(window)}")
        levels = len(self.neck.convs) + 1
        values = [list(frames) for frames in zip(*(frame[levels:] for frame in window), strict=True)]
        count = self.variant.pose_layers
        return window[len(window) // 2][:levels], values[:count], values[count:]

    def _follow(
        self, tokens: Tensor, centres: Tensor, best: Tensor, values: Sequence[Sequence[Tensor]],
        shapes: Sequence[tuple[int, int]],
    ) -> tuple[list[Tensor], list[list[Tensor]]]:  # fmt: skip
        chosen = tokens.gather(1, best.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
        poses = self.selection.poses(
            chosen, centres.expand(tokens.shape[0], -1, -1).gather(1, best.unsqueeze(-1).expand(-1, -1, 2))
        )
        positions, content = (part[: best.shape[1]] for part in self.selection.query_embedding.weight.chunk(2, -1))
        start = content.expand_as(chosen) if self.variant.petr else chosen.detach() + content
        return self.pose_decoder(start, positions, poses.detach(), values, shapes, detach=self.variant.petr)


class ChannelMapper(nn.Module):
    """Maps of any width become maps of one width, and one more of half the size."""

    def __init__(self, channels: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(self._level(c, hidden, 1) for c in channels)
        self.extra = self._level(channels[-1], hidden, 3)

    @staticmethod
    def _level(channels: int, hidden: int, kernel: int) -> nn.Sequential:
        conv = nn.Conv2d(channels, hidden, kernel, stride=kernel // 2 + 1, padding=kernel // 2, bias=False)
        nn.init.xavier_uniform_(conv.weight)
        return nn.Sequential(conv, nn.GroupNorm(GROUPS, hidden))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps (B, C_l, H_l, W_l) -> L + 1 maps (B, C, H_l, W_l)"""
        return [*(conv(m) for conv, m in zip(self.convs, maps, strict=True)), self.extra(maps[-1])]


class QuerySelection(nn.Module):
    """First stage: every cell is asked whether a person is there, the best become queries with rough poses."""

    def __init__(self, hidden: int, joints: int, queries: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, hidden)
        nn.init.xavier_uniform_(self.project.weight)
        self.norm = nn.LayerNorm(hidden)
        self.class_head = nn.Linear(hidden, 1)
        self.pose_head = MLP(hidden, 2 * hidden, 2 * joints, 4)
        self.pose_head.zero_last()
        self.query_embedding = nn.Embedding(queries, 2 * hidden)

    def forward(self, memory: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """memory (B, S, C) -> tokens (B, S, C), and their centres before the sigmoid (1, S, 2), infinite at the border,
        where no query may start"""
        centres = cell_centres(shapes, memory.device).unsqueeze(0)
        valid = ((centres > 0.01) & (centres < 0.99)).all(-1, keepdim=True)
        tokens = self.norm(self.project(memory.masked_fill(~valid, 0.0)))
        return tokens, torch.log(centres / (1 - centres)).masked_fill(~valid, float("inf"))

    def best(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, S, 1) of all tokens, and the best (B, Q) of them: all where there are fewer than queries"""
        logits = self.class_head(tokens)
        count = min(self.query_embedding.num_embeddings, tokens.shape[1])
        return logits, logits[..., 0].topk(count, dim=1).indices

    def poses(self, tokens: Tensor, centres: Tensor) -> Tensor:
        """tokens (B, N, C), centres (B, N, 2) -> poses (B, N, K, 2) in 0..1"""
        return torch.sigmoid(self.pose_head(tokens).unflatten(-1, (-1, 2)) + centres.unsqueeze(2))


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Of values (B, N, ...) those at index (B, M) -> (B, M, ...)"""
    index = index.view(*index.shape, *[1] * (values.dim() - 2))
    return values.gather(1, index.expand(*index.shape[:2], *values.shape[2:]))


def _split(memory: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, ...]:
    return memory.split([h * w for h, w in shapes], dim=1)


def _backbone(variant: Variant) -> tuple[nn.Module, tuple[int, ...]]:
    """The backbone, its batch normalisation frozen as published, and the channels of the maps that are used."""
    if variant.backbone in SWIN:
        swin = Swin(*SWIN[variant.backbone], drop_path=0.3)
        return swin, swin.channels[variant.levels[0] :]
    if variant.backbone in MOBILE:
        mobile = mobilenet.BackboneWithFPN(MOBILE[variant.backbone])
        return mobile, mobile.channels
    backbone: Any = timm.create_model(
        variant.backbone, features_only=True, out_indices=variant.levels, **variant.options
    )
    return backbones.frozen(backbone), tuple(backbone.feature_info.channels())
