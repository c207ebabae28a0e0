"""The OpenVINO engine: runs exported files on the CPU, in bfloat16 or 8 bits where it is made for them; needs no torch.

It reads ONNX files and its own pairs of ``.xml`` and ``.bin``.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino

from pave_ros.engines.base import Array, EngineError
from pave_ros.engines.exported import COORDINATES, DECODE, ExportedEngine, Label, read_label
from pave_ros.files import sha256
from pave_ros.models.info import METADATA_KEY

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
PRECISE = (f"{DECODE}/", f"{COORDINATES}/")
BIN = f"{METADATA_KEY}_bin"  # Key of the SHA-256 of the file that the weights are in.
HEAVY = ("Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul")
LIGHT = 32_000_000  # Weights of a network, bytes, up to which the time between its steps counts.


@cache
def core() -> openvino.Core:
    """The one of this process, kept until its end.

    It gives the thread that first compiles a model another stack for signals, and takes it back when it goes. With two
    of them, the first to go leaves the second one's thread to restore a stack that is no more: the next Ctrl-C, or the
    end of a child process, is a segmentation fault then.
    """
    return openvino.Core()


def computes_in_bf16() -> bool:
    """Whether this processor is made for bfloat16."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def compile_options(arithmetic: str) -> dict[str, Any]:
    """For a network that computes in one of `PRECISIONS`, on all cores."""
    return {
        "INFERENCE_PRECISION_HINT": PRECISIONS[arithmetic],
        "PERFORMANCE_HINT": "LATENCY",
        # By itself it may keep to one socket, which in a virtual machine may be a single core.
        "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0)),
        # On a robot the cores are others' too.
        "ENABLE_CPU_PINNING": False,
    }


class OpenVinoEngine(ExportedEngine):
    """Runs a file of `pave_ros.engines.onnx_export`.

    Args:
        path: ``.onnx`` or ``.xml``.
        device: ``auto`` or ``cpu``.
        precision: ``fp32``, ``bf16``, a third faster where the processor is made for it, or ``auto``: bf16 there for
            models that stay as accurate (`ModelInfo.bf16`), else fp32; ``int8``: a file that was made so, whose other
            parts are computed as with ``auto``, while ``fp32`` and ``bf16`` say what they are computed in. In bf16
            convolutions and matrix products are computed in 16 bits, and so is all that lies before the decoder but
            `PoseModel.coordinates`; what these and the decoder do with coordinates stays in 32, since 8 bits of
            mantissa are pixels.
    """

    name = "openvino"
    concurrent = True

    def __init__(self, path: Path | str, device: str = "auto", precision: str = "auto") -> None:
        if device not in ("auto", "cpu"):
            raise EngineError(f"device {device}: OpenVINO runs on the CPU here; use auto or cpu")
        if precision not in ("auto", "int8", *PRECISIONS):
            raise EngineError(f"precision {precision}: OpenVINO runs in {', '.join(PRECISIONS)}, int8 or auto")
        self.device = "cpu"
        self._asked = precision
        super().__init__(path, device)

    def load(self, path: Path, device: str) -> tuple[Label, Network]:
        known = read_label(path) if path.suffix == ".onnx" else None  # which says more clearly what is no such file
        try:
            model = core().read_model(path)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO cannot load it ({str(error).strip().splitlines()[-1]})") from None
        label = known or _label_of(model, path)
        if self._asked == "int8" and label.precision != "int8":
            raise EngineError(f"{path}: not in 8 bits; `pave_ros export --precision int8` makes such files")
        arithmetic = self._asked
        if arithmetic in ("auto", "int8"):  # OpenVINO's own choice, bf16 for all, moves joints by pixels
            arithmetic = "bf16" if label.info.bf16 and computes_in_bf16() else "fp32"
        if arithmetic == "bf16":
            try:
                model = _with_precise_coordinates(model)
            except (OSError, RuntimeError) as error:
                cause = f"{path}: bf16 needs room for a temporary file (TMPDIR): {str(error).strip()}"
                if self._asked == "bf16":
                    raise EngineError(cause) from None
                log.warning("%s; computing in fp32", cause)
                arithmetic = "fp32"
        self.precision = "int8" if label.precision == "int8" else arithmetic
        return label, Network(model, compile_options(arithmetic))


class Network:
    """One file in OpenVINO, compiled for fixed batches when they first come: free shapes are much slower, and compiling
    takes from a fifth of a second to seconds.

    Several threads may run it at once, each with inputs and outputs of its own.

    A batch of four takes a light network a tenth less than four pictures one by one, others no less, so these are
    compiled for single pictures only (docs/engines.md).

    Attributes:
        batches: sizes, the largest first.
        outputs: names.
    """

    def __init__(self, model: openvino.Model, options: dict[str, Any]) -> None:
        self._model, self._options = model, options
        self._compiled: dict[int, openvino.CompiledModel] = {}
        self._idle: defaultdict[int, list[openvino.InferRequest]] = defaultdict(list)
        self._lock = threading.Lock()
        first = model.inputs[0].partial_shape[0]
        weights = sum(step.get_byte_size() for step in model.get_ops() if step.get_type_name() == "Constant")
        by_weight = (4, 2, 1) if weights <= LIGHT else (1,)
        self.batches = by_weight if first.is_dynamic else (first.get_length(),)
        self.outputs = [output.any_name for output in model.outputs]

    def next_batch(self, count: int) -> int:
        return next((size for size in self.batches if size <= count), self.batches[-1])

    def __call__(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        size = len(arrays[0])
        request = self._request(size)
        results = request.infer(list(arrays), share_inputs=True, share_outputs=True)
        copies = tuple(np.array(value) for value in results.values())  # The next call writes over its own.
        self._idle[size].append(request)
        return copies

    def _request(self, batch: int) -> openvino.InferRequest:
        """One that nobody else uses: there are as many as threads have computed at once."""
        with self._lock:
            if batch not in self._compiled:
                self._compiled[batch] = self._compile(batch)
            idle = self._idle[batch]
            return idle.pop() if idle else self._compiled[batch].create_infer_request()

    def _compile(self, batch: int) -> openvino.CompiledModel:
        model = self._model.clone()
        model.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in model.inputs})
        return core().compile_model(model, "CPU", self._options)


def convert(source: Path, target: Path, half: bool = False) -> Path:
    """Write an exported ``.onnx`` as ``.xml`` and ``.bin``, which load faster, with its label; `half` keeps the weights
    in 16 bits."""
    model = core().read_model(source)
    for key, value in read_label(source).properties().items():
        model.set_rt_info(value, [METADATA_KEY, key])
    openvino.save_model(model, target, compress_to_fp16=half)
    model.set_rt_info(sha256(target.with_suffix(".bin")), [METADATA_KEY, BIN])
    openvino.save_model(model, target, compress_to_fp16=half)
    return target


def _label_of(model: openvino.Model, path: Path) -> Label:
    # A group that holds the label, and not a value of that name.
    found = model.rt_info[METADATA_KEY] if model.has_rt_info([METADATA_KEY, METADATA_KEY]) else {}
    properties = {key: value.astype(str) for key, value in found.items()}
    label = Label.from_properties(properties, path)
    weights = path.with_suffix(".bin")
    if properties.get(BIN) != sha256(weights):
        raise EngineError(f"{path}: made with other weights than are in {weights.name} beside it; export both anew")
    return label


def _with_precise_coordinates(model: openvino.Model) -> openvino.Model:
    """The model with what computes with coordinates marked: all but its matrix products stays in float32.

    OpenVINO reads such marks from its own format only; Python cannot set them.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        tree = ElementTree.parse(file)
        for layer in tree.iterfind("layers/layer"):
            if layer.get("name", "").startswith(PRECISE) and layer.get("type") not in ("Const", *HEAVY):
                info = layer.find("rt_info")
                if info is None:
                    info = ElementTree.Element("rt_info")
                    layer.insert(int(layer.find("data") is not None), info)
                ElementTree.SubElement(info, "attribute", name="precise", version="0")
        tree.write(file)
        return core().read_model(file.read_text(), openvino.Tensor(np.fromfile(file.with_suffix(".bin"), np.uint8)))
