"""What has to be known about a model to feed it pictures and to read its answer; travels inside exported files."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import isfinite

from pave_ros import skeletons
from pave_ros.models import SYSTEMS

LARGEST_SIDE = 8192  # Pixels of a network's input.
METADATA_KEY = "pave_ros"  # Under which an exported file carries it.
# What pictures are normalised by for backbones trained on ImageNet; for EfficientNet-Lite, mean and deviation alike.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

RESIZES = ("stretch", "fit", "fit_detr")  # How a picture comes to the network's size, see `ModelInfo.resize`.

# Systems whose models look at one person's crop at a time, of many people at once.
TOP_DOWN = frozenset({"tarvitpose", "vitpose", "simplebaseline"})


def as_size(sides: Iterable[int]) -> tuple[int, int]:
    """(height, width) from two whole numbers in any form, e.g. a list; ValueError where it is something else."""
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        raise ValueError(f"an input size is (height, width), two whole numbers, not {sides!r}") from None
    return height, width


@dataclass(frozen=True)
class ModelInfo:
    """Facts of one model.

    Attributes:
        system: which of the published systems, e.g. ``detrpose``; decides the post-processing.
        variant: e.g. ``s``.
        skeleton: name of the keypoint layout.
        input_size: (height, width) in pixels of the network's input, or the bounds of it, see `resize`.
        stride: both sides of an input must be a multiple of this.
        mean, std: normalisation of values in 0..1, of the channels as the network takes them.
        resize: how a picture comes to the network's size: ``stretch`` to `input_size`, or ``fit``: it keeps its
            proportions and is as large as the bounds allow, its short side at most the smaller number of
            `input_size` and its long side at most the larger one, however it is turned. ``fit`` rounds each side
            (OpenMMLab, Detectron2); ``fit_detr`` rounds the short side and cuts the long one off (DETR).
        antialias: whether shrinking a picture averages (Pillow, torchvision) or samples it (OpenCV's linear).
        pillow: whether what is averaged has to equal Pillow's result, to one grey level, or any averaging will do.
        bgr: whether the network takes blue, green and red, and not red, green and blue.
        window: number of frames that the model looks at, 1 for image models.
        bf16: whether its answers stay as accurate where a processor computes in bfloat16; exported files then do.
        trained: whether weights were loaded; a fresh network's answers mean nothing.
    """

    system: str
    variant: str
    skeleton: str
    input_size: tuple[int, int]
    stride: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize: str = "stretch"
    antialias: bool = True
    pillow: bool = False
    bgr: bool = False
    window: int = 1
    bf16: bool = False
    trained: bool = False

    @property
    def name(self) -> str:
        """``system_variant``, as in the parameter `model`."""
        return f"{self.system}_{self.variant}"

    @property
    def top_down(self) -> bool:
        """Whether its pictures are crops of single people."""
        return self.system in TOP_DOWN

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that a picture of this size is resized to."""
        if self.resize == "stretch":
            return self.input_size
        short, long = min(self.input_size), max(self.input_size)
        scale = min(short / min(height, width), long / max(height, width))
        if self.resize == "fit_detr":
            least = min(short, max(round(long * min(height, width) / max(height, width)), 1))
            sides = (int(least * side / min(height, width)) for side in (height, width))
        else:
            sides = (int(side * scale + 0.5) for side in (height, width))
        return tuple(max(round(side / self.stride), 1) * self.stride for side in sides)  # type: ignore[return-value]

    def check_input_size(self) -> None:
        """ValueError unless the input size suits the network."""
        height, width = as_size(self.input_size)
        if max(height, width) > LARGEST_SIDE:
            raise ValueError(f"input size {height}x{width}: at most {LARGEST_SIDE} pixels a side")
        stretched = self.resize == "stretch"
        if any(side < self.stride or (stretched and side % self.stride) for side in (height, width)):
            raise ValueError(
                f"input size {height}x{width} (height x width): {self.name} takes multiples of {self.stride}"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """ValueError or TypeError where the text does not describe a model."""
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not the facts of a model")
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        made = cls(**{**values, **lists})
        if made.variant not in SYSTEMS.get(made.system, ()):
            raise ValueError(f"unknown model {made.name!r}")
        if made.skeleton not in skeletons.SKELETONS:
            raise ValueError(f"unknown skeleton {made.skeleton!r}")
        if made.resize not in RESIZES:
            raise ValueError(f"unknown resize {made.resize!r}")
        colours = (*made.mean, *made.std)
        if len(made.mean) != 3 or len(made.std) != 3 or not all(map(isfinite, colours)) or min(made.std) <= 0:
            raise ValueError("no normalisation")
        if made.stride < 1 or made.window < 1 or made.window % 2 != 1:
            raise ValueError("no stride or window")
        made.check_input_size()
        return made
