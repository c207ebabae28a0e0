"""Recordings of topics for tests, written by rosbags."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

ROS2, ROS1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
SIZE = (24, 32)
BEGIN = 1_700_000_000 * 10**9
STAMPS = (0, 100, 200, 350)  # milliseconds
KINDS = [StoragePlugin.MCAP, StoragePlugin.SQLITE3]


def header(store: Any, stamp: int) -> Any:
    sec, nanosec = divmod(stamp, 10**9)
    time = store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
    number = {"seq": 0} if store is ROS1 else {}
    return store.types["std_msgs/msg/Header"](stamp=time, frame_id="front", **number)


def raw(store: Any, stamp: int, level: int, **changes: Any) -> Any:
    height, width = SIZE
    values = {
        "header": header(store, stamp), "height": height, "width": width, "encoding": "rgb8", "is_bigendian": 0,
        "step": 3 * width, "data": np.full(height * width * 3, level, np.uint8), **changes,
    }  # fmt: skip
    return store.types["sensor_msgs/msg/Image"](**values)


def jpeg(store: Any, stamp: int, level: int) -> Any:
    data = cv2.imencode(".jpg", np.full((*SIZE, 3), level, np.uint8))[1].ravel()
    return store.types["sensor_msgs/msg/CompressedImage"](header=header(store, stamp), format="jpeg", data=data)


def record(path: Path, topics: dict[str, Sequence[Any]], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A folder as of `ros2 bag record`; a message was recorded 5 ms after its stamp, or where it has none, at 7 s."""
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=ROS2)
            for message in messages:
                stamp = message.header.stamp
                recorded = stamp.sec * 10**9 + stamp.nanosec + 5_000_000 if stamp.sec else BEGIN + 7 * 10**9
                writer.write(connection, recorded, ROS2.serialize_cdr(message, kind))
    return path


def record1(path: Path, topics: dict[str, Sequence[Any]]) -> Path:
    """A file as of ROS 1's `rosbag record`."""
    with Writer1(path) as writer:
        for topic, messages in topics.items():
            kind = messages[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=ROS1)
            for message in messages:
                writer.write(connection, BEGIN, ROS1.serialize_ros1(message, kind))
    return path


def images(store: Any = ROS2) -> list[Any]:
    return [raw(store, BEGIN + stamp * 10**6, 50 * i) for i, stamp in enumerate(STAMPS)]


def calibration(store: Any, focal: float) -> Any:
    """A camera_info of a store's ROS: of a part of the sensor, its pixels put together by twos."""
    matrices = {
        "d": np.array([0.1, -0.2, 0.0, 0.0]), "k": np.array([focal, 0, 16, 0, focal, 12, 0, 0, 1.0]),
        "r": np.eye(3).ravel(), "p": np.array([focal, 0, 15, 0, 0, focal, 11, 0, 0, 0, 1, 0.0]),
    }  # fmt: skip
    named = {name.upper() if store is ROS1 else name: value for name, value in matrices.items()}
    roi = store.types["sensor_msgs/msg/RegionOfInterest"](x_offset=32, y_offset=0, height=24, width=32, do_rectify=True)
    return store.types["sensor_msgs/msg/CameraInfo"](
        header=header(store, BEGIN), height=24, width=64, distortion_model="plumb_bob", binning_x=2, binning_y=2,
        roi=roi, **named,
    )  # fmt: skip
