"""The training objective of CenterNet, the small model of the package: people as cells, joints as heatmaps.

Every cell near a person's centre, on the maps whose cells suit the person's size, learns the person (one-to-many
assignment as in FCOS) by a varifocal loss, L1 and OKS; the cells of the finest map learn which joints they show by the
focal loss of CornerNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.models.centernet import CenterNet
from pave_ros.models.layers import cell_centres
from pave_ros.training.focal import spot_loss
from pave_ros.training.matching import keypoint_similarity
from pave_ros.training.target import Target, inside, mean_over_processes

NEAR = 1.0  # Cells whose centre is so far from a person's, in cells, learn the person.
SUITED = (2.0, 8.0)  # Length of a person in cells, on the maps that learn the person.
# Score that a person's cell is to have at least: while keypoints are still anywhere, OKS alone would teach no scores.
LEAST_QUALITY = 0.1
ALPHA, GAMMA = 0.25, 2.0  # Of the varifocal loss for cells without a person.
JOINT_SPREAD = 0.7  # Standard deviation, in cells, of the spot around a joint where a miss costs less.


@dataclass(frozen=True)
class Assignment:
    """Which cells learn whom: `pictures`, `cells` and `people` (P,) each, people counted over the whole batch."""

    pictures: Tensor
    cells: Tensor
    people: Tensor


def assign(target: Target, maps: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """The cells (P,) near people of a picture, each with its nearest person (P,)."""
    if not len(target):
        return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
    centres = cell_centres(maps)
    scale = torch.cat([torch.tensor([[w, h]], dtype=torch.float32).expand(h * w, 2) for h, w in maps])
    labelled = target.labelled[..., None]
    low = target.keypoints.masked_fill(~labelled, float("inf")).amin(1)
    high = target.keypoints.masked_fill(~labelled, -float("inf")).amax(1)
    length = ((high - low)[None] * scale[:, None]).amax(-1)  # (S, M), in cells
    finest, coarsest = scale == scale.amax(0), scale == scale.amin(0)
    suits = ((length >= SUITED[0]) | finest[:, :1]) & ((length < SUITED[1]) | coarsest[:, :1])
    distance = ((centres[:, None] - (low + high) / 2).abs() * scale[:, None]).amax(-1)
    distance = distance.masked_fill(~suits | (distance > NEAR), float("inf"))
    nearest, person = distance.min(1)
    cells = nearest.isfinite().nonzero().flatten()
    return cells, person[cells]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses. The heatmaps weigh most: they place the joints in the end."""

    scores: float = 2.0
    keypoints: float = 10.0
    oks: float = 4.0
    joints: float = 6.0


def criterion(skeleton: str) -> CenterNetCriterion:
    """The objective with its usual weights."""
    return CenterNetCriterion(skeleton)


class CenterNetCriterion:
    """Losses of a batch.

    Args:
        skeleton: keypoint layout, which gives the OKS sigmas.
        weights: of the losses.
    """

    def __init__(self, skeleton: str, weights: LossWeights | None = None) -> None:
        self.weights = weights or LossWeights()
        self.sigmas = torch.tensor(skeletons.get(skeleton).sigmas)

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """The weighted losses by name.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W), normalised.
            targets: one for each picture.
            seeds: not used; nothing here is random.
        """
        device = images.device
        here = [target.to(torch.device("cpu")) for target in targets]
        maps = [(-(-images.shape[-2] // s), -(-images.shape[-1] // s)) for s in _strides(model)]
        assignment = assignments(here, maps, device)
        logits, keypoints, joints = model(images, assignment.pictures, assignment.cells)
        truth, labelled, areas = (
            torch.cat([getattr(t, name) for t in here]).to(device)[assignment.people]
            for name in ("keypoints", "labelled", "areas")
        )
        oks = keypoint_similarity(keypoints.float(), truth, labelled, areas, self.sigmas.to(device))
        distance = ((keypoints - truth).abs().sum(-1) * labelled).sum()
        cells = mean_over_processes(len(assignment.cells), device)
        quality = torch.zeros(logits.shape, device=device)
        quality[assignment.pictures, assignment.cells] = oks.detach().clamp(min=LEAST_QUALITY)
        centres = cell_centres(maps)
        ignored = torch.stack([inside(centres, target.ignored) for target in here]).to(device)
        return {
            "scores": self.weights.scores * varifocal(logits.float(), quality, ignored) / cells,
            "keypoints": self.weights.keypoints * distance / cells,
            "oks": self.weights.oks * (1 - oks).sum() / cells,
            "joints": self.weights.joints * joint_loss(joints.float(), here),
        }


def assignments(targets: Sequence[Target], maps: Sequence[tuple[int, int]], device: torch.device) -> Assignment:
    """`assign` for all pictures of a batch."""
    pictures, cells, people, before = [], [], [], 0
    for picture, target in enumerate(targets):
        near, person = assign(target, maps)
        pictures.append(torch.full_like(near, picture))
        cells.append(near)
        people.append(person + before)
        before += len(target)
    return Assignment(*(torch.cat(parts).to(device) for parts in (pictures, cells, people)))


def varifocal(logits: Tensor, quality: Tensor, ignored: Tensor) -> Tensor:
    """Varifocal loss (B, S), summed: cells of people are to reach their `quality`, all others zero; those others
    that are `ignored` count nothing."""
    p = logits.detach().sigmoid()
    weight = torch.where(quality > 0, quality, ALPHA * p**GAMMA * ~ignored)
    return F.binary_cross_entropy_with_logits(logits, quality, weight=weight, reduction="sum")


def joint_maps(target: Target, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the cells of a map are to show of a picture's people.

    Returns:
        (K, H, W) 1 at each labelled joint's cell, falling off around it; and the same shape of bool, False where
        nobody knows: in ignored regions, and within people for the joints that they have no label of.
    """
    joints = target.keypoints.shape[1]
    spots, known = torch.zeros(joints, height, width), torch.ones(joints, height, width, dtype=torch.bool)
    centres = cell_centres([(height, width)])
    if len(target.ignored):
        known &= ~inside(centres, target.ignored).view(height, width)
    size = torch.tensor([width, height], dtype=torch.float32)
    for keypoints, labelled in zip(target.keypoints, target.labelled, strict=True):
        cells = (keypoints * size).floor() + 0.5
        squared = ((centres * size)[None] - cells[:, None]).square().sum(-1)
        spot = torch.exp(-squared / (2 * JOINT_SPREAD**2)) * labelled[:, None]
        spots = torch.maximum(spots, spot.view(joints, height, width))
        low, high = keypoints[labelled].amin(0), keypoints[labelled].amax(0)
        box = torch.cat((low - 0.1 * (high - low), 1.2 * (high - low)))
        known[~labelled] &= ~inside(centres, box[None]).view(height, width)
    return spots, known | (spots == 1)


def joint_loss(logits: Tensor, targets: Sequence[Target]) -> Tensor:
    """Focal loss of heatmaps (B, K, H, W), for each joint in view."""
    maps = [joint_maps(target, *logits.shape[-2:]) for target in targets]
    spots = torch.stack([spot for spot, _ in maps]).to(logits.device)
    known = torch.stack([known for _, known in maps]).to(logits.device)
    return spot_loss(logits, spots, known)


def _strides(model: torch.nn.Module) -> tuple[int, ...]:
    forward = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
    assert isinstance(forward, TrainingForward)
    return forward.model.strides


class TrainingForward(torch.nn.Module):
    """`forward_training` as the module's forward, so that data parallel wrappers see it."""

    def __init__(self, model: CenterNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, pictures: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.model.forward_training(images, pictures, cells)
