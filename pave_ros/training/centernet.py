"""The training objective of CenterNet, the first stage of the model of the package: people and joints as spots in maps.

The cell where the middle of a person's keypoints lies, and those around it, learn the person by L1 and OKS; which cells
are such, and which show joints, is learned by the focal loss of CornerNet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pave_ros import skeletons
from pave_ros.models.base import PoseModel
from pave_ros.models.centernet import CenterNet
from pave_ros.models.layers import cell_centres
from pave_ros.models.mobilenet import STRIDE
from pave_ros.training.focal import spot_loss
from pave_ros.training.matching import keypoint_similarity
from pave_ros.training.movenet import load_movenet
from pave_ros.training.settings import filled
from pave_ros.training.target import Target, inside, mean_over_processes

JOINT_SPREAD = 0.7  # Standard deviation, in cells, of the spot around a joint where a miss costs less.
# The same of the spot around a person's middle, as a share of the person's length: one is as good as another there.
SPREAD = 0.04
LEARNS = 0.5  # Height of the spot from which a cell learns the person.


def load_backbone(model: PoseModel, path: Path) -> None:
    """Fill the network from MoveNet MultiPose, see `pave_ros.training.movenet`."""
    load_movenet(model, path, {"centre_head": "center", "joint_head": "kpt_heatmap", "pose_head": "kpt_regress"})
    last = model.get_submodule("pose_head.3")
    with torch.no_grad():
        for parameter in last.parameters():  # MoveNet's are y, x pairs, counted from the corners of cells
            parameter.copy_(parameter.unflatten(0, (-1, 2)).flip(1).flatten(0, 1))
        last.get_parameter("bias").sub_(0.5)


@dataclass(frozen=True)
class Assignment:
    """Which cells learn whom: `pictures`, `cells` and `people` (P,) each, people counted over the whole batch."""

    pictures: Tensor
    cells: Tensor
    people: Tensor


def centre_maps(target: Target, height: int, width: int) -> tuple[Tensor, Tensor]:
    """What the cells of a map are to show of the people of a picture.

    Returns:
        (M, H W) for each person 1 where the middle of the keypoints lies, falling off around it; and (H W,) bool, False
        in ignored regions, where nobody knows.
    """
    labelled = target.labelled[..., None]
    middle = (target.keypoints * labelled).sum(1) / labelled.sum(1).clamp(min=1)
    low = target.keypoints.masked_fill(~labelled, float("inf")).amin(1)
    high = target.keypoints.masked_fill(~labelled, -float("inf")).amax(1)
    length = ((high - low) * torch.tensor([width, height])).amax(-1, keepdim=True)
    known = ~inside(cell_centres([(height, width)]), target.ignored)
    return _spots(middle, height, width, (SPREAD * length).clamp(min=JOINT_SPREAD)), known


def _spots(points: Tensor, height: int, width: int, spread: Tensor) -> Tensor:
    """(N, H W) spots in maps: 1 in the cell of each point (N, 2), falling off with the deviation (N, 1), in cells."""
    size = torch.tensor([width, height], dtype=torch.float32)
    cells = (points * size).floor() + 0.5
    squared = ((cell_centres([(height, width)]) * size)[None] - cells[:, None]).square().sum(-1)
    return torch.exp(-squared / (2 * spread**2))


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses."""

    centres: float = 2.0
    keypoints: float = 10.0
    oks: float = 4.0
    joints: float = 2.0


USUAL = LossWeights()


def criterion(skeleton: str, **weights: Any) -> CenterNetCriterion:
    """The objective; `weights` are those of `LossWeights` that take the place of the usual ones. ConfigError names what
    is unknown or of the wrong kind."""
    return CenterNetCriterion(skeleton, filled(LossWeights, weights, "objective_options"))


class CenterNetCriterion:
    """Losses of a batch.

    Args:
        skeleton: keypoint layout, which gives the OKS sigmas.
        weights: of the losses.
    """

    def __init__(self, skeleton: str, weights: LossWeights = USUAL) -> None:
        self.weights = weights
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
        spots = [centre_maps(t, images.shape[-2] // STRIDE, images.shape[-1] // STRIDE) for t in here]
        assignment = assignments([people for people, _ in spots], device)
        logits, keypoints, joints = model(images, assignment.pictures, assignment.cells)
        truth, labelled, areas = (
            torch.cat([getattr(t, name) for t in here]).to(device)[assignment.people]
            for name in ("keypoints", "labelled", "areas")
        )
        oks = keypoint_similarity(keypoints.float(), truth, labelled, areas, self.sigmas.to(device))
        distance = ((keypoints - truth).abs().sum(-1) * labelled).sum()
        cells = mean_over_processes(len(assignment.cells), device)
        shown = torch.stack([torch.cat((people, people.new_zeros(1, people.shape[1]))).amax(0) for people, _ in spots])
        known = torch.stack([known for _, known in spots])
        return {
            "centres": self.weights.centres * spot_loss(logits.float(), shown.to(device), known.to(device)),
            "keypoints": self.weights.keypoints * distance / cells,
            "oks": self.weights.oks * (1 - oks).sum() / cells,
            "joints": self.weights.joints * joint_loss(joints.float(), here),
        }


def assignments(spots: Sequence[Tensor], device: torch.device) -> Assignment:
    """The cells near people, each with the one whose spot (M, S) is the highest there, for all pictures of a batch."""
    pictures, cells, people, before = [], [], [], 0
    for picture, one in enumerate(spots):
        height, person = one.max(0) if len(one) else (one.new_zeros(one.shape[1]), torch.zeros(one.shape[1]).long())
        near = (height >= LEARNS).nonzero().flatten()
        pictures.append(torch.full_like(near, picture))
        cells.append(near)
        people.append(person[near] + before)
        before += len(one)
    return Assignment(*(torch.cat(parts).to(device) for parts in (pictures, cells, people)))


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
    spread = torch.tensor([[JOINT_SPREAD]])
    for keypoints, labelled in zip(target.keypoints, target.labelled, strict=True):
        spot = _spots(keypoints, height, width, spread) * labelled[:, None]
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


class TrainingForward(torch.nn.Module):
    """What training supervises as the module's forward, so that data parallel wrappers see it."""

    def __init__(self, model: CenterNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, pictures: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, S) of people in all cells, keypoints (P, K, 2) of the given ones, logits (B, K, H / 4, W / 4) of
        joints.

        Args:
            images: (B, 3, H, W) RGB, normalised.
            pictures, cells: (P,) each: cells, row by row, of these pictures.
        """
        centres, poses, joints = self.model.maps(self.model.encode(images)[0])
        keypoints = poses.flatten(2).transpose(1, 2)[pictures, cells]
        return centres.flatten(1), keypoints.unflatten(-1, (-1, 2)), joints
