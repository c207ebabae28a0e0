"""What every person detector offers."""

from __future__ import annotations

from typing import Protocol

from pave_ros.frames import Image
from pave_ros.persons import Boxes


class DetectorError(ValueError):
    """A detector that is unknown or does not fit; the message says what to do."""


class Detector(Protocol):
    """Finds the people in a picture, as boxes.

    Attributes:
        name: for a person, e.g. ``fasterrcnn_resnet50_fpn_v2``.
    """

    name: str

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        """Boxes of the people in one picture (H, W, 3) uint8, RGB unless `bgr`."""
        ...
