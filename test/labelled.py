"""People at known places, as labels and as what was found, for tests of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets import Labels, Sample
from pave_ros.persons import Persons


def people(count: int, skeleton: str, spacing: float = 200.0) -> np.ndarray[Any, Any]:
    """(count, K, 3) people side by side, keypoint k at (spacing * person + 3k, 5k), all visible."""
    k = np.arange(len(skeletons.get(skeleton)))
    points = [np.stack([spacing * person + 3 * k, 5 * k, np.full(len(k), 2)], axis=1) for person in range(count)]
    return np.array(points, np.float32).reshape(count, len(k), 3)


def sample(number: int, labels: Labels, **more: Any) -> Sample:
    return Sample(number, 500, 300, labels, lambda: np.zeros((300, 500, 3), np.uint8), **more)


def found(keypoints: np.ndarray[Any, Any], scores: Sequence[float], skeleton: str) -> Persons:
    points = keypoints.copy()
    points[..., 2] = np.asarray(scores, np.float32)[:, None] if len(points) else 0
    return Persons.from_keypoints(points, scores, skeleton)


def posetrack(count: int, **more: Any) -> Labels:
    """People whose heads measure 0.6 * 50 = 30 pixels."""
    truth = people(count, "posetrack15")
    return Labels.from_keypoints(truth, "posetrack15", head_boxes=[[0, 0, 30, 40]] * count, **more)
