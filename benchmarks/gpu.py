"""Time of the models on an NVIDIA GPU, next to what was set as the goal.

    python benchmarks/gpu.py                                  # all the goals speak of
    python benchmarks/gpu.py detrpose_s --precisions fp16 half --compiled --json out/gpu.json
    python benchmarks/gpu.py detrpose_s --published DIR       # and the published code (DETRPose), a checkout
    python benchmarks/gpu.py pavenet_r50 --profile            # the kernels that take the time, instead

For each model and precision one new picture of a 1280x720 camera is timed, medians:

- `network`: encoding it and decoding the window, from the picture on the GPU to the outputs there, by CUDA's own
  events; the frames before are known. That is what papers and TensorRT's own tool give.
- `clip`: the same, with all frames of the window encoded.
- `answer`: from the picture in the memory of the host to people, by the clock.

Top-down models get 16 people at once, whose rate is printed. Weights are untrained, which changes nothing about the
time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from timing import seconds

from pave_ros import models
from pave_ros.engines.pytorch import PRECISIONS, PyTorchEngine
from pave_ros.frames import Image
from pave_ros.models.base import Features
from pave_ros.postprocessing import persons
from pave_ros.topdown.styles import STYLES

CAMERA = (720, 1280)
PEOPLE = 16
WARM_UP = 10
# Milliseconds of the network; of TAR-ViTPose people a second.
GOALS = {"detrpose_s": 2.4, "detrpose_x": 8.6, "pavenet_r50": 30.0, "tarvitpose_s": 413.0}
DEFAULT = ("detrpose_n", "detrpose_s", "detrpose_m", "detrpose_l", "detrpose_x", "pavenet_r50", "pavenet_lite",
           "poet_r50", "querypose_r50", "tarvitpose_s")  # fmt: skip


def on_gpu(work: Callable[[], object], rounds: int) -> float:
    """Median milliseconds between two events."""
    taken = []
    for index in range(WARM_UP + rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if index >= WARM_UP:
            taken.append(start.elapsed_time(end))
    return statistics.median(taken)


class Candidate:
    """A model in one precision."""

    def __init__(self, name: str, precision: str, compiled: bool) -> None:
        self.engine = PyTorchEngine(models.create(name), "cuda", precision, compiled=compiled)
        info = self.engine.info
        self.people = PEOPLE if info.top_down else 1
        size = info.network_size(*CAMERA)
        self.images = torch.rand(self.people, 3, *size, device="cuda")
        self.window = [self.engine.encode_tensor(self.images)] * info.window

    def new_frame(self) -> dict[str, torch.Tensor]:
        """What a stream asks for."""
        return self.engine.decode_tensors([*self.window[1:], self.engine.encode_tensor(self.images)])

    def clip(self) -> dict[str, torch.Tensor]:
        """Without anything known before."""
        return self.engine.decode_tensors([self.engine.encode_tensor(self.images) for _ in self.window])

    def answer(self, image: Image) -> object:
        """As the node does it."""
        features: Features = self.engine.encode_picture(image)
        outputs = self.engine.decode([*self.window[1:], features])
        return persons(self.engine.info, outputs, (image.shape[1], image.shape[0]), 0.3, 20)


def measure(name: str, precision: str, compiled: bool, rounds: int) -> dict[str, float]:
    """Milliseconds, or people a second."""
    candidate = Candidate(name, precision, compiled)
    found = {"network": on_gpu(candidate.new_frame, rounds)}
    if candidate.engine.info.window > 1:
        found["clip"] = on_gpu(candidate.clip, rounds)
    if candidate.people > 1:
        return {key: 1000 * candidate.people / ms for key, ms in found.items()}
    picture = np.random.default_rng(0).integers(0, 256, (*CAMERA, 3), np.uint8)
    taken = [seconds(lambda: candidate.answer(picture)) for _ in range(WARM_UP + rounds)]
    found["answer"] = 1000 * statistics.median(taken[WARM_UP:])
    return found


def published(name: str, checkout: Path, rounds: int) -> dict[str, float]:
    """The published network of DETRPose, step by step, in float32 and in mixed precision."""
    from detrpose import published_model

    size = models.create(name).info.network_size(*CAMERA)
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    run = published_model(name.partition("_")[2], size, checkout, picture, "cuda")
    found = {"published, fp32": on_gpu(run, rounds)}
    with torch.autocast("cuda", torch.float16):
        found["published, fp16"] = on_gpu(run, rounds)
    return found


def profile(name: str, precision: str) -> None:
    """What of the GPU's time goes where, in a new frame."""
    candidate = Candidate(name, precision, compiled=False)
    for _ in range(WARM_UP):
        candidate.new_frame()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(10):
            candidate.new_frame()
        torch.cuda.synchronize()
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_device_time_total)
    whole = sum(row.self_device_time_total for row in rows)
    count = sum(row.count for row in rows)
    print(f"{name}, {precision}: {whole / 1e4:.2f} ms in {count // 10} kernels")
    for row in rows[:14]:
        print(f"  {row.self_device_time_total / whole:5.1%} {row.count // 10:4} x {row.key[:110]}")


def in_words(name: str, found: dict[str, float]) -> str:
    unit, digits = ("people/s", 0) if models.split_name(name)[0] in STYLES else ("ms", 2)
    text = ", ".join(f"{key} {value:.{digits}f} {unit}" for key, value in found.items())
    return text + (f" (goal {GOALS[name]:g} {unit})" if name in GOALS else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=DEFAULT, metavar="MODEL")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "half"], choices=tuple(PRECISIONS))
    parser.add_argument("--compiled", action="store_true", help="with torch.compile, which takes a minute a model")
    parser.add_argument("--published", type=Path, help="checkout of the published code of DETRPose to time as well")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this needs an NVIDIA GPU")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}", flush=True)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for name in given.models:
        for precision in given.precisions:
            if given.profile:
                profile(name, precision)
                continue
            key = f"{precision}, compiled" if given.compiled else precision
            row = results.setdefault(name, {})[key] = measure(name, precision, given.compiled, given.rounds)
            print(f"{name:14} {key:15} {in_words(name, row)}", flush=True)
        if given.published and name.startswith("detrpose"):
            row = results.setdefault(name, {})["published"] = published(name, given.published, given.rounds)
            print(f"{name:14} {in_words(name, row)}", flush=True)
        if given.json:
            given.json.write_text(json.dumps({"gpu": torch.cuda.get_device_name(), **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
