"""The camera as a pinhole: from pixels to metres in its optical frame, x to the right, y down, z ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo

Positions = npt.NDArray[np.float64]


def same_shape(x: float, y: float) -> bool:
    """Whether two pictures, one so many times as wide and as high as the other, may show the same."""
    return abs(x - y) <= 0.02 * max(x, y)


@dataclass(frozen=True)
class Camera:
    """Pinhole intrinsics in pixels of the picture."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, size: tuple[int, int], info: CameraInfo | None) -> Camera | None:
        """Of a picture of `size` (height, width), from its camera_info; None unless that is calibrated and of a picture
        of this shape. It is of a rectified picture (the matrix P) where it says so, which may be a region of the
        sensor's (roi) and of fewer pixels."""
        height, width = size
        info = info or CameraInfo()
        matrix = np.reshape(info.p, (3, 4)) if info.p[0] > 0 else np.reshape(info.k, (3, 3))
        fx, fy, cx, cy = (float(matrix[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        if not (np.isfinite([fx, fy, cx, cy]).all() and fx > 0 and fy > 0):
            return None
        region = info.roi if info.roi.width and info.roi.height else info
        x, y = (width / region.width, height / region.height) if region.width and region.height else (1.0, 1.0)
        if not same_shape(x * max(info.binning_x, 1), y * max(info.binning_y, 1)):
            return None
        return cls(x * fx, y * fy, x * (cx - info.roi.x_offset), y * (cy - info.roi.y_offset))

    @classmethod
    def assumed(cls, size: tuple[int, int]) -> Camera:
        """Of an uncalibrated picture: its focal length is taken to be its width, a field of view of 53 degrees."""
        height, width = size
        return cls(float(width), float(width), width / 2, height / 2)

    def project(self, pixels: npt.NDArray[np.floating], distance: float | npt.NDArray[np.floating]) -> Positions:
        """(..., 3) metres of pixels (..., 2) that lie `distance` (...) metres ahead."""
        x = (pixels[..., 0] - self.cx) / self.fx * distance
        y = (pixels[..., 1] - self.cy) / self.fy * distance
        return np.stack([x, y, np.broadcast_to(distance, x.shape)], -1).astype(np.float64)
