"""Image messages to arrays, whatever library has read them: rclpy from a topic, or rosbags from a recording.

An array is (H, W, 3) uint8 with a flag that tells BGR from RGB, because turning the channels round costs a copy of
the picture that a model does not need. rgb8, bgr8, rgba8 and bgra8 are not copied at all: the array is a view of
the message's data. Everything else goes through cv_bridge where ROS provides it, and through rosbags-image where
only the wheels are installed; both are given rows without padding in the byte order of this machine, since neither
copes with the rest in all its versions. OpenCV itself reads NV12, NV21, JPEG and PNG.

16 bit pictures are scaled over their full range (65535 becomes 255), as cv_bridge does; a camera that
uses fewer bits looks dark and should be scaled by its driver.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros.pictures import JPEG, PNG, decode_picture

Picture = npt.NDArray[np.uint8]


class ImageError(ValueError):
    """An image message that holds no picture; the text says what is wrong with it."""


@dataclass(frozen=True)
class Encoding:
    """How the pixels of an encoding lie in memory.

    Attributes:
        pixel: bytes per pixel within a row.
        sample: bytes per sample; those of two bytes have a byte order.
        rows: rows of data per two rows of the picture (more than 2 with a separate chroma plane).
        even: whether width and height must be even, or only the width ("width"), because pixels share chroma.
        library: the name under which cv_bridge and rosbags-image know it; empty for those read here.
    """

    pixel: int
    sample: int = 1
    rows: int = 2
    even: str = ""
    library: str = ""


_BAYER = {
    f"bayer_{order}{bits}": Encoding(bits // 8, bits // 8, library=f"bayer_{order}{bits}")
    for order in ("rggb", "bggr", "gbrg", "grbg")
    for bits in (8, 16)
}
_UYVY = Encoding(2, even="width", library="yuv422")
_YUYV = Encoding(2, even="width", library="yuv422_yuy2")
_MONO8 = Encoding(1, library="mono8")

ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3),
    "bgr8": Encoding(3),
    "8UC3": Encoding(3),
    "rgba8": Encoding(4),
    "bgra8": Encoding(4),
    "8UC4": Encoding(4),
    "mono8": _MONO8,
    "8UC1": _MONO8,
    "mono16": Encoding(2, 2, library="mono16"),
    "rgb16": Encoding(6, 2, library="rgb16"),
    "bgr16": Encoding(6, 2, library="bgr16"),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Encoding(1, rows=3, even="width and height"),
    "nv21": Encoding(1, rows=3, even="width and height"),
    **_BAYER,
}


class _Plain(NamedTuple):
    """What the libraries read of an image message, its rows without padding and in native byte order."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


_TRIAL = """
import numpy
from types import SimpleNamespace
from cv_bridge import CvBridge
data = numpy.zeros(1, numpy.uint8)
plain = SimpleNamespace(height=1, width=1, encoding="mono8", is_bigendian=0, step=1, data=data)
CvBridge().imgmsg_to_cv2(plain, "bgr8")
"""


def _cv_bridge_works() -> bool:
    """Whether there is a cv_bridge that converts a picture. One that was built for another numpy fails only when it
    is used, in more ways than ImportError, and may take its process with it: so the trial has a process of its own."""
    if "cv_bridge" in sys.modules:  # somebody uses it here already
        with suppress(Exception):
            exec(_TRIAL, {})
            return True
        return False
    if find_spec("cv_bridge") is None:
        return False
    return subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, check=False).returncode == 0


@cache
def _library() -> Callable[[_Plain], Picture]:
    """The function that turns a plain image into BGR: cv_bridge where ROS provides it, else rosbags-image."""
    if _cv_bridge_works():
        from cv_bridge import CvBridge

        bridge = CvBridge()
        return lambda plain: bridge.imgmsg_to_cv2(plain, "bgr8")
    from rosbags.image import message_to_cvimage

    return lambda plain: message_to_cvimage(plain, "bgr8")  # type: ignore[arg-type,return-value]


def read(message: Any) -> tuple[Picture, bool]:
    """The picture of a sensor_msgs Image or CompressedImage, as (H, W, 3) uint8, and whether its channels are in the
    order BGR.

    The array may be a view of the message's data, with padding between its rows. Raises ImageError.
    """
    return _read_compressed(message) if hasattr(message, "format") else _read_raw(message)


def _read_raw(message: Any) -> tuple[Picture, bool]:
    encoding = ENCODINGS.get(message.encoding)
    if encoding is None:
        raise ImageError(f"unknown encoding {message.encoding!r}; known: {', '.join(ENCODINGS)}")
    rows = rows_of(message, encoding)
    if not encoding.library:
        if encoding.pixel > 1:
            return rows.reshape(message.height, message.width, -1)[..., :3], not message.encoding.startswith("rgb")
        return _read_planar(rows, message), True
    rows = np.ascontiguousarray(rows)
    native = message.is_bigendian == (sys.byteorder == "big")
    if encoding.sample == 2 and not native:
        rows = rows.view(np.uint16).byteswap().view(np.uint8)
    plain = _Plain(
        message.height, message.width, encoding.library, int(sys.byteorder == "big"), rows.shape[1], rows.reshape(-1)
    )
    try:
        return np.asarray(_library()(plain)), True
    except Exception as error:  # each library has its own
        raise ImageError(f"{message.encoding} image cannot be converted: {error}") from error


def rows_of(message: Any, encoding: Encoding) -> Picture:
    """The rows of the message as a view (rows, bytes of a row) without their padding. Raises ImageError."""
    width, height, step = message.width, message.height, message.step
    if not width or not height:
        raise ImageError(f"the image is empty: width {width}, height {height}")
    if (encoding.even and width % 2) or (encoding.even == "width and height" and height % 2):
        raise ImageError(f"{message.encoding} needs an even {encoding.even}, not {width} x {height}")
    row = width * encoding.pixel
    if step < row:
        raise ImageError(f"step {step} is less than width {width} x {encoding.pixel} bytes")
    count = height * encoding.rows // 2
    data = np.frombuffer(message.data, np.uint8)
    if len(data) < count * step:
        raise ImageError(f"data holds {len(data)} bytes, but {count} rows x step {step} are {count * step}")
    return data[: count * step].reshape(count, step)[:, :row]


def _read_planar(rows: Picture, message: Any) -> Picture:
    """BGR from a luma plane followed by one of interleaved chroma, half as high."""
    code = cv2.COLOR_YUV2BGR_NV21 if message.encoding == "nv21" else cv2.COLOR_YUV2BGR_NV12
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), code), np.uint8)


def _read_compressed(message: Any) -> tuple[Picture, bool]:
    data = bytes(message.data)
    known = f"{len(data)} bytes of format {message.format!r}"
    if not data.startswith((JPEG, PNG)):
        raise ImageError(f"{known} cannot be decoded as JPEG or PNG")
    try:
        picture = decode_picture(data)
    except ValueError as error:
        raise ImageError(f"{known} cannot be decoded: {error}") from error
    # image_transport writes the colours of the stored file behind "compressed"; nearly always it is bgr8.
    return picture, "compressed rgb" not in message.format
