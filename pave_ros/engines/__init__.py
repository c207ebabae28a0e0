"""Engines: libraries that run a model, behind one small interface (`pave_ros.engines.base`).

Importing this package is cheap; each library loads when it is used.
"""

from __future__ import annotations

from pathlib import Path

from pave_ros.engines.base import Engine, EngineError
from pave_ros.engines.shipped import best_form

NAMES = ("pytorch", "onnxruntime")


def open_file(
    path: Path,
    model: str,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
) -> Engine:
    """An engine with the weights of a file: an exported ``.onnx``, or a checkpoint of `model`.

    Args:
        path: the file; its ending tells what it is.
        model: name of the model, e.g. ``detrpose_n``; an exported file knows its own.
        engine: ``auto`` (by the kind of file; of weights that come with the package the form that suits) or one of
            `NAMES`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: see `pave_ros.engines.pytorch.PyTorchEngine`.
        input_size: (height, width) of the network's input; None takes the model's own.
    """
    if engine not in ("auto", *NAMES):
        raise EngineError(f"unknown engine {engine!r}; known: auto, {', '.join(NAMES)}")
    path = best_form(path, engine, device, precision, input_size)
    exported = path.suffix == ".onnx"
    if exported and engine != "pytorch":
        return _open_exported(path, device, precision, input_size)
    if exported:
        raise EngineError(f"{path}: an exported file runs in onnxruntime, not in pytorch; give a checkpoint instead")
    if engine == "onnxruntime":
        raise EngineError(f"{path}: onnxruntime needs an exported file; make it with `pave_ros export {model}`")
    from pave_ros.checkpoints import loading
    from pave_ros.engines.pytorch import PyTorchEngine

    return PyTorchEngine(loading.open_model(model, path), device, precision, input_size)


def _open_exported(path: Path, device: str, precision: str, input_size: tuple[int, int] | None) -> Engine:
    from pave_ros.engines.onnxruntime import OnnxRuntimeEngine

    if not path.is_file():
        raise FileNotFoundError(f"no such model file: {path}")
    if precision not in ("auto", "fp32"):
        raise EngineError(f"precision {precision}: an exported file runs as it was made, in fp32")
    engine = OnnxRuntimeEngine(path, device)
    if input_size and input_size != engine.info.input_size:
        height, width = engine.info.input_size
        raise EngineError(f"{path}: made for an input of {height}x{width} (height x width); export it anew for another")
    return engine
