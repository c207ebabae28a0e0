"""One person's crop, cut out of the picture for the network.

Two ways of counting coordinates are published. By the first (HRNet, DCPose, TAR-ViTPose) a crop of w pixels becomes an
input of W pixels by the factor W / w; by the second (UDP, Huang et al. 2020: ViTPose) by (W - 1) / w, so that
the crop reaches from the centre of the first pixel to that of the last. Networks are trained for one of them.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros.frames import Image
from pave_ros.models.info import ModelInfo
from pave_ros.persons import Floats
from pave_ros.preprocessing import check_image, network_input
from pave_ros.topdown.styles import STYLES

Array = npt.NDArray[Any]
ENLARGED = 1.25  # A crop shows so much more than the box (all published configurations).


def crop_boxes(boxes: Floats, size: tuple[int, int], enlarged: float = ENLARGED) -> Floats:
    """The crops of people: their boxes brought to the proportions of the input, then enlarged.

    Args:
        boxes: (N, 4) of x, y, width, height.
        size: (width, height) of the network's input.

    Returns:
        (N, 4) of centre x, centre y, width, height.
    """
    aspect = size[0] / size[1]
    centres = boxes[:, :2] + boxes[:, 2:] * np.float32(0.5)
    width = np.maximum(boxes[:, 2], boxes[:, 3] * aspect)
    return np.concatenate((centres, np.stack((width, width / aspect), 1) * enlarged), 1).astype(np.float32)


def matrix(crop: Floats, size: tuple[int, int], udp: bool = False, rotation: float = 0.0) -> Array:
    """(2, 3) affine matrix that takes the picture's pixels to those of the input.

    Args:
        crop: (4,) of centre x, centre y, width, height.
        size: (width, height) of the input.
        udp: the way of counting coordinates.
        rotation: of the crop about its centre, degrees.
    """
    width, height = size
    if udp:
        scale = (np.array(size) - 1) / crop[2:].astype(float)
        cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
        turned = np.array([[cos, -sin], [sin, cos]]) * scale[:, None]
        return np.concatenate((turned, (scale * crop[2:] / 2 - turned @ crop[:2])[:, None]), 1)
    # From three points in float32, as published: the centre, the middle of the upper border, and a corner.
    angle = np.pi * rotation / 180
    up = np.array([np.sin(angle), -np.cos(angle)]) * (crop[2] * 0.5)
    centre, middle = crop[:2].astype(np.float32), np.array([width * 0.5, height * 0.5], np.float32)
    source = np.stack((centre, centre + up, centre + up + (up[1], -up[0]))).astype(np.float32)
    target = np.stack((middle, middle - (0, width * 0.5), middle - (width * 0.5, width * 0.5))).astype(np.float32)
    return cv2.getAffineTransform(source, target)


def cut(image: Image, crops: Floats, size: tuple[int, int], udp: bool = False) -> list[Image]:
    """The crops (N, 4) of a picture (H, W, 3) as pictures of the input's size (width, height); black outside."""
    return [
        np.asarray(cv2.warpAffine(image, matrix(crop, size, udp), size, flags=cv2.INTER_LINEAR), np.uint8)
        for crop in crops
    ]


def crop_inputs(image: Image, boxes: Floats, info: ModelInfo, bgr: bool = False) -> npt.NDArray[np.float32]:
    """(N, 3, height, width) float32, normalised: what a model that looks at one person's crop sees of the boxes.

    Args:
        image: (H, W, 3) uint8, RGB, or BGR with `bgr`.
        boxes: (N, 4) of x, y, width, height in pixels.
        info: the model to feed.
    """
    check_image(image)
    height, width = info.input_size
    places = crop_boxes(boxes, (width, height))
    pictures = cut(image, places, (width, height), STYLES[info.system].udp)
    return np.concatenate([network_input(picture, info, bgr) for picture in pictures])
