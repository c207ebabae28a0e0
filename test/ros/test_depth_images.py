"""Depth out of messages, plain and compressed."""

from __future__ import annotations

import struct
import zlib
from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage
from test_depth import compressed, metres

from pave_ros.ros import depth_images
from pave_ros.ros.images import ImageError


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def of_size(width: int, height: int) -> bytes:
    """A PNG of 16 bits that claims this size."""
    whole = png(np.ones((2, 3), np.uint16))
    header = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


def sent(data: bytes) -> CompressedImage:
    return CompressedImage(
        format="16UC1; compressedDepth png", data=array("B", struct.pack("<iff", 0, 0.0, 0.0) + data)
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cannot be of 12 bytes"),
        (b"x", "13 bytes of format .* cannot be decoded as a PNG of 16 bits"),
        (png(np.ones((2, 3), np.uint8)), "cannot be decoded as a PNG of 16 bits"),
        (png(np.ones((2, 3, 3), np.uint16)), "cannot be decoded as a PNG of 16 bits"),
        (of_size(1_000_000, 1_000_000), "cannot be decoded as a PNG of 16 bits"),
    ],
    ids=["nothing", "no picture", "8 bits", "colours", "too large"],
)
def test_what_is_no_compressed_depth_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        depth_images.read(sent(data))
    values, unit = depth_images.read(sent(of_size(3, 2)))
    assert values.tolist() == [[1, 1, 1]] * 2 and unit == 0.001


def test_older_compressed_depth_images_say_no_kind_of_compression() -> None:
    for name in ("16UC1; compressedDepth", "16UC1 ; compressedDepth png"):
        values, unit = depth_images.read(compressed(metres(2.5), "16UC1", format=name))
        assert (values * unit == 2.5).all()


def test_unknown_depth_of_compressed_metres_is_not_far_away() -> None:
    values, unit = depth_images.read(compressed(np.array([[2.5, np.nan]], np.float32), "32FC1"))
    assert unit == 1.0 and values[0, 0] == pytest.approx(2.5, rel=1e-3) and np.isnan(values[0, 1])
