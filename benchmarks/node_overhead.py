"""What the pose node adds to the bare model, at several sizes of the camera's pictures.

    python benchmarks/node_overhead.py
    python benchmarks/node_overhead.py --model detrpose_s --device cuda --rounds 100 --json out/node_overhead.json

Two measurements, medians of both:

- In this process, the node's own code from the callback of an image to its published result, against the model alone on
  the same picture. The two take turns, so that whatever else the machine does hits both alike; their difference is what
  the node adds, and timers around its steps tell where it goes.
- Over DDS, with camera and node in processes of their own: the time from the arrival of an image at the node to its
  published result, less the time that the node's diagnostics give for the model; and the same from the image's stamp to
  the arrival of the result in this process, which holds both ways through the middleware too.

Weights are untrained and every guess counts, which makes for many people in each result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from listener import Listener
from rclpy.parameter import Parameter
from std_msgs.msg import Header

from pave_ros.frames import Frame
from pave_ros.msg import Poses
from pave_ros.ros import images, messages
from pave_ros.ros.demo import Child, set_environment
from pave_ros.ros.node import PoseNode
from pave_ros.synthetic import Scene
from pave_ros.training.card import processor

SIZES = ((640, 480), (1280, 720), (1920, 1080))
PEOPLE = 20
WARM_UP = 3
RATE = 4.0  # pictures a second over DDS; slower than the model, so that no picture waits for another

Figures = dict[str, float]  # by name; milliseconds, but for the number of people


def picture_of(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB."""
    return Scene(seed=3, width=width, height=height).frame(30).image


def parameters(model: str, device: str, side: int) -> dict[str, Any]:
    """Of the node: the model, and whoever it guesses, up to 20 people."""
    return {
        "model": model, "weights": "random", "device": device, "input_size": [side, side],
        "score_threshold": 0.0, "max_persons": PEOPLE,
    }  # fmt: skip


@contextmanager
def timed(times: dict[str, list[float]], *functions: tuple[str, Any, str]) -> Iterator[None]:
    """Time the calls of functions, given as (under which name, object, name of its attribute)."""

    def timer(function: Callable[..., Any], record: list[float]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                record.append(perf_counter() - start)

        return call

    originals = [getattr(owner, attribute) for _, owner, attribute in functions]
    for (name, owner, attribute), original in zip(functions, originals, strict=True):
        setattr(owner, attribute, timer(original, times.setdefault(name, [])))
    try:
        yield
    finally:
        for (_, owner, attribute), original in zip(functions, originals, strict=True):
            setattr(owner, attribute, original)


def in_process(settings: dict[str, Any], rounds: int) -> dict[str, Figures]:
    """The node's code against the model alone, by size of the picture."""
    rclpy.init(args=["--ros-args", "--log-level", "error"])
    node = PoseNode(parameter_overrides=[Parameter(name, value=value) for name, value in settings.items()])
    assert node.start()
    worker, estimator = node.streams[0]._worker, node._estimator
    assert worker is not None and estimator is not None
    worker.stop()  # its thread; the work is done here
    found = {}
    try:
        for size in SIZES:
            picture = picture_of(*size)
            message = images.write(picture, False, Header(frame_id="camera_optical_frame"))
            assert np.shares_memory(images.read(message)[0], np.frombuffer(message.data, np.uint8)), "a needless copy"

            def through_node(stamp: int, message: Any = message) -> None:
                message.header.stamp = messages.stamp(stamp)
                node.streams[0]._on_image(message)
                taken = worker.buffer.take(0.0)
                assert taken is not None
                worker.work(taken)

            def alone(stamp: int, picture: np.ndarray = picture) -> None:
                estimator.estimate([Frame(stamp, image=picture)])

            found[f"{size[0]}x{size[1]}"] = take_turns(node, worker, estimator, alone, through_node, rounds)
        assert not node.streams[0].statistics.failed and not node.streams[0].statistics.unreadable
    finally:
        node.destroy_node()
        rclpy.shutdown()
    return found


def take_turns(
    node: Any,
    worker: Any,
    estimator: Any,
    alone: Callable[[int], None],
    through_node: Callable[[int], None],
    rounds: int,
) -> Figures:
    """Medians of the model alone, of the node, of its steps, and of what the node adds to the model."""
    bare, whole, steps = [], [], {}
    for i in range(rounds + WARM_UP):
        stamp = (i + 1) * 100_000_000
        start = perf_counter()
        alone(stamp)
        bare.append(perf_counter() - start)
        with timed(
            steps,
            ("callback", worker.buffer, "push"),
            ("conversion", images, "read"),
            ("model", estimator, "estimate"),
            ("tracking", worker._tracker, "update"),
            ("message", messages, "poses"),
            ("publishing", node.streams[0]._outputs["poses"], "publish"),
        ):
            start = perf_counter()
            through_node(stamp)
            whole.append(perf_counter() - start)
    added = [total - model for total, model in zip(whole, steps["model"], strict=True)]
    columns = {"model alone": bare, "node": whole, **steps, "added": added}
    figures = {name: 1e3 * statistics.median(times[WARM_UP:]) for name, times in columns.items()}
    return {"people": node.streams[0].statistics.people, **figures}


def over_dds(settings: dict[str, Any], size: tuple[int, int], rounds: int) -> Figures:
    """What the node adds when camera, node and listener are three processes."""
    given = [part for name, value in settings.items() for part in ("-p", f"{name}:={json.dumps(value)}")]
    name = f"bench_{os.getpid()}"  # /diagnostics is one topic for all that share the domain
    own = ["--ros-args", "-r", f"__ns:=/{name}"]
    latencies, ages, inference = [], [], []

    def on_poses(message: Poses) -> None:
        latencies.append(message.latency)
        ages.append((listener.node.get_clock().now().nanoseconds - messages.nanoseconds(message.header.stamp)) / 1e9)

    def on_diagnostics(message: DiagnosticArray) -> None:
        status = message.status[0]
        values = {item.key: item.value for item in status.values}
        if status.name.startswith(name) and values.get("inference (ms)"):
            inference.append(float(values["inference (ms)"]) / 1e3)

    with tempfile.TemporaryDirectory() as folder, Listener(own) as listener:
        listener.subscribe(Poses, "poses", on_poses)
        listener.subscribe(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        still = Path(folder) / "still.png"
        cv2.imwrite(str(still), cv2.cvtColor(picture_of(*size), cv2.COLOR_RGB2BGR))
        log = Path(folder) / "node.log"
        camera = ["camera", str(still), "--rate", str(RATE), *own]
        with Child(["node", *own, *given], log) as node, Child(camera, Path(folder) / "camera.log"):
            enough = rounds + WARM_UP
            listener.wait_for(lambda: len(latencies) >= enough, node, log, 120 + 3 * rounds / RATE)
    # Of the model the diagnostics tell only the mean of every second: on a busy machine the difference is rough.
    model = statistics.median(inference[1:])
    inside, outside = statistics.median(latencies[WARM_UP:]), statistics.median(ages[WARM_UP:])
    return {
        "model": 1e3 * model,
        "arrival to result": 1e3 * inside,
        "added": 1e3 * (inside - model),
        "stamp to listener": 1e3 * outside,
        "middleware": 1e3 * (outside - inside),
    }


def table(found: dict[str, Figures]) -> str:
    """Markdown; a row for each size."""
    names = list(next(iter(found.values())))
    lines = [["picture", *names], ["---"] * (len(names) + 1)]
    lines += [[size, *(f"{figures[name]:.2f}" for name in names)] for size, figures in found.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine(device: str) -> str:
    """What the figures were measured on."""
    gpu = ""
    if device != "cpu":
        import torch

        gpu = f", {torch.cuda.get_device_name()}"
    return f"{os.cpu_count()} cores of {processor()}{gpu}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="detrpose_n")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--input-size", type=int, default=96, help="side of the model's input in pixels")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    args = parser.parse_args()
    set_environment()
    settings = parameters(args.model, args.device, args.input_size)
    about = f"{args.model}, input {args.input_size}x{args.input_size}, {machine(args.device)}"
    print(f"Milliseconds, {args.rounds} pictures of each size; {about}.")
    inside = in_process(settings, args.rounds)
    print(f"\nIn one process, by turns with the model alone:\n\n{table(inside)}")
    outside = {f"{size[0]}x{size[1]}": over_dds(settings, size, args.rounds) for size in SIZES}
    print(f"\nOver DDS, three processes:\n\n{table(outside)}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report = {"about": about, "rounds": args.rounds, "in one process": inside, "over DDS": outside}
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
