"""People and skeletons as messages.

Everything is made of Python floats, ints and array.array: older ROS versions refuse numpy's scalars, and newer
ones do so with ROS_PYTHON_CHECK_FIELDS=1.
"""

from __future__ import annotations

from array import array
from itertools import chain

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point
from std_msgs.msg import Header

from pave_ros.msg import BoundingBox, Keypoint, Person, Poses
from pave_ros.msg import Skeleton as SkeletonMessage
from pave_ros.persons import Persons
from pave_ros.skeletons import Skeleton


def poses(
    persons: Persons, header: Header, size: tuple[int, int], camera: str, positions: npt.ArrayLike | None = None
) -> Poses:
    """The message of the people of one picture of `size` (height, width), whose header it takes over; with the
    `positions` of their keypoints, (N, K, 3) in metres, if they are known.

    Context, dropped and latency are left for the caller to fill in.
    """
    message = Poses(header=header, camera=camera, skeleton=persons.skeleton, height=size[0], width=size[1])
    columns = zip(
        persons.track_ids.tolist(),
        persons.ages.tolist(),
        persons.scores.tolist(),
        persons.boxes.tolist(),
        persons.keypoints.tolist(),
        strict=True,
    )
    message.persons = [_person(*column) for column in columns]
    if positions is not None:
        for person, points in zip(message.persons, np.asarray(positions, np.float64).tolist(), strict=True):
            person.keypoints_3d = [Point(x=x, y=y, z=z) for x, y, z in points]
    return message


def _person(track_id: int, age: int, score: float, box: list[float], keypoints: list[list[float]]) -> Person:
    x, y, width, height = box
    return Person(
        track_id=track_id,
        age=age,
        score=score,
        box=BoundingBox(x=x, y=y, width=width, height=height),
        keypoints=[Keypoint(x=x, y=y, score=score) for x, y, score in keypoints],
    )


def persons(message: Poses) -> Persons:
    """The people of a message, the way back."""
    people = message.persons
    points = [[(point.x, point.y, point.score) for point in person.keypoints] for person in people]
    boxes = [(person.box.x, person.box.y, person.box.width, person.box.height) for person in people]
    return Persons(
        keypoints=np.array(points, np.float32) if people else np.zeros((0, 0, 3), np.float32),
        scores=np.array([person.score for person in people], np.float32),
        boxes=np.array(boxes, np.float32).reshape(len(people), 4),
        track_ids=np.array([person.track_id for person in people], np.int32),
        ages=np.array([person.age for person in people], np.int64).clip(max=np.iinfo(np.int32).max).astype(np.int32),
        skeleton=message.skeleton,
    )


def skeleton(layout: Skeleton) -> SkeletonMessage:
    """The message that describes a keypoint layout."""
    return SkeletonMessage(
        name=layout.name,
        keypoints=list(layout.keypoints),
        edges=array("B", chain.from_iterable(layout.edges)),
        mirror=array("h", layout.mirror),
        sigmas=array("f", layout.sigmas),
    )


def nanoseconds(stamp: Time) -> int:
    """A time message as nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def stamp(nanoseconds: int) -> Time:
    """Nanoseconds as a time message."""
    sec, nanosec = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=sec, nanosec=nanosec)
