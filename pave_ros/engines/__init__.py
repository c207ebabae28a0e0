"""Engines: libraries that run a model, behind one small interface (`pave_ros.engines.base`).

Importing this package is cheap; each library loads when it is used.
"""

from __future__ import annotations

from pathlib import Path

from pave_ros.engines.base import Engine, EngineError
from pave_ros.engines.choice import NAMES, choose
from pave_ros.engines.shipped import best_form

__all__ = ["NAMES", "Engine", "EngineError", "open_file"]


def open_file(
    path: Path,
    model: str,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
) -> Engine:
    """An engine with the weights of a file: an exported one, or a checkpoint of `model`.

    Args:
        path: the file; its ending tells what it is.
        model: name of the model, e.g. ``detrpose_n``; an exported file knows its own.
        engine: ``auto`` (the best that is installed, see `pave_ros.engines.choice`; of weights that come with the
            package the form that suits) or one of `NAMES`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, or what the engine has to compute in: see the engines.
        input_size: (height, width) of the network's input; None takes the model's own.
    """
    path = best_form(path, engine, device, precision, input_size)
    name, reason = choose(path, engine, device, precision)
    if name == "pytorch":
        from pave_ros.checkpoints import loading
        from pave_ros.engines.pytorch import PyTorchEngine

        opened: Engine = PyTorchEngine(loading.open_model(model, path), device, precision, input_size)
    else:
        opened = _open_exported(path, name, device, precision)
        if input_size and input_size != opened.info.input_size:
            height, width = opened.info.input_size
            raise EngineError(
                f"{path}: made for an input of {height}x{width} (height x width); export it anew for another"
            )
    opened.reason = reason
    return opened


def _open_exported(path: Path, name: str, device: str, precision: str) -> Engine:
    if name == "openvino":
        from pave_ros.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, device, precision)
    from pave_ros.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, device)
