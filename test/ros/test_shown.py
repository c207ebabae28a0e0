"""What the node draws of its results: annotated pictures and markers, over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from peer import image, wait_for
from rig import Rig
from rig import rig as rig
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool
from visualization_msgs.msg import MarkerArray

from pave_ros.ros.camera import camera_info


def test_pictures_are_drawn_only_for_subscribers(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    front = rig()
    drawn: list[Any] = []
    monkeypatch.setattr("pave_ros.ros.stream.drawing.draw", lambda picture, persons, bgr: drawn.append(picture))
    front.ask(1)
    assert not drawn
    annotated = front.peer.subscribe(Image, f"{front.namespace}/image_annotated")
    wait_for(lambda: front.node.streams[0]._is_wanted("image_annotated"), "the subscription")
    front.ask(2)
    assert wait_for(lambda: annotated, "a picture")[0].header.stamp.nanosec == 2
    assert len(drawn) == 1
    assert front.peer.set_parameter(front.name, "publish_annotated", False).successful
    front.ask(3)
    assert len(drawn) == 1


def test_the_annotated_picture_shows_the_people(rig: Callable[..., Rig]) -> None:
    front = rig()
    annotated = front.peer.subscribe(Image, f"{front.namespace}/image_annotated")
    wait_for(lambda: front.node.streams[0]._is_wanted("image_annotated"), "the subscription")
    given = image(7)
    front.ask(7)
    got = wait_for(lambda: annotated, "a picture")[0]
    assert (got.header.frame_id, got.encoding, got.width, got.height) == ("front", "rgb8", 96, 64)
    shown, seen = (np.frombuffer(message.data, np.uint8).reshape(64, 96, 3) for message in (got, given))
    assert (shown != seen)[10:50, 20:40].any()
    front.ask(8, encoding="bgr8", data=np.ascontiguousarray(seen[..., ::-1]).tobytes())
    other = wait_for(lambda: annotated[1:], "the next picture")[0]
    assert other.encoding == "bgr8"
    swapped = np.frombuffer(other.data, np.uint8).reshape(64, 96, 3)[..., ::-1]
    np.testing.assert_array_equal(swapped, shown, "the same colours in either order")


def test_markers_of_who_left_are_deleted(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True)
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")

    def shown(stamp: int) -> dict[int, set[int]]:
        """The actions of the next array by the markers' id."""
        before = len(arrays)
        front.ask(stamp)
        newest = wait_for(lambda: arrays[before:], "markers")[-1].markers
        return {i: {marker.action for marker in newest if marker.id == i} for i in {m.id for m in newest}}

    add, delete = 0, 2
    assert shown(1) == shown(2) == {1: {add}, 2: {add}}
    front.model.persons = front.model.people((20.0, 10.0))
    assert shown(3) == {1: {add}, 2: {delete}}
    assert shown(4) == {1: {add}}
    assert front.peer.set_parameter(front.name, "publish_markers", False).successful
    before = len(arrays)
    front.ask(5)
    gone = wait_for(lambda: arrays[before:], "the end of who was shown")[0].markers
    assert {(marker.id, marker.action) for marker in gone} == {(1, delete)}
    front.ask(6)
    assert len(arrays) == before + 1


def test_markers_of_an_assumed_camera_are_told_where_there_is_a_camera_info(rig: Callable[..., Rig]) -> None:
    front = rig()
    log = front.peer.log(front.name)

    def complains() -> bool:
        return any("no calibration for images of 96x64" in line for line in log())

    front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    infos = front.peer.publisher(CameraInfo, f"{front.namespace}/camera_info")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")
    for width, told in ((96, False), (128, True)):
        infos.publish(camera_info(width, 64, 96.0))
        wait_for(lambda: getattr(front.node.streams[0]._camera_info, "width", 0) == width, "the camera_info")  # noqa: B023
        front.ask(width)
        if told:
            wait_for(complains, "a warning")
        assert complains() == told


def test_markers_end_with_the_work(rig: Callable[..., Rig]) -> None:
    """Also those that have no lifetime."""
    front = rig(tracking=True, marker_lifetime=0.0)
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")

    def ended(action: Callable[[], object], stamp: int) -> set[tuple[int, int]]:
        front.ask(stamp)
        wait_for(lambda: arrays and arrays[-1].markers[0].action == 0, "people")
        before = len(arrays)
        action()
        gone = wait_for(lambda: arrays[before:], "the end of who was shown")[0].markers
        return {(marker.id, marker.action) for marker in gone}

    def enable(value: bool) -> None:
        assert front.peer.call(SetBool, f"{front.name}/enable", SetBool.Request(data=value)).success

    assert ended(lambda: enable(False), 1) == {(1, 2), (2, 2)}
    enable(True)
    assert ended(front.node.trigger_deactivate, 2) == {(3, 2), (4, 2)}, "nobody knows who they are after a pause"


def test_markers_are_made_as_the_parameters_say(rig: Callable[..., Rig]) -> None:
    front = rig(tracking=True, keypoint_threshold=0.5, marker_distance=5.0, marker_scale=0.1, marker_lifetime=2.0)
    front.model.persons.keypoints[0, 3, 2] = 0.4
    arrays = front.peer.subscribe(MarkerArray, f"{front.namespace}/markers")
    wait_for(lambda: front.node.streams[0]._is_wanted("markers"), "the subscription")
    front.ask(1)
    joints = wait_for(lambda: arrays, "markers")[0].markers[0]
    assert len(joints.points) == 16 and {point.z for point in joints.points} == {5.0}
    assert joints.scale.x == pytest.approx(0.1) and joints.lifetime.sec == 2
