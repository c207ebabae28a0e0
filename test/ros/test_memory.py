"""The node does not grow."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import psutil
from peer import Peer, wait_for
from rclpy.qos import QoSProfile
from rig import Rig
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

FRAMES, WARM_UP = 10_000, 2_000


def test_memory_stays_over_ten_thousand_frames(peer: Peer, make_node: Callable[..., Any]) -> None:
    """Small pictures over DDS, one after the other as fast as they are answered, with everything subscribed that a
    node publishes. The model is a stand-in, or this would take many minutes; people come, go and come back."""
    node, stand_in = make_node()
    rig = Rig(peer, node, stand_in)
    newest: dict[str, Any] = {}  # not lists: those would grow
    for kind, topic in ((MarkerArray, "markers"), (Image, "image_annotated")):
        peer.node.create_subscription(
            kind, f"{rig.namespace}/{topic}", lambda message, topic=topic: newest.update({topic: message}),
            QoSProfile(depth=1),
        )  # fmt: skip
    wait_for(
        lambda: node.streams[0]._is_wanted("markers") and node.streams[0]._is_wanted("image_annotated"),
        "the subscriptions",
    )
    groups = [stand_in.people(*places) for places in (((20.0, 10.0), (60.0, 15.0)), (), ((60.0, 15.0),))]
    process = psutil.Process()
    message = small()
    before = 0
    for i in range(FRAMES):
        if i == WARM_UP:
            gc.collect()
            before = process.memory_info().rss
        stand_in.persons = groups[i // 50 % len(groups)]
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(i * 33_000_000, 1_000_000_000)
        rig.send(message)
        rig.poses.clear()
        stand_in.windows.clear()
    gc.collect()
    assert node.streams[0].statistics.published == FRAMES
    assert newest.keys() == {"markers", "image_annotated"}
    assert process.memory_info().rss - before < 20e6


def small() -> Image:
    return Image(height=64, width=96, step=288, encoding="rgb8", data=bytes(288 * 64))
