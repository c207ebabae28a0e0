"""Published checkpoint file <-> network. Files are untrusted: nothing is unpickled but tensors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from pave_ros import models, skeletons
from pave_ros.checkpoints import packing, unpickling
from pave_ros.checkpoints.layout import Layout, State, published_state, unwrap
from pave_ros.files import complete
from pave_ros.models.base import PoseModel

OF_TRAINING = {"model", "averaged", "step"}  # Entries of what `pave_ros train` goes on from.
SKELETON = "skeleton"  # under which a file that we wrote has its name
COUNTER = ".num_batches_tracked"


class CheckpointError(ValueError):
    """A file that is no checkpoint of the wanted model; the message names the file and the first wrong key."""


def read(path: Path | str) -> State:
    """The tensors of a ``.pth``, ``.pt`` or ``.safetensors`` file, under the names they have there.

    Of a training checkpoint (``{'model', 'ema': ...}``) the averaged weights are taken; what is kept in eight bits
    comes in float32. FileNotFoundError when there is no such file, `CheckpointError` when it cannot be read or holds
    something else than tensors.
    """
    return read_named(path)[0]


def read_named(path: Path | str) -> tuple[State, str]:
    """As `read`, with the name of the skeleton that `save` has written beside the tensors; empty without one."""
    path = Path(path)
    content, skeleton = _content(path)
    if content.keys() >= OF_TRAINING:
        raise CheckpointError(
            f"{path}: the state of a training, which goes on from it; its weights are in weights.safetensors beside it"
        )
    try:
        state = unwrap(content)
    except RecursionError:
        raise CheckpointError(f"{path}: not a readable checkpoint (it contains itself)") from None
    for key, value in state.items():
        _check_entry(key, value, path)
    try:
        return packing.unpack(cast(State, state)), skeleton
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _check_entry(key: object, value: object, path: Path) -> None:
    """CheckpointError unless it is a tensor under a name, with all its numbers in the file."""
    if not isinstance(key, str):
        raise CheckpointError(f"{path}: key {key!r} is a {type(key).__name__}, not the name of a tensor")
    if not isinstance(value, Tensor):
        raise CheckpointError(f"{path}: key {key!r} holds a {type(value).__name__}, not a tensor")
    if value.layout != torch.strided or value.is_nested:
        raise CheckpointError(f"{path}: key {key!r} holds a sparse or nested tensor, which no model here has")
    # Shapes tell how large a network is, and a single number repeated without end makes any of them.
    held = 0 if value.is_meta else value.untyped_storage().nbytes()
    if value.numel() * value.element_size() > held:
        raise CheckpointError(f"{path}: key {key!r} claims the shape {tuple(value.shape)}, more than the file holds")


def _content(path: Path) -> tuple[Mapping[str, object], str]:
    """The dictionary in a file, and the name of the skeleton."""
    if not path.is_file():
        raise FileNotFoundError(f"no such checkpoint file: {path}")
    if path.suffix in (".onnx", ".xml", ".trt", ".rtx"):
        raise CheckpointError(f"{path}: an exported file; a checkpoint is wanted (.pth, .pt, .safetensors)")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return tensors, (file.metadata() or {}).get(SKELETON, "")
        content = unpickling.load(path)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            head = file.read(16)
        if not head.startswith((b"PK", b"\x80")):
            raise CheckpointError(
                f"{path}: not a checkpoint, it begins with {head!r}; is it a web page, or a pointer of Git LFS?"
            ) from None
        raise CheckpointError(
            f"{path}: refused, because it holds more than tensors and unpickling that could run code "
            f"({unpickling.culprit(error)})"
        ) from None
    except Exception as error:  # what damaged files raise, is without end
        raise CheckpointError(f"{path}: not a readable checkpoint ({unpickling.reason(error)})") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors")
    skeleton = content.get(SKELETON)
    return content, skeleton if isinstance(skeleton, str) else ""


def layout_of(system: str) -> Layout:
    """The published key layout of a system."""
    layout: Layout = import_module(f"pave_ros.checkpoints.{system}").LAYOUT
    return layout


def load(model: PoseModel, path: Path | str) -> None:
    """Fill a network from a published checkpoint file.

    `CheckpointError` names the first key that is missing, superfluous, of another shape or not finite; the network is
    then unchanged.
    """
    fill(model, read(path), source=str(path))


# What weights may be stored in.
NUMBERS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.bool)


def check_numbers(key: str, value: Tensor, dtype: torch.dtype, source: str) -> None:
    """CheckpointError unless the tensor of a file can be stored as `dtype` and is finite in it."""
    if value.dtype not in NUMBERS:
        raise CheckpointError(f"{source}: key {key!r} holds {value.dtype}, and not {dtype}")
    if not value.to(dtype).isfinite().all():
        raise CheckpointError(f"{source}: key {key!r} holds numbers that are not finite in {dtype}")


def fill(model: PoseModel, state: Mapping[str, Tensor], source: str) -> None:
    """Fill a network from tensors under their published names; `source` is named in errors."""
    layout = layout_of(model.info.system).of(model)
    derived = layout.derived(model)
    ours = {layout.to_ours(key): (key, value) for key, value in state.items() if key not in derived}
    wanted = model.state_dict()
    # How many pictures batch normalisation has seen is of no use any more, and not in every file.
    ours = {key: pair for key, pair in ours.items() if key in wanted or not key.endswith(COUNTER)}
    wanted = {key: tensor for key, tensor in wanted.items() if key in ours or not key.endswith(COUNTER)}
    what = f"{model.info.name} with {model.info.skeleton}"
    for key, tensor in wanted.items():
        if key not in ours:
            raise CheckpointError(f"{source}: key {layout.to_published(key)!r} is missing, which {what} needs")
        published, value = ours[key]
        if value.shape != tensor.shape and not value.numel() == tensor.numel() == 1:  # A scalar is a scalar.
            raise CheckpointError(
                f"{source}: key {published!r} has shape {tuple(value.shape)}, but {what} has {tuple(tensor.shape)}"
            )
        check_numbers(published, value, tensor.dtype, source)
    for key, (published, _) in ours.items():
        if key not in wanted:
            raise CheckpointError(f"{source}: key {published!r} is superfluous, {what} has no such tensor")
    values = {key: ours[key][1].reshape(tensor.shape) for key, tensor in wanted.items()}
    for key, order in layout.orders(model).items():
        values[key] = values[key][..., order]
    model.load_state_dict(values, strict=False)  # Nothing but counters can be missing now.
    model.info = replace(model.info, trained=True)


def open_model(name: str, path: Path | str) -> PoseModel:
    """The network `name` with the weights of a file; the file tells the keypoint layout of its head, by name where we
    wrote it, else by the number of keypoints."""
    state, skeleton = read_named(path)
    layout = layout_of(models.split_name(name)[0])
    options = layout.options(state)
    model = models.create(name, **options)
    count = layout.keypoint_count(state)
    own, named = model.info.skeleton, skeletons.SKELETONS.get(skeleton)
    if skeleton and named is None:
        known = ", ".join(skeletons.SKELETONS)
        raise CheckpointError(f"{path}: its keypoint layout is {skeleton!r}, which is not known here; known: {known}")
    if named is None or count not in (None, len(named)):
        skeleton = own if count is None or count == len(skeletons.get(own)) else _skeleton_of(count, path)
    if skeleton != own:
        model = models.create(name, skeleton=skeleton, **options)
    fill(model, state, source=str(path))
    return model


# Which layout a head of so many keypoints has in the published checkpoints.
_BY_COUNT = {14: "crowdpose14", 15: "posetrack15", 17: "coco17"}


def _skeleton_of(count: int, path: Path | str) -> str:
    if count not in _BY_COUNT:
        raise CheckpointError(f"{path}: made for {count} keypoints; known are {', '.join(map(str, _BY_COUNT))}")
    return _BY_COUNT[count]


def save(model: PoseModel, path: Path | str, bits: int = 32) -> None:
    """Write a network as a checkpoint in the published layout, which the authors' tools read.

    ``.safetensors`` holds the tensors, each once, any other ending a dictionary with the authors' entry for them, as
    torch saves it; both also the name of its skeleton, which `open_model` reads. With 16 or 8 `bits` the file is
    smaller, see `pave_ros.checkpoints.packing`: ValueError for weights that cannot be kept so; eight bits `read` alone
    understands. ValueError, too, for a network that was fused, as engines and exports do, which has lost what the
    layout asks for.
    """
    path = Path(path)
    if model.fused:
        raise ValueError(f"{path}: the network was fused for running, and is no checkpoint any more; save it before")
    layout = layout_of(model.info.system).of(model)
    state = {k: v.detach().cpu().contiguous() for k, v in published_state(model, layout).items()}
    if path.suffix == ".safetensors":
        state = _without_aliases(state)  # before packing, which makes copies
    if bits < 32:
        state = packing.pack(state, bits)
    if path.suffix == ".safetensors":
        with complete(path) as unfinished:  # Not by safetensors' own writing, which lets nobody else read the file.
            unfinished.write_bytes(serialized(state, {SKELETON: model.info.skeleton}))
    else:
        torch.save({layout.entry: state, SKELETON: model.info.skeleton}, path)


def _without_aliases(state: State) -> State:
    """The state with one name for each tensor, the first: safetensors refuses a second."""
    names = {(tensor.data_ptr(), tensor.shape): key for key, tensor in reversed(state.items())}
    return {key: tensor for key, tensor in state.items() if names[tensor.data_ptr(), tensor.shape] == key}
