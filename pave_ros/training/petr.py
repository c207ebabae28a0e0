"""What PETR learns (Shi et al., 2022), where PAVE-Net learns how it errs: distance, OKS, and heatmaps beside.

The heatmaps are there in training alone, for what the finest map learns from them (the paper's auxiliary task).
"""

from __future__ import annotations

import torch
from torch import Tensor

from pave_ros.models.layers import cell_centres
from pave_ros.training.focal import spot_loss
from pave_ros.training.matching import Matches, places
from pave_ros.training.target import Target, inside, mean_over_processes
from pave_ros.training.truth import Truth

OVERLAP = 0.9  # A box moved by the radius of a spot still overlaps its person's so much.
LARGEST = 3  # radius, in cells
STRIDE = 8  # pixels of a cell


def placing_losses(poses: Tensor, truth: Truth, matches: Matches) -> tuple[Tensor, Tensor]:
    """How far the poses (B, Q, K, 2) of the matched people are off: the distance, averaged over the coordinates that
    are labelled, and the negative logarithm of the OKS, averaged over people."""
    points, people = poses[places(matches)].float(), truth.of(matches)
    distance = ((points - people.keypoints).abs() * people.labelled.unsqueeze(-1)).sum()
    similar = truth.similarity(points, people.keypoints, people.labelled, people.areas)
    return (
        distance / mean_over_processes(2 * float(people.labelled.sum()), poses.device),
        -similar.log().sum() / mean_over_processes(len(people), poses.device),
    )


def heatmap_loss(logits: Tensor, truth: Truth) -> Tensor:
    """Focal loss of heatmaps (B, K, H, W) before the sigmoid; where nobody was annotated, nothing is to be learned."""
    height, width = logits.shape[-2:]
    # The last cells of a row and of a column may reach beyond the picture.
    size = logits.new_tensor(truth.size) / STRIDE
    spots = torch.stack([spots_of(target, size, height, width) for target in truth.targets])
    centres = cell_centres([(height, width)], logits.device) * logits.new_tensor((width, height)) / size
    known = torch.stack([~inside(centres, target.ignored).view(1, height, width) for target in truth.targets])
    return spot_loss(logits.float(), spots, known)


def spots_of(target: Target, size: Tensor, height: int, width: int) -> Tensor:
    """(K, height, width) what heatmaps of a picture are to show: 1 in the cell of each labelled joint, falling off
    around it, as far as suits the size of the person's box. The `size` of the picture (width, height) is in cells."""
    radius = _radius(target.boxes[:, 2:] * size)[:, None]
    cells = (target.keypoints * size).floor()
    x = torch.arange(width, device=cells.device) - cells[..., 0, None]  # (M, K, width)
    y = torch.arange(height, device=cells.device) - cells[..., 1, None]
    spread = ((2 * radius + 1) / 6).unsqueeze(-1)
    across, down = (torch.exp(-(step**2) / (2 * spread**2)) * (step.abs() <= radius.unsqueeze(-1)) for step in (x, y))
    spots = down.unsqueeze(-1) * across.unsqueeze(-2) * target.labelled[..., None, None]
    none = spots.new_zeros(1, *spots.shape[1:])
    return torch.cat((none, spots)).amax(0)


def _radius(sizes: Tensor) -> Tensor:
    """(M,) whole cells, from the width and height (M, 2) of boxes in cells: the least of three ways in which the
    corners of two boxes may lie apart while they overlap enough; the roots are CornerNet's, as published."""
    around, area = sizes.sum(-1), sizes.prod(-1)

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / 2

    roots = (
        root(1, around, area * (1 - OVERLAP) / (1 + OVERLAP)),
        root(4, 2 * around, area * (1 - OVERLAP)),
        root(4 * OVERLAP, -2 * OVERLAP * around, area * (OVERLAP - 1)),
    )
    return torch.stack(roots).amin(0).floor().clamp(0, LARGEST)
