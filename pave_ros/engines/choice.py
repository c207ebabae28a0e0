"""Which engine runs a file: the best that is installed and does what is asked, and why it is the one."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from pave_ros.engines.base import EngineError
from pave_ros.engines.tensorrt import Cuda

CHECKPOINTS = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Candidate:
    """What an engine can do.

    Attributes:
        name: as in `engine`.
        module: of its library.
        package: what to install for it.
        runs: endings of the files that it runs as they are.
        builds_from: endings of the files that it runs after something has been made of them, see `engines.build`.
        devices: ``cpu``, ``cuda``.
        precisions: what `precision` may be, besides ``auto``.
        merit: why it is preferred to those after it.
        asked: whether it is taken only if asked for by name.
    """

    name: str
    module: str
    package: str
    runs: tuple[str, ...]
    builds_from: tuple[str, ...]
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    merit: str
    asked: bool = False


# Best first.
CANDIDATES = (
    Candidate("tensorrt", "tensorrt", "tensorrt cuda-bindings", (".trt",), (*CHECKPOINTS, ".onnx"), ("cuda",),
              ("fp32", "fp16"), "the fastest on NVIDIA GPUs"),
    Candidate("tensorrt_rtx", "tensorrt_rtx", "tensorrt-rtx-cu13 cuda-bindings", (".rtx",), (*CHECKPOINTS, ".onnx"),
              ("cuda",), ("fp32", "fp16"), "the fastest on GeForce and RTX GPUs"),
    Candidate("openvino", "openvino", "openvino", (".onnx", ".xml"), CHECKPOINTS, ("cpu",), ("fp32", "bf16", "int8"),
              "the fastest for exported files on the CPU"),
    Candidate("onnxruntime", "onnxruntime", "onnxruntime", (".onnx",), CHECKPOINTS, ("cuda", "cpu"), ("fp32",),
              "runs exported files without torch"),
    Candidate("pytorch", "torch", "torch timm", CHECKPOINTS, (), ("cuda", "cpu"), ("fp32", "fp16", "bf16", "half"),
              "runs checkpoints as they are"),
    Candidate("pytorch_compiled", "torch", "torch timm", CHECKPOINTS, (), ("cuda", "cpu"),
              ("fp32", "fp16", "bf16", "half"), "compiled for this machine", asked=True),
)  # fmt: skip
NAMES = tuple(candidate.name for candidate in CANDIDATES)


def choose(path: Path, engine: str, device: str, precision: str) -> tuple[str, str]:
    """The engine that runs a file as it is, and why.

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
    refusals: list[str] = []
    for kind, candidate in product(_kinds(device), _candidates(engine)):
        runs = path.suffix in candidate.runs
        refusal = _refusal(candidate, kind, precision) or ("" if runs else _wrong_form(candidate, path))
        if not refusal:
            return candidate.name, "; ".join(["asked for" if engine != "auto" else candidate.merit, *refusals])
        if runs or engine != "auto":  # All others are beside the point.
            refusals.append(refusal)
    known = ", ".join(dict.fromkeys(suffix for candidate in CANDIDATES for suffix in candidate.runs))
    raise EngineError(f"{path}: {'; '.join(refusals) or f'not a model; known are files that end in {known}'}")


def choose_to_build(path: Path, engine: str, device: str, precision: str) -> tuple[str, str] | None:
    """The engine that would run a file faster once something has been made of it, and why; None where none would.

    Arguments as of `choose`.
    """
    for kind, candidate in product(_kinds(device), _candidates(engine)):
        runs = engine == "auto" and path.suffix in candidate.runs
        # On a GPU PyTorch is the faster of the two, in 16 bits and with CUDA graphs.
        slower = engine == "auto" and kind != "cpu" and candidate.name == "onnxruntime"
        # 8 bits are set up on pictures, which nobody has here.
        builds = path.suffix in candidate.builds_from and not slower and precision != "int8"
        if (runs or builds) and not _refusal(candidate, kind, precision):
            if runs:
                return None  # It and all after it are no better than what runs as it is.
            return candidate.name, "asked for" if engine != "auto" else candidate.merit
    return None


def _kinds(device: str) -> list[str]:
    """The devices to try, one after the other."""
    if device != "auto":
        return [device]
    return ["cuda", "cpu"] if has_gpu() else ["cpu"]


def _candidates(engine: str) -> list[Candidate]:
    if engine not in ("auto", *NAMES):
        raise EngineError(f"unknown engine {engine!r}; known: auto, {', '.join(NAMES)}")
    return [c for c in CANDIDATES if engine == c.name or (engine == "auto" and not c.asked)]


def _wrong_form(candidate: Candidate, path: Path) -> str:
    advice = "make one with `pave_ros export`" if path.suffix in CHECKPOINTS else "give such a file instead"
    return f"{candidate.name} runs {' and '.join(candidate.runs)} files, not in this form; {advice}"


def _refusal(candidate: Candidate, device: str, precision: str) -> str:
    """Why an engine cannot do it here on a device other than ``auto``, whatever the file; empty when it can."""
    name, kind = candidate.name, device.partition(":")[0]
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        return f"unknown device {device!r}; use auto, cpu, cuda or cuda:N"
    if kind not in candidate.devices:
        return f"{name} does not run on {kind}"
    if precision not in ("auto", *candidate.precisions):
        made = "; `pave_ros export --precision int8` makes files for OpenVINO" if precision == "int8" else ""
        return f"precision {precision}: {name} runs in {', '.join(candidate.precisions)}{made}"
    if not is_installed(candidate.module):
        return f"{name} is not installed (pip install {candidate.package})"
    if kind == "cpu":
        return ""
    if name == "onnxruntime":
        has_cuda = "CUDAExecutionProvider" in import_module(name).get_available_providers()
        return "" if has_cuda else "this onnxruntime has no CUDA (pip install onnxruntime-gpu)"
    return unusable(name, device) or unsupported(name, device) if name.startswith("tensorrt") else ""


@cache
def unusable(library: str, device: str) -> str:
    """Why an installed TensorRT cannot be used on the GPU that is here; empty when it can."""
    try:
        import_module(library)
        if has_gpu():
            Cuda(device)
    except (ImportError, OSError, EngineError) as error:
        return f"{library} cannot be used: {error}"
    return ""


def unsupported(library: str, device: str) -> str:
    """Why an edition of TensorRT, which is installed, does not run on the GPU of this name; empty when it does, or
    when that cannot be known without building. TensorRT for RTX leaves data-centre GPUs out."""
    capability = gpu_capability(int(device.partition(":")[2] or 0))
    if library != "tensorrt_rtx" or not capability:
        return ""
    known = import_module(library).ComputeCapability.__members__
    numbers = [int(name[2:]) for name in known if name.startswith("SM")]
    if capability in numbers or capability > max(numbers):
        return ""
    names = ", ".join(f"{number / 10:.1f}" for number in sorted(numbers))
    return f"{library} does not run on GPUs of compute capability {capability / 10:.1f} (it does on {names})"


def is_installed(module: str) -> bool:
    """Whether there is a package of this name; a folder that is merely called so is none."""
    spec = find_spec(module)
    return spec is not None and spec.origin is not None


def has_gpu() -> bool:
    """Whether the driver finds an NVIDIA GPU."""
    return gpu_capability(0) > 0


@cache
def gpu_capability(index: int) -> int:
    """Ten times the compute capability of an NVIDIA GPU, e.g. 90; 0 when the driver finds no such GPU. Needs no library
    but the driver's."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    major, minor, device = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), index):
        return 0
    driver.cuDeviceGetAttribute(ctypes.byref(major), 75, device)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    driver.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return 10 * major.value + minor.value
