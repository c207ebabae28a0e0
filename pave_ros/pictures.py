"""Pictures out of bytes, through OpenCV: cut off ones are refused, and nothing is printed on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np

from pave_ros.frames import Image

AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # as camera_info and data sets count pixels
JPEG, PNG = b"\xff\xd8", b"\x89PNG"  # how the files begin
PNG_END = b"IEND\xaeB`\x82"  # with its checksum, for compressed data may hold anything shorter


def decode_picture(data: bytes, as_stored: bool = True) -> Image:
    """(H, W, 3) uint8 BGR, turned upright by its EXIF orientation unless `as_stored`; ValueError says what is wrong."""
    if not data:
        raise ValueError("the file is empty")
    if not _is_whole(data):
        raise ValueError(f"cut off after {len(data)} bytes: the end mark is missing")
    try:
        with silent_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), AS_STORED if as_stored else cv2.IMREAD_COLOR)
    except cv2.error as error:  # as of a header with an absurd size
        raise ValueError(error.err) from error
    if image is None:
        raise ValueError("not a picture that OpenCV can read, or damaged")
    return np.asarray(image, np.uint8)


def _is_whole(data: bytes) -> bool:
    """Whether the end mark of a JPEG or PNG is there: decoders fill up with grey what is missing."""
    if data.startswith(JPEG):
        return data.find(b"\xff\xd9", _scan(data)) >= 0
    return not data.startswith(PNG) or PNG_END in data


def _scan(data: bytes) -> int:
    """Where the first scan of a JPEG begins, beyond the thumbnails, which end as pictures do."""
    place = 2
    while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] != b"\xda":
        fills = data[place + 1 : place + 2] == b"\xff"  # as any number of them may, before a marker
        place += 1 if fills else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return place


_LOG_LOCK = threading.Lock()
_SILENT = 0  # OpenCV's number for it
_levels: list[int] = []  # The level before, once for each thread that is silent now.


@contextmanager
def silent_opencv() -> Iterator[None]:
    """OpenCV reports a file or codec that does not open on stderr by itself; we raise instead."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 4, that of Ubuntu, has the functions without the module
    with _LOG_LOCK:
        _levels.append(_levels[0] if _levels else log.getLogLevel())
        log.setLogLevel(_SILENT)
    try:
        yield
    finally:
        with _LOG_LOCK:
            level = _levels.pop()
            if not _levels:
                log.setLogLevel(level)
