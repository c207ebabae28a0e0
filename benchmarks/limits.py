"""What bounds networks on this machine: arithmetic, memory, or neither.

    python benchmarks/limits.py                 # the two stages of the embedded model
    python benchmarks/limits.py detrpose_n

For each network, untrained, as OpenVINO runs it in fp32 on all cores:

- its time, and how it is shared among kinds of layers (OpenVINO's own profile);
- the time that its multiplications would take at the speed of a large matrix product on the same cores;
- the time that its weights and feature maps, each written and read once, would take at the speed of a large copy.

The machine's two limits are measured in the same run, before each network. A network whose time is near one of the two
bounds has met that limit; one far above both spends its time on neither.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from models import gflops
from timing import seconds

from pave_ros import models
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.engines.openvino import compile_options, core

ROUNDS = 30


def machine() -> dict[str, float]:
    """GFLOP/s of a product of matrices, and GB/s read and written by a copy, of all cores, the best of some."""
    side, size = 1536, 64_000_000
    a, b = torch.rand(side, side), torch.rand(side, side)
    source, target = torch.rand(size), torch.empty(size)
    return {
        "GFLOP/s": 2 * side**3 / 1e9 / min(seconds(lambda: a @ b) for _ in range(10)),
        "GB/s": 2 * 4 * size / 1e9 / min(seconds(lambda: target.copy_(source)) for _ in range(5)),
    }


def network(file: Path, arithmetic: float) -> dict[str, Any]:
    """The time of an exported network, its shares, and the two bounds.

    Args:
        file: ONNX.
        arithmetic: its GFLOP.
    """
    limits = machine()
    model = core().read_model(file)
    model.reshape({port: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
    request = core().compile_model(model, "CPU", compile_options("fp32")).create_infer_request()
    inputs = {port.any_name: np.random.rand(*port.shape).astype(np.float32) for port in model.inputs}
    request.infer(inputs)
    taken = statistics.median(seconds(lambda: request.infer(inputs)) for _ in range(ROUNDS))
    profiled = core().compile_model(model, "CPU", {**compile_options("fp32"), "PERF_COUNT": True})
    moved = sum(_bytes(op) for op in profiled.get_runtime_model().get_ordered_ops())
    return {
        "ms": 1e3 * taken,
        "GFLOP": arithmetic,
        "MB": moved / 1e6,
        "ms at the speed of a matrix product": 1e3 * arithmetic / limits["GFLOP/s"],
        "ms at the speed of a copy": moved / 1e6 / limits["GB/s"],
        "shares": _shares(profiled, inputs),
        **limits,
    }


def _bytes(op: Any) -> int:
    """What a layer writes, which another one reads; weights are read only."""
    written = sum(4 * int(np.prod(output.shape)) for output in op.outputs())
    return written if op.get_rt_info()["layerType"].astype(str) == "Const" else 2 * written


def _shares(compiled: openvino.CompiledModel, inputs: dict[str, Any]) -> dict[str, float]:
    """Share of the time by kind of layer."""
    request = compiled.create_infer_request()
    spent: Counter[str] = Counter()
    for _ in range(ROUNDS):
        request.infer(inputs)
        for layer in request.profiling_info:
            spent[layer.node_type] += layer.real_time.total_seconds()
    whole = sum(spent.values())
    return {kind: seconds / whole for kind, seconds in spent.most_common(5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=["centernet_lite", "simplebaseline_lite"], metavar="MODEL")
    for name in parser.parse_args().models:
        model = models.create(name)
        size = model.info.network_size(480, 640)
        with tempfile.TemporaryDirectory() as folder:
            found = network(export_onnx(model, Path(folder) / "model.onnx", size), gflops(name, size))
        shares = found.pop("shares")
        print(f"{name}, {size[0]}x{size[1]}:", ", ".join(f"{value:.1f} {what}" for what, value in found.items()))
        print("  ", ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items()))


if __name__ == "__main__":
    main()
