"""The training objective of ViTPose, which is TAR-ViTPose's with a window of one frame, but for the way of counting
coordinates (UDP), the spots, which are smaller and between cells where the joints are, and that joints count alike."""

from __future__ import annotations

from typing import Any

from pave_ros.training.settings import filled
from pave_ros.training.tarvitpose import HeatmapCriterion, Options, TrainingForward, load_backbone

SIGMA = 2.0  # Pixels of the heatmap.


def criterion(skeleton: str, **options: Any) -> HeatmapCriterion:
    """The objective, as of `pave_ros.training.tarvitpose.criterion`; crops are 256 x 192 unless told otherwise."""
    chosen = filled(Options, {"size": (256, 192), **options}, "objective_options")
    return HeatmapCriterion(skeleton, chosen.per_picture, chosen.size, udp=True, sigma=SIGMA, joint_weights={})


__all__ = ["TrainingForward", "criterion", "load_backbone"]
