"""Clips to train video models on: from videos, and from pictures that are moved a little, as if the camera moved.

A sample is a function of the settings and of its number, as in `pave_ros.training.sources`; its people are those of the
middle frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from pave_ros import datasets
from pave_ros.frames import Image
from pave_ros.training import augmentation as augment
from pave_ros.training.augmentation import Clip, Rng, Size, View
from pave_ros.training.settings import check_bounds, filled
from pave_ros.training.sources import Mixture, SourceError, TrainingScenes, target_of
from pave_ros.training.target import Target

TAUGHT_BY_CLIPS = ("pavenet", "tarvitpose", "vitpose")  # Systems that train on clips, and on pictures as well.
STILLS = "stills"  # Name of the source that moves pictures.
BOUNDS = ((("still_weight", "degrees", "shift", "zoom"), 0, math.inf), (("blur",), 0, 1))  # of settings


@dataclass(frozen=True)
class VideoSettings:
    """One data set with videos.

    Attributes:
        root: its folder.
        split: which part of it.
        weight: how often a clip comes from it, relative to the others.
    """

    root: Path = Path(".")
    split: str = "train"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(self, ((("weight",), 0, math.inf),))


@dataclass(frozen=True)
class ClipSettings:
    """What clips are made of.

    Attributes:
        frames: of each clip, an odd number.
        videos: data sets with videos, by the names of `pave_ros.datasets`.
        still_weight: how often a clip is a moved picture of the mixture, relative to the weights of the videos.
        degrees, shift, zoom: how far a moved picture turns (degrees), wanders (share of its size) and grows (share)
            from one frame to the next, one standard deviation each.
        blur: chance that the middle frame is blurred.
        view: how the camera looks at a video.
    """

    frames: int = 3
    videos: Mapping[str, VideoSettings] = field(default_factory=dict)
    still_weight: float = 0.0
    degrees: float = 2.0
    shift: float = 0.01
    zoom: float = 0.01
    blur: float = 0.0
    view: View = field(default_factory=View)

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS)
        if self.frames < 1 or self.frames % 2 == 0:
            raise SourceError(f"clips have an odd number of frames, not {self.frames}")
        if self.still_weight + sum(video.weight for video in self.videos.values()) <= 0:
            raise SourceError("clips need videos, or a still_weight above 0")


class TrainingClips(Dataset[tuple[torch.Tensor, Target]]):
    """Samples (T, 3, H, W) uint8 RGB with the `Target` of the middle frame; any number from 0 on has its own.

    Args:
        settings: of the clips.
        mixture: size, skeleton and seed of the samples; where pictures are to be moved, also what they are.
    """

    def __init__(self, settings: ClipSettings, mixture: Mixture) -> None:
        self.settings, self.mixture = settings, mixture
        self._videos = {
            name: datasets.open_dataset(name, video.root, video.split) for name, video in settings.videos.items()
        }
        weights = {name: video.weight for name, video in settings.videos.items()}
        if settings.still_weight:
            weights[STILLS] = settings.still_weight
            self._stills = TrainingScenes(mixture)
        self._names = list(weights)
        self._chances = np.array(list(weights.values())) / sum(weights.values())

    def __len__(self) -> int:
        return self.mixture.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Target]:
        images, labels = self.clip(number)
        mixture = self.mixture
        target = target_of(labels[len(labels) // 2].to(mixture.skeleton), mixture.size, mixture.smallest)
        return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))), target

    def clip(self, number: int) -> Clip:
        """The pictures (H, W, 3) uint8 RGB and labels, in pixels, of this number."""
        # A stream of its own: a still begins that of the mixture, and would look like the draw that chose it.
        rng = np.random.default_rng((self.mixture.seed, number, 1))
        name = self._names[rng.choice(len(self._names), p=self._chances)]
        if name == STILLS:
            image, labels = self._stills.scene(number)
            return self._blurred(moved(([image], [labels]), self.settings, self.mixture.size, rng), rng)
        data, reach = self._videos[name], self.settings.frames // 2
        index = int(data.annotated[int(rng.integers(len(data.annotated)))])
        samples = data.clip(index, range(-reach, reach + 1))
        clip = [sample.image() for sample in samples], [sample.labels for sample in samples]
        clip = augment.mosaic([clip], self.mixture.size, self.settings.view, rng)
        return self._blurred((augment.filmed(clip[0], rng), clip[1]), rng)

    def _blurred(self, clip: Clip, rng: Rng) -> Clip:
        if rng.random() >= self.settings.blur:
            return clip
        images = list(clip[0])
        middle = len(images) // 2
        images[middle] = blurred(images[middle], rng)
        return images, clip[1]


def blurred(image: Image, rng: Rng) -> Image:
    """A picture out of focus: nothing is left of what is smaller than a twentieth to a tenth of it."""
    sigma = rng.uniform(0.05, 0.1) * min(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def moved(clip: Clip, settings: ClipSettings, size: Size, rng: Rng) -> Clip:
    """A clip in which the one picture of `clip` turns, wanders and grows steadily; it is itself in the middle."""
    (image,), (labels,) = clip
    turn, grow = rng.normal(0, (settings.degrees, settings.zoom))
    wander = rng.normal(0, settings.shift, 2) * size
    images: list[Image] = []
    moved_labels = []
    for offset in range(-(settings.frames // 2), settings.frames // 2 + 1):
        centre = np.array(size) / 2
        matrix = augment.scaling(np.exp(offset * grow)) @ augment.translation(*-centre)
        matrix = augment.translation(*centre + offset * wander) @ augment.rotation(offset * turn) @ matrix
        images.append(augment.warp_image(image, matrix, size) if offset else image)
        moved_labels.append(augment.move(labels, matrix, size) if offset else labels)
    return images, moved_labels


def clip_samples(data: Mapping[str, Any], common: Mapping[str, Any]) -> TrainingClips:
    """Clips from the section ``data`` of a training configuration that has a part ``clips``.

    Args:
        data: ``clips`` holds `ClipSettings`, everything else is the `Mixture`'s.
        common: what the mixture takes from the rest of the configuration.
    """
    rest = {key: value for key, value in data.items() if key != "clips"}
    mixture = Mixture.from_dict({"cache": ".", "weights": {}, **common, **rest})
    return TrainingClips(clip_settings(data["clips"]), mixture)


def clip_settings(values: Any) -> ClipSettings:
    """The settings from plain data; ConfigError names what is unknown or of the wrong kind, in its parts too."""
    if isinstance(values, Mapping):
        values = dict(values)
        if "view" in values:
            values["view"] = filled(View, values["view"], "clips: view")
        if isinstance(videos := values.get("videos"), Mapping):
            values["videos"] = {
                name: filled(VideoSettings, video, f"clips: videos: {name}") for name, video in videos.items()
            }
    return filled(ClipSettings, values, "clips")
