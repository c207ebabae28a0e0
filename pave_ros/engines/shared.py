"""An exported file that takes its weights from a checkpoint beside it: whoever ships both ships the weights once.

ONNX lets a tensor lie in another file of the same folder, at an offset; ``.safetensors`` holds tensors just so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from pave_ros.engines.base import EngineError

SMALLEST = 64  # numbers; smaller tensors are not worth a reference


@dataclass(frozen=True)
class _Stored:
    """A float16 tensor of a checkpoint and its place in the file, in bytes."""

    values: npt.NDArray[np.float16]
    offset: int


def share_weights(exported: Path, checkpoint: Path) -> int:
    """Make an ONNX file read from a checkpoint whatever it has in common with it, as it is or transposed.

    Args:
        exported: the file, which is changed. Its network is the checkpoint's, in float32.
        checkpoint: a ``.safetensors`` file with weights in float16, in the same folder. From now on each needs it.

    Returns:
        How many numbers they share. What the export computed from weights, such as folded normalisation, stays.

    Raises:
        EngineError: they are in different folders, or have nothing in common.
    """
    if exported.parent.resolve() != checkpoint.parent.resolve():
        raise EngineError(f"{exported} and {checkpoint} have to be in one folder")
    stored: dict[tuple[int, ...], list[_Stored]] = defaultdict(list)
    for tensor in _half_tensors(checkpoint):
        stored[tuple(sorted(tensor.values.shape))].append(tensor)
    model = onnx.load(exported)
    shared, nodes = 0, []
    for initializer in model.graph.initializer:
        values = onnx.numpy_helper.to_array(initializer)
        for candidate in stored[tuple(sorted(values.shape))] if values.size >= SMALLEST else ():
            transposed = not _same(candidate.values, values)
            if not transposed or _same(candidate.values.T, values):
                nodes += _refer(initializer, candidate, checkpoint.name, transposed)
                shared += values.size
                break
    if not shared:
        raise EngineError(f"{exported} and {checkpoint} have no weights in common")
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, longer than all the rest
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, exported)
    return shared


def _half_tensors(path: Path) -> list[_Stored]:
    """The float16 tensors of a file: eight bytes tell how long the JSON is that tells where each of them lies."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = []
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__" and entry["dtype"] == "F16":
            offset = start + entry["data_offsets"][0]
            count = int(np.prod(entry["shape"], dtype=int))
            values = np.frombuffer(content, "<f2", count, offset).reshape(entry["shape"])
            tensors.append(_Stored(values, offset))
    return tensors


def _same(stored: npt.NDArray[np.float16], values: npt.NDArray[np.float32]) -> bool:
    return stored.shape == values.shape and bool(np.array_equal(stored.astype(np.float32), values))


def _refer(tensor: onnx.TensorProto, stored: _Stored, file: str, transposed: bool) -> list[onnx.NodeProto]:
    """Turn a tensor into a reference; returns what makes the old one of it when the file is loaded."""
    name, half, full = tensor.name, f"{tensor.name}_half", f"{tensor.name}_full" if transposed else tensor.name
    place = {"location": file, "offset": str(stored.offset), "length": str(stored.values.nbytes)}
    tensor.CopyFrom(onnx.TensorProto(name=half, dims=stored.values.shape, data_type=onnx.TensorProto.FLOAT16))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in place.items())
    nodes = [onnx.helper.make_node("Cast", [half], [full], name=f"{name}_cast", to=onnx.TensorProto.FLOAT)]
    if transposed:
        nodes.append(onnx.helper.make_node("Transpose", [full], [name], name=f"{name}_transpose"))
    return nodes
