"""Published key names and ours, as data: one `Layout` per system."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pave_ros.models.base import PoseModel

State = dict[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """How a published checkpoint names its tensors.

    Attributes:
        prefixes: (published, ours) beginnings of keys; the first that fits is exchanged. A ``*`` stands for one number.
        keypoints: published key whose first dimension is the number of keypoints.
        derived: makes the published entries that follow from the architecture; our networks compute them, so they
            are not read, but written, since the authors' tools want them.
        entry: of the checkpoint that holds the tensors, as the authors' tools save it.
        options: what the tensors tell of the architecture besides the variant, for the `build` of the system.
    """

    prefixes: tuple[tuple[str, str], ...]
    keypoints: str
    derived: Callable[[PoseModel], State]
    entry: str = "model"
    options: Callable[[Mapping[str, Tensor]], dict[str, Any]] = lambda state: {}

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
    state = {layout.to_published(key): value for key, value in model.state_dict().items()}
    return {**state, **layout.derived(model)}


def unwrap(checkpoint: Mapping[str, object]) -> Mapping[str, object]:
    """The tensors inside a training checkpoint: the averaged weights where there are any."""
    for path in (("ema", "module"), ("ema",), ("model",), ("state_dict",), ("model_state_dict",)):
        inner: object = checkpoint
        for name in path:
            inner = inner.get(name) if isinstance(inner, Mapping) else None
        if isinstance(inner, Mapping):
            return unwrap(inner)
    if checkpoint and all(key.startswith("module.") for key in checkpoint):  # Saved from data parallel training.
        return {key.removeprefix("module."): value for key, value in checkpoint.items()}
    return checkpoint
