"""One camera of the pose node: its images in, the people in them out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from pave_ros import detection, drawing
from pave_ros.frames import Frame
from pave_ros.msg import Poses, Skeleton
from pave_ros.persons import Persons
from pave_ros.ros import images, markers, messages
from pave_ros.ros.boxes import Pairing
from pave_ros.ros.clocks import at_most_every
from pave_ros.ros.depth import Depth
from pave_ros.ros.diagnostics import Reporter, Statistics
from pave_ros.ros.parameters import Settings
from pave_ros.ros.pinhole import Camera, Positions
from pave_ros.ros.subscriber import NO_EVENTS, ImageSubscriber
from pave_ros.ros.worker import Result, Worker
from pave_ros.tracking import Tracker

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator

LATCHED = {"depth": 1, "durability": QoSDurabilityPolicy.TRANSIENT_LOCAL}
RELIABLE = QoSReliabilityPolicy.RELIABLE

# Topic, message type and QoS of what an active node publishes of a camera. Each has profiles of its own: rclpy writes
# overrides into them.
PUBLISHERS: tuple[tuple[str, Any, dict[str, Any]], ...] = (
    ("poses", Poses, {"depth": 5, "reliability": RELIABLE}),
    ("skeleton", Skeleton, LATCHED),
    ("markers", MarkerArray, {"depth": 5, "reliability": RELIABLE}),
    ("image_annotated", Image, {"depth": 1, "reliability": RELIABLE}),
)


class Stream:
    """From a camera's images to its people. The callback of the images only stores them; one worker thread takes the
    newest, has the people in it estimated and publishes.

    Args:
        node: it creates publishers and subscriptions.
        name: of the camera, which its topics begin with; empty where there is one only.
        settings: returns the values of the parameters as they are now.

    Attributes:
        statistics: what was counted since the node's start.
        reporter: makes diagnostics of it.
        enabled: whether images are looked at.
    """

    def __init__(self, node: LifecycleNode, name: str, settings: Callable[[], Settings]) -> None:
        self.statistics = Statistics()
        self.reporter = Reporter("/".join(filter(None, (node.get_fully_qualified_name(), name))), self.statistics)
        self.enabled = True
        self._node, self._settings = node, settings
        # One of its own, so that what one camera is told does not keep back what another has to be.
        self._log = node.get_logger().get_child(name.replace("/", ".")) if name else node.get_logger()
        self._name = name or settings().camera
        self._prefix = f"{name}/" if name else ""
        self._outputs: dict[str, Publisher] = {}
        self._worker: Worker | None = None
        self._subscriber: ImageSubscriber | None = None
        self._camera_info: CameraInfo | None = None
        self._camera_info_subscription: Any = None
        self._pairing: Pairing | None = None
        self._boxes_subscription: Any = None
        self._frame_id = ""  # of the images that boxes are for
        self._depth: Depth | None = None
        self._tracker = Tracker()  # Its numbers go on when the node is active again.
        self._showing = threading.Lock()  # The worker shows people, the executor takes them away.

    # What the node tells it, in the executor's thread

    def open(self) -> None:
        """Create the publishers."""
        for topic, kind, qos in PUBLISHERS:
            self._outputs[topic] = self._node.create_lifecycle_publisher(
                kind, self._prefix + topic, QoSProfile(**qos),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )  # fmt: skip

    def start(self, estimator: Estimator) -> str:
        """Begin to subscribe and to publish. Returns the topics that are heard, for a person."""
        node, settings = self._node, self._settings()
        self._outputs["skeleton"].publish(messages.skeleton(estimator.skeleton))
        self._markers = markers.Markers(estimator.skeleton, self._name)
        self._tracker.reset()
        self._worker = Worker(
            estimator, self._tracker, self._settings, self._publish, node.context.ok, self._now, self.statistics,
            self._log,
        )  # fmt: skip
        self._worker.start()
        self._subscriber = ImageSubscriber(
            node, settings.image_transport, settings.reliability, self._on_image, f"{self._prefix}image"
        )
        self._camera_info_subscription = node.create_subscription(
            CameraInfo,
            f"{self._prefix}camera_info",
            self._on_camera_info,
            qos_profile_sensor_data,
            event_callbacks=NO_EVENTS,
        )
        topics = self._subscriber.topic
        if estimator.detector == detection.GIVEN:
            self._pairing = Pairing(self._push, settings.boxes_slop, self.statistics.without_boxes)
            self._boxes_subscription = node.create_subscription(
                Poses, f"{self._prefix}boxes", self._on_boxes, 5, event_callbacks=NO_EVENTS
            )
            topics += f" and boxes on {self._boxes_subscription.topic_name}"
        if settings.use_depth:
            self._depth = Depth(
                node,
                self._log,
                settings.depth_transport,
                settings.reliability,
                settings.depth_slop,
                f"{self._prefix}depth",
            )
            topics += f" and depth images on {self._depth.topic}"
        return topics

    def halt(self) -> None:
        """Stop subscribing and publishing."""
        if self._subscriber is not None:
            self._subscriber.destroy()
            self._node.destroy_subscription(self._camera_info_subscription)
        if self._boxes_subscription is not None:
            self._node.destroy_subscription(self._boxes_subscription)
        if self._depth is not None:
            self._depth.destroy()
        if self._worker is not None:
            self._worker.stop()
            self.forget()
        self._pairing = self._boxes_subscription = self._depth = None
        self._subscriber = self._worker = self._camera_info_subscription = None

    def stop(self, timeout: float) -> bool:
        """End the worker, for the process ends. Returns whether it ended within `timeout` seconds."""
        if self._depth is not None:
            self._depth.close()
        return self._worker is None or self._worker.stop(timeout)

    def close(self) -> None:
        """Take the publishers away."""
        for publisher in self._outputs.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._outputs = {}

    def forget(self) -> None:
        """Nobody is seen any more."""
        self._clear_markers()
        self.statistics.people = self.statistics.memory = 0

    def reset(self) -> None:
        """No history is kept, nor anything that waits."""
        if self._worker is not None:
            self._worker.reset()
        for waiting in (self._pairing, self._depth):
            if waiting is not None:
                waiting.clear()
        self.statistics.memory = 0

    def enable(self, enabled: bool) -> None:
        """Look at images from now on, or at none, and forget what was seen."""
        self.enabled = enabled
        if not enabled and self._worker is not None:
            self.reset()
            self.forget()

    def report(self) -> DiagnosticStatus:
        """Diagnostics of the time since the last call."""
        self.reporter.advice = self._subscriber.advice if self._subscriber else ""
        self.reporter.depth_advice = self._depth.advice if self._depth else ""
        return self.reporter.report()

    # Subscriptions, in the executor's thread

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.statistics.received += 1
        if not self.enabled or self._worker is None:
            return
        frame = Frame(messages.nanoseconds(message.header.stamp), message)
        self._worker.buffer.max_gap = self._settings().max_gap
        self._worker.buffer.see(frame.stamp or self._now())
        if self._depth is not None:
            self._depth.add_image(frame)
        if self._pairing is None:
            self._push(frame)
            return
        self._frame_id = message.header.frame_id
        if not frame.stamp:
            self._log.warning(
                "the images have no stamps, so boxes are taken for those of the newest image",
                **at_most_every(30.0),
            )
        if self._pairing.add_image(frame):
            self._explain_missing_boxes()
        self.statistics.without_boxes = self._pairing.passed_over

    def _explain_missing_boxes(self) -> None:
        assert self._pairing is not None
        topic, missed = self._boxes_subscription.topic_name, self._pairing.missed
        if not self._node.count_publishers(topic):
            advice = f"nobody publishes {topic}; remap `{self._prefix}boxes` to the topic of your detector"
        elif missed is None:
            advice = f"no boxes for them on {topic}, where they have to be published reliable"
        else:
            advice = (
                f"the boxes on {topic} have other stamps, {missed * 1e3:.0f} ms off at least; a detector has to give "
                "them the stamp of their image (see boxes_slop), and to be quick"
            )
        self.reporter.boxes_advice = f"images come, but {advice}"
        self._log.warning(self.reporter.boxes_advice, **at_most_every(10.0))

    def _on_boxes(self, message: Poses) -> None:
        if not self.enabled or self._pairing is None:
            return
        given = message.header.frame_id
        if given and self._frame_id and given != self._frame_id:
            self._log.warning(
                f"boxes in the frame {given!r} are left out: the images are in {self._frame_id!r}",
                **at_most_every(10.0),
            )
            return
        self._pairing.add_boxes(messages.nanoseconds(message.header.stamp), message)
        self.statistics.without_boxes = self._pairing.passed_over

    def _push(self, frame: Frame) -> None:
        frame.stamp = frame.stamp or self._now()  # some drivers leave it empty: then that of the arrival
        if self._worker is None:
            return
        jump = self._worker.buffer.push(frame, seen=True)
        if jump < 0:
            self._log.info(
                f"the stamps of the images stepped back by {-jump:.3g} s: starting afresh", **at_most_every(10.0)
            )
        elif jump > 0:
            self._log.info(
                f"{jump:.3g} s between two images, over max_gap ({self._settings().max_gap:g}): starting afresh; a "
                "camera that is always so slow needs a larger max_gap",
                **at_most_every(10.0),
            )

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    # Results, in the worker's thread

    def _publish(self, result: Result) -> bool:
        """Publish a result, unless it is not wanted any more; returns whether it was."""
        frame, persons = result.frame, result.persons
        assert frame.image is not None and self._worker is not None
        header: Header = frame.payload.header
        size = frame.image.shape[:2]
        positions = self._positions(result)
        if not (self._node.context.ok() and self._worker.wants(result)):  # now, after waiting for depth
            return False
        message = messages.poses(persons, header, size, self._name or header.frame_id, positions)
        message.context = result.context
        message.dropped = result.dropped
        message.latency = monotonic() - frame.received
        self._outputs["poses"].publish(message)
        self.statistics.age += max(0.0, (self._now() - frame.stamp) / 1e9)
        self.statistics.people = len(persons)
        self.statistics.published += 1
        self._visualize(frame, persons, positions)
        return True

    def _positions(self, result: Result) -> Positions | None:
        """Where the keypoints are in metres, (N, K, 3); None without depth, which is explained and counted."""
        frame, persons, depth = result.frame, result.persons, self._depth
        if depth is None or not len(persons):
            return None
        assert frame.image is not None and self._worker is not None
        try:
            return depth.positions(frame, persons, Camera.of(frame.image.shape[:2], self._camera_info))
        except images.ImageError as error:
            if self._worker.wants(result):
                self.statistics.without_depth += 1
                self.statistics.problem = str(error)
                self._log.warning(str(error), **at_most_every(10.0))
            return None

    def _visualize(self, frame: Frame, persons: Persons, positions: Positions | None) -> None:
        """Publish markers and the annotated picture, if anybody wants them."""
        settings = self._settings()
        with_markers = settings.publish_markers and self._is_wanted("markers")
        if not settings.publish_markers:
            self._clear_markers()
        with_picture = settings.publish_annotated and self._is_wanted("image_annotated")
        if not (with_markers or with_picture):
            return
        assert frame.image is not None
        unsure = persons.keypoints[..., 2:] < settings.keypoint_threshold
        visible = replace(persons, keypoints=np.where(unsure, np.float32(np.nan), persons.keypoints))
        header: Header = frame.payload.header
        height, width = frame.image.shape[:2]
        if with_markers:
            camera = self._camera((height, width))
            with self._showing:
                if not self.enabled:
                    return
                array = self._markers.make(
                    visible, header, camera, positions,
                    distance=settings.marker_distance, scale=settings.marker_scale, lifetime=settings.marker_lifetime,
                )  # fmt: skip
                self._outputs["markers"].publish(array)
        if with_picture:
            message = images.write(frame.image, frame.bgr, header)
            drawing.draw(np.frombuffer(message.data, np.uint8).reshape(height, width, 3), visible, bgr=frame.bgr)
            self._outputs["image_annotated"].publish(message)

    def _camera(self, size: tuple[int, int]) -> Camera:
        """What markers of a picture of `size` (height, width) are put into space with; where the camera_info does not
        say, and there is one, this is told."""
        camera = Camera.of(size, self._camera_info)
        if camera is None and self._camera_info is not None:
            self._log.warning(
                f"camera_info has no calibration for images of {size[1]}x{size[0]}: markers are shown as if the camera "
                "saw 53 degrees across",
                **at_most_every(60.0),
            )
        return camera or Camera.assumed(size)

    def _clear_markers(self) -> None:
        """Take away who is shown, which also ends markers that have no lifetime."""
        with self._showing:
            gone = self._markers.none()
            if gone.markers and self._node.context.ok():
                self._outputs["markers"].publish(gone)

    def _is_wanted(self, topic: str) -> bool:
        return bool(self._outputs[topic].get_subscription_count())
