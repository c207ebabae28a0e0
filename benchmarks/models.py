"""Size, arithmetic and time of every model, side by side: the numbers of `pave_ros.catalogue`.

    python benchmarks/models.py                        # all, in one run
    python benchmarks/models.py poet_r50 detrpose_s    # some

For each model one line is printed as the catalogue holds it: millions of parameters, GFLOPs, input, milliseconds.

- One new picture of a 1280x720 camera, in the size that the model brings it to; a video model has the features of the
  frames before already, as in the node; a top-down model gets one person's crop.
- GFLOPs: two for each multiplication with its addition, in convolutions, matrix products and attention.
- Milliseconds: float32 in PyTorch on one core of the CPU, in the time that the process itself had, so that it does not
  matter what else the machine does. Weights are untrained, which changes nothing about it.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from timing import seconds
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pave_ros import models
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.models.base import PoseModel

CAMERA = (720, 1280)
ENOUGH = 4.0  # seconds of rounds after which no further one is begun


def gflops(name: str, size: tuple[int, int]) -> float:
    """Arithmetic for one new picture of this size, counted without doing it."""
    torch.backends.mha.set_fastpath_enabled(False)  # It is one operation, in which nothing can be counted.
    with torch.device("meta"):
        model = models.create(name)
        picture = torch.empty(1, 3, *size)
        window = [model.encode(picture)] * model.info.window
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):
            model.decode([*window[1:], model.encode(picture)])
    torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() / 1e9


def milliseconds(model: PoseModel, size: tuple[int, int], rounds: int) -> float:
    """Median time of one core for one new picture of this size."""
    engine = PyTorchEngine(model, "cpu", "fp32")
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    before = [engine.encode(picture)] * (engine.info.window - 1)

    def once() -> object:
        return engine.decode([*before, engine.encode(picture)])

    taken = [seconds(once, time.process_time)]
    if taken[0] < 1:
        taken = []  # It was the first; where it took so long, that does not matter.
    while len(taken) < rounds and sum(taken) < ENOUGH:
        taken.append(seconds(once, time.process_time))
    return 1000 * statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=models.names(), metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=7, help="at most so many pictures of each model")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.models:
        model = models.create(name)
        size = model.info.network_size(*CAMERA)
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        row = (round(millions, 1), round(gflops(name, size)), "{}x{}".format(*size))
        print(f'    "{name}": {(*row, round(milliseconds(model, size, given.rounds)))},', flush=True)


if __name__ == "__main__":
    main()
