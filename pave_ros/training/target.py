"""What the losses compare a prediction with."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """The people of one picture, M of them with K keypoints, relative to the picture's width and height.

    Attributes:
        keypoints: (M, K, 2) float32 of x, y in 0..1; anything where not labelled.
        labelled: (M, K) bool, at least one of each person.
        areas: (M,) float32, share of the picture that the person covers.
        ignored: (R, 4) float32 boxes x, y, width, height, inside which people may stand that are not annotated.
        visible: (M, K) bool, the labelled keypoints that nothing hides.
        bare: (U, 4) float32 boxes, as above and among them, of single people without a labelled keypoint.
        boxes: (M, 4) float32 x, y, width, height of the people.
    """

    keypoints: Tensor
    labelled: Tensor
    areas: Tensor
    ignored: Tensor
    visible: Tensor
    bare: Tensor
    boxes: Tensor

    def __len__(self) -> int:
        return len(self.keypoints)

    def to(self, device: torch.device) -> Target:
        """The same on another device."""
        return Target(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which of the points (N, 2) lie in any of the boxes (R, 4) x, y, width, height; (N,) bool"""
    low, size = boxes[:, :2], boxes[:, 2:]
    offset = points[:, None] - low[None]
    return ((offset >= 0) & (offset <= size)).all(-1).any(-1)


def mean_over_processes(count: float, device: torch.device) -> float:
    """A count averaged over all training processes, at least 1: what losses are divided by."""
    if dist.is_available() and dist.is_initialized():
        total = torch.tensor([float(count)], device=device)
        dist.all_reduce(total)
        count = float(total) / dist.get_world_size()
    return max(count, 1.0)


def largest_over_processes(count: int, device: torch.device) -> int:
    """The largest of a count in all training processes."""
    if dist.is_available() and dist.is_initialized():
        largest = torch.tensor([count], device=device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)
    return count
