"""How fast PAVE-Net answers in a stream, next to the published code, and that the answers are the same.

    python benchmarks/pavenet.py                                     # ours: sizes, queries, precisions, people
    python benchmarks/pavenet.py --published DIR [--runs 3]          # also the published code, interleaved
    python benchmarks/pavenet.py --people docs/images/pavenet_people.png

DIR is a checkout of https://github.com/zgspose/PAVENet, with the packages that it imports (addict, yapf, easydict, six,
terminaltables, pycocotools). It is run without its compiled operators, with the fallback that it ships for the CPU;
where it calls that with the arguments of the compiled one they are sorted out, and what it draws and prints on the way
is left out. Both get the same seeded weights, written as a published checkpoint. One output of the published code means
three frames through the whole network; in a stream ours encodes the new frame and decodes the window.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pave_ros import models, postprocessing
from pave_ros.checkpoints import loading
from pave_ros.engines.base import Engine
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.engines.onnxruntime import OnnxRuntimeEngine
from pave_ros.engines.openvino import OpenVinoEngine
from pave_ros.models.pavenet import PAVENet

CONFIG = "configs/videopose/2025-5-11/2025_5_11_res50_num_frames_3_posetrack17_layer_num_3.py"
PUBLISHED_SIZE = (750, 1333)  # What a picture of 1280x720 is resized to.
MISSING = ("transformers", "shapely", "termcolor", "motmetrics")  # Imported, but not on the path of a prediction.


def seeded(model: PAVENet) -> PAVENet:
    """Weights that make every part count."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                scale = 0.5 if "offsets" in name else 1.0
                spread = scale * parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model.eval()


def clip(size: tuple[int, int], frames: int = 3) -> torch.Tensor:
    """A smooth moving picture (1, T, 3, H, W)."""
    noise = torch.randn(1, frames * 3, 24, 42, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(noise, size=size, mode="bicubic").unflatten(1, (frames, 3))


# --- the published code -------------------------------------------------------------------------------------------


def _stand_in(name: str) -> None:
    """A module that has whatever is asked of it."""

    def anything(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        return type(attribute, (), {})

    module = types.ModuleType(name)
    module.__dict__["__getattr__"] = anything
    sys.modules[name] = module


def published(folder: Path, checkpoint: Path) -> Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """The published network: clips (1, T, 3, H, W) -> keypoints (N, K, 3) and scores (N,), relative to the input."""
    sys.path[:0] = [str(folder / part) for part in ("third_party/mmcv", "third_party/mmdetection", "")]
    for name in MISSING:
        _stand_in(name)
    operators = types.ModuleType("mmcv._ext")
    operators.__dict__["__getattr__"] = lambda name: None
    sys.modules["mmcv._ext"] = operators
    import mmcv
    import mmcv.ops.multi_scale_deform_attn as attention
    import opera.models
    from opera.models.dense_heads import videopose_head_mul_frames as head
    from opera.models.utils import transformer

    plain = attention.multi_scale_deformable_attn_pytorch

    def fallback(value: Any, shapes: Any, *rest: Any) -> Any:
        locations, weights = rest[-3:-1] if len(rest) == 4 else rest
        return plain(value, shapes, locations, weights)

    for module in (attention, transformer):
        module.multi_scale_deformable_attn_pytorch = fallback
    for kind in vars(transformer).values():
        if isinstance(kind, type) and hasattr(kind, "vis_attention"):
            kind.vis_attention = lambda self, *arguments: None  # type: ignore[attr-defined]
    head.oks_nms = lambda keypoints, scores, *rest: (range(len(scores)), None)  # Gone in the newer code.
    values: dict[str, Any] = {}
    exec((folder / CONFIG).read_text(), values)
    config = mmcv.Config({"model": values["model"]}).model
    config.pop("init_cfg", None)
    network = opera.models.build_model(config).eval()
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    network.load_state_dict(state)

    def run(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = frames.shape[-2:]
        about = {"img_shape": (height, width, 3), "batch_input_shape": (height, width), "scale_factor": np.ones(4)}
        stdout, sys.stdout = sys.stdout, open("/dev/null", "w")  # noqa: SIM115
        try:
            ((boxes, _, keypoints),) = network.bbox_head.simple_test_bboxes(network.extract_feat(frames), [about])
        finally:
            sys.stdout = stdout
        return keypoints, boxes[:, 4]

    return run


# --- measuring ----------------------------------------------------------------------------------------------------


clock = time.perf_counter


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = clock()
    result = work()
    return clock() - start, result


def output_in_stream(model: PAVENet, frames: torch.Tensor) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """What one output costs where the frames before are known: to encode the new frame, and to decode the window."""
    known = [model.encode(frame) for frame in frames.unbind(1)]
    return lambda: model.encode(frames[:, -1]), lambda: model.decode(known)


def measure(model: PAVENet, size: tuple[int, int], runs: int, dtype: torch.dtype | None = None) -> tuple[float, float]:
    """Median seconds to encode a frame, and to decode a window."""
    frames = clip(size)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        encode, decode = output_in_stream(model, frames)
        times = [(seconds(encode)[0], seconds(decode)[0]) for _ in range(runs)]
    first, second = np.median(np.array(times), axis=0)
    return float(first), float(second)


def variant(**changes: Any) -> PAVENet:
    model = models.create("pavenet", "r50", **{k: v for k, v in changes.items() if k == "queries"})
    assert isinstance(model, PAVENet)
    model.variant = replace(model.variant, persons=min(changes.get("persons", 20), model.variant.queries))
    return seeded(model).fuse()


Steps = tuple[Callable[[], Any], Callable[[], Any]]  # Encode the new frame, decode the window.


def in_engines(model: PAVENet, frames: torch.Tensor, folder: Path) -> dict[str, Steps]:
    """An output in a stream by what runs exported files."""
    file = export_onnx(model, folder / "pavenet.onnx", (frames.shape[-2], frames.shape[-1]), batch=1)
    engines = {
        "ONNX Runtime": OnnxRuntimeEngine(file),
        "OpenVINO": OpenVinoEngine(file),
        "OpenVINO, bf16": OpenVinoEngine(file, precision="bf16"),
    }
    return {name: _steps(engine, [frame.numpy() for frame in frames.unbind(1)]) for name, engine in engines.items()}


def _steps(engine: Engine, frames: list[Any]) -> Steps:
    known = [engine.encode(frame) for frame in frames]
    engine.decode(known)  # The first time it is compiled.
    return lambda: engine.encode(frames[-1]), lambda: engine.decode(known)


def against_the_published(folder: Path, size: tuple[int, int], runs: int) -> None:
    model = models.create("pavenet", "r50")
    assert isinstance(model, PAVENet)
    seeded(model)
    frames = clip(size)
    with tempfile.TemporaryDirectory() as temporary:
        loading.save(model, Path(temporary) / "seeded.pth")
        theirs = published(folder, Path(temporary) / "seeded.pth")
        model.fuse()
        ours = {"PyTorch": output_in_stream(model, frames), **in_engines(model, frames, Path(temporary))}
        rows = []
        for number in range(runs):
            slow, (keypoints, scores) = seconds(lambda: theirs(frames))
            steps = {name: (seconds(encode)[0], seconds(decode)) for name, (encode, decode) in ours.items()}
            rows.append([slow, *(first + second for first, (second, _) in steps.values())])
            print(f"run {number + 1}: published {slow:.2f} s")
            for name, (first, (second, outputs)) in steps.items():
                print(f"  {name}: {first:.2f} + {second:.2f} s, {apart(outputs, keypoints, scores, size)}", flush=True)
    slow, *others = np.median(np.array(rows), axis=0)
    print(f"median: published {slow:.2f} s")
    for name, taken in zip(ours, others, strict=True):
        print(f"  {name}: {taken:.2f} s, {slow / taken:.1f} times as fast")


def apart(outputs: Mapping[str, Any], keypoints: torch.Tensor, scores: torch.Tensor, size: tuple[int, int]) -> str:
    """How far the people are from the published ones, of whom each has the one of ours that is nearest."""
    ours, our_scores, _ = postprocessing.pavenet_people({k: np.asarray(v) for k, v in outputs.items()}, size[::-1])
    far = np.abs(ours[:, None] - keypoints.numpy()[None])[..., :2].max(axis=(2, 3))
    worse = np.abs(our_scores[far.argmin(0)] - scores.numpy()).max()
    return f"keypoints differ by up to {far.min(0).max():.1e} pixels, scores by {worse:.1e}"


def table(runs: int) -> None:
    print("input     queries persons precision  encode s  decode s")
    rows: list[tuple[tuple[int, int], int, int, torch.dtype | None]] = [
        (PUBLISHED_SIZE, 300, 20, None),
        (PUBLISHED_SIZE, 300, 20, torch.bfloat16),
        (PUBLISHED_SIZE, 100, 20, None),
        (PUBLISHED_SIZE, 300, 100, None),
        ((480, 853), 300, 20, None),
        ((480, 853), 300, 20, torch.bfloat16),
        ((360, 640), 300, 20, None),
        ((360, 640), 100, 20, torch.bfloat16),
    ]
    for size, queries, persons, dtype in rows:
        first, second = measure(variant(queries=queries, persons=persons), size, runs, dtype)
        name = "bf16" if dtype else "fp32"
        print(f"{size[0]}x{size[1]:<5} {queries:7} {persons:7} {name:9} {first:9.2f} {second:9.2f}", flush=True)


def flatness(path: Path, runs: int) -> None:
    """Time of an output by the number of people in the picture: pictures of the synthetic scene."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from pave_ros.preprocessing import network_input
    from pave_ros.synthetic import Scene

    counts = (1, 3, 5, 10, 20)
    model = variant()
    size = (360, 640)
    info = replace(model.info, input_size=size)
    windows = []
    for count in counts:
        scene = Scene(seed=count, width=640, height=360, persons=count)
        pictures = [torch.from_numpy(network_input(scene.frame(30 + i).image, info)) for i in range(3)]
        windows.append(torch.stack(pictures, 1))
    prepared = [output_in_stream(model, frames) for frames in windows]
    times = np.array(
        [[seconds(encode)[0] + seconds(decode)[0] for encode, decode in prepared] for _ in range(runs)]
    )  # interleaved
    medians = np.median(times, axis=0) * 1000
    for count, median in zip(counts, medians, strict=True):
        print(f"{count:3} people: {median:.0f} ms")
    figure, axes = pyplot.subplots(figsize=(5.2, 3))
    cores = {1: "one core", 2: "two cores"}.get(torch.get_num_threads(), f"{torch.get_num_threads()} cores")
    axes.plot(counts, medians / medians[0], "o-", label=f"here, {size[1]}x{size[0]}, {cores} ({medians[0]:.0f} ms)")
    axes.plot(counts, np.ones(len(counts)), "--", color="grey", label="published, A800 (153 ms)")
    axes.set(xlabel="people in the picture", ylabel="time of a result / that of one person", ylim=(0, 1.5))
    axes.set_xticks(counts)
    axes.legend(loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, metavar="DIR", help="checkout of the published code")
    parser.add_argument("--size", default=f"{PUBLISHED_SIZE[0]}x{PUBLISHED_SIZE[1]}", help="HEIGHTxWIDTH")
    parser.add_argument("--people", type=Path, metavar="PNG", help="plot the time by the number of people instead")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--processor-time", action="store_true", help="one thread, and the time that it runs: on a machine that is busy"
    )
    args = parser.parse_args()
    if args.processor_time:
        global clock
        clock = time.process_time
        torch.set_num_threads(1)
    height, width = map(int, args.size.split("x"))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with torch.no_grad():  # Not in inference mode, whose tensors cannot be exported.
        if args.people:
            flatness(args.people, args.runs)
        elif args.published:
            against_the_published(args.published, (height, width), args.runs)
        else:
            table(args.runs)


if __name__ == "__main__":
    main()
