"""The demo: a camera and the pose node as two processes that talk over DDS, watched and recorded by this one.

The spectator in this process subscribes to what anybody may subscribe to: `camera_info` (to count the camera's
pictures), `poses`, `image_annotated`, `/diagnostics` (to say what runs), and of the synthetic scene `image` and
`ground_truth`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sensor_msgs.msg import CameraInfo, Image

from pave_ros import child, drawing
from pave_ros.checkpoints.files import RANDOM
from pave_ros.files import make_folder
from pave_ros.msg import Poses, Skeleton
from pave_ros.ros import images, messages
from pave_ros.ros.images import Picture
from pave_ros.ros.process import interruptible
from pave_ros.ros.stream import LATCHED
from pave_ros.ros.subscriber import profiles_file
from pave_ros.video import is_synthetic, open_source
from pave_ros.video_writer import VideoWriter

UNTRAINED_SIZE = 256  # pixels; small, so that the way of the data is seen live on a CPU
LOADING, FIRST_RESULT = 180.0, 60.0  # seconds to wait for the model, and then for a first result
PENDING = 120  # pictures that wait for their results; older ones are given up
CELL = 960  # pixels; the most width of a picture in the video
SHEET = 6  # pictures on the contact sheet
LOG_LINES = 15  # of the node, shown when it failed

console = Console(stderr=True, highlight=False)


def run(
    *,
    source: str,
    seconds: float,
    output: Path,
    model: str,
    weights: str,
    rate: float = 0.0,
    device: str = "auto",
    input_size: tuple[int, int] | None = None,
    ros_args: list[str] | None = None,
) -> int:
    """Run the demo and write ``demo.mp4``, ``demo.png`` and the logs of both processes. Returns the exit code.

    The processes get a ROS domain and a namespace of their own on this machine, so that demos do not meet.

    Args:
        source: what the camera shows, see `pave_ros.video.open_source`; over and over when it is short.
        seconds: how long, from the first picture in the video on.
        output: folder for the results; made if missing.
        model, weights, device: of the node; weights "random" are untrained.
        rate: pictures a second of the camera; 0 for the source's own.
        input_size: (height, width) of the network's input; None: the model's own, or a small one when untrained.
        ros_args: for all three, e.g. ``["--ros-args", "--log-level", "debug"]``.

    Raises:
        FileNotFoundError, VideoError, ValueError: of the source, or of the video that cannot be written.
    """
    with open_source(source, rate or None) as opened:
        name, size, rate = opened.name, (opened.width, opened.height), opened.rate
    make_folder(output)
    synthetic = is_synthetic(source)
    if weights == RANDOM and input_size is None:
        input_size = (UNTRAINED_SIZE, UNTRAINED_SIZE)
    set_environment()
    common = [*(ros_args or []), "--ros-args", "-r", f"__ns:=/demo_{os.getpid()}"]
    camera = ["camera", source, "--rate", str(rate), *common]
    node = ["node", *common, *_node_parameters(model, weights, device, input_size)]
    console.print(
        f"camera process: {name}, {size[0]}x{size[1]}, {rate:g} pictures a second; node process: {model}, "
        f"weights {weights}\nall on ROS domain {os.environ['ROS_DOMAIN_ID']}, namespace /demo_{os.getpid()}; "
        f"{seconds:g} s, Ctrl-C ends it sooner",
        soft_wrap=True,
    )
    recorder = Recorder(output, rate, seconds)
    with interruptible() as interrupted, recorder, _spectator(common, recorder.add, synthetic) as spectator:
        logs = output / "node.log", output / "camera.log"
        with Child(node, logs[0]) as node_process, Child(camera, logs[1], start=False) as camera_process:
            problem = _watch(spectator, node_process, camera_process, seconds, interrupted)
    if problem:
        _print_failure(problem, *logs)
        return 1
    _print_summary(spectator.tally, recorder.paths, logs)
    style = "green" if spectator.trained else "bold yellow"
    console.print(Text(_statement(spectator.facts, spectator.trained, synthetic), style), soft_wrap=True)
    return 0


def set_environment() -> None:
    """For all processes: a ROS domain of this run's own, on this machine only, room for pictures in shared memory."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    humble = os.environ.get("ROS_DISTRO") == "humble"
    local = {"ROS_LOCALHOST_ONLY": "1"} if humble else {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    os.environ.update(local)
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):  # from Kilted on, and before
        os.environ.setdefault(name, str(profiles_file()))
    # Three processes share the cores; a thread of the model that has to wait for one holds up all the others.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))


def _node_parameters(model: str, weights: str, device: str, input_size: tuple[int, int] | None) -> list[str]:
    given: dict[str, Any] = {"model": model, "weights": weights, "device": device}
    if input_size is not None:
        given["input_size"] = list(input_size)
    if weights == RANDOM:  # it is sure of nothing, and would show nothing
        given |= {"score_threshold": 0.0, "keypoint_threshold": 0.0, "max_persons": 3}
    # JSON is YAML whose words stay words
    return [part for key, value in given.items() for part in ("-p", f"{key}:={json.dumps(value, ensure_ascii=False)}")]


class Child:
    """A process of this package, `pave_ros.ros.<module>`, whose output goes to a file; a context ends it."""

    def __init__(self, command: list[str], log: Path, start: bool = True) -> None:
        module, *self._arguments = command
        self._module, self._log = f"pave_ros.ros.{module}", log
        self._process: subprocess.Popen[bytes] | None = None
        log.write_bytes(b"")
        if start:
            self.start()

    def start(self) -> None:
        """Start it, in a group of its own: Ctrl-C is for this process, which ends the others in order."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                child.command(self._module, *self._arguments),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether it was started and is over."""
        return self._process is not None and self._process.poll() is not None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None or self.ended:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass
class Tally:
    """What came by: times by `monotonic()` of pictures, results and recorded pictures, ages in seconds, counts."""

    pictures: list[float] = field(default_factory=list)
    results: list[float] = field(default_factory=list)
    recorded: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    people: int = 0
    dropped: int = 0

    def __str__(self) -> str:
        age = f"{median(self.ages[-10:]) * 1e3:.0f} ms" if self.ages else "-"
        return (
            f"camera {_rate(self.pictures):4.1f} fps | node {_rate(self.results):4.1f} fps | results {age} old | "
            f"{self.people} people | {self.dropped} dropped | {len(self.recorded)} recorded"
        )


def _rate(times: list[float], window: float = 2.0) -> float:
    """Per second, over the last seconds."""
    since = monotonic() - window
    recent = [time for time in times[-1000:] if time > since]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 else 0.0


class Spectator(Node):
    """Subscribes to camera and node, and puts together what belongs to the same picture.

    Args:
        record: takes each picture with its stamp in nanoseconds, (H, W, 3) uint8 RGB.
        synthetic: whether the camera also tells the truth, which is then shown beside.

    Attributes:
        tally: what came by.
        facts: what the node says of itself, as its diagnostics have it.
    """

    def __init__(self, record: Callable[[int, Picture], None], synthetic: bool) -> None:
        super().__init__("spectator")
        self.tally = Tally()
        self.facts: dict[str, str] = {}
        self._working = False
        self._record = record
        self._pending: dict[int, dict[str, Any]] = {}
        # Enough room for what comes while a picture is drawn.
        self.create_subscription(Skeleton, "skeleton", self._on_skeleton, QoSProfile(**LATCHED))
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.create_subscription(CameraInfo, "camera_info", self._on_camera_info, 10)
        self._topics = {"poses": Poses, "image_annotated": Image}
        if synthetic:
            self._topics |= {"ground_truth": Poses, "image": Image}
        for topic, kind in self._topics.items():
            self.create_subscription(kind, topic, lambda message, topic=topic: self._receive(topic, message), 10)

    @property
    def ready(self) -> bool:
        """Whether the node has begun to work, and has said with which model."""
        return self._working and "trained" in self.facts

    @property
    def trained(self) -> bool:
        """Whether the node's skeletons mean anything."""
        return self.facts["trained"] == "yes"

    def _on_skeleton(self, message: Skeleton) -> None:
        self._working = True  # the node publishes it when it begins to work

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(self.get_namespace().lstrip("/") + "/"):
                self.facts |= {value.key: value.value for value in status.values}

    def _on_camera_info(self, message: CameraInfo) -> None:
        self.tally.pictures.append(monotonic())

    def _receive(self, topic: str, message: Any) -> None:
        if topic == "poses":
            self._count(message)
        stamp = messages.nanoseconds(message.header.stamp)
        parts = self._pending.setdefault(stamp, {})
        parts[topic] = message
        if parts.keys() == self._topics.keys():
            self._pending = {other: pending for other, pending in self._pending.items() if other > stamp}
            self._record(stamp, self._compose(**parts))
            self.tally.recorded.append(monotonic())
        elif len(self._pending) > PENDING:
            del self._pending[min(self._pending)]

    def _count(self, message: Poses) -> None:
        now = self.get_clock().now().nanoseconds
        self.tally.results.append(monotonic())
        self.tally.ages.append((now - messages.nanoseconds(message.header.stamp)) / 1e9)
        self.tally.people = len(message.persons)
        self.tally.dropped += message.dropped

    def _compose(
        self, poses: Poses, image_annotated: Image, ground_truth: Poses | None = None, image: Image | None = None
    ) -> Picture:
        """What the node made of a picture, and the truth on its right."""
        shown = [_rgb(image_annotated)]
        caption = self.facts["model"] + ("" if self.trained else ", UNTRAINED: meaningless")
        captions = [f"node: {caption} ({len(poses.persons)} people)"]
        if ground_truth is not None and image is not None:
            people = messages.persons(ground_truth)
            shown.append(drawing.draw(_rgb(image), people, keypoint_threshold=0.25, label=False))
            captions.append(f"ground truth of the scene ({len(people)} people)")
        gap = 8
        width = len(shown) * (min(CELL, image_annotated.width) + gap) + gap
        return drawing.contact_sheet(shown, len(shown), width=width, captions=captions, gap=gap)


def _rgb(message: Image) -> Picture:
    picture, bgr = images.read(message)
    return np.ascontiguousarray(picture[..., ::-1]) if bgr else picture.copy()


@contextmanager
def _spectator(ros_args: list[str], *arguments: Any) -> Iterator[Spectator]:
    # Ctrl-C is for the loop below, which can then still hear what is on its way.
    rclpy.init(args=[sys.argv[0], *ros_args], signal_handler_options=SignalHandlerOptions.NO)
    spectator = Spectator(*arguments)
    try:
        yield spectator
    finally:
        spectator.destroy_node()
        rclpy.try_shutdown()


class Recorder:
    """Writes the video as the pictures come, in real time, and keeps some of them for the contact sheet.

    Args:
        folder: for ``demo.mp4`` and ``demo.png``.
        rate: pictures a second of the video.
        seconds: that the contact sheet spans.
    """

    def __init__(self, folder: Path, rate: float, seconds: float) -> None:
        self.paths = folder / "demo.mp4", folder / "demo.png"
        self._writer = VideoWriter(self.paths[0], rate)
        self._every = seconds / SHEET
        self._chosen: list[Picture] = []
        self._first = 0
        self._last: Picture

    def add(self, stamp: int, picture: Picture) -> None:
        """Append a picture; it stands until the next one, as long as it did on the way. It is fitted into the first."""
        if self._first and picture.shape != self._last.shape:
            canvas = np.zeros_like(self._last)
            drawing.paste(canvas, picture)
            picture = canvas
        self._first = self._first or stamp
        elapsed = (stamp - self._first) / 1e9
        for _ in range(round(elapsed * self._writer.rate) - self._writer.count):
            self._writer.write(self._last)
        self._writer.write(picture)
        self._last = picture
        if elapsed >= len(self._chosen) * self._every and len(self._chosen) < SHEET:
            self._chosen.append(picture)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.__exit__(kind)
        if kind is None and self._chosen:
            sheet = drawing.contact_sheet(self._chosen, 2, width=1920)
            if not cv2.imwrite(str(self.paths[1]), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
                raise OSError(f"{self.paths[1]} cannot be written; is the disk full?")


def _watch(spectator: Spectator, node: Child, camera: Child, seconds: float, interrupted: threading.Event) -> str:
    """Let the node load, start the camera, and look on until the end. Returns what went wrong, or nothing."""
    executor = SingleThreadedExecutor()
    executor.add_node(spectator)
    tally, started = spectator.tally, monotonic()
    try:
        with _status_line() as show:
            while not spectator.ready:
                show(f"the node loads the model ... {monotonic() - started:.0f} s")
                executor.spin_once(timeout_sec=0.1)
                if node.ended or monotonic() - started > LOADING:
                    return "the node ended before it was ready" if node.ended else "the node did not become ready"
            camera.start()
            started = monotonic()
            while not _is_over(tally, camera, started, seconds):
                executor.spin_once(timeout_sec=0.1)
                show(str(tally))
                if node.ended:
                    return "the node ended"
    except (KeyboardInterrupt, RuntimeError):  # see `interruptible`
        if not interrupted.is_set():
            raise
        console.print("interrupted; ending")
        return "" if tally.recorded else "it was interrupted before the first result"
    finally:
        executor.shutdown()
    return "" if tally.recorded else "no result arrived"


def _is_over(tally: Tally, camera: Child, started: float, seconds: float) -> bool:
    if camera.ended:  # a webcam that was unplugged, say; its log tells
        return True
    return monotonic() > (tally.recorded[0] + seconds if tally.recorded else started + FIRST_RESULT)


@contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Shows a line that changes; without a terminal a line every two seconds."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=5, transient=True) as live:
            yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"))
        return
    due = 0.0

    def show(text: str) -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + 2.0
            console.print(text, soft_wrap=True)

    yield show


def _print_failure(problem: str, node_log: Path, camera_log: Path) -> None:
    console.print(Text(f"error: {problem}", "bold red"))
    for who, log in (("node", node_log), ("camera", camera_log)):
        lines = log.read_text(errors="replace").splitlines()
        console.print(f"Last lines of the {who}, {log}:" if lines else f"The {who} said nothing.", markup=False)
        for line in lines[-LOG_LINES:]:
            console.print("  " + line, markup=False, soft_wrap=True)


def _print_summary(tally: Tally, results: tuple[Path, Path], logs: tuple[Path, Path]) -> None:
    elapsed = max(tally.results[-1] - tally.results[0], 1e-9)
    rate = (len(tally.results) - 1) / elapsed
    ages = sorted(tally.ages)
    # By what the node says: the spectator may have met the camera a second later than the node did.
    console.print(
        f"Of {len(tally.results) + tally.dropped} pictures the node answered {len(tally.results)}, {rate:.1f} a "
        f"second, and passed over {tally.dropped} for newer ones. Results were {median(ages) * 1e3:.0f} ms old in "
        f"the median, {ages[int(0.95 * (len(ages) - 1))] * 1e3:.0f} ms at the 95th percentile.",
        soft_wrap=True,
    )
    for what, path in zip(("video", "contact sheet", "node's log", "camera's log"), (*results, *logs), strict=True):
        console.print(f"{what + ':':14} {path}", markup=False, soft_wrap=True)


def _statement(facts: dict[str, str], trained: bool, synthetic: bool) -> str:
    """What ran, and what may be expected of it."""
    ran = f"What ran: {facts['model']} in {facts['engine']} on {facts['device']}, weights {facts['weights']}."
    if trained:
        beside = " The ground truth of the scene is on the right, to compare with." if synthetic else ""
        return f"{ran} Its skeletons should follow the people.{beside}"
    beside = " What they should look like is on the right: the ground truth of the scene." if synthetic else ""
    return (
        f"{ran} It was never trained, so its skeletons are meaningless and only the way of the data, from the camera "
        f"to the results, is real.{beside}"
    )
