"""Frames a second of a top-down model against the number of people, with and without the use of features again.

    python benchmarks/tarvitpose.py                            # TAR-ViTPose S with 1, 2, 4 and 8 people
    python benchmarks/tarvitpose.py --model tarvitpose_b --people 1 5 10 --device cuda --plot docs/images/x.png

Weights are untrained, which changes nothing about the time, and the boxes are given: a detector's time comes on top,
once for every frame. What is timed is the answer for the middle of a window that moves on by a frame each time, with
cropping and the reading of heatmaps. With features used again every crop goes through the encoder once; without, the
box of the frame in question is cut out of all five frames anew.

`--clock cpu` counts the time that one thread has computed, which other programs on the machine lengthen little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from pave_ros.estimator import Estimator
from pave_ros.frames import Frame
from pave_ros.persons import Boxes
from pave_ros.topdown.options import TopDownOptions

WIDTH, HEIGHT = 640, 480


def video(people: int, frames: int) -> list[Frame]:
    """Noise with people who walk to the right, each in a lane of their own."""
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    lane = HEIGHT / people
    return [
        Frame(stamp=t, image=image, boxes=Boxes.of([[100 + 2 * t, lane * i, 0.6 * lane, lane] for i in range(people)]))
        for t in range(frames)
    ]


def seconds_a_frame(estimator: Estimator, people: int, rounds: int, clock: str) -> float:
    """Median time of an answer in a video that goes on."""
    now = time.process_time if clock == "cpu" else time.perf_counter
    reach = estimator.reach
    frames = video(people, 2 * reach + 1 + rounds)
    taken = []
    for index in range(reach, reach + 1 + rounds):
        start = now()
        found = estimator.estimate(frames[: index + reach + 1], index)
        if estimator.device.startswith("cuda"):
            torch.cuda.synchronize()
        taken.append(now() - start)
        assert len(found) == people
    return statistics.median(taken[1:])  # the first one fills the history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tarvitpose_s")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=5, help="frames that are timed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: all cores")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--plot", type=Path, help="write a picture of them here")
    args = parser.parse_args()
    if args.clock == "cpu":
        args.threads = 1
    if args.threads:
        torch.set_num_threads(args.threads)

    rates: dict[str, list[float]] = {}
    machine = platform.processor() or platform.machine()
    print(f"{args.model}, frames a second, {machine}, {torch.get_num_threads()} threads")
    print(f"{'people':>8} {'again':>8} {'anew':>8} {'faster':>8}")
    for count in args.people:
        for reuse in (True, False):
            options = TopDownOptions(detector="given", reuse_features=reuse)
            estimator = Estimator(
                args.model, "random", args.device, score_threshold=0.0, max_persons=1000, top_down=options
            )
            rate = 1 / seconds_a_frame(estimator, count, args.rounds, args.clock)
            rates.setdefault("again" if reuse else "anew", []).append(rate)
        again, anew = (rates[key][-1] for key in ("again", "anew"))
        print(f"{count:8} {again:8.2f} {anew:8.2f} {again / anew:8.2f}", flush=True)
    result = {"model": args.model, "clock": args.clock, "device": estimator.device, "people": args.people, **rates}
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    if args.plot:
        plot(args.plot, result)


def plot(path: Path, result: dict[str, object]) -> None:
    """Frames a second over the number of people, both ways."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for key, label in (("again", "features used again"), ("anew", "five crops for every frame")):
        axes.plot(result["people"], result[key], marker="o", label=label)
    axes.set(xlabel="people", ylabel="frames a second", ylim=(0, None), title=result["model"])
    axes.set_xticks(result["people"])
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
