"""Depth image messages to arrays and back.

A depth image shows, pixel by pixel, how far ahead things are (REP 118): in millimetres as 16UC1, 0 where unknown, or in
metres as 32FC1, not finite where unknown. compressed_depth_image_transport sends either as a PNG of 16 bits behind a
header of twelve bytes; of 32FC1 this holds the inverse, scaled by two numbers of the header.
"""

from __future__ import annotations

import struct
import sys
from array import array
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from pave_ros.encodings import Encoding, ImageError, rows_of

Metres = npt.NDArray[np.float32]

# Type of a sample, without its byte order, and metres of its unit.
_SAMPLES = {"16UC1": ("u2", 0.001), "mono16": ("u2", 0.001), "32FC1": ("f4", 1.0)}
_HEADER = struct.Struct("<iff")  # kind of compression, scale and offset


def read(message: Any) -> tuple[npt.NDArray[np.generic], float]:
    """The samples (H, W) of an Image, which are a view of its data, or of a CompressedImage; and metres of their unit.
    Raises ImageError."""
    if hasattr(message, "format"):
        return _read_compressed(message)
    kind, unit = _sample(message.encoding)
    order = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows_of(message, Encoding(order.itemsize, order.itemsize))  # checks the sizes
    shape, strides = (message.height, message.width), (message.step, order.itemsize)
    return np.ndarray(shape, order, np.frombuffer(message.data, np.uint8), strides=strides), unit


def _sample(encoding: str) -> tuple[str, float]:
    if encoding not in _SAMPLES:
        raise ImageError(f"a depth image cannot be {encoding!r}; known: {', '.join(_SAMPLES)}")
    return _SAMPLES[encoding]


def _read_compressed(message: Any) -> tuple[npt.NDArray[np.generic], float]:
    """The format is like "32FC1; compressedDepth png"; older ones say no kind, and all but "rvl" are PNG."""
    encoding, _, compression = message.format.partition(";")
    _, unit = _sample(encoding.strip())
    data = np.frombuffer(message.data, np.uint8)
    if "compressedDepth" not in compression or compression.strip().endswith("rvl"):
        raise ImageError(f"a compressed depth image cannot be {message.format!r}; known: compressedDepth with PNG")
    if len(data) <= _HEADER.size:
        raise ImageError(f"a compressed depth image cannot be of {len(data)} bytes")
    picture = None
    with suppress(cv2.error):  # of a header with an absurd size
        picture = cv2.imdecode(data[_HEADER.size :], cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint16 or picture.ndim != 2:
        raise ImageError(f"{len(data)} bytes of format {message.format!r} cannot be decoded as a PNG of 16 bits")
    if unit != 1.0:
        return picture, unit
    _, scale, offset = _HEADER.unpack(data[: _HEADER.size].tobytes())
    with np.errstate(divide="ignore"):
        metres = scale / (picture.astype(np.float32) - np.float32(offset))
    return np.where(picture > 0, metres, np.float32(np.nan)), 1.0


def write(metres: Metres, header: Header) -> Image:
    """A message of metres (H, W)."""
    height, width = metres.shape
    message = Image(header=header, height=height, width=width, encoding="32FC1", step=4 * width)
    message.is_bigendian = int(sys.byteorder == "big")
    message.data = array("B", metres.astype(np.float32).tobytes())
    return message
