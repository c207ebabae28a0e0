"""Start from a pretrained backbone that lies in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import timm
from torch import Tensor, nn

from pave_ros.checkpoints import loading
from pave_ros.checkpoints.loading import CheckpointError
from pave_ros.models.base import PoseModel


def load_backbone(model: PoseModel, path: Path) -> None:
    """Fill the backbone of a network from a classifier's checkpoint.

    timm's own files have its names. Others name their tensors in many ways, but hold them in the order of the
    architecture, which timm keeps: they are matched by order. Every shape has to agree; `CheckpointError` names the
    first that does not.
    """
    name: str = model.backbone_name
    state = loading.read(path)
    classifier: dict[str, Tensor] = timm.create_model(name).state_dict()
    if len(state) != len(classifier):
        raise CheckpointError(f"{path}: holds {len(state)} tensors, {name} has {len(classifier)}")
    if state.keys() == classifier.keys():  # which safetensors sorts
        state = {key: state[key] for key in classifier}
    renamed = {}
    for (theirs, value), (ours, wanted) in zip(state.items(), classifier.items(), strict=True):
        if value.shape != wanted.shape:
            raise CheckpointError(
                f"{path}: key {theirs!r} has shape {tuple(value.shape)}, but {ours!r} of {name} has "
                f"{tuple(wanted.shape)}"
            )
        renamed[ours] = value
    backbone: nn.Module = model.get_submodule("backbone")
    backbone.load_state_dict({key: renamed[_in_classifier(key)] for key in backbone.state_dict()})


def take_over(
    model: PoseModel, tensors: Mapping[str, Tensor], keys: Iterable[str], path: Path, name: Callable[[str], str]
) -> None:
    """Fill a part of a network, or all of it.

    Args:
        model: the network.
        tensors: of the file, under our keys.
        keys: the part that is filled.
        path: the file, named in errors.
        name: what one of our keys is called in the file.

    Raises:
        CheckpointError: a tensor is missing or of another shape; names the first. The network is then unchanged.
    """
    wanted, found = model.state_dict(), {}
    for key in keys:
        if key not in tensors or tensors[key].shape != wanted[key].shape:
            shape = tuple(tensors[key].shape) if key in tensors else "missing"
            raise CheckpointError(
                f"{path}: key {name(key)!r} is {shape}, {model.info.name} has {tuple(wanted[key].shape)}"
            )
        found[key] = tensors[key]
    model.load_state_dict(found, strict=False)


def _in_classifier(key: str) -> str:
    """The classifier's name of a tensor of timm's feature extractor, which writes `stages_0` for `stages.0`."""
    head, _, rest = key.partition(".")
    stage, _, number = head.rpartition("_")
    return f"{stage}.{number}.{rest}" if number.isdigit() else key
