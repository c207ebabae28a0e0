"""An exported file that takes its weights from a checkpoint beside it: whoever ships both ships the weights once.

ONNX lets a tensor lie in another file of the same folder, at an offset; ``.safetensors`` holds tensors just so.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from pave_ros.checkpoints.packing import SCALE
from pave_ros.engines.base import EngineError

# How a checkpoint keeps weights, by the name there: as NumPy reads them, and ONNX's type.
_KEPT = {"F16": ("<f2", onnx.TensorProto.FLOAT16), "I8": ("i1", onnx.TensorProto.INT8)}
_SCALE = ("<f4", onnx.TensorProto.FLOAT)
SMALLEST = 64  # numbers; smaller tensors are not worth a reference


@dataclass(frozen=True)
class _Piece:
    """A tensor of a checkpoint: what it holds, ONNX's type of that, and where it lies in the file, in bytes."""

    values: npt.NDArray[np.float32]
    type: int
    offset: int
    length: int


@dataclass(frozen=True)
class _Stored:
    """Weights of a checkpoint, as they are computed with, and the pieces whose product they are: one in float16, or one
    in eight bits and its scale."""

    values: npt.NDArray[np.float32]
    pieces: tuple[_Piece, ...]


@dataclass(frozen=True)
class _Step:
    """How weights come to be the integers of a file in 8 bits: by a scale for each output, symmetrically.

    Attributes:
        inputs: names of scale and zero point in the file.
        axis: of the outputs.
        scale: of each.
    """

    inputs: tuple[str, str]
    axis: int
    scale: npt.NDArray[np.float32]

    def rounded(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
        """What ONNX's QuantizeLinear makes of weights; of those with another number of outputs, nothing."""
        if values.shape[self.axis] != len(self.scale):
            return np.zeros(0, np.int8)
        scale = self.scale.reshape([-1 if i == self.axis else 1 for i in range(values.ndim)])
        return np.rint(values / scale).clip(-128, 127).astype(np.int8)


def share_weights(exported: Path, checkpoint: Path) -> int:
    """Make an ONNX file read from a checkpoint whatever it has in common with it, as it is or transposed.

    Args:
        exported: the file, which is changed. Its network is the checkpoint's, in float32 or, of the backbone, int8.
        checkpoint: a ``.safetensors`` file with weights in float16 or eight bits, in the same folder. From now on the
            exported file needs it.

    Returns:
        How many numbers they share. What the export computed from weights, such as folded normalisation, stays.

    Raises:
        EngineError: they are in different folders, or have nothing in common.
    """
    if exported.parent.resolve() != checkpoint.parent.resolve():
        raise EngineError(f"{exported} and {checkpoint} have to be in one folder")
    stored: dict[tuple[int, ...], list[_Stored]] = defaultdict(list)
    for tensor in _kept_small(checkpoint):
        stored[tuple(sorted(tensor.values.shape))].append(tensor)
    model = onnx.load(exported)
    shared = 0
    initializers: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    steps = _steps(model.graph)
    for initializer in model.graph.initializer:
        values, step = onnx.numpy_helper.to_array(initializer), steps.get(initializer.name)
        for candidate in stored[tuple(sorted(values.shape))] if values.size >= SMALLEST else ():
            kept = candidate.values if step is None else step.rounded(candidate.values)
            transposed = not np.array_equal(kept, values)
            if not transposed or (step is None and np.array_equal(kept.T, values)):
                tensors, made = _references(initializer.name, candidate, checkpoint.name, transposed, step)
                initializers += tensors
                nodes += made
                shared += values.size
                break
        else:
            initializers.append(initializer)
    if not shared:
        raise EngineError(f"{exported} and {checkpoint} have no weights in common")
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, longer than all the rest
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.initializer[:]
    model.graph.initializer.extend(initializers)
    onnx.save(model, exported)
    return shared


def _kept_small(path: Path) -> Iterator[_Stored]:
    """The tensors of a file in float16 or eight bits. Its first eight bytes say how long the JSON is that tells where
    each lies."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:start])

    def piece(name: str, dtype: str, onnx_type: int) -> _Piece:
        shape, (begin, end) = entries[name]["shape"], entries[name]["data_offsets"]
        values = np.frombuffer(content, dtype, math.prod(shape), start + begin).reshape(shape)
        return _Piece(values.astype(np.float32), onnx_type, start + begin, end - begin)

    for name, entry in entries.items():
        if entry.get("dtype") in _KEPT:
            weights = piece(name, *_KEPT[entry["dtype"]])
            if name + SCALE in entries:
                scale = piece(name + SCALE, *_SCALE)
                yield _Stored(weights.values * scale.values, (weights, scale))
            else:
                yield _Stored(weights.values, (weights,))


def _steps(graph: onnx.GraphProto) -> dict[str, _Step]:
    """The way to the integers by the names of those weights that a file holds in 8 bits."""
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    steps = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and set(node.input) <= arrays.keys():
            integers, scale, zero = node.input
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            if not onnx.numpy_helper.to_array(arrays[zero]).any():
                steps[integers] = _Step((scale, zero), axis, onnx.numpy_helper.to_array(arrays[scale]))
    return steps


def _references(
    name: str, stored: _Stored, file: str, transposed: bool, step: _Step | None
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Tensors that lie in the checkpoint, and what makes the one called `name` of them when the file is loaded."""
    tensors, nodes, made = [], [], []
    for number, piece in enumerate(stored.pieces):
        kept, full = f"{name}_{number}", f"{name}_{number}_full"
        tensor = onnx.TensorProto(name=kept, dims=piece.values.shape, data_type=piece.type)
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": file, "offset": str(piece.offset), "length": str(piece.length)}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in place.items())
        tensors.append(tensor)
        nodes.append(onnx.helper.make_node("Cast", [kept], [full], name=f"{full}_cast", to=onnx.TensorProto.FLOAT))
        made.append(full)
    if len(made) > 1:
        nodes.append(onnx.helper.make_node("Mul", made, [f"{name}_product"], name=f"{name}_scaled"))
    if transposed:
        nodes.append(
            onnx.helper.make_node("Transpose", [nodes[-1].output[0]], [f"{name}_turned"], name=f"{name}_transpose")
        )
    if step is not None:
        whole = nodes[-1].output[0]
        nodes.append(
            onnx.helper.make_node(
                "QuantizeLinear", [whole, *step.inputs], [name], name=f"{name}_rounded", axis=step.axis
            )
        )
    nodes[-1].output[0] = name
    return tensors, nodes
