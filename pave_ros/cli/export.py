"""`pave_ros export`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pave_ros.cli import options
from pave_ros.cli.console import err

if TYPE_CHECKING:
    from pave_ros.models.base import PoseModel


CALIBRATION = "synthetic:frames=64"


class ExportFormat(str, Enum):
    """What `export` writes, the keys of `pave_ros.engines.export.SUFFIXES`."""

    onnx = "onnx"
    openvino = "openvino"
    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


class ExportPrecision(str, Enum):
    """What `export` computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    model: Annotated[str, typer.Argument(help="Model, see `pave_ros models`.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default MODEL with the format's ending, here.")
    ] = None,
    weights: options.Weights = "auto",
    file_format: Annotated[
        ExportFormat, typer.Option("--format", help="onnx runs everywhere; the two tensorrt on GPUs only.")
    ] = ExportFormat.onnx,
    precision: Annotated[
        ExportPrecision, typer.Option(help="fp16: ONNX and OpenVINO keep weights in 16 bits, TensorRT computes in "
                                      "them; int8: the backbone in 8 bits, set up on --calibration.")
    ] = ExportPrecision.fp32,
    input_size: Annotated[
        str, typer.Option("--input", "--input-size", help="Input of the network, HEIGHTxWIDTH or one number for both; "
                          "empty: the model's own.")
    ] = "",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Pictures handled together; without it any number (TensorRT: one, "
                                     "or up to 16 crops of people).")
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="For int8: pictures or a folder of them, like those that will come; default "
                                      f"{CALIBRATION}.")
    ] = None,
    capability: Annotated[
        list[str] | None, typer.Option(help="For tensorrt_rtx: GPUs to build for, e.g. SM86; default all from SM80 on. "
                                            "None has to be here.")
    ] = None,
) -> None:  # fmt: skip
    """Write a model as a file that runs without torch: give it as weights. A video model becomes two files."""
    size = options.parse_size(input_size)
    if calibration is None:
        calibration = CALIBRATION
    elif precision is not ExportPrecision.int8:
        raise typer.BadParameter("pictures are for --precision int8", param_hint="--calibration")
    if capability and file_format not in (ExportFormat.tensorrt, ExportFormat.tensorrt_rtx):
        raise typer.BadParameter("GPUs to build for are for --format tensorrt_rtx", param_hint="--capability")
    from pave_ros import models as known_models
    from pave_ros.engines import export as exporter

    name = "_".join(known_models.split_name(model))
    path = output or Path(model).with_suffix(exporter.SUFFIXES[file_format.value])
    if path.suffix != exporter.SUFFIXES[file_format.value]:
        raise typer.BadParameter(
            f"{path} does not end in {exporter.SUFFIXES[file_format.value]}", param_hint="--output"
        )
    from pave_ros.checkpoints import files

    source = None if weights == files.RANDOM else files.resolve(weights, name)
    from pave_ros.checkpoints import loading

    with err.status(f"exporting {name} ..."):
        network = loading.open_model(name, source) if source else known_models.create(name)
        pictures = _calibration(calibration, network, size) if precision is ExportPrecision.int8 else ()
        request = exporter.Request(file_format.value, precision.value, size, batch, pictures, tuple(capability or ()))
        for written in exporter.write(network, path, request):
            print(written)


def _calibration(source: str, network: PoseModel, size: tuple[int, int] | None) -> list[Any]:
    """The pictures of a source as inputs of a network."""
    from pave_ros.calibration import network_inputs
    from pave_ros.video import open_source

    with open_source(source) as frames:
        pictures = ((frame.image, frame.bgr) for frame in frames if frame.image is not None)
        return network_inputs(pictures, network.info, size)
