"""The torch engine: CPU, or CUDA in full, mixed or half precision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from pave_ros.engines.base import Engine, EngineError, Outputs
from pave_ros.models.base import Features, PoseModel

# Precision -> (type of the weights, type for autocast). Autocast keeps coordinates and sums in float32.
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "fp32": (torch.float32, None),
    "fp16": (torch.float32, torch.float16),
    "bf16": (torch.float32, torch.bfloat16),
    "half": (torch.float16, None),
}


class PyTorchEngine(Engine):
    """Runs a network with torch.

    Args:
        model: the network, which is fused and moved: hand over a network of its own.
        device: ``auto`` (CUDA when there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (fp16 on CUDA, fp32 on the CPU), ``fp32``, ``fp16`` or ``bf16`` (autocast), ``half``
            (weights and arithmetic in float16).
        input_size: (height, width) of the network's input; None takes the model's own.
    """

    name = "pytorch"

    def __init__(
        self,
        model: PoseModel,
        device: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
    ) -> None:
        self._device = resolve_device(device)
        self.device = str(self._device)
        self.precision = self._resolve_precision(precision)
        self.info = replace(model.info, input_size=input_size or model.info.input_size)
        self.info.check_input_size()
        self._dtype, self._autocast = PRECISIONS[self.precision]
        self._model = model.eval().fuse().to(self._device, self._dtype)
        if self._device.type == "cuda":  # The order that its convolutions compute in.
            self._model = self._model.to(memory_format=torch.channels_last)

    def _resolve_precision(self, precision: str) -> str:
        on_cpu = self._device.type == "cpu"
        if precision == "auto":
            return "fp32" if on_cpu else "fp16"
        if precision not in PRECISIONS:
            raise EngineError(f"unknown precision {precision!r}; known: auto, {', '.join(PRECISIONS)}")
        if on_cpu and precision in ("fp16", "half"):
            raise EngineError(f"precision {precision} needs CUDA; on the CPU use fp32 or bf16")
        return precision

    def _context(self) -> AbstractContextManager[object]:
        return nullcontext() if self._autocast is None else torch.autocast(self._device.type, self._autocast)

    @torch.inference_mode()
    def encode(self, images: npt.NDArray[np.float32]) -> Features:
        tensor = torch.from_numpy(images)
        if self._device.type == "cuda":  # From page-locked memory the upload goes on beside what comes next.
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
            tensor = tensor.to(self._dtype, memory_format=torch.channels_last)
        else:
            tensor = tensor.to(self._dtype)
        with self._context():
            return self._model.encode(tensor)

    @torch.inference_mode()
    def stack(self, features: Sequence[Features]) -> Features:
        return tuple(torch.cat(parts) for parts in zip(*features, strict=True))

    @torch.inference_mode()
    def decode(self, window: Sequence[Features]) -> Outputs:
        with self._context():
            outputs = self._model.decode(window)
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}


def resolve_device(device: str) -> torch.device:
    """The torch device of a name; EngineError when it is not to be had here."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise EngineError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise EngineError("device cuda: torch finds no usable CUDA GPU here; use auto or cpu")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise EngineError(f"device {device}: there are {torch.cuda.device_count()} CUDA GPUs here, counted from 0")
    return resolved
