"""Write a network as ONNX files that carry all that is needed to run them, without torch and without the package's
models.

`pave_ros.engines.exported` describes the files.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript.optimizer import fold_constants
from torch import Tensor, nn

from pave_ros import __version__
from pave_ros.engines.base import EngineError
from pave_ros.engines.exported import BACKBONE, COORDINATES, DECODE, ENCODE, WHOLE, Label, part_path
from pave_ros.files import complete
from pave_ros.models.base import PoseModel

OPSET = 18
HALF_FROM = 256  # Numbers in a weight; smaller ones are not worth a conversion.


class _Encode(nn.Module):
    """The first part, with pictures in float32, whatever it computes in."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.encode(images.to(next(self.model.parameters()).dtype)))


class _Decode(nn.Module):
    """The second part, with its outputs in float32 and as a tuple, which is what ONNX knows."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        count = len(features) // self.model.info.window
        window = [tuple(features[i : i + count]) for i in range(0, len(features), count)]
        return tuple(value.float() for value in self.model.decode(window).values())


class _Whole(nn.Module):
    """Both parts of an image model; the names of its nodes tell them apart."""

    def __init__(self, model: PoseModel) -> None:
        super().__init__()
        self.encode, self.decode = _Encode(model), _Decode(model)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.decode(self.encode(images))
        return outputs


@torch.no_grad()
def export_onnx(
    model: PoseModel,
    path: Path | str,
    input_size: tuple[int, int] | None = None,
    *,
    precision: str = "fp32",
    batch: int | None = None,
) -> Path:
    """Write a network as ONNX: an image model as one file, a video model as its two parts.

    ``NAME.onnx`` has the input ``images`` (B, 3, H, W) and the model's outputs by their own names. Of a video model
    ``NAME.encode.onnx`` has the outputs ``feature_i``, and ``NAME.decode.onnx`` the inputs ``frame_t_feature_i`` for
    each frame t of the window, oldest first. The metadata hold the `Label`.

    Args:
        model: the network; it is fused, hand over one of its own.
        path: file to write.
        input_size: (height, width) that the file is made for; None takes the model's own.
        precision: ``fp32``; ``fp16`` keeps the weights in 16 bits, which halves the file, and computes in 32;
            ``half`` computes in 16 bits too, but for coordinates, which is meant for GPUs.
        batch: number of pictures that are handled together; None leaves it free.

    Returns:
        The file to give as weights; of a video model that for encoding, beside which lies the other.

    Raises:
        EngineError: another precision, or more weights than such a file can hold.
    """
    if precision not in ("fp32", "fp16", "half"):
        raise EngineError(f"unknown precision {precision!r} of an ONNX file; known: fp32, fp16, half")
    size = input_size or model.info.input_size
    # A file has one size of input: pictures are stretched to it, however they come to the network's size otherwise.
    info = replace(model.info, input_size=(size[0], size[1]), resize="stretch")
    info.check_input_size()
    label = Label(info, WHOLE, "fp16" if precision == "half" else precision, weights_hash(model), __version__)
    model = model.eval().fuse()
    if precision == "half":
        model = model.half()
    images = torch.zeros(batch or 2, 3, *info.input_size)
    written = []
    for part, network, example, inputs, outputs in _parts(model, images):
        proto = _to_onnx(network, example, inputs, outputs, dynamic=batch is None)
        _tidy(proto.graph, part, {kind.__name__ for kind in model.coordinates})
        if precision == "fp16":
            store_half(proto.graph)
        onnx.helper.set_model_props(proto, replace(label, part=part).properties())
        file = part_path(Path(path), part)
        if sum(len(weights.raw_data) for weights in proto.graph.initializer) > LARGEST:
            raise EngineError(
                f"{file}: an ONNX file holds 2 GB at most, and these weights take more; use precision fp16"
            )
        with complete(file) as partial:
            onnx.save(proto, partial)
        written.append(file)
    return written[0]


LARGEST = 2**31 - 10**7  # bytes of weights in a file, which the rest of the network has to fit into too

Part = tuple[str, nn.Module, Tensor | list[Tensor], list[str], list[str]]


def _parts(model: PoseModel, images: Tensor) -> Iterator[Part]:
    """(part, network, example, names of inputs, names of outputs) of each file."""
    dtype = next(model.parameters()).dtype
    if model.info.window == 1:
        yield WHOLE, _Whole(model), images, ["images"], list(model(images.to(dtype)))
        return
    features = model.encode(images.to(dtype))
    names = [f"feature_{i}" for i in range(len(features))]
    yield ENCODE, _Encode(model), images, ["images"], names
    window = range(model.info.window)
    # Apart from one another in memory, or they would be exported as one input.
    example = [feature.clone() for _ in window for feature in features]
    outputs = list(model.decode([features for _ in window]))
    yield DECODE, _Decode(model), example, [f"frame_{t}_{name}" for t in window for name in names], outputs


def _to_onnx(
    network: nn.Module, example: Tensor | list[Tensor], inputs: list[str], outputs: list[str], dynamic: bool
) -> onnx.ModelProto:
    for chatty in ("torch.onnx", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    # Some number has to be the largest: PyTorch 2.7 assumes otherwise that it is not 2^63 - 1, and objects to that.
    batch = {0: torch.export.Dim("batch", min=1, max=1 << 31)} if dynamic else None
    program = torch.onnx.export(
        network.eval(),
        (example,),
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=([batch] * len(example) if isinstance(example, list) else batch,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # It is None only where torch writes the file itself.
    # What is computed of weights alone, torch leaves where they are large; engines and NNCF want weights.
    fold_constants(program.model, should_fold=_of_weights)
    proto: onnx.ModelProto = program.model_proto
    # Where a network reads the number of pictures as a plain number, torch fixes it without a word.
    if dynamic and not all(item.type.tensor_type.shape.dim[0].dim_param for item in proto.graph.input):
        raise EngineError("the network cannot be exported for any number of pictures: it computes with their number")
    return proto


def _of_weights(node: Any) -> bool | None:
    """Whether a node is to be computed now: always if it takes weights apart or scales them, else as by default."""
    return True if node.op_type in ("Slice", "Mul") else None


def _tidy(graph: onnx.GraphProto, part: str, coordinates: Collection[str]) -> None:
    """Leave out where each node comes from in which source file on this machine, a fifth of a small file; what engines
    may want to know of it goes into its name: the part, and whether it is the backbone's, or of a class whose name is
    among `coordinates`."""
    for node in graph.node:
        scopes = {prop.key: prop.value for prop in node.metadata_props}.get("namespace", "").split("/")
        modules = [scope.partition(":")[0] for scope in scopes]
        place = next((name for name in modules if name in (ENCODE, DECODE)), part)
        if any(name.endswith("model.backbone") for name in modules):
            place = BACKBONE
        elif place == ENCODE and any(scope.rpartition(".")[2] in coordinates for scope in scopes):
            place = COORDINATES
        node.name = f"{place}/{node.name}"
    del graph.value_info[:]
    for item in [*graph.node, *graph.initializer, *graph.input, *graph.output]:
        del item.metadata_props[:]
        item.doc_string = ""


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of all tensors of a network with their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def store_half(graph: onnx.GraphProto) -> None:
    """Keep the weights of convolutions and linear layers in float16; the file converts them back when it is loaded.

    Everything else, above all coordinates, stays as it is: it is small, and 16 bits are too coarse for it. So are they
    for weights that lie beyond what float16 holds.
    """
    weighty = {name for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul") for name in node.input[1:2]}
    casts = []
    for tensor in graph.initializer:
        named = tensor.name.endswith("weight") and len(tensor.dims) > 1
        if tensor.data_type != onnx.TensorProto.FLOAT or not (tensor.name in weighty or named):
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if value.size < HALF_FROM or np.abs(value).max() > np.finfo(np.float16).max:
            continue
        name, stored = tensor.name, f"{tensor.name}_half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], name=f"{name}_cast", to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
