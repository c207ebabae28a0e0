"""Image messages of arrays; `pave_ros.encodings` is the way back."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header

from pave_ros.encodings import ImageError, Picture, read

__all__ = ["ImageError", "Picture", "canvas", "compress", "read", "write"]


def write(picture: Picture, bgr: bool, header: Header, message: ImageMessage | None = None) -> ImageMessage:
    """An image message of a (H, W, 3) uint8 array, in its own channel order, with one copy of the picture.

    A `message` that already holds a picture of this size is filled instead of a new one; `canvas` makes both.
    """
    height, width = picture.shape[:2]
    if message is None or (message.height, message.width) != (height, width):
        message, pixels = canvas(height, width)
    else:
        pixels = np.frombuffer(message.data, np.uint8).reshape(height, width, 3)
    pixels[:] = picture
    message.header = header
    message.encoding = "bgr8" if bgr else "rgb8"
    return message


def canvas(height: int, width: int) -> tuple[ImageMessage, Picture]:
    """A message with a black picture, and its pixels as a writable (H, W, 3) view to draw on."""
    message = ImageMessage(height=height, width=width, step=3 * width, encoding="rgb8", is_bigendian=0)
    message.data = array("B", bytes(height * width * 3))
    return message, np.frombuffer(message.data, np.uint8).reshape(height, width, 3)


def compress(picture: Picture, bgr: bool, header: Header, quality: int = 90) -> CompressedImage:
    """A JPEG message of a (H, W, 3) uint8 array, `quality` 1 to 100."""
    pixels = picture if bgr else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as JPEG")
    message = CompressedImage(header=header, format="bgr8; jpeg compressed bgr8")
    data = array("B")
    data.frombytes(jpeg.data)
    message.data = data
    return message
