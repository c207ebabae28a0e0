"""Published key names and ours, as data: one `Layout` per system."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pave_ros.models.base import PoseModel

State = dict[str, Tensor]


def rows_of(state: Mapping[str, Tensor], key: str) -> int:
    """First dimension of a tensor of a published file; 0 where there is none, and it will be named as missing, or where
    it holds nothing, and its shape will be named as wrong."""
    return len(state[key]) if key in state and state[key].dim() and state[key].numel() else 0


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint names its tensors.

    Attributes:
        prefixes: (published, ours) beginnings of keys; the first that fits is exchanged. A ``*`` stands for one number.
        keypoints: published key whose first dimension tells the number of keypoints.
        derived: makes the published entries that follow from the architecture; our networks compute them, so they
            are not read, but written, since the authors' tools want them.
        rows: how many of that dimension each keypoint takes, and how many there are besides.
        entry: of the checkpoint that holds the tensors, as the authors' tools save it.
        options: what the tensors tell of the architecture besides the variant, for the `build` of the system.
        own: further prefixes of one network, which come first; where our names alone do not tell the published ones.
        orders: of one network, our key -> which published place each place along the last dimension comes from.
    """

    prefixes: tuple[tuple[str, str], ...]
    keypoints: str
    derived: Callable[[PoseModel], State] = lambda model: {}
    rows: tuple[int, int] = (1, 0)
    entry: str = "model"
    options: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda state: {}
    own: Callable[[PoseModel], tuple[tuple[str, str], ...]] = lambda model: ()
    orders: Callable[[PoseModel], Mapping[str, Tensor]] = lambda model: {}

    def of(self, model: PoseModel) -> Layout:
        """The layout of one network."""
        return replace(self, prefixes=(*self.own(model), *self.prefixes))

    def keypoint_count(self, state: Mapping[str, Tensor]) -> int | None:
        """Number of keypoints of the head in a published file; None where the file does not tell."""
        each, besides = self.rows
        rows = state[self.keypoints].shape[:1] if self.keypoints in state else ()
        return (rows[0] - besides) // each if rows else None

    def to_ours(self, key: str) -> str:
        """Our name of a published key."""
        return _exchange(key, self.prefixes)

    def to_published(self, key: str) -> str:
        """The published name of one of our keys."""
        return _exchange(key, tuple((ours, published) for published, ours in self.prefixes))


def _exchange(key: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    for old, new in prefixes:
        match = re.match(re.escape(old).replace(r"\*", r"(\d+)"), key)
        if match:
            return new.replace("*", "{}").format(*match.groups()) + key[match.end() :]
    return key


def published_state(model: PoseModel, layout: Layout) -> State:
    """All tensors of a network under their published names."""
    state = model.state_dict()
    for key, order in layout.orders(model).items():
        state[key] = state[key][..., order.argsort()]
    return {**{layout.to_published(key): value for key, value in state.items()}, **layout.derived(model)}


def _holds_tensors(content: Mapping[Any, object], without: set[int]) -> bool:
    """Whether there is a tensor anywhere in it; `without` are the ids of what was looked through and had none, for a
    file may hold the same dictionary in many places."""
    if id(content) in without:
        return False
    for value in content.values():
        if isinstance(value, Tensor) or (isinstance(value, Mapping) and _holds_tensors(value, without)):
            return True
    without.add(id(content))
    return False


def unwrap(checkpoint: Mapping[str, object]) -> Mapping[str, object]:
    """The tensors inside a training checkpoint: the averaged weights where there are any."""
    for path in (("ema", "module"), ("ema",), ("model",), ("state_dict",), ("model_state_dict",)):
        inner: object = checkpoint
        for name in path:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping) and _holds_tensors(inner, set()):
            return unwrap(inner)
    if checkpoint and all(str(key).startswith("module.") for key in checkpoint):  # Saved from data parallel training.
        return {key.removeprefix("module."): value for key, value in checkpoint.items()}
    return checkpoint
