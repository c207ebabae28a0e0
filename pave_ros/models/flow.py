"""A small normalising flow: what the errors of a regression are distributed like, learned along with it.

Only training asks it, but published checkpoints carry it, so it is a part of the networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Which coordinate each step leaves as it is, and moves the other one by: x and y in turn (published).
MASKS = ((0, 1), (1, 0)) * 3


class RealNVP(nn.Module):
    """Density of points in the plane as a chain of affine couplings (Dinh et al., 2017), as RLE uses it.

    Args:
        mean: of the normal distribution N((mean, mean), I) that the chain starts from.
        masks: one step for each, 1 where a coordinate stays.
        hidden: width of the networks that give scale (`s`) and shift (`t`).
    """

    mask: Tensor

    def __init__(self, mean: float = 0.0, masks: Sequence[tuple[int, int]] = MASKS, hidden: int = 64) -> None:
        super().__init__()
        self.mean = mean
        self.register_buffer("mask", torch.tensor(masks, dtype=torch.float32))
        self.s = nn.ModuleList(nn.Sequential(*_layers(hidden), nn.Tanh()) for _ in masks)
        self.t = nn.ModuleList(nn.Sequential(*_layers(hidden)) for _ in masks)

    def forward(self, points: Tensor) -> Tensor:
        """Points (..., 2) -> their log density (...)."""
        z = points
        log_determinant = torch.zeros_like(points[..., 0])
        for stays, scale, shift in reversed(list(zip(self.mask, self.s, self.t, strict=True))):
            moves = 1 - stays
            s, t = scale(z * stays) * moves, shift(z * stays) * moves
            z = stays * z + moves * (z - t) * torch.exp(-s)
            log_determinant = log_determinant - s.sum(-1)
        return log_determinant - (z - self.mean).square().sum(-1) / 2 - math.log(2 * math.pi)


def _layers(hidden: int) -> list[nn.Module]:
    return [nn.Linear(2, hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, 2)]
