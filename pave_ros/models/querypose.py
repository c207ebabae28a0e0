"""QueryPose: sparse multi-person pose regression via spatial-aware part-level query (Xiao et al., 2022).

A hundred learned boxes and queries find people stage by stage, each looking at its own box only (Sparse R-CNN). Beside
each of these stages another one cuts out the fine features of the box, gathers them into seven parts of the body where
a learned attention finds each, keeps of the parts' earlier and new embeddings what is worth it, and regresses the
keypoints of each part within the box, with a deviation of every coordinate. No NMS.
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
from torchvision.ops import roi_align

from pave_ros import skeletons
from pave_ros.models import backbones
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.flow import RealNVP
from pave_ros.models.info import IMAGENET_MEAN, IMAGENET_STD, ModelInfo
from pave_ros.models.layers import Attention, EncoderLayer, constant
from pave_ros.models.pyramid import FPN, HRFPN, WIDTH, HRFPNLateral
from pave_ros.models.swin import LARGE, OutputNorms, Swin

QUERIES = 100
STAGES = 6
HEADS = 8
FFN = 2048
DYNAMIC = 64  # Width of the layers whose weights a query makes.
PART = 128  # Width of a part's embedding.
STRIDES = (4, 8, 16, 32)
BOX_REGION, POSE_REGION = 7, 14  # Cells along each side of what is cut out for a box and for its pose.
LARGEST_GROWTH = math.log(100000 / 16)  # Of a box in one stage.


@dataclass(frozen=True)
class Variant:
    """One row of the family (published configurations).

    Attributes:
        backbone: timm's name of it.
        pyramid: what makes its maps equally wide.
        light: without the query's look at the pose's own features (the published HRNet weights are light).
    """

    backbone: str
    pyramid: type[FPN] | type[HRFPN] | type[HRFPNLateral]
    light: bool = False


VARIANTS = {
    "r50": Variant("resnet50", FPN),
    "r50_light": Variant("resnet50", FPN, light=True),
    "hrnet_w32": Variant("hrnet_w32", HRFPN),
    "hrnet_w32_light": Variant("hrnet_w32", HRFPN, light=True),
    "hrnet_w48": Variant("hrnet_w48", HRFPNLateral),
    "hrnet_w48_light": Variant("hrnet_w48", HRFPNLateral, light=True),
    "swin_l": Variant("swin_large_patch4_window7_224", FPN),
    "swin_l_light": Variant("swin_large_patch4_window7_224", FPN, light=True),
}


@dataclass(frozen=True)
class Prediction:
    """What one stage says of each query.

    Attributes:
        logits: (B, Q, 1) of being a person.
        boxes: (B, Q, 4) x1, y1, x2, y2 in pixels of the network's input.
        keypoints: (B, Q, K, 2) x, y relative to the box: -0.5 and 0.5 are its sides.
        sigmas: (B, Q, K, 2) their deviations, in the same units, 0..1.
    """

    logits: Tensor
    boxes: Tensor
    keypoints: Tensor
    sigmas: Tensor


def build(variant: str, skeleton: str = "coco17", light: bool | None = None, queries: int = QUERIES) -> QueryPose:
    """The network of one variant with untrained weights; `light` overrides what the variant says."""
    full = variant.removesuffix("_light")
    if light is not None:
        variant = f"{full}_light" if light else full
    info = ModelInfo(
        system="querypose",
        variant=variant,
        skeleton=skeleton,
        input_size=(800, 1333),
        stride=1,  # The network pads.
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        resize="fit",
        pillow=True,
    )
    return QueryPose(VARIANTS[variant], info, queries)


class QueryPose(PoseModel):
    """The network."""

    def __init__(self, variant: Variant, info: ModelInfo, queries: int = QUERIES) -> None:
        super().__init__()
        self.info = info
        self.backbone_name = variant.backbone
        parts = body_parts(info.skeleton)
        self.backbone, channels = make_backbone(variant.backbone)
        self.norms = OutputNorms(channels) if isinstance(self.backbone, Swin) else nn.Identity()
        self.pyramid = variant.pyramid(channels)
        self.first_boxes = nn.Embedding(queries, 4)  # Centre x, y, width, height, relative to the picture.
        self.first_queries = nn.Embedding(queries, WIDTH)
        self.part_queries = nn.Embedding(len(parts), PART)
        self.box_stages = nn.ModuleList(BoxStage() for _ in range(STAGES))
        self.pose_stages = nn.ModuleList(PoseStage(parts, variant.light) for _ in range(STAGES))
        self.flow = RealNVP()  # Only the loss uses it; published checkpoints hold it.
        self._initialise()

    def _initialise(self) -> None:
        """Start as published: every box is the picture, people are unlikely."""
        with torch.no_grad():
            self.first_boxes.weight.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]))
        for parameter in (*self.box_stages.parameters(), *self.pose_stages.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        for stage in self.box_stages:
            nn.init.constant_(stage.get_parameter("class_head.bias"), -math.log(99))

    def encode(self, images: Tensor) -> Features:
        """Maps (B, 256, H / s, W / s) for the strides s, and the pictures' width and height (B, 2) in pixels.

        Args:
            images: (B, 3, H, W), normalised; they are padded with zeros to a multiple of 32.
        """
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        maps = self.pyramid(self.norms(self.backbone(padded)))
        size = constant((width, height), torch.float32, images.device)
        return (*maps, size.expand(images.shape[0], -1))

    def decode(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """People in the newest frame of the window.

        Returns:
            ``class_logits`` (B, Q, 1) before the sigmoid, ``boxes`` (B, Q, 4) x1, y1, x2, y2 relative to the
            picture, and ``poses`` (B, Q, K, 3): x, y relative to the box, -0.5 and 0.5 being its sides, and the
            keypoint's certainty.
        """
        *maps, size = window[-1]
        final = self.predict(maps, size)[-1]
        certainty = 1 - final.sigmas.mean(-1, keepdim=True)
        return {
            "class_logits": final.logits,
            "boxes": final.boxes / size.repeat(1, 2)[:, None],
            "poses": torch.cat((final.keypoints, certainty), -1),
        }

    def predict(self, maps: Sequence[Tensor], size: Tensor) -> list[Prediction]:
        """What each stage says, from maps (B, 256, H / s, W / s) and the pictures' width and height (B, 2).

        A stage starts from the boxes of the one before without gradient, as published. Boxes keep their own precision
        (at least float32) when the rest computes in half.
        """
        batch = size.shape[0]
        centre, extent = self.first_boxes.weight.to(torch.promote_types(maps[0].dtype, size.dtype)).chunk(2, -1)
        boxes = torch.cat((centre - extent / 2, centre + extent / 2), -1) * size.repeat(1, 2)[:, None]
        queries = self.first_queries.weight.expand(batch, -1, -1)
        parts = self.part_queries.weight.expand(batch * queries.shape[1], -1, -1)
        predictions = []
        for box_stage, pose_stage in zip(self.box_stages, self.pose_stages, strict=True):
            logits, found, queries = box_stage(queries, boxes, maps)
            boxes = found.detach()
            keypoints, sigmas, queries, parts = pose_stage(queries, boxes, parts, maps[0])
            predictions.append(Prediction(logits, found, keypoints, sigmas))
        return predictions


def make_backbone(name: str) -> tuple[nn.Module, Sequence[int]]:
    """(backbone, channels of its four maps at the strides 4, 8, 16 and 32)"""
    if name == "swin_large_patch4_window7_224":
        swin = Swin(*LARGE, drop_path=0.2)
        return swin, swin.channels
    options: dict[str, Any] = {"feature_location": ""} if name.startswith("hrnet") else {}
    backbone: Any = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4), **options)
    channels: list[int] = backbone.feature_info.channels()
    # Of the published backbones only the ResNet keeps its normalisation frozen, in training too, and its first stages.
    return backbones.frozen(backbone, backbones.STEM) if name.startswith("resnet") else backbone, channels


def body_parts(skeleton: str) -> tuple[tuple[int, ...], ...]:
    """The keypoints of each of the seven parts: the head first, then shoulders, arms, hips and legs."""
    layout = skeletons.get(skeleton)
    limbs = [
        ("left_shoulder", "right_shoulder"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_hip", "right_hip"),
        ("left_knee", "left_ankle"),
        ("right_knee", "right_ankle"),
    ]
    known = [tuple(layout.index(name) for name in limb) for limb in limbs]
    rest = tuple(i for i in range(len(layout)) if not any(i in limb for limb in known))
    return (rest, *known)


# --- regions ------------------------------------------------------------------------------------------------------


def cut_out(maps: Sequence[Tensor], boxes: Tensor, cells: int) -> Tensor:
    """The features inside boxes, each from the map that suits its size (RoIAlign, as in detectron2).

    Boxes are float32 here whatever the model computes in, as published: half precision is too coarse for pixels.

    Args:
        maps: one or more of (B, C, H / s, W / s), the finest first.
        boxes: (B, N, 4) x1, y1, x2, y2 in pixels of the picture.
        cells: along each side of a region.

    Returns:
        (B * N, C, cells, cells)
    """
    boxes = boxes.float()
    # Every map is asked for every box: what to leave out depends on the data, which exported files cannot.
    dtype = torch.promote_types(maps[0].dtype, boxes.dtype)
    # TensorRT's RoIAlign is a plugin, which its edition for RTX does not have.
    align = sampled_regions if torch.compiler.is_compiling() else aligned_regions
    looks = [align(m.to(dtype), boxes.to(dtype) / stride, cells) for m, stride in zip(maps, STRIDES, strict=False)]
    if len(looks) == 1:
        return looks[0].to(maps[0].dtype)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    level = torch.floor(4 + torch.log2(area.sqrt() / 224 + 1e-8)).clamp(2, 1 + len(maps)) - 2
    fits = level.flatten()[:, None, None, None] == torch.arange(len(maps), device=boxes.device).view(-1, 1, 1, 1, 1)
    return torch.where(fits, torch.stack(looks), 0).sum(0).to(maps[0].dtype)


def aligned_regions(features: Tensor, boxes: Tensor, cells: int) -> Tensor:
    """RoIAlign: each cell of a region is the mean of two by two samples.

    Args:
        features: (B, C, H, W).
        boxes: (B, N, 4) x1, y1, x2, y2 in cells of the features.
        cells: along each side of a region.

    Returns:
        (B * N, C, cells, cells)
    """
    return roi_align(features, list(boxes), cells, sampling_ratio=2, aligned=True)


def sampled_regions(features: Tensor, boxes: Tensor, cells: int) -> Tensor:
    """The same by operations that every runtime has; what lies more than a cell outside the features is zero."""
    size = features.new_tensor([features.shape[3], features.shape[2]])
    steps = (torch.arange(2 * cells, dtype=boxes.dtype, device=boxes.device) + 0.5) / (2 * cells)
    low, extent = boxes[..., None, :2] - 0.5, boxes[..., None, 2:] - boxes[..., None, :2]
    places = low + extent * steps[:, None]  # (B, N, 2 cells, 2): x of each column, y of each line
    inside = ((places >= -1) & (places <= size)).to(features.dtype)
    x, y = ((2 * places + 1) / size - 1).unbind(-1)
    shape = (-1, -1, 2 * cells, 2 * cells)
    grid = torch.stack((x.unsqueeze(2).expand(shape), y.unsqueeze(3).expand(shape)), -1).flatten(1, 2)
    samples = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
    samples = samples.unflatten(2, (boxes.shape[1], 2 * cells)).transpose(1, 2)
    samples = samples * (inside[..., 1].unsqueeze(3) * inside[..., 0].unsqueeze(2)).unsqueeze(2)
    return F.avg_pool2d(samples.flatten(0, 1), 2)


class DynamicConv(nn.Module):
    """Each query makes the weights of two layers that look at its own region (Sparse R-CNN)."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.weights = nn.Linear(WIDTH, 2 * WIDTH * DYNAMIC)
        self.norm1 = nn.LayerNorm(DYNAMIC)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.output = nn.Linear(WIDTH * cells**2, WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)

    def forward(self, queries: Tensor, regions: Tensor) -> Tensor:
        """queries (N, C), regions (N, C, R, R) -> (N, C)"""
        narrow, wide = self.weights(queries).chunk(2, -1)
        x = regions.flatten(2).transpose(1, 2)
        x = F.relu(self.norm1(x @ narrow.unflatten(-1, (WIDTH, DYNAMIC))))
        x = F.relu(self.norm2(x @ wide.unflatten(-1, (DYNAMIC, WIDTH))))
        return F.relu(self.norm3(self.output(x.flatten(1))))


class Interaction(nn.Module):
    """A query takes in what its region shows."""

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.dynamic = DynamicConv(cells)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.linear1 = nn.Linear(WIDTH, FFN)
        self.linear2 = nn.Linear(FFN, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)

    def forward(self, queries: Tensor, regions: Tensor) -> Tensor:
        """queries (B, N, C), regions (B * N, C, R, R) -> (B, N, C)"""
        queries = self.norm1(queries + self.dynamic(queries.flatten(0, 1), regions).view_as(queries))
        return self.norm2(queries + self.linear2(F.relu(self.linear1(queries))))


# --- boxes --------------------------------------------------------------------------------------------------------


class BoxStage(nn.Module):
    """Queries see each other and their boxes, tell what they found, and move the boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(WIDTH, HEADS)
        self.norm = nn.LayerNorm(WIDTH)
        self.interaction = Interaction(BOX_REGION)
        self.class_layers = _layers(1)
        self.class_head = nn.Linear(WIDTH, 1)
        self.box_layers = _layers(3)
        self.box_head = nn.Linear(WIDTH, 4)

    def forward(self, queries: Tensor, boxes: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """queries (B, N, C), boxes (B, N, 4) -> logits (B, N, 1), moved boxes, and queries"""
        queries = self.norm(queries + self.attention(queries, queries, queries))
        queries = self.interaction(queries, cut_out(maps, boxes, BOX_REGION))
        logits = self.class_head(self.class_layers(queries))
        return logits, moved(boxes, self.box_head(self.box_layers(queries))), queries


def _layers(count: int) -> nn.Sequential:
    layers = ((nn.Linear(WIDTH, WIDTH, bias=False), nn.LayerNorm(WIDTH), nn.ReLU()) for _ in range(count))
    return nn.Sequential(*(module for layer in layers for module in layer))


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes (..., 4) x1, y1, x2, y2 moved by half of their size times x and y, grown by e to the width and height."""
    deltas = deltas.to(boxes.dtype)
    size = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] / 2 * size
    half = 0.5 * size * deltas[..., 2:].clamp(max=LARGEST_GROWTH).exp()
    return torch.cat((centre - half, centre + half), -1)


# --- poses --------------------------------------------------------------------------------------------------------


class PoseStage(nn.Module):
    """The parts of every person look into the person's box, see each other, and tell their keypoints."""

    order: Tensor

    def __init__(self, parts: Sequence[Sequence[int]], light: bool) -> None:
        super().__init__()
        widths = [WIDTH, *[2 * WIDTH] * 5, WIDTH]
        convs = [(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in zip(widths, widths[1:], strict=False)]
        self.convs = nn.Sequential(*(module for pair in convs for module in pair))
        self.interaction = None if light else Interaction(POSE_REGION)
        self.embedding = PartEmbedding(len(parts))
        self.residuals = nn.ModuleList(nn.Linear(WIDTH, PART) for _ in parts)
        self.update = SelectiveUpdate()
        self.layer = EncoderLayer(PART, HEADS, FFN)
        self.coordinates = nn.ModuleList(nn.Linear(PART, 2 * len(part)) for part in parts)
        self.sigmas = nn.ModuleList(nn.Linear(PART, 2 * len(part)) for part in parts)
        order = torch.tensor([keypoint for part in parts for keypoint in part]).argsort()
        self.register_buffer("order", order, persistent=False)

    def forward(
        self, queries: Tensor, boxes: Tensor, parts: Tensor, finest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One refinement of the parts.

        Args:
            queries: (B, N, C) of the people.
            boxes: (B, N, 4) x1, y1, x2, y2 in pixels.
            parts: (B * N, 7, P) of the stage before.
            finest: (B, C, H / 4, W / 4)

        Returns:
            Keypoints and sigmas (B, N, K, 2) relative to the box; queries and parts for the next stage.
        """
        regions = self.convs(cut_out([finest], boxes, POSE_REGION))
        if self.interaction is not None:
            queries = self.interaction(queries, regions)
        person = torch.stack([residual(queries.flatten(0, 1)) for residual in self.residuals], 1)
        parts = self.update(self.embedding(regions) + person, parts)
        parts = self.layer(parts, parts.new_zeros(()))
        # A coordinate depends on where an embedding points, not on how long it is.
        keypoints = self._joined(self.coordinates, F.normalize(parts, dim=-1))
        sigmas = self._joined(self.sigmas, parts).sigmoid()
        return keypoints.unflatten(0, queries.shape[:2]), sigmas.unflatten(0, queries.shape[:2]), queries, parts

    def _joined(self, heads: nn.ModuleList, parts: Tensor) -> Tensor:
        """(N, K, 2) of what the head of each part says of it, in the order of the keypoints."""
        values = [head(part) for head, part in zip(heads, parts.unbind(1), strict=True)]
        return torch.cat(values, -1).unflatten(-1, (-1, 2))[:, self.order]


class PartEmbedding(nn.Module):
    """Spatial part embedding generation: each part attends to where it is within the box."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()
        )
        self.attention = nn.Conv2d(WIDTH, parts, 3, padding=1)
        self.project = nn.Linear(WIDTH, PART)

    def forward(self, regions: Tensor) -> Tensor:
        """(N, C, R, R) -> (N, 7, P)"""
        x = self.enlarge(regions)
        weights = self.attention(x).flatten(2).softmax(-1)
        return self.project(weights @ x.flatten(2).transpose(1, 2))


class SelectiveUpdate(nn.Module):
    """Selective iteration: learned gates mix what a stage finds of a part with what was known of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Linear(PART, PART // 4, bias=False)
        self.norm = nn.LayerNorm(PART // 4)
        self.gates = nn.Linear(PART // 4, 2 * PART)
        # Without use, but published checkpoints hold them.
        self.unused = nn.Linear(PART, PART, bias=False)
        self.unused_norm = nn.LayerNorm(PART)

    def forward(self, new: Tensor, old: Tensor) -> Tensor:
        """(..., P), (..., P) -> (..., P)"""
        of_new, of_old = self.gates(F.relu(self.norm(self.reduce(new + old)))).sigmoid().chunk(2, -1)
        return new * of_new + old * of_old
