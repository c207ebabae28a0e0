"""Which engine runs a file: the best that is installed and does what is asked, and why it is the one."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from pave_ros.engines.base import EngineError

CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Candidate:
    """What an engine can do.

    Attributes:
        name: as in `engine`.
        module: of its library.
        package: what to install for it.
        runs: endings of the files that it runs as they are.
        devices: ``cpu``, ``cuda``.
        precisions: what `precision` may be, besides ``auto``.
        merit: why it is preferred to those after it.
    """

    name: str
    module: str
    package: str
    runs: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    merit: str


# Best first.
CANDIDATES = (
    Candidate("openvino", "openvino", "openvino", (".onnx", ".xml"), ("cpu",), ("fp32", "bf16"),
              "the fastest for exported files on the CPU"),
    Candidate("onnxruntime", "onnxruntime", "onnxruntime", (".onnx",), ("cuda", "cpu"), ("fp32",),
              "runs exported files without torch"),
    Candidate("pytorch", "torch", "torch timm", CHECKPOINTS, ("cuda", "cpu"), ("fp32", "fp16", "bf16", "half"),
              "runs checkpoints as they are"),
)  # fmt: skip
NAMES = tuple(candidate.name for candidate in CANDIDATES)


def choose(path: Path, engine: str, device: str, precision: str) -> tuple[str, str]:
    """The engine for a file, and why.

    Args:
        path: the file; its ending says what it is.
        engine: ``auto`` or one of `NAMES`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` or what the engine has to compute in.

    Returns:
        (name, reason), the reason with what kept better ones out.

    Raises:
        EngineError: none can do it; says for each one why, and what to do.
    """
    if engine not in ("auto", *NAMES):
        raise EngineError(f"unknown engine {engine!r}; known: auto, {', '.join(NAMES)}")
    device = "cuda" if device == "auto" and has_gpu() else device.partition(":")[0].replace("auto", "cpu")
    refusals: list[str] = []
    for candidate in CANDIDATES:
        if engine in ("auto", candidate.name):
            refusal = _refusal(candidate, path, device, precision)
            if not refusal:
                asked_for = "asked for" if engine != "auto" else candidate.merit
                return candidate.name, "; ".join([asked_for, *refusals])
            if path.suffix in candidate.runs or engine != "auto":  # Others are beside the point.
                refusals.append(refusal)
    raise EngineError(f"{path}: {'; '.join(refusals) or _not_a_model()}")


def _refusal(candidate: Candidate, path: Path, device: str, precision: str) -> str:
    """Why an engine cannot do it here; empty when it can."""
    name = candidate.name
    if path.suffix not in candidate.runs:
        advice = "make one with `pave_ros export`" if path.suffix in CHECKPOINTS else "give such a file instead"
        return f"{name} runs {' and '.join(candidate.runs)} files, not in this form; {advice}"
    if device in ("cpu", "cuda") and device not in candidate.devices:
        return f"{name} does not run on {device}"
    if precision not in ("auto", *candidate.precisions):
        return f"precision {precision}: {name} runs such a file in {', '.join(candidate.precisions)}"
    if find_spec(candidate.module) is None:
        return f"{name} is not installed (pip install {candidate.package})"
    return ""


def _not_a_model() -> str:
    known = dict.fromkeys(suffix for candidate in CANDIDATES for suffix in candidate.runs)
    return f"not a model; known are files that end in {', '.join(known)}"


@cache
def has_gpu() -> bool:
    """Whether the driver finds an NVIDIA GPU; needs no library but the driver's."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return not driver.cuInit(0) and not driver.cuDeviceGetCount(ctypes.byref(count)) and count.value > 0
