"""Where videos go: MP4 files."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from pave_ros.frames import Image
from pave_ros.pictures import silent_opencv
from pave_ros.preprocessing import check_image
from pave_ros.video import VideoError, name_for_opencv

# H.264 plays everywhere, but OpenCV's wheel has no encoder for it (a system's OpenCV often does); MPEG-4 always works.
CODECS = ("avc1", "mp4v")
_UNFINISHED = count()  # in the names of files that are not complete


class VideoWriter:
    """Writes an MP4 file, which appears under its name only when it is complete.

    Use it as a context manager: leaving on an exception throws the unfinished file away. The size is that of the first
    picture; an odd width or height gains one repeated row or column, since the codecs know only even ones. Writing on
    after `close` begins another file, which takes the place of the first.

    Args:
        path: the file to write; it must end in ``.mp4``. Missing folders are made.
        rate: pictures a second.

    Raises:
        ValueError: another suffix or a bad rate.
        VideoError: the file cannot be written, or a picture has another size than the first.
    """

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise ValueError(f"{path}: videos are written as .mp4")
        if not (np.isfinite(rate) and rate > 0):
            raise ValueError(f"{path}: the rate must be a positive number of pictures a second, not {rate}")
        self.rate = rate
        self.count = 0
        self._size = (0, 0)
        self._writer: cv2.VideoWriter | None = None
        # Not named after the file, whose name may be as long as names can be.
        # Absolute, for FFmpeg takes what stands before a colon for a protocol.
        self._part = self.path.absolute().with_name(f".{os.getpid()}.{next(_UNFINISHED)}.part.mp4")

    def write(self, image: Image, bgr: bool = False) -> None:
        """Append one (H, W, 3) uint8 picture, RGB unless `bgr`; ValueError for any other array."""
        check_image(image)
        size = (image.shape[1], image.shape[0])
        if self._writer is None:
            self._open(size)
        elif size != self._size:
            width, height = self._size
            raise VideoError(f"{self.path}: a picture of {size[0]}x{size[1]} in a video of {width}x{height}")
        assert self._writer is not None
        picture = image if bgr else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        odd_width, odd_height = size[0] % 2, size[1] % 2
        if odd_width or odd_height:
            picture = cv2.copyMakeBorder(picture, 0, odd_height, 0, odd_width, cv2.BORDER_REPLICATE)
        self._writer.write(picture)
        self.count += 1

    def _open(self, size: tuple[int, int]) -> None:
        even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part.touch()
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error
        # Codecs want a rate as a fraction of numbers up to 65535, which OpenCV makes of its decimals.
        rate = round(self.rate, max(0, int(math.log10(65535 / self.rate))))
        with silent_opencv():
            for codec in CODECS:
                writer = cv2.VideoWriter(name_for_opencv(self._part), cv2.VideoWriter.fourcc(*codec), rate, even)
                if writer.isOpened():
                    self._writer, self._size, self.count = writer, size, 0
                    return
        self.discard()
        raise VideoError(
            f"{self.path}: this OpenCV has no encoder for {' or '.join(CODECS)} of {even[0]}x{even[1]} at {rate:g} "
            "pictures a second"
        )

    def close(self) -> None:
        """Finish the file. Nothing is written when there was no picture."""
        if self._writer is None:
            return
        try:
            self._complete()
        except BaseException:  # Ctrl-C too
            self.discard()
            raise

    def _complete(self) -> None:
        assert self._writer is not None
        self._writer.release()
        self._writer = None
        # OpenCV reports no failed write, not even a full disk; a file without its end has no index and does not open.
        with silent_opencv():
            check = cv2.VideoCapture(str(self._part))
        written = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if written < self.count:  # More than that, where Ctrl-C came between writing the last one and counting it.
            raise VideoError(f"{self.path}: only {written} of {self.count} frames could be written; is the disk full?")
        try:
            self._part.replace(self.path)
        except OSError as error:
            raise VideoError(f"{self.path}: cannot be written: {error.strerror}") from error

    def discard(self) -> None:
        """Throw the unfinished file away."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        with suppress(OSError):
            self._part.unlink()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
