"""Time of DETRPose for one picture, with PyTorch, ONNX Runtime and OpenVINO, on the CPU or a GPU.

    python benchmarks/detrpose.py                       # all variants
    python benchmarks/detrpose.py n s --rounds 20 --json out/detrpose.json
    python benchmarks/detrpose.py --published DIR       # beside the published code, a checkout of its repository
    python benchmarks/detrpose.py n --beside yolo.onnx  # beside other networks of one input of that size

With NNCF installed, also with the backbone in 8 bits. Weights are untrained, which changes nothing about the time.
The candidates of a variant take turns, picture by picture, so that whatever else the machine does hits all alike;
medians are printed, and how many times faster than the first column each one is. On a busy machine look at the
processor time of all threads instead, which is printed too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

# As in the node: waiting threads of one candidate must not slow down the next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch

from pave_ros import models
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine, open_session
from pave_ros.engines.openvino import PRECISIONS, OpenVinoEngine, compile_options, core
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.engines.quantization import quantize
from pave_ros.models.detrpose import VARIANTS

Candidate = Callable[[], object]


def candidates(variant: str, size: tuple[int, int], device: str, published: Path | None) -> dict[str, Candidate]:
    """What is timed for one variant, by name; each call handles one picture."""
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    found: dict[str, Candidate] = {}
    if published:
        found["published PyTorch"] = published_model(variant, size, published, picture)
    by_torch = PyTorchEngine(models.create("detrpose", variant), device, "auto", size)
    found["PyTorch"] = lambda: by_torch.decode([by_torch.encode(picture)])
    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(models.create("detrpose", variant), Path(folder) / "model.onnx", size)
        by_onnx = OnnxRuntimeEngine(file, device)
        found["ONNX Runtime"] = lambda: by_onnx.decode([by_onnx.encode(picture)])
        if by_onnx.device == "cpu":
            found |= by_openvino(file, picture, "OpenVINO")
            if find_spec("nncf"):
                quantize(file, [picture])
                found |= by_openvino(file, picture, "OpenVINO int8,")
    return found


def by_openvino(file: Path, picture: np.ndarray, name: str) -> dict[str, Candidate]:
    """An exported file in each precision."""
    engines = {f"{name} {precision}": OpenVinoEngine(file, precision=precision) for precision in PRECISIONS}
    return {key: lambda engine=engine: engine.decode([engine.encode(picture)]) for key, engine in engines.items()}


def peer(file: Path, size: tuple[int, int]) -> dict[str, Candidate]:
    """Somebody else's exported network in the same libraries, with the same settings."""
    picture = np.random.default_rng(0).random((1, 3, *size), np.float32)
    session = open_session(file, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found: dict[str, Candidate] = {f"{file.stem}, ONNX Runtime": lambda: session.run(None, {name: picture})}
    for precision in PRECISIONS:
        request = core().compile_model(file, "CPU", compile_options(precision)).create_infer_request()
        found[f"{file.stem}, OpenVINO {precision}"] = lambda request=request: request.infer([picture])
    return found


def published_model(
    variant: str, size: tuple[int, int], checkout: Path, picture: np.ndarray, device: str = "cpu"
) -> Candidate:
    """The published network (https://github.com/SebastianJanampa/DETRPose), made as its configurations say."""
    sys.path.insert(0, str(checkout))
    from src.models.detrpose import DETRPose, HybridEncoder, Transformer
    from src.nn.backbone.hgnetv2 import HGNetv2

    row = VARIANTS[variant]
    strides = [4 * 2**level for level in row.levels]
    name = row.backbone[-2:].upper()
    backbone = HGNetv2(name, use_lab=name in ("B0", "B2"), return_idx=list(row.levels), pretrained=False)
    encoder = HybridEncoder(
        in_channels=backbone._out_channels[-len(strides) :], feat_strides=strides, n_levels=len(strides),
        hidden_dim=row.hidden, dim_feedforward=row.encoder_ffn, use_encoder_idx=[len(strides) - 1],
        expansion=row.expansion, depth_mult=row.depth_mult, eval_spatial_size=size,
    )  # fmt: skip
    transformer = Transformer(
        hidden_dim=row.hidden, num_queries=row.queries, num_decoder_layers=row.decoder_layers,
        dim_feedforward=row.decoder_ffn, num_feature_levels=len(strides), dec_n_points=row.points,
        learnable_tgt_init=True, two_stage_type="standard", num_body_points=17, num_classes=2,
        two_stage_class_embed_share=False, two_stage_bbox_embed_share=False, feat_strides=strides,
        eval_spatial_size=size, reg_max=32, reg_scale=row.reg_scale, return_intermediate_dec=True,
    )  # fmt: skip
    model = DETRPose(backbone, encoder, transformer).eval().to(device)
    tensor = torch.from_numpy(picture).to(device)

    def run() -> object:
        with torch.inference_mode():
            return model(tensor)

    return run


def medians(found: dict[str, Candidate], rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of each candidate by the clock and of the processor; they take turns after a round of warming up."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for index in range(rounds + 1):
        for name, run in found.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            if index:
                times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: (1e3 * statistics.median(a for a, _ in rows), 1e3 * statistics.median(b for _, b in rows))
        for name, rows in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--published", type=Path, help="checkout of the published code to time beside ours (CPU)")
    parser.add_argument("--beside", type=Path, nargs="+", default=[], metavar="FILE", help="other networks, ONNX (CPU)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, dict[str, tuple[float, float]]] = {}
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"
    )
    for variant in options.variants:
        found = candidates(variant, tuple(options.size), options.device, options.published)
        for file in options.beside:
            found |= peer(file, tuple(options.size))
        results[variant] = medians(found, options.rounds)
        first = next(iter(results[variant].values()))
        print(f"detrpose_{variant}, {options.size[0]}x{options.size[1]}:")
        for name, (ms, busy) in results[variant].items():
            print(f"  {name:28} {ms:7.0f} ms ({first[0] / ms:.2f}x), processor {busy:7.0f} ms ({first[1] / busy:.2f}x)",
                  flush=True)  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
