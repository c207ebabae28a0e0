"""A camera node without a camera: publishes a video, a recording, a webcam, pictures or the synthetic scene as images.

    camera_node SOURCE --rate 30 --once --ros-args -r __ns:=/front -p frame_id:=front_optical_frame

Topics: `image` (sensor_msgs/Image), `image/compressed` (JPEG) or both, `camera_info`, and for the synthetic scene
`depth` (metres) and `ground_truth` (pave_ros/Poses), all with the same stamp, the time at which the picture was due or
taken.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import rclpy
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from pave_ros.frames import Frame
from pave_ros.msg import Poses
from pave_ros.ros import depth_images, images, messages
from pave_ros.ros.clocks import at_most_every
from pave_ros.ros.parameters import declare, warn_of_misspellings
from pave_ros.ros.process import run, shielded
from pave_ros.ros.subscriber import image_topic
from pave_ros.video import Source, VideoError, is_synthetic, open_source

if TYPE_CHECKING:
    from pave_ros.synthetic import SyntheticFrame

# Name, default and description of every parameter; all are read once, at the start.
PARAMETERS: tuple[tuple[str, Any, str], ...] = (
    (
        "source",
        "synthetic",
        "Video file, recording (bag), webcam (0 or /dev/video0), folder of pictures, picture or synthetic",
    ),
    ("rate", 0.0, "Pictures per second; 0: the source's own"),
    ("loop", True, "Start over at the end of the source"),
    ("frame_id", "camera_optical_frame", "Optical frame of the pictures"),
    ("image_transport", "raw", "raw publishes `image`, compressed `image/compressed` as JPEG, both what is heard"),
    ("jpeg_quality", 90, "1 to 100"),
    ("reliability", "reliable", "reliable or best_effort; see config/fastdds_images.xml for the latter"),
)

# Seconds that a source played only once waits for its first subscriber: discovery takes a moment, and nobody could ever
# see what was published before.
PATIENCE = 10.0
TRANSPORTS = {"raw": ("raw",), "compressed": ("compressed",), "both": ("raw", "compressed")}


class CameraNode(Node):
    """Publishes a `pave_ros.video.Source` at its rate, from a thread of its own.

    Args:
        overrides: values of `PARAMETERS`.
        on_end: called in the executor's thread when the source is at its end.

    Attributes:
        failed: whether the source broke off.
    """

    def __init__(self, overrides: dict[str, Any], on_end: Callable[[], object] = lambda: None) -> None:
        given = [Parameter(name, value=value) for name, value in overrides.items()]
        super().__init__("camera", parameter_overrides=given)
        values = {
            name: declare(self, name, default, ParameterDescriptor(description=text, read_only=True))
            for name, default, text in PARAMETERS
        }
        warn_of_misspellings(self, values)
        self._values = values
        self._source: Source | None = None
        self._opening: Future[Source] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._publish_all, name="camera", daemon=True)
        self._finished = self.create_guard_condition(on_end)
        self._image: Image | None = None
        self._recorded: CameraInfo | None = None
        self.failed = False

    def start(self) -> bool:
        """Open the source and begin to publish. Returns False when it cannot be opened, having logged why."""
        values = self._values
        try:
            # A stream that does not answer would hold up the signals.
            self._opening = shielded(lambda: open_source(values["source"], values["rate"] or None, values["loop"]))
            self._source = self._opening.result()
            self._recorded = recorded_info(self._source.camera_info)
            self._create_publishers()
        except (OSError, ValueError, KeyError, VideoError) as error:
            self.get_logger().fatal(str(error))
            return False
        source = self._source
        self.get_logger().info(
            f"publishing {source.name}, {source.width}x{source.height} at {source.rate:g} Hz, "
            f"on {' and '.join(publisher.topic_name for publisher in self._image_publishers.values())}"
        )
        self._thread.start()
        return True

    def _create_publishers(self) -> None:
        values = self._values
        for name, allowed in (("image_transport", TRANSPORTS), ("reliability", ("reliable", "best_effort"))):
            if values[name] not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {values[name]!r}")
        if not 1 <= values["jpeg_quality"] <= 100:
            raise ValueError(f"jpeg_quality must be from 1 to 100, not {values['jpeg_quality']}")

        topics = {transport: image_topic(self, transport) for transport in TRANSPORTS[values["image_transport"]]}
        if len(set(topics.values())) < len(topics):
            raise ValueError(
                f"image_transport is both, and image is remapped to {topics['raw']}: that is for compressed images; "
                "remap it to the name without the ending"
            )

        def qos() -> QoSProfile:  # one for each, for overriding changes it
            # Two pictures: one may still be on its way while the next is published.
            return QoSProfile(depth=2, reliability=QoSReliabilityPolicy[values["reliability"].upper()])

        self._image_publishers = {
            transport: self.create_publisher(
                CompressedImage if transport == "compressed" else Image,
                topic,
                qos(),
                qos_overriding_options=QoSOverridingOptions.with_default_policies(),
            )
            for transport, topic in topics.items()
        }
        self._info_publisher = self.create_publisher(CameraInfo, "camera_info", qos())
        self._knows_truth = is_synthetic(values["source"])
        if self._knows_truth:
            self._truth_publisher = self.create_publisher(Poses, "ground_truth", 5)
            self._depth_publisher = self.create_publisher(Image, "depth", qos())

    def stop(self) -> bool:
        """End the thread and let go of the source. Returns whether that was soon enough."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(4.0)
        if self._thread.is_alive():
            return False
        if self._source is not None:
            self._source.close()
        return self._opening is None or self._opening.done()

    def destroy_node(self) -> None:
        """End the thread, let go of the source and give everything back to ROS."""
        self.stop()
        super().destroy_node()

    def _publish_all(self) -> None:
        try:
            if not self._values["loop"]:
                self._wait_for_subscriber()
            for frame in self._paced():
                self._publish(frame)
        except Exception as error:
            self.failed = self.context.ok()  # else the shutdown broke it off
            if self.failed:
                self.get_logger().fatal(str(error) or type(error).__name__)
        if self.context.ok() and not self._stopping.is_set():
            # Or the last pictures would be lost with the process; best effort does not wait.
            for publisher in self._image_publishers.values():
                publisher.wait_for_all_acked(Duration(seconds=2))
            if not self.failed:
                self.get_logger().info("the source is at its end")
            self._finished.trigger()

    def _wait_for_subscriber(self) -> None:
        end = monotonic() + PATIENCE
        while not any(publisher.get_subscription_count() for publisher in self._image_publishers.values()):
            if self._stopping.wait(0.02):
                return
            if monotonic() > end:
                self.get_logger().warning(f"nobody has subscribed in {PATIENCE:g} s; the source is played all the same")
                return

    def _paced(self) -> Iterator[Frame]:
        """The frames of the source when they are due; a source that is too slow is not hurried afterwards."""
        assert self._source is not None
        offset: float | None = None
        for frame in self._source:
            due = frame.stamp / 1e9
            offset = max(monotonic() - due, offset if offset is not None else -float("inf"))
            if self._stopping.wait(due + offset - monotonic()):
                return
            yield frame

    def _publish(self, frame: Frame) -> None:
        assert frame.image is not None
        now = self.get_clock().now()
        if not now.nanoseconds:
            self.get_logger().warning(
                "use_sim_time is true, but nobody publishes /clock: the pictures have no stamps",
                **at_most_every(10.0),
            )
        header = Header(stamp=now.to_msg(), frame_id=self._values["frame_id"])
        height, width = frame.image.shape[:2]
        for transport, publisher in self._image_publishers.items():
            if len(self._image_publishers) > 1 and not publisher.get_subscription_count():
                continue
            if transport == "compressed":
                publisher.publish(images.compress(frame.image, frame.bgr, header, self._values["jpeg_quality"]))
            else:
                # The middleware has its own copy when publish returns, so the message is used again.
                self._image = images.write(frame.image, frame.bgr, header, self._image)
                publisher.publish(self._image)
        scene: SyntheticFrame | None = frame.payload if self._knows_truth else None
        info = self._recorded or camera_info(width, height, scene.focal if scene else width)
        info.header = header
        self._info_publisher.publish(info)
        if scene is not None:
            self._publish_truth(scene, header)

    def _publish_truth(self, scene: SyntheticFrame, header: Header) -> None:
        name, size = self._values["frame_id"], scene.image.shape[:2]
        self._truth_publisher.publish(messages.poses(scene.persons, header, size, name, scene.positions))
        if self._depth_publisher.get_subscription_count():
            self._depth_publisher.publish(depth_images.write(scene.depth, header))


def _shut_down() -> None:
    with suppress(Exception):
        rclpy.try_shutdown()


def recorded_info(recorded: Any) -> CameraInfo | None:
    """What a recording says of its camera, as rosbags reads it, as a message; None for None. In ROS 1 the names of the
    matrices are capitals."""
    if recorded is None:
        return None
    matrices = {name: getattr(recorded, name if hasattr(recorded, name) else name.upper()) for name in "dkrp"}
    plain = {
        name: getattr(recorded, name) for name in ("width", "height", "distortion_model", "binning_x", "binning_y")
    }
    roi = {name: getattr(recorded.roi, name) for name in RegionOfInterest.get_fields_and_field_types()}
    return CameraInfo(**plain, **matrices, roi=RegionOfInterest(**roi))


def camera_info(width: int, height: int, focal: float) -> CameraInfo:
    """A pinhole camera without distortion, its focal length in pixels; one as wide as the picture sees 53 degrees."""
    focal, cx, cy = float(focal), (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width=width,
        height=height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def run_camera(ros_args: list[str] | None = None, **parameters: Any) -> int:
    """Run the camera as this process until its source ends or a signal comes. Returns the exit code, 1 when the source
    cannot be opened or breaks off.

    Args:
        ros_args: arguments for ROS, e.g. ``["--ros-args", "-r", "__ns:=/front"]``.
        parameters: values for `PARAMETERS`; what is left out comes from `ros_args` or the defaults.
    """
    try:
        str(parameters.get("source", "")).encode()
    except UnicodeEncodeError:
        get_logger("camera").fatal(
            f"{os.fsencode(parameters['source'])!r}: ROS takes no name that is not UTF-8; rename it"
        )
        return 1
    made: list[CameraNode] = []

    def make() -> CameraNode:
        made.append(CameraNode(parameters, on_end=_shut_down))
        return made[0]

    code = run(make, ros_args or [])
    return code or int(any(node.failed for node in made))


def main(args: list[str] | None = None) -> int:
    """The camera node as a process. Returns its exit code."""
    parser = argparse.ArgumentParser("camera_node", description=__doc__.partition("\n")[0], allow_abbrev=False)
    help_of = {name: text for name, _, text in PARAMETERS}
    parser.add_argument("source", nargs="?", help=help_of["source"])
    parser.add_argument("--rate", type=float, help=help_of["rate"])
    parser.add_argument("--once", dest="loop", action="store_false", default=None, help="stop at the source's end")
    parser.add_argument("--frame-id", help=help_of["frame_id"])
    parser.add_argument(
        "--compressed", dest="image_transport", action="store_const", const="compressed", help="publish JPEG"
    )
    arguments = sys.argv[1:] if args is None else args
    split = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    given = {name: value for name, value in vars(parser.parse_args(arguments[:split])).items() if value is not None}
    return run_camera(arguments[split:], **given)


if __name__ == "__main__":
    sys.exit(main())
