"""Which form of the weights that come with the package to run: the exported file starts at once and needs no torch."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from pathlib import Path

from pave_ros.checkpoints import files
from pave_ros.engines.base import EngineError
from pave_ros.engines.choice import choose


def best_form(path: Path, engine: str, device: str, precision: str, input_size: tuple[int, int] | None) -> Path:
    """The exported file beside shipped weights where it can do what is asked, else `path`; arguments as of `open_file`.

    An exported file has one size of input. On CUDA the network itself runs, in PyTorch.
    """
    exported = path.with_suffix(".onnx")
    if path.parent != files.SHIPPED.resolve() or not exported.is_file() or path == exported:
        return path
    if engine != "auto":
        return path if engine.startswith("pytorch") else exported
    if input_size is not None or not (device == "cpu" or (device == "auto" and not _has_cuda())):
        return path
    try:
        choose(exported, engine, device, precision)
    except EngineError:  # nothing that is installed runs it like that
        return path
    return exported


def _has_cuda() -> bool:
    """Whether torch will find a GPU; it is not even loaded where no driver is installed."""
    if find_spec("torch") is None:
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()
