"""A node with a stand-in for its model, and what it is shown and answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from peer import Peer, image, wait_for
from sensor_msgs.msg import CompressedImage, Image

from pave_ros.msg import Poses
from pave_ros.ros import messages
from pave_ros.ros.node import PoseNode

SECOND = 1_000_000_000


class Rig:
    """A node with a stand-in for its model, a publisher of its images and what it answers."""

    def __init__(self, peer: Peer, node: PoseNode, stand_in: Any, kind: Any = Image, topic: str = "image") -> None:
        self.node, self.model, self.peer = node, stand_in, peer
        self.namespace = node.get_namespace()
        self.name = f"{self.namespace}/pose_node"
        self.poses: list[Poses] = peer.subscribe(Poses, f"{self.namespace}/poses")
        self.images = peer.publisher(kind, f"{self.namespace}/{topic}")
        # Otherwise the first result may be out before the subscription is known to the node.
        wait_for(lambda: node.count_subscribers("poses"), "the subscription of the results")
        wait_for(lambda: node.streams[0]._outputs["poses"].get_subscription_count(), "the subscription of the results")

    def settled(self) -> None:
        """Wait until all images sent one by one are answered, counted as bad, or passed over."""
        n = self.node.streams[0].statistics
        wait_for(lambda: n.received == n.published + n.dropped + n.unreadable + n.failed, f"an end of the work: {n}")

    def send(self, message: Any) -> None:
        """Send an image and wait until the node is done with it."""
        before = self.node.streams[0].statistics.received
        self.images.publish(message)
        wait_for(lambda: self.node.streams[0].statistics.received > before, "the arrival of an image")
        self.settled()

    def ask(self, stamp: int, **changes: Any) -> Poses:
        """The result for an image of that stamp."""
        before = len(self.poses)
        self.send(image(stamp, **changes))
        result = wait_for(lambda: self.poses[before:], "a result")[-1]
        assert messages.nanoseconds(result.header.stamp) == stamp
        return result

    def tracks(self, stamp: int) -> set[int]:
        return {person.track_id for person in self.ask(stamp).persons}


@pytest.fixture
def rig(peer: Peer, make_node: Callable[..., Any]) -> Callable[..., Rig]:
    def make(**parameters: Any) -> Rig:
        node, stand_in = make_node(**parameters)
        if parameters.get("image_transport") == "compressed":
            return Rig(peer, node, stand_in, CompressedImage, "image/compressed")
        return Rig(peer, node, stand_in)

    return make
