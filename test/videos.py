"""Videos whose frames tell their number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pave_ros.video_writer import VideoWriter


def picture(i: int, width: int = 96, height: int = 64) -> np.ndarray:
    """A picture whose brightness tells its number, with a white top left corner."""
    image = np.full((height, width, 3), 20 + 8 * (i % 25), np.uint8)
    image[: height // 4, : width // 4] = 255
    return image


def make_video(path: Path, frames: int = 12, rate: float = 25.0, width: int = 96, height: int = 64) -> Path:
    with VideoWriter(path, rate) as writer:
        for i in range(frames):
            writer.write(picture(i, width, height))
    return path


def make_mjpg(path: Path, frames: int, rate: float) -> Path:
    """A video in a container that `VideoWriter` does not write."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (96, 64))
    for i in range(frames):
        writer.write(picture(i))
    writer.release()
    return path


def number(image: np.ndarray) -> int:
    return round((float(image[-8:, -8:].mean()) - 20) / 8)
