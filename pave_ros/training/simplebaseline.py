"""The training objective of the simple baseline, which trains on crops: cross entropy between its heatmaps and where
joints are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pave_ros.models.base import PoseModel
from pave_ros.models.simplebaseline import SPREAD, SimpleBaseline
from pave_ros.training.movenet import load_movenet
from pave_ros.training.target import Target, mean_over_processes


def load_backbone(model: PoseModel, path: Path) -> None:
    """Fill the network, but for what tells that a joint is nowhere, from a MoveNet for one person, see
    `pave_ros.training.movenet`."""
    load_movenet(model, path, {"joint_head": "kpt_heatmap"})


def criterion(skeleton: str) -> CropCriterion:
    """The objective; it is the same for every keypoint layout."""
    return CropCriterion()


class CropCriterion:
    """Loss of a batch of crops."""

    def __call__(
        self, model: torch.nn.Module, images: Tensor, targets: Sequence[Target], seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        """The loss by name.

        Args:
            model: a `TrainingForward`, or what wraps it for data parallel training.
            images: (B, 3, H, W) crops, normalised.
            targets: the one person of each; a labelled keypoint out of the crop is known to be nowhere in it.
            seeds: not used; nothing here is random.
        """
        cells, nowhere = model(images)
        truth = shares(torch.cat([target.keypoints for target in targets]), (cells.shape[-2], cells.shape[-1]))
        labelled = torch.cat([target.labelled for target in targets])
        logs = torch.cat((cells.float().flatten(2), nowhere.float().unsqueeze(-1)), -1).log_softmax(-1)
        # Divergence rather than cross entropy: a loss that can reach zero is easier to look at.
        apart = (torch.xlogy(truth, truth) - truth * logs).sum(-1)
        return {"heatmaps": (apart * labelled).sum() / mean_over_processes(float(labelled.sum()), images.device)}


def shares(points: Tensor, size: tuple[int, int]) -> Tensor:
    """The heatmaps that are wanted: for each joint a Gaussian over the cells, or all of it nowhere.

    Args:
        points: (N, K, 2) of x, y, 0 at the centre of the first cell and 1 at that of the last.
        size: (height, width) of the heatmaps.

    Returns:
        (N, K, height * width + 1), which sums to 1.
    """
    height, width = size
    across, down = (torch.arange(side, device=points.device) for side in (width, height))
    x, y = ((points * points.new_tensor([width - 1, height - 1]))[..., i, None] for i in (0, 1))
    near_x, near_y = ((-((cells - place) ** 2) / (2 * SPREAD**2)).exp() for cells, place in ((across, x), (down, y)))
    spots = (near_y[..., :, None] * near_x[..., None, :]).flatten(2)
    inside = ((points >= 0) & (points <= 1)).all(-1)
    spots = torch.where(inside[..., None], spots / spots.sum(-1, keepdim=True).clamp(min=1e-6), torch.zeros_like(spots))
    return torch.cat((spots, (~inside).to(spots)[..., None]), -1)


class TrainingForward(torch.nn.Module):
    """The network's logits as the module's forward, so that data parallel wrappers see it."""

    def __init__(self, model: SimpleBaseline) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        cells, nowhere = self.model.encode(crops)
        return cells, nowhere
