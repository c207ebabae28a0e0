"""A pose model as a detector: it needs no boxes itself, and its people have some."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pave_ros.frames import Image
from pave_ros.persons import Boxes, Persons, boxes_of

MARGIN = 0.1  # Of the extent of the keypoints, on each side: people go on beyond their joints.


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
        boxes = boxes_of(persons.keypoints)
        margin = boxes[:, 2:] * np.float32(MARGIN)
        return Boxes.of(np.concatenate((boxes[:, :2] - margin, boxes[:, 2:] + 2 * margin), 1), persons.scores)
