"""The training objective of TAR-ViTPose: mean squared error of heatmaps, with targets and augmentation as published.

The published code prepares crops in its data set; here the criterion cuts them out of the pictures of a batch, so that
all systems train on the same pictures. A single picture stands for a clip in which nothing moves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pave_ros import skeletons
from pave_ros.checkpoints import loading, vitpose
from pave_ros.models.base import PoseModel
from pave_ros.models.info import IMAGENET_MEAN, IMAGENET_STD
from pave_ros.models.vitpose import PATCH, ViTPose
from pave_ros.topdown.crops import crop_boxes, matrix
from pave_ros.training.backbones import take_over
from pave_ros.training.settings import ConfigError, check_bounds, filled
from pave_ros.training.target import Target, mean_over_processes

Array = npt.NDArray[Any]
SIGMA = 3.0  # Pixels of the heatmap.
STRIDE = 4  # Pixels of the crop for one of the heatmap.
# What moves most and is smallest counts more.
JOINT_WEIGHTS = {"elbow": 1.2, "knee": 1.2, "wrist": 1.5, "ankle": 1.5}
UPPER = {"nose", "head_bottom", "head_top", "top_head", "neck", "eye", "ear", "shoulder", "elbow", "wrist"}


@dataclass(frozen=True)
class Augmentation:
    """How crops are varied (published); the chance comes from the seeds of the pictures.

    Attributes:
        scale: standard deviation of the size of a crop, cut off at once this.
        rotation: standard deviation in degrees, cut off at twice this.
        rotated, mirrored, halved: chance that a crop is turned, mirrored, or shows half a body only.
        joints: a half is only shown of people with more labelled joints than this.
    """

    scale: float = 0.35
    rotation: float = 45.0
    rotated: float = 0.6
    mirrored: float = 0.5
    halved: float = 0.3
    joints: int = 8


NONE = Augmentation(scale=0, rotation=0, rotated=0, mirrored=0, halved=0)


@dataclass(frozen=True)
class Options:
    """What may be chosen of the objective.

    Attributes:
        size: (height, width) of the crops.
        per_picture: people of each picture who are cut out at most, chosen by chance.
    """

    size: tuple[int, int] = (384, 288)
    per_picture: int = 2

    def __post_init__(self) -> None:
        check_bounds(self, ((("per_picture",), 1, math.inf),))
        if min(self.size) < PATCH or any(side % PATCH for side in self.size):
            raise ConfigError(f"size has to be a height and a width, multiples of {PATCH}, not {list(self.size)}")


def criterion(skeleton: str, **options: Any) -> HeatmapCriterion:
    """The objective; `options` are those of `Options`. ConfigError names what is unknown or of the wrong kind."""
    chosen = filled(Options, options, "objective_options")
    return HeatmapCriterion(skeleton, chosen.per_picture, chosen.size)


class HeatmapCriterion:
    """Losses of a batch.

    Args: as of `criterion`, how the crops are varied, the way of counting coordinates (`pave_ros.topdown.styles`), the
        deviation of the spots in pixels of the heatmap, and what joints weigh by their names without a side, or 1.
    """

    def __init__(
        self,
        skeleton: str,
        per_picture: int,
        size: tuple[int, int],
        augmentation: Augmentation | None = None,
        udp: bool = False,
        sigma: float = SIGMA,
        joint_weights: Mapping[str, float] = JOINT_WEIGHTS,
    ) -> None:
        layout = skeletons.get(skeleton)
        self.per_picture, self.size = per_picture, (size[0], size[1])
        self.augmentation = augmentation or Augmentation()
        self.udp, self.sigma = udp, sigma
        self.weights = torch.tensor([joint_weights.get(part, 1.0) for part in layout.parts])
        self.mirror = torch.tensor(layout.mirror)
        self.upper = np.array([part in UPPER for part in layout.parts])

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """The loss by name.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W) pictures or (B, T, 3, H, W) clips, normalised.
            targets: one for each picture, or for the middle of each clip.
            seeds: one for each picture, of its augmentation.
        """
        clips = images if images.dim() == 5 else images[:, None]
        cut, points, labelled = self.crops(clips, targets, seeds)
        people = mean_over_processes(len(cut), images.device)
        if not len(cut):  # Every process has to take part in every step.
            cut, points = clips.new_zeros(1, clips.shape[1], 3, *self.size), clips.new_zeros(1, len(self.weights), 2)
            labelled = torch.zeros(1, len(self.weights), dtype=torch.bool, device=images.device)
        truth, inside = gaussians(points, self.size, self.udp, self.sigma)
        weights = (labelled & inside) * self.weights.to(images.device)
        return {"heatmaps": heatmap_loss(model(cut).float(), truth, weights) / people}

    def crops(self, clips: Tensor, targets: Sequence[Target], seeds: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Crops of the people.

        Args:
            clips: (B, T, 3, H, W), normalised.

        Returns:
            (N, T, 3, h, w), their keypoints (N, K, 2) in pixels of the crop, and whether those are labelled (N, K).
        """
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for clip, target, seed in zip(clips, targets, seeds, strict=True):
            rng = np.random.default_rng(seed)
            for person in rng.permutation(len(target))[: self.per_picture].tolist():
                found.append(self._crop(clip, target, person, rng))
        if not found:
            count = len(self.weights)
            return clips.new_zeros(0), clips.new_zeros(0, count, 2), clips.new_zeros(0, count, dtype=torch.bool)
        frames, points, labelled = zip(*found, strict=True)
        return torch.stack(frames), torch.stack(points), torch.stack(labelled)

    def _crop(
        self, clip: Tensor, target: Target, person: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        height, width = self.size
        labelled, extent = target.labelled[person], target.boxes.new_tensor([clip.shape[-1], clip.shape[-2]])
        points = target.keypoints[person] * extent
        box = (target.boxes[person].view(2, 2) * extent).view(4)
        known = labelled.cpu().numpy()
        matrix, mirrored = self._place(box.cpu().numpy(), points.cpu().numpy()[known], self.upper[known], rng)
        to_crop = torch.tensor(matrix, dtype=points.dtype, device=points.device)
        frames = sampled(clip, to_crop, (height, width))
        points = points @ to_crop[:, :2].T + to_crop[:, 2]
        if mirrored:
            mirror = self.mirror.to(points.device)
            frames, points, labelled = frames.flip(-1), points[mirror], labelled[mirror]
            points = torch.stack((width - 1 - points[:, 0], points[:, 1]), -1)
        return frames, points, labelled

    def _place(self, box: Array, points: Array, upper: Array, rng: np.random.Generator) -> tuple[Array, bool]:
        """The matrix (2, 3) from the picture to a crop of the box (4,), or of some of the labelled points (N, 2) in
        it, and whether to mirror it."""
        varied, size = self.augmentation, (self.size[1], self.size[0])
        crop = crop_boxes(box[None], size)[0]
        if len(points) > varied.joints and rng.random() < varied.halved:
            crop = half_body(points, upper, size, take_upper=rng.standard_normal() < 0.5)
        crop[2:] *= np.clip(1 + varied.scale * rng.standard_normal(), 1 - varied.scale, 1 + varied.scale)
        turn = float(np.clip(varied.rotation * rng.standard_normal(), -2 * varied.rotation, 2 * varied.rotation))
        turned = rng.random() < varied.rotated
        return matrix(crop, size, self.udp, turn if turned else 0.0), rng.random() < varied.mirrored


def half_body(points: Array, upper: Array, size: tuple[int, int], take_upper: bool) -> Array:
    """The crop of one half of the keypoints (N, 2), about their mean and half as large again (published).

    Args:
        points: the labelled ones.
        upper: (N,) which of them belong to the upper half.
        size: (width, height) of the crop.
        take_upper: the half that is wanted; the other is taken where it has fewer than three.
    """
    above, below = points[upper], points[~upper]
    half = above if len(below) < 3 or (take_upper and len(above) > 2) else below
    box = np.concatenate((half.min(0), np.maximum(np.ptp(half, axis=0), 1.0)))
    crop = crop_boxes(box[None].astype(np.float32), size, enlarged=1.5)[0]
    crop[:2] = half.mean(0)
    return crop


def sampled(clip: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """What an affine matrix (2, 3) takes from pictures (T, 3, H, W) to crops (T, 3, *size); black outside."""
    height, width = size
    black = -clip.new_tensor(IMAGENET_MEAN) / clip.new_tensor(IMAGENET_STD)
    full = torch.cat((matrix, matrix.new_tensor([[0, 0, 1]])))
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((x, y, torch.ones_like(x)), -1).to(matrix) @ torch.linalg.inv(full).T
    # grid_sample counts from -1 to 1 between the outer borders of the first and the last pixel.
    scale = matrix.new_tensor([clip.shape[-1], clip.shape[-2]])
    grid = ((2 * pixels[..., :2] + 1) / scale - 1).expand(len(clip), -1, -1, -1).to(clip.dtype)
    shifted = clip - black[:, None, None]
    return (
        F.grid_sample(shifted, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + black[:, None, None]
    )


def gaussians(points: Tensor, size: tuple[int, int], udp: bool = False, sigma: float = SIGMA) -> tuple[Tensor, Tensor]:
    """The published targets: Gaussians around the nearest cell of the heatmap, or with `udp` around the place itself,
    cut off at three deviations.

    Args:
        points: (N, K, 2) in pixels of the crop.
        size: (height, width) of the crop.
        udp: the way of counting coordinates.
        sigma: deviation in pixels of the heatmap.

    Returns:
        (N, K, height / 4, width / 4), and (N, K) whether the point lies in the crop.
    """
    height, width = size[0] // STRIDE, size[1] // STRIDE
    ends = points.new_tensor([size[1], size[0]])
    inside = ((points >= 0) & (points <= ends)).all(-1)
    cells = points.new_tensor([width, height])
    centres = points * (cells - 1) / (ends - 1) if udp else torch.floor(points / STRIDE + 0.5)
    x = torch.arange(width, device=points.device) - centres[..., :1]  # (N, K, w)
    y = torch.arange(height, device=points.device) - centres[..., 1:]
    near = (x.abs() <= 3 * sigma)[:, :, None] & (y.abs() <= 3 * sigma)[..., None]
    maps = torch.exp(-(x.square()[:, :, None] + y.square()[..., None]) / (2 * sigma**2))
    return torch.where(near & inside[..., None, None], maps, torch.zeros_like(maps)), inside


def heatmap_loss(heatmaps: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Mean squared error of heatmaps (N, K, h, w), both sides multiplied by the weights (N, K), summed over N."""
    return ((heatmaps - truth) * weights[..., None, None]).square().mean((1, 2, 3)).sum()


def load_backbone(model: PoseModel, path: Path) -> None:
    """Start from a ViTPose checkpoint, encoder and head, as published; `CheckpointError` where it does not fit."""
    assert isinstance(model, ViTPose)
    state = {vitpose.LAYOUT.to_ours(key): value for key, value in loading.read(path).items()}
    part = [key for key in model.state_dict() if key.startswith(("backbone.", "head."))]
    take_over(model, state, part, path, vitpose.LAYOUT.to_published)


class TrainingForward(torch.nn.Module):
    """Heatmaps (N, K, h, w) of clips of crops (N, T, 3, H, W); all frames go through the encoder together, so that
    they share the statistics of batch normalisation. A single frame stands for all of the window."""

    def __init__(self, model: ViTPose) -> None:
        super().__init__()
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        length = clips.shape[1]
        if length not in (1, self.model.info.window):
            raise ValueError(f"{self.model.info.name} trains on clips of {self.model.info.window} frames, not {length}")
        features = self.model.encode(clips.flatten(0, 1))
        frames = [tuple(feature.unflatten(0, (-1, length))[:, t] for feature in features) for t in range(length)]
        return self.model.decode(frames * (self.model.info.window // length))["heatmaps"]
