"""A pose model as a detector: it needs no boxes itself, and its people have some."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pave_ros.frames import Image
from pave_ros.persons import Boxes, Floats, Persons, boxes_of

MARGIN = 0.1  # Of the extent of the keypoints, on each side: people go on beyond their joints.


def with_margin(extent: Floats) -> Floats:
    """(..., 4) boxes of people from those (..., 4) around their keypoints, x, y, width, height."""
    margin = extent[..., 2:] * np.float32(MARGIN)
    return np.concatenate((extent[..., :2] - margin, extent[..., 2:] + 2 * margin), -1)


class PoseDetector:
    """Boxes around the people that a pose model finds.

    Args:
        name: of the model.
        find: the model: the people in one picture, RGB unless its second argument is true.
    """

    def __init__(self, name: str, find: Callable[[Image, bool], Persons]) -> None:
        self.name = name
        self._find = find

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        persons = self._find(image, bgr)
        return Boxes.of(with_margin(boxes_of(persons.keypoints)), persons.scores)
