"""Where the time of a result goes, and how it grows with the people, the cameras and the size of the pictures.

    python benchmarks/scaling.py                                  # the embedded model
    python benchmarks/scaling.py --model detrpose_n --weights random --json out/scaling.json --plot out/scaling.png

From the picture in memory to the message, on one machine in one run, medians of turns: whatever else the machine does
hits all alike. People are boxes in a picture (top-down models; others take the same time for any number), cameras
are pictures that come at the same time, one after the other through the model and all at once through its network.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from node_overhead import picture_of, timed
from std_msgs.msg import Header
from timing import seconds

from pave_ros import Estimator, estimator
from pave_ros.frames import Frame, Image
from pave_ros.persons import Boxes
from pave_ros.preprocessing import network_input
from pave_ros.ros import messages
from pave_ros.topdown import crops, stages
from pave_ros.topdown.options import TopDownOptions
from pave_ros.training.card import processor

SIZES = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
PEOPLE = (0, 1, 2, 5, 10, 20, 50, 100)
CAMERAS = (1, 2, 4, 8)
WARM_UP = 3

Figures = dict[str, float]  # milliseconds


def median(run: Callable[[], Any], rounds: int) -> float:
    """Milliseconds."""
    taken = [seconds(run) for _ in range(WARM_UP + rounds)]
    return 1000 * statistics.median(taken[WARM_UP:])


def result(model: Estimator, image: Image) -> None:
    """A picture to its message."""
    messages.poses(model(image), Header(), (image.shape[1], image.shape[0]), "camera")


def steps(model: Estimator, image: Image, rounds: int) -> Figures:
    """Medians of the steps of one result, in their order, and of all of it. The network is what the engine runs; both
    parts of it, and of both stages."""
    networks = [part._engine for part in _parts(model)]
    known = [
        ("resize and normalise", estimator, "network_input"),
        ("resize and normalise", crops, "network_input"),
        ("cut people out", crops, "cut"),
        *(("network", engine, part) for engine in networks for part in ("encode", "decode")),
        ("keypoints from the network's answer", estimator.postprocessing, "persons"),
        ("keypoints from the network's answer", stages, "keypoints_in"),
        ("message", messages, "poses"),
    ]
    sums: dict[str, list[float]] = {name: [] for name in (*(name for name, *_ in known), "all")}
    for turn in range(WARM_UP + rounds):
        spent: dict[str, list[float]] = {}
        with timed(spent, *known):
            start = perf_counter()
            result(model, image)
            spent["all"] = [perf_counter() - start]
        if turn >= WARM_UP:
            for name, seconds in spent.items():
                sums[name].append(sum(seconds))
    found = {name: 1000 * statistics.median(values) for name, values in sums.items()}
    found["everything else"] = found["all"] - sum(value for name, value in found.items() if name != "all")
    return found


def _parts(model: Estimator) -> list[Any]:
    """The estimators of its detectors as far as they are pose models, in the order in which they look, and itself."""
    detectors = [model._top_down.detector, model._top_down.closer] if model._top_down else []
    inner = [getattr(detector, "_find", None) for detector in detectors]
    return [*(part for part in inner if isinstance(part, Estimator)), model]


def people(name: str, weights: str, rounds: int) -> Figures:
    """A picture of 640x480 with so many boxes given; for models that need none, with whatever is in it."""
    model = Estimator(name, weights, "cpu", score_threshold=0.0, max_persons=100, top_down=TopDownOptions("given"))
    image, rng = picture_of(640, 480), np.random.default_rng(0)
    found = {}
    for count in PEOPLE:
        low = rng.uniform((0, 0), (560, 320), (count, 2))
        boxes = Boxes.of(np.concatenate((low, np.full((count, 2), (60, 150))), 1).astype(np.float32))

        def run(boxes: Boxes = boxes) -> None:
            model.estimate([Frame(stamp=0, image=image, boxes=boxes)])

        found[str(count)] = median(run, max(rounds * 5 // (5 + count), 3))
    return found


def cameras(model: Estimator, rounds: int) -> dict[str, Figures]:
    """Milliseconds a picture with so many cameras: all of it, one after the other; and its first network alone, one
    after the other and all pictures at once."""
    engine = _parts(model)[0]._engine
    image = picture_of(640, 480)
    one = network_input(image, engine.info)
    found: dict[str, Figures] = {"one after the other": {}, "network, one after the other": {}, "network, at once": {}}
    for count in CAMERAS:
        together = np.repeat(one, count, 0)
        runs: dict[str, Callable[[], Any]] = {
            "one after the other": lambda n=count: [result(model, image) for _ in range(n)],
            "network, one after the other": lambda n=count: [engine.encode(one) for _ in range(n)],
            "network, at once": lambda batch=together: engine.encode(batch),
        }
        for name, run in runs.items():
            found[name][str(count)] = median(run, max(rounds // count, 5)) / count
    return found


def plot(figures: dict[str, Any], path: Path) -> None:
    """Stages by size, people, cameras."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    sizes = list(figures["stages"])
    below = np.zeros(len(sizes))
    for name in [name for name in figures["stages"][sizes[0]] if name != "all"]:
        heights = np.array([figures["stages"][size][name] for size in sizes])
        left.bar(sizes, heights, bottom=below, label=name)
        below += heights
    left.set(title="where the time of a result goes", ylabel="ms", xlabel="camera")
    left.set_ylim(top=1.5 * below.max())  # room for the legend
    counts = figures["people"]
    middle.plot([int(n) for n in counts], list(counts.values()), "o-")
    middle.set(title="people in the picture (boxes given)", ylabel="ms", xlabel="people", ylim=(0, None))
    for name, values in figures["cameras"].items():
        right.plot([int(n) for n in values], list(values.values()), "o-", label=name)
    right.set(title="cameras at the same time", ylabel="ms a picture", xlabel="cameras", ylim=(0, None))
    left.legend(fontsize=8)
    right.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def table(rows: dict[str, Figures]) -> str:
    """Markdown: a row for each name, a column for each of its figures."""
    columns = list(next(iter(rows.values())))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(f"{row[column]:.1f}" for column in columns)] for name, row in rows.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    model = Estimator(args.model, args.weights, "cpu")
    cores = len(os.sched_getaffinity(0))
    print(f"{model.name}, {model.engine}, {cores} cores, {processor()}; milliseconds\n")
    figures: dict[str, Any] = {
        "stages": {f"{w}x{h}": steps(model, picture_of(w, h), args.rounds) for w, h in SIZES},
        "people": people(args.model, args.weights, args.rounds),
        "cameras": cameras(model, args.rounds),
    }
    print(table(figures["stages"]), table({"people": figures["people"]}), table(figures["cameras"]), sep="\n\n")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"model": model.name, "engine": model.engine, **figures}, indent=2) + "\n")
    if args.plot:
        plot(figures, args.plot)


if __name__ == "__main__":
    main()
