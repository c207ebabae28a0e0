"""Where pictures come from: files, folders, recordings, webcams, streams and the synthetic scene.

Everything that delivers pictures is a `Source` of `pave_ros.frames.Frame`; `open_source` makes one from what a
person types. OpenCV reads; a phone video's rotation and a photo's EXIF orientation are applied.
"""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pave_ros import containers
from pave_ros.frames import Frame, Image
from pave_ros.pictures import decode_picture, silent_opencv

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
UNDECODABLE = 300  # Frames in a row that cannot be decoded, after which nothing more is expected.
PICTURE_RATE = 10.0  # pictures a second of a folder, which has no rate of its own
FALLBACK_RATE = 30.0  # where a video or a camera does not tell its rate

# FFmpeg's own messages name no file and end up between the lines of a progress bar; our errors say what matters.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class VideoError(RuntimeError):
    """A picture, video or camera that cannot be read, or a video that cannot be written; the message names it."""


class Source:
    """Pictures in time order; iterate to get `Frame`s, each time from the beginning (a live camera: from now).

    The frames have `image` as (H, W, 3) uint8, `bgr` saying the channel order, and `stamp` in nanoseconds since the
    first picture; stamps go on rising when the source loops.

    Attributes:
        name: short name for a person: a file name, ``/dev/video0``, ``synthetic``.
        width, height: pixels of the first picture; the pictures of a folder may differ in size.
        rate: pictures a second.
        length: number of pictures of one pass, None where that is unknown or endless.
        loop: whether iteration starts over at the end instead of stopping.
        camera_info: what a recording says of its camera, the fields of a sensor_msgs/CameraInfo; None elsewhere.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        rate: float,
        frames: Callable[[], Generator[Frame, None, None]],
        *,
        length: int | None = None,
        loop: bool = False,
        release: Callable[[], None] | None = None,
        camera_info: Any = None,
    ) -> None:
        self.name = name
        self.width, self.height = size
        self.rate = rate
        self.length = length
        self.loop = loop
        self.camera_info = camera_info
        self._frames = frames
        self._release = release
        self._pass: Generator[Frame, None, None] | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Frame]:
        offset = last = 0
        self._closed = False
        while True:
            self._pass = self._frames()
            for frame in self._pass:
                if self._closed:
                    self.close()
                    return
                frame.stamp = last = frame.stamp + offset
                yield frame
            if not self.loop or last < offset:  # nothing came in this pass
                return
            offset = last + round(1e9 / self.rate)

    def close(self) -> None:
        """Let go of the file or the camera; a thread that waits for a frame does so when that comes, and gets none."""
        self._closed = True
        if self._pass is not None:
            try:
                self._pass.close()  # its `finally` releases the file
            except ValueError:  # it is running
                return
        if self._release is not None:
            self._release()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(source: str | Path | int, rate: float | None = None, loop: bool = False) -> Source:
    """Open whatever delivers pictures.

    Args:
        source: a video file, a picture, a folder of pictures (in natural order: 2 before 10), a webcam (its number or
            ``/dev/video0``), a stream (``rtsp://...``), a recording of ROS topics (``walk.mcap``, or a folder of `ros2
            bag record`; ``walk.mcap:/camera/image_raw`` where several have images), or ``synthetic``, optionally with
            the options of `pave_ros.synthetic.Scene` and a number of frames: ``synthetic:seed=3,persons=5,frames=100``.
        rate: pictures a second. A video file is played at this rate, its frames neither dropped nor repeated; pictures
            and the synthetic scene are spaced by it; a webcam is asked for it, and of a camera or stream that delivers
            more, some are left out. None: the source's own rate.
        loop: start over at the end; a webcam or a live stream has none.

    Raises:
        FileNotFoundError: there is no such file or folder.
        VideoError: it cannot be read; the message says why.
        ValueError: a bad rate or a bad option of the synthetic scene.
    """
    if rate is not None and not (np.isfinite(rate) and rate > 0):
        raise ValueError(f"the rate must be a positive number of pictures a second, not {rate}")
    text = str(source)
    if is_synthetic(text):
        return _synthetic(text, rate, loop)
    if not text:
        raise FileNotFoundError("the name of a source is empty")
    from pave_ros import bags

    if bags.is_bag(text):
        return bags.open_bag(text, rate, loop)
    path = Path(text)
    if text.startswith("/dev/video") or "://" in text or (text.isdecimal() and not path.exists()):
        return _live(text, rate, loop)
    if path.is_dir():
        return _pictures(path.name, pictures_in(path), rate, loop)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.suffix.lower() in PICTURE_SUFFIXES:
        return _pictures(path.name, [path], rate, loop)
    return _video(str(path), path.name, rate, loop)


def is_synthetic(source: str) -> bool:
    """Whether a source is the synthetic scene, with or without options."""
    return source.partition(":")[0] == "synthetic"


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order; VideoError when there is none."""
    named = [p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    found = [p for p in named if not p.is_dir()]
    if not found:
        raise VideoError(f"{folder}: no pictures in this folder; known are {', '.join(sorted(PICTURE_SUFFIXES))}")
    return sorted(found, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", p.name)])


def read_picture(path: Path, as_stored: bool = False) -> Image:
    """One picture as (H, W, 3) uint8 BGR, turned upright by its EXIF orientation unless `as_stored`, as data sets count
    pixels; VideoError when it is missing, damaged, cut off or no picture."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # no name of a file
        raise VideoError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    try:
        return decode_picture(data, as_stored)
    except ValueError as error:
        raise VideoError(f"{path}: {error}") from error


def _pictures(name: str, paths: list[Path], rate: float | None, loop: bool) -> Source:
    rate = rate or PICTURE_RATE
    first = read_picture(paths[0])

    def frames() -> Generator[Frame, None, None]:
        for i, path in enumerate(paths):
            image = first if i == 0 else read_picture(path)
            yield Frame(stamp=round(i * 1e9 / rate), payload=path, image=image.copy(), bgr=True)

    return Source(name, (first.shape[1], first.shape[0]), rate, frames, length=len(paths), loop=loop)


def _video(path: str, name: str, rate: float | None, loop: bool) -> Source:
    """A file, or what lies as one at an address."""
    probe = _capture(path)
    own_rate = _rate(probe)
    counted = not containers.is_matroska(path)
    length = int(probe.get(cv2.CAP_PROP_FRAME_COUNT))
    if shown := containers.mp4_seconds(path):
        length = min(length, round(shown * own_rate))  # what was trimmed off may still be in the file, and is counted
    image = next((image for _, image in _decoded(probe, length)), None)
    probe.release()
    if image is None:
        raise VideoError(f"{path}: not one frame can be decoded; the file is damaged or its codec unknown")

    def frames() -> Generator[Frame, None, None]:
        capture = _capture(path)
        count, first, stamp = 0, 0.0, -1
        try:
            for position, image in _decoded(capture, length):
                first = position if count == 0 else first
                # Time stamps of the container where they rise, as they should; else the next tick of the rate.
                own = round((position - first) * 1e6)
                own = own if own > stamp else stamp + round(1e9 / own_rate)
                stamp = round(count * 1e9 / rate) if rate else own
                count += 1
                yield Frame(stamp=stamp, payload=path, image=image, bgr=True)
                stamp = own
        finally:
            capture.release()
        # A container's frame count may be off by a few (edit lists, variable rate); a cut off file lacks far more.
        # Matroska counts none: OpenCV makes one of how long it lasts, and the sound may go on after the pictures.
        if counted and length > 0 and min(length - count, length - stamp * own_rate / 1e9) > max(2, 0.05 * length):
            raise VideoError(f"{path}: ends after {count} of {length} frames; the file is cut off or damaged")

    size = (image.shape[1], image.shape[0])
    return Source(name, size, rate or own_rate, frames, length=length if length > 0 else None, loop=loop)


def _decoded(capture: cv2.VideoCapture, length: int) -> Generator[tuple[float, Image], None, None]:
    """Position in milliseconds and picture of every frame that can be decoded; damage in between costs what it hit. At
    the end of the file, after about `length` frames, reading fails for good."""
    opposite = _turns_wrongly(capture)
    tried = failed = 0
    while failed < UNDECODABLE and (not failed or tried < length):
        tried += 1
        readable, image = capture.read()
        failed = 0 if readable else failed + 1
        if readable:
            image = cv2.rotate(image, cv2.ROTATE_180) if opposite else image
            yield capture.get(cv2.CAP_PROP_POS_MSEC), np.asarray(image, np.uint8)


def _turns_wrongly(capture: cv2.VideoCapture) -> bool:
    """Whether this OpenCV shows a phone video upside down: 4.6.0, that of Ubuntu 24.04, turns by a quarter in the
    opposite direction (its issue 22088)."""
    return cv2.__version__ == "4.6.0" and capture.get(cv2.CAP_PROP_ORIENTATION_META) in (90, 270)


def _live(source: str, rate: float | None, loop: bool) -> Source:
    capture = _capture(int(source) if source.isdecimal() else source)
    if "://" in source and capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # it has an end
        capture.release()
        return _video(source, source, rate, loop)
    if rate is not None:
        capture.set(cv2.CAP_PROP_FPS, rate)
    readable, image = capture.read()
    if not readable:
        capture.release()
        raise VideoError(f"{source}: opens, but delivers no picture; is another program using it?")

    def frames() -> Generator[Frame, None, None]:
        start, due = time.monotonic_ns(), 0.0
        while True:
            readable, image = capture.read()
            if not readable:
                raise VideoError(f"{source}: stopped delivering pictures; was it unplugged?")
            stamp = time.monotonic_ns() - start
            if rate is not None:
                if stamp < due - 0.25e9 / rate:  # cameras are not quite regular
                    continue
                # The mean counts, and nothing is made up for after a pause.
                due = (due if stamp < due + 1e9 / rate else stamp) + 1e9 / rate
            yield Frame(stamp=stamp, payload=source, image=np.asarray(image, np.uint8), bgr=True)

    name = f"/dev/video{source}" if source.isdecimal() else source
    return Source(name, (image.shape[1], image.shape[0]), rate or _rate(capture), frames, release=capture.release)


_KINDS = {int: "a whole number", float: "a number", str: "a word"}


def synthetic_options(source: str, rate: float | None = None) -> tuple[dict[str, Any], int | None]:
    """The arguments of `pave_ros.synthetic.Scene` that a source names, and how many frames. ValueError for one that is
    unknown or out of range."""
    from pave_ros.synthetic import Scene, check_options

    options: dict[str, Any] = {}
    for option in filter(None, source.partition(":")[2].split(",")):
        key, equals, value = option.partition("=")
        if not equals:
            raise ValueError(f"{source}: {option!r} is not of the form key=value")
        options[key.strip()] = _value(value.strip())
    length = options.pop("frames", None)
    if length is not None and not (isinstance(length, int) and length > 0):
        raise ValueError(f"{source}: frames must be a positive whole number, not {length}")
    known = {name: parameter.default for name, parameter in inspect.signature(Scene).parameters.items()}
    if unknown := options.keys() - known.keys():
        raise ValueError(f"{source}: unknown option {', '.join(sorted(unknown))}; known: frames, {', '.join(known)}")
    for name, value in options.items():
        kind = type(known[name])
        if not isinstance(value, (int, float) if kind is float else kind):
            raise ValueError(f"{source}: {name} must be {_KINDS[kind]}, not {value!r}")
    if rate is not None:
        options["rate"] = rate
    check_options(**{**known, **options})
    return options, length


def _synthetic(source: str, rate: float | None, loop: bool) -> Source:
    from pave_ros.synthetic import Scene

    options, length = synthetic_options(source, rate)
    scene = Scene(**options)

    def frames() -> Generator[Frame, None, None]:
        i = 0
        while length is None or i < length:
            synthetic = scene.frame(i)
            yield Frame(stamp=round(i * 1e9 / scene.rate), payload=synthetic, image=synthetic.image)
            i += 1

    return Source("synthetic", (scene.width, scene.height), float(scene.rate), frames, length=length, loop=loop)


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def name_for_opencv(path: Path) -> str:
    """A video's path as OpenCV takes it, absolute; VideoError where its name is not UTF-8, for OpenCV crashes then."""
    name = os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise VideoError(f"{os.fsencode(name)!r}: OpenCV takes no name that is not UTF-8; rename it") from None
    return name


def _capture(source: int | str) -> cv2.VideoCapture:
    with silent_opencv():
        if isinstance(source, str) and "://" not in source:
            source = name_for_opencv(Path(source))  # FFmpeg takes what stands before a colon for a protocol.
        capture = cv2.VideoCapture(source)
    if capture.isOpened():
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # OpenCV 4.11 turns nothing of itself.
        return capture
    if isinstance(source, int) or source.startswith("/dev/"):
        cameras = sorted(str(p) for p in Path("/dev").glob("video*"))
        device = f"/dev/video{source}" if isinstance(source, int) else source
        if device not in cameras:
            raise VideoError(f"{device}: no such camera; there is {', '.join(cameras) or 'none on this machine'}")
        raise VideoError(f"{device}: cannot be opened; is it in use, and is this user in the group 'video'?")
    if "://" in source:
        raise VideoError(f"{source}: the stream cannot be opened; is the address right and the network up?")
    empty = Path(source).stat().st_size == 0
    reason = "the file is empty" if empty else "not a video that OpenCV can read, or the file is cut off"
    raise VideoError(f"{source}: {reason}")


def _rate(capture: cv2.VideoCapture) -> float:
    return known_rate(float(capture.get(cv2.CAP_PROP_FPS)), FALLBACK_RATE)


def known_rate(rate: float, otherwise: float) -> float:
    """A rate that a file claims, pictures a second, if it can be; else the other one."""
    return rate if 0.01 <= rate <= 1000 else otherwise
