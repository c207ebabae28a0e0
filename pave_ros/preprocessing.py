"""From a camera picture to a network's input."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from pave_ros.frames import Image
from pave_ros.models.info import ModelInfo

_BILINEAR = 2  # Pillow's number for it: 9.0, that of Ubuntu 22.04, has no Image.Resampling, the types no other name.


def check_image(image: Image) -> None:
    """ValueError unless the picture is (H, W, 3) uint8 with something in it."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image has to be a uint8 array of shape (height, width, 3), not {found}")
    if not image.size:
        raise ValueError(f"an image of {image.shape[1]}x{image.shape[0]} pixels has nothing in it")


def network_input(image: Image, info: ModelInfo, bgr: bool = False) -> npt.NDArray[np.float32]:
    """The picture resized as the model wants it (`ModelInfo.resize`) and normalised.

    Args:
        image: (H, W, 3) uint8, RGB, or BGR with `bgr`.
        info: the model to feed.

    Returns:
        (1, 3, height, width) float32, the channels in the order of the model.
    """
    check_image(image)
    resized: npt.NDArray[Any] = _resized(image, info)
    if bgr != info.bgr:
        resized = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=resized if resized is not image else None)
    scale = (1 / (255 * np.asarray(info.std))).astype(np.float32).reshape(3, 1, 1)
    out = np.multiply(resized.transpose(2, 0, 1), scale, dtype=np.float32, order="C")
    if any(info.mean):
        out -= (np.asarray(info.mean) / np.asarray(info.std)).astype(np.float32).reshape(3, 1, 1)
    return out[None]


def _resized(image: Image, info: ModelInfo) -> npt.NDArray[Any]:
    height, width = size = info.network_size(*image.shape[:2])
    if image.shape[:2] == size:
        return image
    if not info.antialias:  # In floating point, as the published code that samples does it.
        return cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    smaller = (min(image.shape[1], width), min(image.shape[0], height))
    if smaller != image.shape[1::-1]:
        if info.pillow:  # as published; what is enlarged differs by a grey level at most, for a tenth of the time
            return np.array(PillowImage.fromarray(image).resize((width, height), _BILINEAR))
        # Averages what it shrinks as well, less smoothly, and faster.
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    return image if smaller == (width, height) else cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
