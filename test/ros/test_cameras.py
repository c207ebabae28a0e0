"""Several cameras in one node, which one model looks at: topics, history, tracks and diagnostics of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from peer import Peer, StandIn, image, wait_for
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from pave_ros.msg import Poses, Skeleton
from pave_ros.persons import Persons
from pave_ros.ros.messages import nanoseconds
from pave_ros.ros.node import PoseNode
from pave_ros.ros.stream import LATCHED

Make = Callable[..., tuple[PoseNode, StandIn]]


class Pair:
    """A node with two cameras, the publishers of their images and what it publishes of each."""

    def __init__(self, make_node: Make, peer: Peer, **parameters: Any) -> None:
        self.node, self.model = make_node(cameras=["front", "side/left"], **parameters)
        self.names = [f"{self.node.get_namespace()}/{camera}" for camera in ("front", "side/left")]
        self.poses = [peer.subscribe(Poses, f"{name}/poses") for name in self.names]
        self.images = [peer.publisher(Image, f"{name}/image") for name in self.names]
        for stream in self.node.streams:
            wait_for(stream._outputs["poses"].get_subscription_count, "the listener")


def test_one_model_looks_at_several_cameras(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    skeletons = [peer.subscribe(Skeleton, f"{name}/skeleton", QoSProfile(**LATCHED)) for name in both.names]
    for stamp in (1, 2, 3):
        for camera, publisher in enumerate(both.images):
            publisher.publish(image(stamp * 100 + camera))
        wait_for(lambda: [len(inbox) for inbox in both.poses] == [stamp] * 2, "a result of each")  # noqa: B023
    for camera, inbox in enumerate(both.poses):
        assert [nanoseconds(message.header.stamp) for message in inbox] == [100 + camera, 200 + camera, 300 + camera]
        assert {message.camera for message in inbox} == {("front", "side/left")[camera]}
        assert [person.track_id for person in inbox[-1].persons] == [1, 2], "each has tracks of its own"
        assert [person.age for person in inbox[-1].persons] == [2, 2]
    assert len(both.model.windows) == 6
    wait_for(lambda: all(skeletons), "the skeleton beside the people of each")


def test_a_break_of_one_camera_is_none_of_the_other(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    for number, stamps in enumerate(((5_000, 5_000), (1_000, 6_000)), start=1):
        for publisher, stamp in zip(both.images, stamps, strict=True):
            publisher.publish(image(stamp))
        wait_for(lambda: [len(inbox) for inbox in both.poses] == [number] * 2, "a result of each")  # noqa: B023
    assert [inbox[-1].persons[0].age for inbox in both.poses] == [0, 1]


def test_each_camera_is_reported(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    reports = [peer.diagnostics(f"{both.node.get_fully_qualified_name()}/{name}") for name in ("front", "side/left")]
    both.images[0].publish(image(1))
    assert reports[0].wait_for(results="1", state="detecting")["model"] == "stand_in"
    assert reports[1].values["results"] == "0"
    wait_for(lambda: "nobody publishes" not in reports[1].reports[-1].message, "no advice while it is published")
    peer.call(SetBool, f"{both.node.get_fully_qualified_name()}/enable", SetBool.Request(data=False))
    for report in reports:
        report.wait_for(state="disabled")


def test_a_busy_camera_leaves_the_other_its_turn(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    lock, estimate = threading.Lock(), both.model.estimate

    def alone(*arguments: Any) -> Persons:
        with lock:
            return estimate(*arguments)

    both.model.estimate, both.model.delay = alone, 0.02  # type: ignore[method-assign]
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for publisher in both.images:
            publisher.publish(image(time.monotonic_ns()))
        time.sleep(0.005)
    first, second = (len(inbox) for inbox in both.poses)
    assert min(first, second) > 0.5 * max(first, second) > 4


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"cameras": ["front", "front"]}, "different"),
        ({"cameras": ["front", ""]}, "names as topics have them"),
        ({"cameras": ["1st"]}, "names as topics have them"),
        ({"cameras": ["front"], "camera": "back"}, "give it or cameras"),
    ],
)
def test_names_of_cameras_that_cannot_be(ros: None, given: dict[str, Any], reason: str) -> None:
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with pytest.raises(ParameterException, match=reason):
        PoseNode(parameter_overrides=overrides)


def test_each_camera_has_its_own_complaints(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    logs = [peer.log(f"{both.node.get_fully_qualified_name()}/{name}") for name in ("front", "side/left")]
    for publisher in both.images:
        publisher.publish(image(1, step=1))
    for log in logs:
        wait_for(lambda: any("unreadable image" in line for line in log()), "a line about each")  # noqa: B023


def test_advice_names_the_parameter_and_not_the_topic_of_the_camera(make_node: Make, peer: Peer) -> None:
    both = Pair(make_node, peer)
    subscriber = both.node.streams[1]._subscriber
    assert subscriber is not None
    assert subscriber._reason(2.0).endswith("or use image_transport compressed")
