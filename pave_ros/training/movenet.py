"""Start from MoveNet (Google, Apache-2.0), whose published files TensorFlow.js reads: ``NAME.json`` names the tensors,
``NAME.bin`` beside it holds them.

Both stages of the model that comes with the package have its backbone, pyramid and heads, so all of it is taken over.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.models.base import PoseModel
from pave_ros.models.mobilenet import STAGES

Tensors = dict[str, npt.NDArray[Any]]
_SCOPES = ("StatefulPartitionedCall/", "center_net_mobile_net_v2fpn_feature_extractor/model_1/")


def load_movenet(model: PoseModel, path: Path, heads: Mapping[str, str]) -> None:
    """Fill a network from a file of MoveNet.

    Args:
        model: with a `pave_ros.models.mobilenet.MobileNet` as ``backbone`` and a `Pyramid` as ``pyramid``.
        path: the ``.json`` file.
        heads: our name of a head -> MoveNet's.

    Raises:
        CheckpointError: not such a file, or one of another width; names the first tensor that is amiss.
    """
    published = read_tensors(path)
    state = model.state_dict()
    for key in state:
        head, _, rest = key.partition(".")
        if head not in ("backbone", "pyramid", *heads):
            continue
        name = _of_head(published, heads[head], rest) if head in heads else _SHARED[head](rest)
        if name not in published:
            raise CheckpointError(f"{path}: lacks {name!r}, from which {key!r} would be taken")
        tensor = _as_ours(
            published[name], depthwise="depthwise" in name or name.endswith("separable_conv2d/ReadVariableOp")
        )
        if tensor.shape != state[key].shape:
            raise CheckpointError(
                f"{path}: {name!r} has the shape {tuple(tensor.shape)}, but {key!r} {tuple(state[key].shape)}"
            )
        state[key] = tensor
    model.load_state_dict(state)


def read_tensors(path: Path) -> Tensors:
    """The tensors of a TensorFlow.js graph model by name, without the scopes that all have in common."""
    try:
        manifest = json.loads(path.read_text())["weightsManifest"]
        content = b"".join((path.parent / file).read_bytes() for group in manifest for file in group["paths"])
        entries = [entry for group in manifest for entry in group["weights"]]
        tensors, offset = {}, 0
        for entry in entries:
            stored = np.dtype(entry.get("quantization", entry)["dtype"])
            count = math.prod(entry["shape"])
            tensors[_short(entry["name"])] = np.frombuffer(content, stored, count, offset).reshape(entry["shape"])
            offset += count * stored.itemsize
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a model for TensorFlow.js ({type(error).__name__}: {error})") from error
    return tensors


def _short(name: str) -> str:
    for scope in _SCOPES:
        name = name.removeprefix(scope)
    return name


def _as_ours(values: npt.NDArray[Any], depthwise: bool) -> Tensor:
    """TensorFlow keeps (height, width, in, out), and (height, width, channels, 1) where each channel is by itself."""
    if values.ndim == 4:
        values = values.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _in_backbone(key: str) -> str:
    """MoveNet's name of a tensor of the backbone, e.g. of ``stages.1.0.expand.weight``."""
    *place, kind = key.split(".")
    end = {"weight": "_weights", "bias": "_bn_offset"}[kind]
    if place[0] in ("stem", "last"):
        return f"model/{'Conv1' if place[0] == 'stem' else 'Conv_1'}/Conv2D{end}"
    number = sum(count for _, _, count, _ in STAGES[: int(place[1])]) + int(place[2])
    block = f"block_{number}" if number else "expanded_conv"
    return f"model/{block}_{place[3]}/{'depthwise' if place[3] == 'depthwise' else 'Conv2D'}{end}"


def _in_pyramid(key: str) -> str:
    place, *_, kind = key.split(".")
    if place == "merge":
        _, level, layer, _ = key.split(".")
        scope = f"separable_conv2d{f'_{level}' if level != '0' else ''}/separable_conv2d"
        if layer == "0":
            return f"{scope}/ReadVariableOp"
        return f"{scope}{'_weights' if kind == 'weight' else '_bn_offset'}"
    number = "" if place == "top" else f"_{int(key.split('.')[1]) + 1}"
    return f"conv2d{number}/{'Conv2D' if kind == 'weight' else 'BiasAdd'}/ReadVariableOp"


_SHARED: dict[str, Callable[[str], str]] = {"backbone": _in_backbone, "pyramid": _in_pyramid}


def _of_head(published: Tensors, head: str, key: str) -> str:
    """MoveNet's name of a tensor of a head; its layers are numbered over all heads."""
    layer, kind = key.split(".")
    ending = {
        "0.weight": "separable_conv2d/ReadVariableOp",
        "1.weight": "separable_conv2d/ReadVariableOp_1",
        "1.bias": "BiasAdd/ReadVariableOp",
        "3.weight": "Conv2D/ReadVariableOp",
        "3.bias": "BiasAdd/ReadVariableOp",
    }[f"{layer}.{kind}"]
    part = "/conv2d" if layer == "3" else "/separable_conv2d"
    names = [name for name in published if name.startswith(f"{head}_0{part}") and name.endswith(ending)]
    return names[0] if names else f"{head}_0{part}_*/{ending}"
