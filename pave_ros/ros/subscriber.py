"""The image subscription: its topic, its QoS, and what to do when nothing comes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image

from pave_ros.ros.clocks import STEADY

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

# rclpy gives a subscription what logs unfit QoS; in an executor of several threads that outlives one that is
# destroyed, and ends the program. What is unfit is told here, with its cure.
NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
RELIABLE, BEST_EFFORT = QoSReliabilityPolicy.RELIABLE, QoSReliabilityPolicy.BEST_EFFORT
SYSTEM_DEFAULT = QoSReliabilityPolicy.SYSTEM_DEFAULT
CHECK_PERIOD = 0.2  # seconds; a publisher that appears is heard after this at the latest
PATIENCE = 2.0  # seconds without an image until the reason is looked for
REMINDER = 10.0  # seconds until the same reason is logged again

_RAW = (Image, "sensor_msgs/msg/Image")
_COMPRESSED = (CompressedImage, "sensor_msgs/msg/CompressedImage")
_TYPES = {"raw": _RAW, "compressed": _COMPRESSED, "compressedDepth": _COMPRESSED}


def image_topic(node: Node, transport: str, name: str = "image") -> str:
    """The full name of an image topic. The suffix of a compressed one, its transport, is added after remapping, as
    image_transport does, so that remapping `image` moves both; a remapping of `image/compressed` itself goes first."""
    topic = str(node.resolve_topic_name(name))
    if transport == "raw":
        return topic
    suffixed = str(node.resolve_topic_name(f"{name}/{transport}"))
    if suffixed != node.resolve_topic_name(f"{name}/{transport}", only_expand=True):
        return suffixed
    return topic if topic.endswith(f"/{transport}") else f"{topic}/{transport}"


class ImageSubscriber:
    """Subscribes to the images of one camera, with the reliability that its publisher offers.

    A reliable subscription hears nothing of a best effort publisher. A best effort one hears everybody, but loses
    nearly all images of a reliable publisher, because pictures do not fit the middleware's default shared memory.
    So `auto` starts reliable, watches the publishers of the topic, and subscribes anew when their offer is another.

    Args:
        node: it creates the subscription, the timer and the parameters `qos_overrides.<topic>.subscription.*`.
        transport: "raw", "compressed" or "compressedDepth".
        reliability: "auto", "reliable" or "best_effort".
        callback: is called with every message, in the executor's thread.
        name: of the topic.
    """

    def __init__(
        self, node: Node, transport: str, reliability: str, callback: Callable[[Any], None], name: str = "image"
    ) -> None:
        self.topic, self._name = image_topic(node, transport, name), name
        self.advice = ""
        self.reliability = BEST_EFFORT if reliability == "best_effort" else RELIABLE
        self._node, self._callback = node, callback
        self._type, self._type_name = _TYPES[transport]
        self._auto = reliability == "auto"
        self._quiet_since = monotonic()
        self._published = False
        self._next_warning = 0.0
        self._subscription: Any = None
        self._match()
        # Not the node's clock: it may be the simulation's, which stands still when the bag does.
        self._timer = node.create_timer(CHECK_PERIOD, self._check, clock=STEADY)

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _receive(self, message: Any) -> None:
        self._quiet_since = monotonic()
        self.advice = ""
        self._callback(message)

    def _publishers(self) -> list[Any]:
        return [p for p in self._node.get_publishers_info_by_topic(self.topic) if p.topic_type == self._type_name]

    def _match(self) -> None:
        """Subscribe, or subscribe anew when the publishers offer another reliability."""
        offers = {publisher.qos_profile.reliability for publisher in self._publishers()} if self._auto else set()
        wanted = (RELIABLE if offers == {RELIABLE} else BEST_EFFORT) if offers else self.reliability
        if self._subscription is not None:
            if wanted == self.reliability:
                return
            self._node.destroy_subscription(self._subscription)
            self._node.get_logger().info(f"{self.topic} is published {wanted.name.lower()}: subscribing so")
        self.reliability = wanted
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            self._receive,
            # System default stands for "as wanted": a word other than that comes from qos_overrides.
            QoSProfile(depth=1, reliability=SYSTEM_DEFAULT),
            event_callbacks=NO_EVENTS,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(callback=self._fill_in_reliability),
        )

    def _fill_in_reliability(self, qos: QoSProfile) -> SetParametersResult:
        if qos.reliability == SYSTEM_DEFAULT:
            qos.reliability = self.reliability
        else:
            self._auto, self.reliability = False, qos.reliability
        return SetParametersResult(successful=True)

    def _check(self) -> None:
        self._match()
        now = monotonic()
        published = bool(self._publishers())
        if published != self._published:  # another reason from now on, and a publisher has its time to begin
            self._published, self._quiet_since, self._next_warning = published, now, 0.0
        if now - self._quiet_since < PATIENCE:
            return
        self.advice = self._reason(now - self._quiet_since)
        if now >= self._next_warning:
            self._next_warning = now + REMINDER
            self._node.get_logger().warning(self.advice)

    def _reason(self, silent: float) -> str:
        """Why no image may have come for `silent` seconds, and the cure."""
        what = self._name.rpartition("/")[2]
        everybody = self._node.get_publishers_info_by_topic(self.topic)
        publishers = self._publishers()
        if not publishers and everybody:
            kind = everybody[0].topic_type
            return f"{self.topic} carries {kind}, not {self._type_name}: set {what}_transport, or remap `{self._name}`"
        if not publishers:
            return f"nobody publishes {self.topic}; remap `{self._name}` to the topic of your camera"
        start = f"{self.topic} is published by {publishers[0].node_name}, but no image came for {silent:.0f} s. "
        if self.reliability == RELIABLE and all(p.qos_profile.reliability == BEST_EFFORT for p in publishers):
            return start + "It is published best effort and subscribed reliable: set `reliability` to auto"
        small = "compressed" if what == "image" else "compressedDepth"
        return start + f"Is the camera paused? If not, {_large_images()}, or use {what}_transport {small}"


def _large_images() -> str:
    """What keeps the middleware that is used here from getting large images across, and the cure."""
    middleware = get_rmw_implementation_identifier()
    if "fastrtps" not in middleware:
        return (
            f"its images may be larger than {middleware} gets across (with Cyclone DDS: `sudo sysctl -w "
            "net.core.rmem_max=2147483647`)"
        )
    return (
        "its images may not fit the middleware's shared memory: start the camera driver with "
        f"FASTDDS_DEFAULT_PROFILES_FILE={profiles_file()} (FASTRTPS_DEFAULT_PROFILES_FILE before Kilted)"
    )


def profiles_file() -> Path:
    """The Fast DDS profile with shared memory for images, where the package is installed or from the source tree."""
    folders = [Path(sys.prefix) / "share" / "pave_ros", Path(__file__).parents[2]]
    with suppress(PackageNotFoundError, OSError):  # OSError: no setup.bash was sourced, as in a virtual environment
        folders.insert(0, Path(get_package_share_directory("pave_ros")))
    files = [folder / "config" / "fastdds_images.xml" for folder in folders]
    return next((file for file in files if file.is_file()), files[0])
