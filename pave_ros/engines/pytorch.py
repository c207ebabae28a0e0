"""The torch engine: CPU, or CUDA in full, mixed or half precision; as it is, or compiled.

On CUDA pictures are resized and normalised there, convolutions have their channels last, and what a network does is
recorded as CUDA graphs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pave_ros.engines.base import TOGETHER, Engine, EngineError, Outputs
from pave_ros.engines.cuda_graphs import Function, Recorded
from pave_ros.models.base import Features, PoseModel
from pave_ros.models.info import ModelInfo
from pave_ros.models.layers import constant

log = logging.getLogger(__name__)

# Precision -> (type of the weights, type for autocast). Autocast keeps coordinates and sums in float32.
PRECISIONS: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "fp32": (torch.float32, None),
    "fp16": (torch.float32, torch.float16),
    "bf16": (torch.float32, torch.bfloat16),
    "half": (torch.float16, None),
}
CROPS = (1, 2, 4, 8, TOGETHER)  # Numbers of people's crops that CUDA graphs are recorded for.


class PyTorchEngine(Engine):
    """Runs a network with torch.

    Args:
        model: the network, which is fused and moved: hand over a network of its own.
        device: ``auto`` (CUDA when there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` (fp16 on CUDA, fp32 on the CPU), ``fp32``, ``fp16`` or ``bf16`` (autocast), ``half``
            (weights and arithmetic in float16).
        input_size: (height, width) of the network's input; None takes the model's own.
        compiled: have torch.compile make a program of the network, for each shape of its inputs when that first comes:
            that takes a minute or more, and a C++ compiler.
    """

    def __init__(
        self,
        model: PoseModel,
        device: str = "auto",
        precision: str = "auto",
        input_size: tuple[int, int] | None = None,
        compiled: bool = False,
    ) -> None:
        self.name = "pytorch_compiled" if compiled else "pytorch"
        self._device = resolve_device(device)
        self.device = str(self._device)
        self.precision = self._resolve_precision(precision)
        self.info = replace(model.info, input_size=input_size or model.info.input_size)
        self.info.check_input_size()
        self._dtype, self._autocast = PRECISIONS[self.precision]
        self._model = model.eval().fuse().to(self._device, self._dtype)
        self._encode: Function = self._encoded
        self._decode: Function = self._decoded
        if compiled:
            self._encode, self._decode = torch.compile(self._encode), torch.compile(self._decode)
            if self.info.top_down:
                self.batches = (1, 2)  # It compiles for one crop, and again for any number of them.
        if self._device.type == "cuda":
            self._model = self._model.to(memory_format=torch.channels_last)  # as its convolutions compute
            if self._autocast is not None:
                store_as_computed(self._model, self._autocast)
            if self.info.top_down:
                self.batches = CROPS
            self._encode, self._decode = Recorded(self._encode, self.batches), Recorded(self._decode, self.batches)
        self._outputs: list[str] = []
        self._warned = False

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

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """On its own GPU, for that is where kernels of our own go; convolutions by the algorithm that is fastest for
        their shapes, and what is called float32 in float32."""
        if self._device.type == "cpu":
            yield
            return
        flags = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
        with torch.cuda.device(self._device), flags:
            yield

    def _encoded(self, images: Tensor) -> Features:
        with self._context():
            return self._model.encode(images)

    def _decoded(self, *features: Tensor) -> tuple[Tensor, ...]:
        """The outputs, in the order of `_outputs`, from the features of the frames of a window one after the other."""
        each = len(features) // self.info.window
        with self._context():
            outputs = self._model.decode([features[i : i + each] for i in range(0, len(features), each)])
        self._outputs = list(outputs)
        return tuple(outputs.values())

    def encode(self, images: npt.NDArray[np.float32]) -> Features:
        return self.encode_tensor(self._uploaded(images))

    @property
    def prepares(self) -> bool:
        return self._device.type == "cuda"

    def encode_picture(self, image: npt.NDArray[np.uint8], bgr: bool = False) -> Features:
        return self.encode_tensor(prepared(self._uploaded(image), self.info, bgr))

    @torch.inference_mode()
    def encode_tensor(self, images: Tensor) -> Features:
        """The same as `encode`, of normalised pictures (B, 3, H, W) that are on the device already."""
        layout = torch.channels_last if self._device.type == "cuda" else torch.preserve_format
        with self._settings():
            return self._encode(images.to(self._dtype, memory_format=layout))

    def _uploaded(self, array: npt.NDArray[Any]) -> Tensor:
        if self._device.type == "cpu":
            return torch.from_numpy(array)
        # From page-locked memory the upload goes on beside what comes next.
        staged = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), pin_memory=True)
        staged.numpy()[...] = array
        return staged.to(self._device, non_blocking=True)

    @torch.inference_mode()
    def stack(self, features: Sequence[Features]) -> Features:
        return tuple(torch.cat(parts) for parts in zip(*features, strict=True))

    def decode(self, window: Sequence[Features]) -> Outputs:
        outputs = {name: value.float().cpu().numpy() for name, value in self.decode_tensors(window).items()}
        overflows = self.precision in ("fp16", "half") and not all(np.isfinite(v).all() for v in outputs.values())
        if overflows and not self._warned:
            self._warned = True
            log.warning(
                "%s: values too large for 16 bits, so nobody may be found; choose precision bf16 or fp32",
                self.info.name,
            )
        return outputs

    @torch.inference_mode()
    def decode_tensors(self, window: Sequence[Features]) -> dict[str, Tensor]:
        """The same as `decode`, with the outputs left on the device."""
        with self._settings():
            outputs = self._decode(*(feature for features in window for feature in features))
        return dict(zip(self._outputs, outputs, strict=True))


def store_as_computed(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of convolutions and matrix products in the type that autocast computes them in, so that they
    are not converted again for every picture; the results are the same."""
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.MultiheadAttention, nn.modules.conv._ConvNd)):
            for parameter in module.parameters():
                parameter.data = parameter.data.to(dtype)


def prepared(picture: Tensor, info: ModelInfo, bgr: bool = False) -> Tensor:
    """`pave_ros.preprocessing.network_input` on the device that a picture (H, W, 3) uint8 is on. What shrinks is
    averaged as the published code has Pillow do it, and rounded as there."""
    image = picture.permute(2, 0, 1)[None].float()
    size = info.network_size(*picture.shape[:2])
    if image.shape[-2:] != size:
        image = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=info.antialias)
        image = image.round() if info.antialias else image
    if bgr != info.bgr:
        image = image.flip(1)
    mean, std = (constant(values, image.dtype, image.device).view(3, 1, 1) for values in (info.mean, info.std))
    return (image / 255 - mean) / std


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
    return torch.device("cuda", resolved.index or 0) if resolved.type == "cuda" else resolved
