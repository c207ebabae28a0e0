"""The ONNX Runtime engine: runs exported files, on the CPU or through its CUDA provider; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime

from pave_ros.engines.base import Array, EngineError
from pave_ros.engines.choice import has_gpu
from pave_ros.engines.exported import ExportedEngine, Label

# It moves a zero padding into the max pooling behind it, which then ignores it (microsoft/onnxruntime#24737): wrong
# wherever the values are negative, as at the right and lower border in the stem of HGNetv2.
WRONG_OPTIMIZERS = ["Pad_Fusion"]


def open_session(path: Path, providers: Sequence[Any], threads: int = 0) -> onnxruntime.InferenceSession:
    """Any ONNX file, with the settings that suit a robot; `threads` of the CPU, 0 for all cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait win a few percent here and take the processor from all else on a robot.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=providers, disabled_optimizers=WRONG_OPTIMIZERS)


class OnnxRuntimeEngine(ExportedEngine):
    """Runs a file of `pave_ros.engines.onnx_export.export_onnx`.

    Args:
        path: the ONNX file.
        device: ``auto`` (CUDA when this ONNX Runtime has it, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU, 0 for all cores.
    """

    name = "onnxruntime"

    def __init__(self, path: Path | str, device: str = "auto", threads: int = 0) -> None:
        self._threads = threads
        super().__init__(path, device)

    def load(self, path: Path, device: str) -> tuple[Label, Session]:
        self.device, providers = providers_for(device)
        try:
            if self.device != "cpu":
                # Finds CUDA's libraries where pip puts them, which the dynamic loader does not.
                onnxruntime.preload_dlls()
            session = open_session(path, providers, self._threads)
        except Exception as error:  # ONNX Runtime's errors share no public base class.
            raise EngineError(f"{path}: ONNX Runtime cannot load it ({str(error).strip().splitlines()[-1]})") from None
        if self.device != "cpu" and "CUDAExecutionProvider" not in session.get_providers():
            raise EngineError(
                f"device {self.device}: this ONNX Runtime cannot load CUDA's libraries, and says why on the terminal; "
                "install those that it was built for (pip install 'onnxruntime-gpu[cuda,cudnn]'), or use cpu"
            )
        label = Label.from_properties(session.get_modelmeta().custom_metadata_map, path)
        # 16 bits are how a file stores its weights; they are computed with in 32.
        self.precision = "int8" if label.precision == "int8" else "fp32"
        return label, Session(session)


class Session:
    """One file in ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._inputs = [item.name for item in session.get_inputs()]
        self.outputs = [item.name for item in session.get_outputs()]
        first = session.get_inputs()[0].shape[0]
        self._fixed = first if isinstance(first, int) else None
        self.batches = (self._fixed or 1,)

    def next_batch(self, count: int) -> int:
        return self._fixed or count

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        return tuple(self._session.run(None, dict(zip(self._inputs, arrays, strict=True))))


def providers_for(device: str) -> tuple[str, list[str | tuple[str, dict[str, str]]]]:
    """(device as it will run, providers to ask for)"""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda"):
        raise EngineError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if kind == "cuda" and not has_cuda:
        raise EngineError("device cuda: this ONNX Runtime has no CUDA; install onnxruntime-gpu, or use auto or cpu")
    if kind == "cpu" or not has_cuda or (kind == "auto" and not has_gpu()):
        return "cpu", ["CPUExecutionProvider"]
    index = index or "0"
    return f"cuda:{index}", [("CUDAExecutionProvider", {"device_id": index, "use_tf32": "0"}), "CPUExecutionProvider"]
