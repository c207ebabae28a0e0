"""The image subscription meets every publisher, and says what to do when nothing comes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from conftest import Start
from peer import Peer, image, wait_for
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from pave_ros.msg import Poses
from pave_ros.ros.node import PoseNode
from pave_ros.ros.subscriber import PATIENCE, REMINDER, image_topic, profiles_file

RELIABLE, BEST_EFFORT = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
SMALL = "synthetic:width=80,height=64,persons=1"
MakeNode = Callable[..., tuple[PoseNode, Any]]


def subscription(node: PoseNode, topic: str = "") -> Any:
    """QoS of the node's image subscription."""
    infos = node.get_subscriptions_info_by_topic(topic or f"{node.get_namespace()}/image")
    return infos[0].qos_profile if len(infos) == 1 else None


@pytest.mark.parametrize("offer", [BEST_EFFORT, RELIABLE])
def test_auto_takes_what_a_publisher_offers_that_was_there_before(
    offer: QoSReliabilityPolicy, peer: Peer, make_node: MakeNode
) -> None:
    peer.node.create_publisher(Image, "/before/image", QoSProfile(depth=1, reliability=offer))
    node, _ = make_node("-r", "image:=/before/image")
    wait_for(
        lambda: (qos := subscription(node, "/before/image")) and qos.reliability == offer,
        f"a subscription that is {offer.name}",
    )


@pytest.mark.parametrize("offer", ["best_effort", "reliable"])
def test_auto_takes_what_a_camera_offers_that_appears_later(
    offer: str, peer: Peer, make_node: MakeNode, start: Start
) -> None:
    node, _ = make_node()
    namespace = node.get_namespace()
    poses = peer.subscribe(Poses, f"{namespace}/poses")
    start("pave_ros.ros.camera", SMALL, "--ros-args", "-r", f"__ns:={namespace}", "-p", f"reliability:={offer}")
    wait_for(lambda: len(poses) > 5, "results")
    assert subscription(node).reliability == QoSReliabilityPolicy[offer.upper()]


def test_a_change_of_publishers_is_followed(peer: Peer, make_node: MakeNode) -> None:
    node, _ = make_node()
    topic = f"{node.get_namespace()}/image"
    for offer in (BEST_EFFORT, RELIABLE, BEST_EFFORT):
        publisher = peer.node.create_publisher(Image, topic, QoSProfile(depth=1, reliability=offer))
        before = node.streams[0].statistics.published

        def answered(publisher: Any = publisher, before: int = before) -> bool:
            publisher.publish(image())
            return node.streams[0].statistics.published > before

        wait_for(answered, f"a result of a publisher that is {offer.name}")
        peer.node.destroy_publisher(publisher)
        wait_for(lambda: not node.count_publishers(topic), "the end of the publisher")


def test_the_reliability_can_be_fixed(peer: Peer, make_node: MakeNode) -> None:
    for word in ("best_effort", "reliable"):
        node, _ = make_node(reliability=word)
        assert wait_for(lambda: subscription(node), "the subscription").reliability.name.lower() == word  # noqa: B023


def test_qos_overrides(make_node: MakeNode) -> None:
    """As a parameter file gives them: by the topic's full name."""
    prefix = "qos_overrides./over/"
    overrides = {
        f"{prefix}image.subscription.reliability": "best_effort",
        f"{prefix}image.subscription.depth": 3,
        f"{prefix}poses.publisher.depth": 17,
    }
    node, _ = make_node("-r", "__ns:=/over", **overrides)
    assert wait_for(lambda: subscription(node, "/over/image"), "the subscription").reliability == BEST_EFFORT
    for name, value in overrides.items():
        assert node.get_parameter(name).value == value


@pytest.mark.parametrize(
    ("offer", "reliability", "advice"),
    [
        (RELIABLE, "auto", f"FASTDDS_DEFAULT_PROFILES_FILE={profiles_file()}"),
        (BEST_EFFORT, "reliable", "set `reliability` to auto"),
        (None, "auto", "remap `image` to the topic of your camera"),
    ],
)
def test_silence_is_explained_with_its_cure(
    offer: Any, reliability: str, advice: str, peer: Peer, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pave_ros.ros.subscriber.get_rmw_implementation_identifier", lambda: "rmw_fastrtps_cpp")
    node, _ = make_node(reliability=reliability)
    if offer is not None:
        peer.node.create_publisher(Image, f"{node.get_namespace()}/image", QoSProfile(depth=1, reliability=offer))
    assert_advice(advice, node, peer)


def test_another_middleware_needs_another_cure(
    peer: Peer, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pave_ros.ros.subscriber.get_rmw_implementation_identifier", lambda: "rmw_cyclonedds_cpp")
    node, _ = make_node()
    peer.node.create_publisher(Image, f"{node.get_namespace()}/image", QoSProfile(depth=1))
    assert_advice("larger than rmw_cyclonedds_cpp gets across", node, peer)


def test_a_publisher_that_comes_late_and_is_silent_is_explained_soon(peer: Peer, make_node: MakeNode) -> None:
    """The earlier warning, that there is none, does not hold back the new one, which counts from its appearance."""
    node, _ = make_node()
    assert_advice("nobody publishes", node, peer)
    peer.node.create_publisher(Image, f"{node.get_namespace()}/image", QoSProfile(depth=1))
    log = peer.log(node.get_fully_qualified_name())
    found = wait_for(lambda: re.search(r"but no image came for (\d+) s", "\n".join(log())), "a warning")
    assert PATIENCE <= int(found[1]) < REMINDER


def test_a_topic_of_another_type_is_explained(peer: Peer, make_node: MakeNode, start: Start) -> None:
    node, _ = make_node()
    start(
        "pave_ros.ros.camera", SMALL, "--compressed",
        "--ros-args", "-r", f"image/compressed:={node.get_namespace()}/image",
    )  # fmt: skip
    assert_advice("set image_transport, or remap `image`", node, peer)


def assert_advice(advice: str, node: PoseNode, peer: Peer) -> None:
    """It is logged, once, and stands in the diagnostics."""
    log = peer.log(node.get_fully_qualified_name())
    wait_for(lambda: any(advice in line for line in log()), "a warning")
    assert sum(advice in line for line in log()) == 1, "it is not repeated at every check"
    diagnostics = peer.diagnostics(f"{node.get_namespace()}/pose_node")
    wait_for(lambda: any(advice in report.message for report in diagnostics.reports), "the advice in the diagnostics")


def test_the_profile_of_the_advice_is_there() -> None:
    assert profiles_file().is_file()


@pytest.mark.parametrize(
    ("remapping", "raw", "compressed"),
    [
        ((), "/image", "/image/compressed"),
        (("image:=/front/image_raw",), "/front/image_raw", "/front/image_raw/compressed"),
        (("image:=/front/jpeg/compressed",), "/front/jpeg/compressed", "/front/jpeg/compressed"),
        (("image/compressed:=/front/jpeg",), "/image", "/front/jpeg"),
        (("image:=/a", "image/compressed:=/b"), "/a", "/b"),
    ],
)
def test_the_suffix_of_compressed_images_is_added_after_remapping(
    remapping: tuple[str, ...], raw: str, compressed: str, ros: None
) -> None:
    arguments = [word for rule in remapping for word in ("-r", rule)]
    node = rclpy.create_node("remapped", cli_args=["--ros-args", *arguments] if arguments else None)
    try:
        assert (image_topic(node, "raw"), image_topic(node, "compressed")) == (raw, compressed)
    finally:
        node.destroy_node()


def test_publishers_that_differ_are_all_heard(peer: Peer, make_node: MakeNode) -> None:
    for offer in (BEST_EFFORT, RELIABLE):
        peer.node.create_publisher(Image, "/mixed/image", QoSProfile(depth=1, reliability=offer))
    wait_for(lambda: peer.node.count_publishers("/mixed/image") == 2, "both publishers")
    node, _ = make_node("-r", "image:=/mixed/image")
    wait_for(
        lambda: (qos := subscription(node, "/mixed/image")) and qos.reliability == BEST_EFFORT,
        "a subscription that hears both",
    )


def test_one_publisher_that_is_heard_is_enough_to_look_elsewhere(peer: Peer, make_node: MakeNode) -> None:
    node, _ = make_node(reliability="reliable")
    for offer in (BEST_EFFORT, RELIABLE):
        peer.node.create_publisher(Image, f"{node.get_namespace()}/image", QoSProfile(depth=1, reliability=offer))
    wait_for(lambda: node.count_publishers("image") == 2, "both publishers")
    subscriber = node.streams[0]._subscriber
    assert subscriber is not None
    assert "Is the camera paused?" in subscriber._reason(PATIENCE)


def test_an_override_is_not_followed_by_what_publishers_offer(peer: Peer, make_node: MakeNode) -> None:
    override = {"qos_overrides./fixed/image.subscription.reliability": "best_effort"}
    node, _ = make_node("-r", "__ns:=/fixed", **override)
    subscriber = node.streams[0]._subscriber
    assert subscriber is not None
    before = subscriber._subscription
    peer.node.create_publisher(Image, "/fixed/image", QoSProfile(depth=1, reliability=RELIABLE))
    wait_for(subscriber._publishers, "the publisher")
    subscriber._match()
    assert subscriber._subscription is before and subscriber.reliability == BEST_EFFORT


def test_an_image_that_comes_takes_the_advice_back(peer: Peer, make_node: MakeNode) -> None:
    node, _ = make_node()
    subscriber = node.streams[0]._subscriber
    assert subscriber is not None
    wait_for(lambda: "nobody publishes" in subscriber.advice, "the advice")
    publisher = peer.publisher(Image, f"{node.get_namespace()}/image", 5)
    received = node.streams[0].statistics.received
    publisher.publish(image())
    wait_for(lambda: node.streams[0].statistics.received > received, "the image")
    assert subscriber.advice == ""


def test_a_subscription_that_ended_looks_for_no_publisher(make_node: MakeNode) -> None:
    node, _ = make_node()
    subscriber = node.streams[0]._subscriber
    assert subscriber is not None
    assert subscriber._timer in list(node.timers)
    node.trigger_deactivate()
    assert subscriber._timer not in list(node.timers)
