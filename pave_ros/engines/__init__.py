"""Engines: libraries that run a model, behind one small interface (`pave_ros.engines.base`).

Importing this package is cheap; each library loads when it is used.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any, cast

from pave_ros.engines.base import Engine, EngineError
from pave_ros.engines.build import Apart, Build, Progress
from pave_ros.engines.choice import NAMES, choose, choose_to_build
from pave_ros.engines.exported import Label, read_label
from pave_ros.engines.shipped import best_form
from pave_ros.engines.switching import SwitchingEngine
from pave_ros.engines.tensorrt import LIBRARIES

log = logging.getLogger(__name__)

# Or OpenVINO tells its maker of every start, and keeps a number for that in the home directory, which it needs then.
sys.modules.setdefault("openvino_telemetry", cast(Any, None))

__all__ = ["NAMES", "Engine", "EngineError", "open_file"]


def open_file(
    path: Path | str,
    model: str,
    engine: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    input_size: tuple[int, int] | None = None,
    *,
    background: bool = False,
) -> Engine:
    """An engine with the weights of a file: an exported one, or a checkpoint of `model`.

    Some engines run only what has been made of a file before, which takes from seconds to minutes and is kept in a
    cache. With `engine` ``auto`` nobody waits for that: what is in the cache is used, else what runs the file at once.

    Args:
        path: the file; its ending tells what it is.
        model: name of the model, e.g. ``detrpose_n``; an exported file knows its own.
        engine: ``auto`` (the best that is installed, see `pave_ros.engines.choice`; of weights that come with the
            package the form that suits) or one of `NAMES`.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto``, or what the engine has to compute in: see the engines.
        input_size: (height, width) of the network's input; None takes the model's own.
        background: build what is faster in a process of its own, let another engine serve meanwhile, and then change.
    """
    given, path = Path(path), best_form(Path(path), engine, device, precision, input_size)
    if path.suffix != given.suffix and given.stem != model:  # What comes with the package is named after its model.
        raise EngineError(f"{given}: these are weights of {given.stem}, not of {model}")

    def opened(name: str, reason: str, file: Path = path, size: tuple[int, int] | None = input_size) -> Engine:
        return _open(file, model, name, reason, device, precision, size)

    built = choose_to_build(path, engine, device, precision)
    if built is None:
        name, reason = choose(path, engine, device, precision)
        if background and name == "pytorch_compiled":
            return SwitchingEngine(opened("pytorch", "runs at once"), name, lambda *_: opened(name, reason))
        return opened(name, reason)
    name, reason = built
    if path.suffix == ".onnx":
        _check(read_label(path), path, input_size)
    build = Build(name, path, model, device, precision, input_size)
    ready = (
        build.find() if engine == "auto" or background else build.run(partial(log.info, "building for %s: %s", name))
    )
    if ready is not None:
        return opened(name, reason, ready)
    first = _first(path, model, device, precision, input_size)
    if background:
        apart = Apart(build)

        def make(progress: Progress, size: tuple[int, int] | None) -> Engine:
            return opened(name, reason, apart.run(progress, size), size or input_size)

        return SwitchingEngine(first, name, make, apart.stop, for_one_size=first.info.resize != "stretch")
    first.reason += f"; {name} would be faster, if asked for: it has to be built first"
    return first


def _first(path: Path, model: str, device: str, precision: str, input_size: tuple[int, int] | None) -> Engine:
    """What runs the file as it is, in the precision that was asked for where it can."""
    try:
        name, reason = choose(path, "auto", device, precision)
    except EngineError:
        precision = "auto"
        name, reason = choose(path, "auto", device, precision)
    return _open(path, model, name, reason, device, precision, input_size)


def _open(
    path: Path, model: str, name: str, reason: str, device: str, precision: str, input_size: tuple[int, int] | None
) -> Engine:
    """The file in this engine, which runs it as it is."""
    if name.startswith("pytorch"):
        from pave_ros.checkpoints import loading
        from pave_ros.engines.pytorch import PyTorchEngine

        opened: Engine = PyTorchEngine(
            loading.open_model(model, path), device, precision, input_size, compiled=name != "pytorch"
        )
    else:
        opened = _open_exported(path, name, device, precision)
        _check(opened, path, input_size)
        # To OpenVINO it says what the rest of a file in 8 bits is computed in.
        if name != "openvino" and precision not in ("auto", opened.precision):
            raise EngineError(f"{path}: computes in {opened.precision}, not in {precision}; export it anew for that")
    opened.reason = reason
    return opened


def _check(made: Engine | Label, path: Path, input_size: tuple[int, int] | None) -> None:
    """EngineError where a file was made for another input than what is asked for."""
    height, width = made.info.input_size
    if input_size and input_size != (height, width):
        raise EngineError(f"{path}: made for an input of {height}x{width} (height x width); export it anew for another")


def _open_exported(path: Path, name: str, device: str, precision: str) -> Engine:
    if name == "openvino":
        from pave_ros.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(path, device, precision)
    if name in LIBRARIES:
        from pave_ros.engines.tensorrt import TensorRtEngine

        return TensorRtEngine(path, device, name)
    from pave_ros.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(path, device)
