"""What every engine offers: run the two parts of a model, whatever library computes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros.models.info import ModelInfo

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]

TOGETHER = 16  # Crops of people in one pass of a network, at most, which bounds its memory.


class EngineError(RuntimeError):
    """A model that this engine cannot run here; the message says why and what to do."""


class Engine(ABC):
    """A loaded model.

    Attributes:
        name: of the engine, e.g. ``pytorch``.
        device: where it runs, e.g. ``cpu`` or ``cuda:0``.
        precision: of its arithmetic, e.g. ``fp32``.
        info: the model.
        reason: why this engine was taken.
        status: of a better one that is being built, for people to read; empty where none is.
        building: whether a better one is still to come.
        batches: numbers of pictures for each of which it prepares itself when it first has so many.
        concurrent: whether several threads may run it at once, and gain by it.
    """

    name: str
    device: str
    precision: str
    info: ModelInfo
    reason: str = ""
    status: str = ""
    building: bool = False
    batches: tuple[int, ...] = (1,)
    concurrent: bool = False

    @property
    def prepares(self) -> bool:
        """Whether it resizes and normalises pictures itself, where it computes: see `encode_picture`."""
        return False

    @abstractmethod
    def encode(self, images: npt.NDArray[np.float32]) -> Any:
        """Features of one frame in the engine's own form, from a normalised RGB picture (1, 3, H, W); or of several
        pictures at once, see `split`."""

    def encode_picture(self, image: npt.NDArray[np.uint8], bgr: bool = False) -> Any:
        """Features of one frame, where it `prepares`: from a picture (H, W, 3) of a camera, RGB unless `bgr`."""
        raise NotImplementedError(f"{self.name} takes pictures that are prepared")

    @abstractmethod
    def decode(self, window: Sequence[Any]) -> Outputs:
        """The model's raw outputs by name, from the features of `info.window` frames, oldest first."""

    def warm_up(self, batches: Sequence[int] = (1,)) -> None:
        """Compute once with each of these numbers of pictures, for many an engine compiles its network only then."""
        for count in batches:
            pictures = np.zeros((count, 3, *self.info.input_size), np.float32)
            self.decode([self.encode(pictures)] * self.info.window)

    def close(self) -> None:
        """Give up what goes on in the background."""
        return None  # Most have nothing there.

    def split(self, features: Any) -> list[Any]:
        """Features of several pictures, one by one."""
        return [tuple(feature[i : i + 1] for feature in features) for i in range(len(features[0]))]

    def stack(self, features: Sequence[Any]) -> Any:
        """The other way round: features of single pictures as those of all, to be decoded together."""
        return tuple(np.concatenate(parts) for parts in zip(*features, strict=True))
