"""Which form of the weights that come with the package to run: the exported file starts at once and needs no torch."""

from __future__ import annotations

import platform
from pathlib import Path

from pave_ros.checkpoints import files
from pave_ros.engines.base import EngineError
from pave_ros.engines.choice import choose, has_gpu, is_installed
from pave_ros.engines.exported import read_label


def best_form(path: Path, engine: str, device: str, precision: str, input_size: tuple[int, int] | None) -> Path:
    """The exported file beside shipped weights where it can do what is asked, else `path`; arguments as of `open_file`.

    An exported file has one size of input, which its name tells where it is not the model's own. There is one in 8
    bits, too, which OpenVINO runs faster on x86. On CUDA the network itself runs, in PyTorch.

    EngineError where nothing that is installed runs either; says what the exported file needs.
    """
    shipped = (files.SHIPPED / path.name).resolve()
    if path.resolve() != shipped:
        return path
    path = shipped  # Where a colcon workspace links to the sources, the files that belong together lie together there.
    if path.suffix == ".onnx" or engine.startswith(("pytorch", "tensorrt")):
        return path  # TensorRT in 16 bits
    if engine == "auto" and not (device == "cpu" or (device == "auto" and not _has_cuda())):
        return path
    if input_size is not None and _is_own(input_size, path):
        input_size = None
    exported = exported_path(path, input_size)
    if precision == "int8" or (precision == "auto" and engine in ("auto", "openvino") and _prefers_int8()):
        eight = exported_path(path, input_size, int8=True)
        exported = eight if eight.is_file() else exported
    if not exported.is_file():
        return path
    if engine == "auto":
        try:
            choose(exported, engine, device, precision)
        except EngineError as refusal:  # nothing that is installed runs it like that
            try:
                choose(path, engine, device, precision)
            except EngineError:  # nor the checkpoint, which needs more to be installed
                raise refusal from None
            return path
    return exported


def exported_path(path: Path, input_size: tuple[int, int] | None = None, int8: bool = False) -> Path:
    """Where the exported file of shipped weights lies that takes pictures of this (height, width), None for the model's
    own, and whose backbone computes in 8 bits or not."""
    size = "" if input_size is None else ".{}x{}".format(*input_size)
    return path.with_suffix(f"{size}.int8.onnx" if int8 else f"{size}.onnx")


def _is_own(input_size: tuple[int, int], path: Path) -> bool:
    """Whether this is the size that the exported file of shipped weights takes."""
    exported = exported_path(path)
    return exported.is_file() and read_label(exported).info.input_size == input_size


def _prefers_int8() -> bool:
    """Whether the file in 8 bits is the faster one here, also where there is bfloat16; on other processors than x86
    nobody measured it."""
    return platform.machine() == "x86_64" and is_installed("openvino")


def _has_cuda() -> bool:
    """Whether torch will find a GPU; it is not even loaded where the driver finds none."""
    if not is_installed("torch") or not has_gpu():
        return False
    import torch

    return torch.cuda.is_available()
