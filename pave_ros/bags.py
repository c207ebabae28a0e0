"""Recordings of ROS topics (bags) as sources of pictures, read by rosbags, without ROS: of ROS 2 and of ROS 1."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice, pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pave_ros.frames import Frame
from pave_ros.video import PICTURE_RATE, Source, VideoError, known_rate

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader
    from rosbags.interfaces import Connection

log = logging.getLogger(__name__)

SUFFIXES = (".bag", ".db3", ".mcap")
METADATA = "metadata.yaml"  # in the folder that `ros2 bag record` makes
KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CALIBRATION = "sensor_msgs/msg/CameraInfo"
COMPRESSED = "/compressed"  # ending of the second topic of the same images
PROBED = 30  # Images whose stamps tell the rate.
JUMP = 1_000_000_000  # Nanoseconds by which the clock of the stamps may run ahead or back; more, and it was set anew.


def is_bag(source: str) -> bool:
    """Whether a source is a recording, with or without the name of a topic behind it."""
    path = path_of(source)
    return (path.suffix in SUFFIXES and path.is_file()) or (path / METADATA).is_file()


def path_of(source: str) -> Path:
    """The file or folder of a recording, without the topic."""
    return _split(source)[0]


def _split(source: str) -> tuple[Path, str]:
    """File or folder, and topic: `walk.mcap:/camera/image_raw`; the topic is empty where none is named."""
    path, colon, topic = source.partition(":/")
    return (Path(path), f"/{topic}") if colon and not Path(source).exists() else (Path(source), "")


def open_bag(source: str, rate: float | None, loop: bool) -> Source:
    """The images of one topic of a recording, each with its own stamp, or `rate` a second; see `open_source`."""
    path, topic = _split(source)
    with _reading(path) as reader:
        connections = _connections(reader, path, topic)
        first = list(islice(_images(reader, connections, path, warn=False), PROBED))
        length = sum(connection.msgcount for connection in connections)
        camera_info = _camera_info(reader, connections[0].topic)
    stamps = [frame.stamp for frame in first]
    apart = [later - earlier for earlier, later in pairwise(stamps) if later > earlier]
    own = known_rate(1e9 / median(apart), PICTURE_RATE) if apart else PICTURE_RATE
    image = first[0].image
    assert image is not None

    passes = count()

    def frames() -> Generator[Frame, None, None]:
        with _reading(path) as reader:
            first_pass = next(passes) == 0
            for i, frame in enumerate(_images(reader, _connections(reader, path, topic), path, warn=first_pass)):
                frame.stamp = round(i * 1e9 / rate) if rate else max(0, frame.stamp - stamps[0])
                yield frame

    size = image.shape[1], image.shape[0]
    return Source(path.name, size, rate or own, frames, length=max(0, length), loop=loop, camera_info=camera_info)


@contextmanager
def _reading(path: Path) -> Iterator[AnyReader]:
    """A recording that is open; whatever rosbags has to say about it, as VideoError."""
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise VideoError(f"{path}: reading recordings needs rosbags (pip install rosbags)") from None
    known = get_typestore(Stores.ROS2_HUMBLE)  # for recordings that do not describe their messages
    # In its folder a file knows its neighbours, which it may go on in.
    whole = path.parent if path.suffix != ".bag" and (path.parent / METADATA).is_file() else path
    try:
        with AnyReader([whole], default_typestore=known) as reader:
            yield reader
    except VideoError:
        raise
    except Exception as error:  # of rosbags, or of SQLite and the decompressors under it
        raise VideoError(f"{path}: the recording cannot be read ({error})") from error


def _connections(reader: AnyReader, path: Path, topic: str) -> list[Connection]:
    """Those of the topic, or of the only one with images. VideoError names the topics there are."""
    topics = {connection.topic for connection in reader.connections if connection.msgtype in KINDS}
    if topic and topic not in topics:
        raise VideoError(f"{path}: no images on {topic}; there are some on {', '.join(sorted(topics)) or 'no topic'}")
    if not topic:
        raw = {
            name for name in topics if name.removesuffix(COMPRESSED) == name or name[: -len(COMPRESSED)] not in topics
        }
        if not raw:
            raise VideoError(f"{path}: no topic with images in this recording")
        if len(raw) > 1:
            raise VideoError(f"{path}: images on several topics, {', '.join(sorted(raw))}; name one: {path}:{min(raw)}")
        (topic,) = raw
    return [connection for connection in reader.connections if connection.topic == topic]


def _images(reader: AnyReader, connections: list[Connection], path: Path, *, warn: bool) -> Iterator[Frame]:
    """The images that can be read, in order; VideoError where there is none, and if asked for a warning of those that
    cannot. Their stamps are as they are, but go on with the time of the recording where their clock was set anew."""
    from pave_ros.encodings import ImageError, read

    unreadable = good = last = before = shift = 0
    reason = "it is empty"
    for connection, recorded, data in reader.messages(connections):
        try:
            message: Any = _message(reader, connection, data)
            image, bgr = read(message)
        except ImageError as error:
            unreadable, reason = unreadable + 1, str(error)
            continue
        stamp = message.header.stamp
        own = (stamp.sec * 10**9 + stamp.nanosec) or recorded
        expected = last + recorded - before if good else own
        if abs(own + shift - expected) > JUMP:
            shift = expected - own
        last, before = max(last, own + shift), recorded
        good += 1
        yield Frame(stamp=last, payload=message, image=image, bgr=bgr)
    if not good:
        raise VideoError(f"{path}: not one image of {connections[0].topic} can be read: {reason}")
    if unreadable and warn:
        log.warning("%s: %d images of %s cannot be read: %s", path, unreadable, connections[0].topic, reason)


def _camera_info(reader: AnyReader, topic: str) -> Any:
    """The first camera_info beside the images of a topic, where image_transport has it; None where there is none."""
    from pave_ros.encodings import ImageError

    beside = topic.removesuffix(COMPRESSED).rpartition("/")[0] + "/camera_info"
    connections = [one for one in reader.connections if one.topic == beside and one.msgtype == CALIBRATION]
    for connection, _, data in reader.messages(connections) if connections else ():  # of none would be of all
        with suppress(ImageError):
            return _message(reader, connection, data)
    return None


def _message(reader: AnyReader, connection: Connection, data: bytes) -> Any:
    from pave_ros.encodings import ImageError

    try:
        return reader.deserialize(data, connection.msgtype)
    except Exception as error:  # rosbags raises whatever the damage leads to
        raise ImageError(f"a message that cannot be read ({error})") from error
