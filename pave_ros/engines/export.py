"""Write a network in any of the formats that engines run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from pave_ros.engines import tensorrt
from pave_ros.engines.base import EngineError
from pave_ros.engines.exported import files_of, whole_path
from pave_ros.engines.onnx_export import export_onnx
from pave_ros.files import complete
from pave_ros.models.base import PoseModel

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tensorrt": ".trt", "tensorrt_rtx": ".rtx"}


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        format: one of `SUFFIXES`.
        precision: ``fp32``; ``fp16``, which is how ONNX and OpenVINO keep the weights and what TensorRT computes in; or
            ``int8``, the backbone in 8 bits.
        input_size: (height, width) of the network's input; None takes the model's own.
        batch: pictures that are handled together; None leaves it free (TensorRT: one, of crops of people up to 16).
        pictures: for ``int8``, some hundred network inputs (1, 3, H, W) like those that will come.
        capabilities: for ``tensorrt_rtx``, the GPUs to build for, see `pave_ros.engines.tensorrt.build`.
    """

    format: str = "onnx"
    precision: str = "fp32"
    input_size: tuple[int, int] | None = None
    batch: int | None = None
    pictures: Iterable[npt.NDArray[np.float32]] = ()
    capabilities: tuple[str, ...] = ()


def write(model: PoseModel, path: Path, request: Request) -> list[Path]:
    """Write a network, which is fused on the way: hand over one of its own. Returns the files that were written.

    EngineError when it cannot be done, and when the library that the format is of is not installed.
    """
    try:
        return _write(model, path, request)
    except OSError as error:  # without a file's name, or with that of one that is gone
        raise EngineError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write(model: PoseModel, path: Path, request: Request) -> list[Path]:
    if whole_path(path) != path:
        raise EngineError(f"{path}: names that end in .encode or .decode are for the parts of video models")
    for_gpu = request.format in tensorrt.LIBRARIES
    # What is missing is told before the work.
    if for_gpu:
        tensorrt.builder_for(request.format, request.capabilities)
    if request.precision == "int8":
        from pave_ros.engines import quantization

        quantization.library()
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    # 8 bits are made of a file in fp32.
    precision = {"fp16": "half" if for_gpu else "fp16", "int8": "fp32"}.get(request.precision, request.precision)
    with TemporaryDirectory(dir=path.absolute().parent, prefix=".export-") as folder:
        file = Path(folder) / path.with_suffix(".onnx").name
        made = export_onnx(model, file, request.input_size, precision=precision, batch=request.batch)
        if request.precision == "int8":
            quantization.quantize(made, request.pictures)
        return [_convert(part, path.parent, request) for part in files_of(file).values()]


def _convert(file: Path, folder: Path, request: Request) -> Path:
    """One ONNX file in the format that is wanted."""
    target = folder / file.with_suffix(SUFFIXES[request.format]).name
    if request.format == "onnx":
        return file.replace(target)
    if request.format == "openvino":
        from pave_ros.engines.openvino import convert

        try:
            made = convert(file, file.with_suffix(target.suffix), half=request.precision == "fp16")
        except RuntimeError as error:
            raise EngineError(f"{target}: cannot be written ({str(error).strip()}); is the disk full?") from None
        made.with_suffix(".bin").replace(target.with_suffix(".bin"))
        return made.replace(target)
    with complete(target) as partial:
        tensorrt.build(request.format, file, partial, request.batch, request.capabilities)
    return target
