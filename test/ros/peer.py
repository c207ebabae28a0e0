"""What the tests of the ROS side share: a node of their own, other processes, a stand-in for the model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log, SetParametersResult
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from pave_ros import skeletons
from pave_ros.frames import Frame
from pave_ros.persons import Persons
from pave_ros.ros import messages

DISCOVERY = 0.1  # seconds from when a publisher knows a subscriber until that knows it, too
TIMEOUT = 60.0  # seconds; a quiet machine needs a small part of it


def wait_for(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """The first true value of the condition; fails when none has come."""
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {timeout:g} s for {what}"
        time.sleep(0.001)
    return value


class Process:
    """A module of the package as another process; its output goes to a file."""

    def __init__(self, log: Path, module: str, *arguments: str, **environment: str) -> None:
        self._log = log
        # One thread, so that the model leaves a processor to the others.
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=file, stderr=subprocess.STDOUT, env=variables
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        return self._process.wait(TIMEOUT)

    def end(self) -> None:
        if self.running:
            self._process.kill()
        self._process.wait()


class Peer:
    """A node in the tests' process, spun by a thread."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("peer")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self._thread = threading.Thread(target=self.executor.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def subscribe(self, kind: Any, topic: str, qos: Any = 50) -> list[Any]:
        """The list to which the topic's messages are appended as they come."""
        inbox: list[Any] = []
        self.node.create_subscription(kind, topic, inbox.append, qos)
        self.executor.wake()
        return inbox

    def publisher(self, kind: Any, topic: str, qos: Any = 5) -> Any:
        """A publisher, once somebody listens to it."""
        publisher = self.node.create_publisher(kind, topic, qos)
        wait_for(publisher.get_subscription_count, f"a subscriber of {topic}")
        time.sleep(DISCOVERY)
        return publisher

    def call(self, kind: Any, service: str, request: Any) -> Any:
        """The response of a service."""
        client = self.node.create_client(kind, service)
        try:
            assert client.wait_for_service(TIMEOUT), f"{service} is missing"
            future = client.call_async(request)
            self.executor.wake()
            wait_for(future.done, f"an answer of {service}")
            return future.result()
        finally:
            self.node.destroy_client(client)

    def set_parameter(self, node: str, name: str, value: Any) -> SetParametersResult:
        """What `ros2 param set` does."""
        message: ParameterMessage = Parameter(name, value=value).to_parameter_msg()
        response = self.call(SetParameters, f"{node}/set_parameters", SetParameters.Request(parameters=[message]))
        return response.results[0]

    def get_parameters(self, node: str, *names: str) -> dict[str, Any]:
        """Values by name, lists as lists."""
        response = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=list(names)))
        values = [parameter_value_to_python(value) for value in response.values]
        return {n: v.tolist() if isinstance(v, array) else v for n, v in zip(names, values, strict=True)}

    def log(self, logger: str) -> Callable[[], list[str]]:
        """What the logger said since its node began: the lines of now, whenever it is called.

        Of /rosout, since pytest's capfd loses what is written by another thread while it reads.
        """
        profile = QoSProfile(depth=1000, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        inbox = self.subscribe(Log, "/rosout", profile)
        name = logger.lstrip("/").replace("/", ".")
        return lambda: [message.msg for message in list(inbox) if message.name == name]

    def diagnostics(self, node: str) -> Diagnostics:
        """What the node reports from now on."""
        return Diagnostics(self.subscribe(DiagnosticArray, "/diagnostics"), node.lstrip("/"))


class Diagnostics:
    """The reports of one node among all of /diagnostics."""

    def __init__(self, inbox: list[DiagnosticArray], node: str) -> None:
        self._inbox, self._node = inbox, node

    @property
    def reports(self) -> list[Any]:
        ours = f"{self._node}: "
        return [status for array in list(self._inbox) for status in array.status if status.name.startswith(ours)]

    @property
    def values(self) -> dict[str, str]:
        """Those of the newest report, which is waited for."""
        status = wait_for(lambda: self.reports, f"diagnostics of {self._node}")[-1]
        return {item.key: item.value for item in status.values}

    def wait_for(self, **values: str) -> dict[str, str]:
        """The values, once they hold these; underscores in names stand for blanks."""
        wanted = {key.replace("_", " "): value for key, value in values.items()}
        end = time.monotonic() + TIMEOUT
        while not wanted.items() <= (seen := self.values).items():
            assert time.monotonic() < end, f"waited for {wanted}, the last report is {seen}"
            time.sleep(0.05)
        return seen


def assert_stops_after(begin: Callable[[], Any], answer: threading.Event, node: Any) -> None:
    """That a node is not said to have stopped while `begin` waits for the answer, but before and afterwards."""
    assert node.stop(), "nothing was begun"
    beginning = threading.Thread(target=begin, daemon=True)
    beginning.start()
    wait_for(lambda: not node.stop(), "the beginning", timeout=20)
    answer.set()
    beginning.join(20)
    assert node.stop()


class StandIn:
    """An estimator without a model: the same two people in every picture, after `delay` seconds."""

    name, engine, device, precision, weights = "stand_in", "pytorch", "cpu", "fp32", "none"
    trained, window, reach, earlier, input_size, detector = True, 1, 0, 0, (32, 32), ""
    engine_reason, engine_status = "asked for", ""
    idle_options = ("detector", "flip_test", "box_threshold")
    skeleton = skeletons.get("coco17")

    def __init__(self) -> None:
        self.score_threshold, self.max_persons, self.delay = 0.3, 20, 0.0
        self.windows: list[list[Frame]] = []  # what was estimated
        self.warm = self.closed = self.building = False
        self.persons = self.people((20.0, 10.0), (60.0, 15.0))

    def warm_up(self) -> None:
        self.warm = True

    def close(self) -> None:
        self.closed = True

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        self.windows.append(list(frames))
        time.sleep(self.delay)
        return self.persons[self.persons.scores >= self.score_threshold][: self.max_persons]

    def people(self, *places: tuple[float, float]) -> Persons:
        """Upright people of 20 x 40 pixels whose top left corners are given, with scores 0.9, 0.8, ..."""
        body = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (20, 40)
        body[0], body[1] = (0, 0), (20, 40)
        points = np.array([body + place for place in places]).reshape(-1, 17, 2)
        scored = np.concatenate([points, np.full((len(points), 17, 1), 0.9)], axis=2)
        return Persons.from_keypoints(scored, 0.9 - 0.1 * np.arange(len(points)), "coco17")


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth RGB picture in which every channel has its own direction, (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (40 + 150 * x / width, 200 - 150 * y / height, 60 + 80 * (x / width + y / height))
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def image(stamp: int = 0, **changes: Any) -> Image:
    """A good rgb8 message with a stamp in nanoseconds, and what is to be changed of it."""
    pixels = picture()
    height, width = pixels.shape[:2]
    message = Image(
        header=Header(stamp=messages.stamp(stamp), frame_id="front"),
        height=height, width=width, step=3 * width, encoding="rgb8", data=array("B", pixels.tobytes()),
    )  # fmt: skip
    for name, value in changes.items():
        setattr(message, name, value)
    return message
