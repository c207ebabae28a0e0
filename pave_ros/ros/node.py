"""The pose node: images in, people out.

The subscription's callback only stores the image; one worker thread takes the newest, has the people in it
estimated and publishes. docs/node.md describes topics, services and parameters.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.publisher import Publisher
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool, Trigger
from visualization_msgs.msg import MarkerArray

from pave_ros import detection, drawing
from pave_ros.frames import Frame
from pave_ros.msg import Poses, Skeleton
from pave_ros.persons import Persons
from pave_ros.ros import images, markers, messages
from pave_ros.ros.boxes import Pairing, boxes_of
from pave_ros.ros.depth import Depth
from pave_ros.ros.diagnostics import DETECTING, Reporter, Statistics
from pave_ros.ros.lifecycle import refuse_impossible_transitions
from pave_ros.ros.parameters import Parameters, Settings
from pave_ros.ros.pinhole import Camera, Positions
from pave_ros.ros.process import run, shielded
from pave_ros.ros.subscriber import ImageSubscriber
from pave_ros.ros.worker import Result, Worker

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
LATCHED = {"depth": 1, "durability": QoSDurabilityPolicy.TRANSIENT_LOCAL}
RELIABLE = QoSReliabilityPolicy.RELIABLE

# Topic, message type and QoS of what an active node publishes. Each node makes profiles of its own: rclpy writes
# overrides into them.
PUBLISHERS: tuple[tuple[str, Any, dict[str, Any]], ...] = (
    ("poses", Poses, {"depth": 5, "reliability": RELIABLE}),
    ("skeleton", Skeleton, LATCHED),
    ("markers", MarkerArray, {"depth": 5, "reliability": RELIABLE}),
    ("image_annotated", Image, {"depth": 1, "reliability": RELIABLE}),
)


class PoseNode(LifecycleNode):
    """Configuring loads the model, activating subscribes and publishes, deactivating stops both, cleaning up frees
    the model. With the parameter `autostart` the first two happen by themselves.

    Attributes:
        statistics: what the node has counted since its start.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("pose_node", **options)
        refuse_impossible_transitions(self)
        self._parameters_of_node = Parameters(self)
        self.statistics = Statistics()
        self._reporter = Reporter(self.get_fully_qualified_name(), self.statistics)
        self._estimator: Estimator | None = None
        self._loading: Future[None] | None = None
        self._worker: Worker | None = None
        self._subscriber: ImageSubscriber | None = None
        self._outputs: dict[str, Publisher] = {}
        self._camera_info: CameraInfo | None = None
        self._camera_info_subscription: Any = None
        self._pairing: Pairing | None = None
        self._boxes_subscription: Any = None
        self._depth: Depth | None = None
        self._enabled = True
        self._showing = threading.Lock()  # The worker shows people, the executor takes them away.
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # By a clock that also runs while simulated time stands still.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)

    @property
    def settings(self) -> Settings:
        """The values of the parameters as they are now."""
        return self._parameters_of_node.settings

    def start(self) -> bool:
        """Configure and activate, if `autostart` says so. Returns whether that went well."""
        if not self.settings.autostart:
            return True
        return self.trigger_configure() == SUCCESS and self.trigger_activate() == SUCCESS

    def stop(self) -> bool:
        """End the worker; called when the process ends. Returns whether no thread is in the model any more."""
        # ros2 launch waits 5 s after SIGINT before it sends SIGTERM, and 5 s more before it kills.
        if self._estimator is not None:
            self._estimator.close()
        ended = self._worker is None or self._worker.stop(timeout=4.0)
        building = self._estimator is not None and self._estimator.building
        return ended and not building and (self._loading is None or self._loading.done())

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers."""
        return self._attempt(self._configure, self._free, "inactive", "unconfigured")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to subscribe and to publish."""
        super().on_activate(state)
        done = self._attempt(self._activate, self._halt, DETECTING if self._enabled else "disabled", "inactive")
        if done != SUCCESS:
            super().on_deactivate(state)  # of the publishers
        return done

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop subscribing and publishing; the model stays loaded."""
        self._halt()
        self._tell("inactive")
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        self._tell("unconfigured")
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop whatever runs, for good."""
        self._halt()
        self._free()
        self._tell("finalized")
        return SUCCESS

    def _attempt(
        self, step: Callable[[], None], undo: Callable[[], None], done: str, failed: str
    ) -> TransitionCallbackReturn:
        """Take a step into the state `done`; when it raises, say why, undo it and go on in the state `failed`."""
        try:
            step()
        except Exception as error:  # a bad file can raise anything, and rclpy would swallow it without a word
            undo()
            self._reporter.error = " ".join(str(error).split()) or type(error).__name__
            self.get_logger().error(self._reporter.error)
            self._tell(failed)
            return FAILURE
        self._reporter.error = ""
        self._tell(done)
        return SUCCESS

    def _configure(self) -> None:
        self._tell("loading the model")
        self._loading = shielded(self._load)
        while not self._loading.done():  # minutes, where weights are fetched: the diagnostics go on meanwhile
            wait([self._loading], timeout=1.0)
            self._report()
        self._loading.result()
        self._loading = None
        assert self._estimator is not None
        self._reporter.facts = _facts(self._estimator)
        for topic, kind, qos in PUBLISHERS:
            self._outputs[topic] = self.create_lifecycle_publisher(
                kind, topic, QoSProfile(**qos), qos_overriding_options=QoSOverridingOptions.with_default_policies()
            )

    def _activate(self) -> None:
        assert self._estimator is not None
        self._outputs["skeleton"].publish(messages.skeleton(self._estimator.skeleton))
        self._markers = markers.Markers(self._estimator.skeleton, self.settings.camera)
        self._worker = Worker(
            self._estimator, lambda: self.settings, self._publish, self.context.ok,
            lambda: self.get_clock().now().nanoseconds, self.statistics, self.get_logger(),
        )  # fmt: skip
        self._worker.start()
        settings = self.settings
        self._subscriber = ImageSubscriber(self, settings.image_transport, settings.reliability, self._on_image)
        self._camera_info_subscription = self.create_subscription(
            CameraInfo, "camera_info", self._on_camera_info, qos_profile_sensor_data
        )
        topics = self._subscriber.topic
        if self._estimator.detector == detection.GIVEN:
            self._pairing = Pairing(self._push, settings.boxes_slop, self.statistics.without_boxes)
            self._boxes_subscription = self.create_subscription(Poses, "boxes", self._on_boxes, 5)
            topics += f" and boxes on {self._boxes_subscription.topic_name}"
        if settings.use_depth:
            self._depth = Depth(self, settings.depth_transport, settings.reliability, settings.depth_slop)
            topics += f" and depth images on {self._depth.topic}"
        self.get_logger().info(f"waiting for images on {topics}")

    def _load(self) -> None:
        """Load the model, into `_estimator` as soon as there is one: it may have to be closed before it is ready."""
        settings, log = self.settings, self.get_logger()
        log.info(f"loading {settings.model}, weights: {settings.weights}")
        # Here, because it takes seconds: a signal before the node exists could not be answered properly.
        from pave_ros.estimator import Estimator
        from pave_ros.topdown.options import TopDownOptions

        height, width = settings.input_size
        self._estimator = estimator = Estimator(
            model=settings.model,
            weights=settings.weights,
            device=settings.device,
            engine=settings.engine,
            input_size=(height, width) if height else None,
            precision=settings.precision,
            score_threshold=settings.score_threshold,
            max_persons=settings.max_persons,
            smoothing=settings.smoothing,
            build_apart=True,
            top_down=TopDownOptions(
                detector=settings.detector,
                detector_weights=settings.detector_weights,
                box_threshold=settings.box_threshold,
                decoding=settings.decoding,
                flip_test=settings.flip_test,
                reuse_features=settings.reuse_features,
                detect_every=settings.detect_every,
                closer_look=settings.closer_look,
            ),
        )
        if settings.lookahead > estimator.reach:
            raise ValueError(
                f"lookahead {settings.lookahead}: {estimator.name} looks at {estimator.reach} images on either side of "
                "the one it answers for, so it can wait for no more"
            )
        if settings.device == "auto" and estimator.device == "cpu":
            log.warning("no CUDA device was found: the model runs on the CPU, which is slow")
        log.info(
            f"{estimator.name} on {estimator.device} ({estimator.engine}: {estimator.engine_reason}), "
            f"input {estimator.input_size[0]}x{estimator.input_size[1]}, weights: {estimator.weights}"
        )
        if not estimator.trained:
            log.warning("the weights are untrained: the skeletons mean nothing, only the way of the data is shown")
        estimator.warm_up()  # A stream that begins with seconds of silence loses its tracks.

    def _halt(self) -> None:
        if self._subscriber is not None:
            self._subscriber.destroy()
            self.destroy_subscription(self._camera_info_subscription)
        if self._boxes_subscription is not None:
            self.destroy_subscription(self._boxes_subscription)
        if self._depth is not None:
            self._depth.destroy()
        if self._worker is not None:
            self._worker.stop()
            self._forget()
        self._pairing = self._boxes_subscription = self._depth = None
        self._subscriber = self._worker = self._camera_info_subscription = None

    def _free(self) -> None:
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._outputs = {}
        self._reporter.facts, self._reporter.error = {}, ""
        on_gpu = self._estimator is not None and self._estimator.device.startswith("cuda")
        if self._estimator is not None:
            self._estimator.close()
        self._estimator = None
        gc.collect()
        if on_gpu:  # torch keeps freed memory for itself otherwise
            import torch

            torch.cuda.empty_cache()

    def _forget(self) -> None:
        """Nobody is seen any more."""
        self._clear_markers()
        self.statistics.people = self.statistics.memory = 0

    def _reset(self) -> None:
        """No history is kept, nor anything that waits."""
        assert self._worker is not None
        self._worker.reset()
        if self._pairing is not None:
            self._pairing.clear()
        self.statistics.memory = 0

    # Services and subscriptions, in the executor's thread

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = bool(request.data)
        if not self._enabled and self._worker is not None:
            self._reset()
            self._forget()
        if self._worker is not None:
            self._tell(DETECTING if self._enabled else "disabled")
        response.success = True
        response.message = "enabled" if self._enabled else "disabled: images are not looked at"
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._worker is not None
        if self._worker is not None:
            self._reset()
        response.message = "history and tracks are forgotten" if response.success else "the node is not active"
        return response

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.statistics.received += 1
        if self._enabled and self._worker is not None:
            frame = Frame(messages.nanoseconds(message.header.stamp), message)
            if self._pairing is None:
                self._push(frame)
                return
            if self._pairing.add_image(frame):
                self._explain_missing_boxes()
            self.statistics.without_boxes = self._pairing.passed_over

    def _explain_missing_boxes(self) -> None:
        topic = self._boxes_subscription.topic_name
        if not self.count_publishers(topic):
            self.get_logger().warning(
                f"images come, but nobody publishes {topic}; remap `boxes` to the topic of your detector",
                throttle_duration_sec=10.0,
            )

    def _on_boxes(self, message: Poses) -> None:
        if self._enabled and self._pairing is not None:
            self._pairing.add_boxes(messages.nanoseconds(message.header.stamp), boxes_of(message))
            self.statistics.without_boxes = self._pairing.passed_over

    def _push(self, frame: Frame) -> None:
        if not frame.stamp:  # some drivers leave it empty: then that of the arrival
            frame.stamp = self.get_clock().now().nanoseconds
        if self._worker is None:
            return
        if self._depth is not None:
            self._depth.add_image(frame)
        self._worker.buffer.max_gap = self.settings.max_gap
        if self._worker.buffer.push(frame):
            self.get_logger().info(
                "the stamps of the images stepped back or over max_gap: starting afresh", throttle_duration_sec=1.0
            )

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    # Results, in the worker's thread

    def _publish(self, result: Result) -> None:
        if not (self.context.ok() and self._enabled):
            return
        frame, persons = result.frame, result.persons
        assert frame.image is not None
        header: Header = frame.payload.header
        size = frame.image.shape[:2]
        positions = self._positions(frame, persons)
        message = messages.poses(persons, header, size, self.settings.camera or header.frame_id, positions)
        message.context = result.context
        message.dropped = result.dropped
        message.latency = monotonic() - frame.received
        self._outputs["poses"].publish(message)
        self.statistics.age += max(0.0, (self.get_clock().now().nanoseconds - frame.stamp) / 1e9)
        self.statistics.people = len(persons)
        self.statistics.published += 1
        self._visualize(frame, persons, positions)

    def _positions(self, frame: Frame, persons: Persons) -> Positions | None:
        """Where the keypoints are in metres, (N, K, 3); None without depth, which is explained and counted."""
        depth = self._depth
        if depth is None or not len(persons):
            return None
        assert frame.image is not None
        camera = Camera.of(frame.image.shape[:2], self._camera_info)
        try:
            return depth.positions(frame, persons, camera, self.settings.keypoint_threshold)
        except images.ImageError as error:
            self.statistics.without_depth += 1
            self.statistics.problem = str(error)
            self.get_logger().warning(str(error), throttle_duration_sec=10.0)
            return None

    def _visualize(self, frame: Frame, persons: Persons, positions: Positions | None) -> None:
        """Publish markers and the annotated picture, if anybody wants them."""
        settings = self.settings
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
            camera = Camera.of((height, width), self._camera_info) or Camera.assumed((height, width))
            with self._showing:
                if not self._enabled:
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

    def _clear_markers(self) -> None:
        """Take away who is shown, which also ends markers that have no lifetime."""
        with self._showing:
            gone = self._markers.none()
            if gone.markers and self.context.ok():
                self._outputs["markers"].publish(gone)

    def _is_wanted(self, topic: str) -> bool:
        return bool(self._outputs[topic].get_subscription_count())

    # Diagnostics

    def _tell(self, state: str) -> None:
        """Enter a state and report it at once: the next may take long."""
        self._reporter.state = state
        self._report()

    def _report(self) -> None:
        if self.context.ok():
            self._reporter.advice = self._subscriber.advice if self._subscriber else ""
            if self._reporter.facts and self._estimator is not None:  # The engine may change.
                self._reporter.facts = _facts(self._estimator)
            self._diagnostics.publish(self._reporter.report(Header(stamp=self.get_clock().now().to_msg())))


def _facts(estimator: Estimator) -> dict[str, str]:
    """What the diagnostics say of a loaded model."""
    return {
        "model": estimator.name,
        "engine": estimator.engine,
        "engine is": estimator.engine_reason,
        "faster engine": estimator.engine_status or "none is being built",
        "device": estimator.device,
        "precision": estimator.precision,
        "detector": estimator.detector or "none",
        "input size": f"{estimator.input_size[0]}x{estimator.input_size[1]}",
        "weights": estimator.weights,
        "trained": "yes" if estimator.trained else "no",
    }


def main(args: list[str] | None = None) -> int:
    """The pose node as a process. Returns its exit code."""
    # Read by OpenMP when torch loads. Threads that spin while they wait take the processor from the camera and from
    # all else that a robot runs; then single images take several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run(PoseNode, args)


if __name__ == "__main__":
    sys.exit(main())
