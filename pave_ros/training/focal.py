"""The focal loss (Lin et al., 2017), its form for heatmaps, and the cost that goes with it in matching."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pave_ros.training.target import mean_over_processes

ALPHA, GAMMA = 0.25, 2.0  # As in all of the published systems.


def focal_loss(logits: Tensor, positive: Tensor) -> Tensor:
    """Sum over logits of any shape, of which those that are `positive` (bool, the same shape) are to be one."""
    truth = positive.to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    missing = (logits.sigmoid() - truth).abs()
    weight = ALPHA * truth + (1 - ALPHA) * (1 - truth)
    return (weight * missing**GAMMA * entropy).sum()


def spot_loss(logits: Tensor, spots: Tensor, known: Tensor) -> Tensor:
    """The focal loss of heatmaps as in CornerNet (Law and Deng, 2018, eq. 1), for each spot: for the mean of their
    number over all processes, as other losses have it (PETR's authors: for those of each process).

    Args:
        logits: of any shape, before the sigmoid.
        spots: the same shape; 1 at the spots, falling off around them.
        known: bool, False where nothing is to be learned; spots are always learned.
    """
    p = logits.sigmoid()
    at_spots = (1 - p) ** 2 * F.logsigmoid(logits) * (spots == 1)
    elsewhere = (1 - spots) ** 4 * p**2 * F.logsigmoid(-logits) * ((spots < 1) & known)
    return -(at_spots.sum() + elsewhere.sum()) / mean_over_processes(float((spots == 1).sum()), logits.device)


def focal_cost(logits: Tensor) -> Tensor:
    """What it costs each query to be a person instead of nobody, from its logit."""
    p = logits.sigmoid()
    nobody = (1 - ALPHA) * p**GAMMA * -(1 - p + 1e-8).log()
    person = ALPHA * (1 - p) ** GAMMA * -(p + 1e-8).log()
    return person - nobody
