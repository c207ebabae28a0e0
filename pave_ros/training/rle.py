"""Residual log-likelihood estimation (RLE, Li et al., 2021): regression that learns how it errs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pave_ros.models.flow import RealNVP


def residual_log_likelihood(points: Tensor, sigmas: Tensor, truth: Tensor, labelled: Tensor, flow: RealNVP) -> Tensor:
    """The loss of each coordinate; how it is averaged is the system's.

    It is the negative logarithm of a density with two factors: the flow's, for the error in units of sigma, and a
    Laplace-like one that training can start from. The flow's factor is one number for both coordinates of a keypoint.

    Args:
        points: (..., 2) predicted x and y, in the system's own units.
        sigmas: (..., 2) predicted deviation of each, positive, in the same units.
        truth: (..., 2) in the same units; anything where not labelled.
        labelled: (...) bool.
        flow: density of the error over sigma.

    Returns:
        (..., 2), zero where not labelled.
    """
    labelled = labelled.unsqueeze(-1)
    error = torch.where(labelled, points - truth, 0.0)
    density = flow(error / sigmas).unsqueeze(-1)
    laplace = torch.log(sigmas * math.sqrt(2 * math.pi)) + error.abs() / (math.sqrt(2) * sigmas + 1e-9)
    return (torch.log(sigmas) - density + laplace) * labelled
