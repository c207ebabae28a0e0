"""A stand-in for the network of a top-down model, which finds what is bright, and pictures for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from pave_ros import skeletons
from pave_ros.engines.base import Engine, Outputs
from pave_ros.frames import Frame, Image, around
from pave_ros.models.info import ModelInfo
from pave_ros.persons import Boxes, Persons
from pave_ros.topdown.stages import TopDown
from pave_ros.topdown.styles import STYLES

INFO = ModelInfo(
    system="tarvitpose",
    variant="s",
    skeleton="posetrack17",
    input_size=(384, 288),
    stride=16,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    window=5,
)
SIZE = (288, 384)
PLAIN = STYLES["tarvitpose"]
SIGMAS = skeletons.get("coco17").sigmas
UDP = STYLES["vitpose"]


class Brightness(Engine):
    """A stand-in for a network, which remembers what it was asked: left joints are where the crop of the middle frame
    is red, right ones where it is green, all others where it is blue."""

    def __init__(self, info: ModelInfo = INFO) -> None:
        self.name, self.device, self.precision, self.info = "stand-in", "cpu", "fp32", info
        self.encoded: list[int] = []
        self.windows: list[list[float]] = []

    def encode(self, images: np.ndarray[Any, Any]) -> Any:
        self.encoded.append(len(images))
        height, width = images.shape[2] // 4, images.shape[3] // 4
        small = [
            cv2.resize(image.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA) for image in images
        ]
        return (np.stack(small).transpose(0, 3, 1, 2),)

    def decode(self, window: Sequence[Any]) -> Outputs:
        self.windows.append([float(frame[0].max()) for frame in window])
        channels = [("left", "right", "nose").index(name) for name in NAMES]
        return {"heatmaps": window[len(window) // 2][0][:, channels]}


NAMES = ["nose"] * 3 + ["left", "right"] * 7


def scene(x: float, y: float, level: int = 255, size: float = 8.0) -> Image:
    """A dark picture with a soft white spot whose centre is at (x, y), counted from the middle of the first pixel."""
    yy, xx = np.mgrid[:480, :640]
    spot = level * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * size**2))
    return np.repeat(spot.astype(np.uint8)[..., None], 3, 2)


def frame(x: float, y: float, boxes: Sequence[Sequence[float]], stamp: int = 0, level: int = 255) -> Frame:
    return Frame(stamp=stamp, image=scene(x, y, level), boxes=Boxes.of(boxes))


def estimate(top_down: TopDown, frames: Sequence[Frame], index: int, most: int = 20) -> Persons:
    """The people in one of the frames, in the window that the estimator would make."""
    return top_down.estimate(around(frames, index, top_down.window), most)
