"""The training objective of ViTPose, which is TAR-ViTPose's with a window of one frame, but for the way of counting
coordinates (UDP) and the spots, which are smaller and between cells where the joints are."""

from __future__ import annotations

from pave_ros.training.tarvitpose import HeatmapCriterion, TrainingForward, load_backbone

SIGMA = 2.0  # Pixels of the heatmap.


def criterion(skeleton: str, people: int = 16, size: tuple[int, int] = (256, 192)) -> HeatmapCriterion:
    """The objective; the arguments are those of `pave_ros.training.tarvitpose.criterion`."""
    return HeatmapCriterion(skeleton, people, size, udp=True, sigma=SIGMA)


__all__ = ["TrainingForward", "criterion", "load_backbone"]
