"""What has to be known about a model to feed it pictures and to read its answer; travels inside exported files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

METADATA_KEY = "pave_ros"  # Under which an exported file carries it.


@dataclass(frozen=True)
class ModelInfo:
    """Facts of one model.

    Attributes:
        system: which of the published systems, e.g. ``detrpose``; decides the post-processing.
        variant: e.g. ``s``.
        skeleton: name of the keypoint layout.
        input_size: (height, width) in pixels of the network's input.
        stride: both sides of an input must be a multiple of this.
        mean, std: RGB normalisation of values in 0..1.
        window: number of frames that the model looks at, 1 for image models.
        trained: whether weights were loaded; a fresh network's answers mean nothing.
    """

    system: str
    variant: str
    skeleton: str
    input_size: tuple[int, int]
    stride: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    window: int = 1
    trained: bool = False

    @property
    def name(self) -> str:
        """``system_variant``, as in the parameter `model`."""
        return f"{self.system}_{self.variant}"

    def check_input_size(self) -> None:
        """ValueError unless the input size suits the network."""
        if any(side < self.stride or side % self.stride for side in self.input_size):
            height, width = self.input_size
            raise ValueError(
                f"input size {height}x{width} (height x width): {self.name} takes multiples of {self.stride}"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        values: dict[str, Any] = json.loads(text)
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})
