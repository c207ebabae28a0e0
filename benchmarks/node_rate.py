"""How many results a second the pose node gives, with camera, node and listener in three processes.

    python benchmarks/node_rate.py                                   # the embedded model, by engine and precision
    python benchmarks/node_rate.py --cameras 2 --rate 30             # the same, two cameras in one node
    python benchmarks/node_rate.py --video FILE --rate 30 --node -p model:=detrpose_n -p weights:=FILE

The camera plays a video, so that it takes little of the processor itself: 640x480 with three people of the synthetic
scene, drawn beforehand, unless another is given. By itself it shows more pictures than the node can answer. The rows
take turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from listener import Listener
from node_overhead import machine

from pave_ros.msg import Poses
from pave_ros.ros.demo import Child, set_environment
from pave_ros.synthetic import Scene
from pave_ros.video_writer import VideoWriter

ROWS = (
    ("-p", "engine:=onnxruntime"),
    ("-p", "engine:=openvino", "-p", "precision:=fp32"),
    ("-p", "engine:=openvino", "-p", "precision:=bf16"),
    ("-p", "engine:=openvino", "-p", "precision:=int8"),
)
SETTLED = 30  # results after which the engine has met its sizes of batch


@dataclass
class Heard:
    """What came from the node: seconds from the arrival of a picture to its result, and the people in it."""

    latencies: list[float] = field(default_factory=list)
    people: list[int] = field(default_factory=list)

    def add(self, message: Poses) -> None:
        self.latencies.append(message.latency)
        self.people.append(len(message.persons))


def write_video(path: Path, seconds: int = 4) -> None:
    scene = Scene(seed=5, width=640, height=480, persons=3)
    with VideoWriter(path, 30) as video:
        for i in range(30 * seconds):
            video.write(scene.frame(i).image)


def listen(
    video: Path, rate: float, cameras: int, node: tuple[str, ...], seconds: float, logs: Path
) -> tuple[float, Heard]:
    """Results a second, of all cameras together, and what they were."""
    namespace = f"__ns:=/bench_{os.getpid()}"
    own = ["--ros-args", "-r", namespace]
    names = [f"camera_{i}" for i in range(cameras)]
    heard, log = Heard(), logs / "node.log"
    with ExitStack() as children:
        listener = children.enter_context(Listener(own))
        child = children.enter_context(Child(["node", *own, "-p", f"cameras:=[{','.join(names)}]", *node], log))
        for name in names:
            camera = ["camera", str(video), "--rate", str(rate), "--ros-args", "-r", f"{namespace}/{name}"]
            children.enter_context(Child(camera, logs / f"{name}.log"))
            listener.subscribe(Poses, f"{name}/poses", heard.add)
        listener.wait_for(lambda: len(heard.latencies) >= SETTLED, child, log, 120)
        heard.latencies.clear()
        heard.people.clear()
        passed = listener.listen(seconds)
        return len(heard.latencies) / passed, heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="what the camera plays")
    parser.add_argument("--rate", type=float, default=60.0, help="of the camera, pictures a second")
    parser.add_argument("--cameras", type=int, default=1, help="that the node looks at, each of this rate")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--node", nargs=argparse.REMAINDER, help="arguments for the node instead of the rows' own")
    args = parser.parse_args()
    set_environment()
    rows = (tuple(args.node),) if args.node else ROWS
    turns_of = f"medians of {args.rounds} turns of {args.seconds:g} s"
    print(f"{machine('cpu')}; {args.cameras} camera(s) at {args.rate:g} Hz, {turns_of}")
    with tempfile.TemporaryDirectory() as folder:
        video = args.video or Path(folder) / "scene.mp4"
        if args.video is None:
            write_video(video)
        turns = [
            [listen(video, args.rate, args.cameras, row, args.seconds, Path(folder)) for row in rows]
            for _ in range(args.rounds)
        ]
    for row, answers in zip(rows, zip(*turns, strict=True), strict=True):
        latency = statistics.median(value for _, heard in answers for value in heard.latencies)
        people = statistics.mean(value for _, heard in answers for value in heard.people)
        rate = statistics.median(rate for rate, _ in answers)
        name = " ".join(word for word in row if word != "-p")
        print(f"{name}: {rate:.1f} results a second, {1e3 * latency:.0f} ms after the arrival, {people:.1f} people")


if __name__ == "__main__":
    main()
