"""Crops of single people to train on, made by chance from a mixture of labelled pictures.

A sample is a function of the settings and of its number, as in `pave_ros.training.sources`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from pave_ros import skeletons
from pave_ros.detection.pose import with_margin
from pave_ros.frames import Image
from pave_ros.persons import Floats
from pave_ros.topdown.crops import crop_boxes, matrix
from pave_ros.training import augmentation as augment
from pave_ros.training.augmentation import Rng
from pave_ros.training.settings import check_bounds, filled
from pave_ros.training.sources import Mixture, SourceError, TrainingScenes, without_people
from pave_ros.training.store import Picture
from pave_ros.training.target import Target

Mask = npt.NDArray[np.bool_]
TAUGHT_BY_CROPS = ("simplebaseline",)  # Systems that train on crops, and on nothing else.
FEWEST = 5  # Labelled keypoints of a person who is worth a crop.
TRIES = 1000  # Pictures that are looked at for such a person, or for a place without people.
BOUNDS = (  # of settings
    (("shift", "scale", "degrees"), 0, math.inf),
    (("turned", "parts", "beside", "occluded", "far", "empty"), 0, 1),
)


@dataclass(frozen=True)
class CropSettings:
    """How crops are varied: chances and standard deviations.

    Attributes:
        shift: of the box, as a share of its size.
        scale: of the logarithm of the box's size.
        degrees: of the turn of those that are turned.
        turned: chance of a turn.
        parts: chance that the camera sees only a part of the person, such as head and shoulders.
        beside: chance of somebody else pasted at the side.
        occluded: chance of things in front.
        far: chance that the crop shows up to two and a half times as much, as where nobody has found a closer box.
        empty: chance that nobody is there: what finds boxes errs, and the network has to say so.
    """

    shift: float = 0.06
    scale: float = 0.15
    degrees: float = 20.0
    turned: float = 0.6
    parts: float = 0.3
    beside: float = 0.25
    occluded: float = 0.3
    far: float = 0.1
    empty: float = 0.1

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS)


class TrainingCrops(Dataset[tuple[torch.Tensor, Target]]):
    """Samples (3, H, W) uint8 RGB with a `Target` of one person, whose labelled keypoints may lie out of the crop, and
    all do where nobody is there: 0 is the centre of its first pixel and 1 that of its last, as UDP counts. Any number
    from 0 on has its own sample.

    Args:
        settings: how crops are varied.
        mixture: what they are cut from, and their size, skeleton and seed; the rest of it is not used.
    """

    def __init__(self, settings: CropSettings, mixture: Mixture) -> None:
        self.settings, self.mixture = settings, mixture
        self._scenes = TrainingScenes(mixture)
        self._mirror = list(skeletons.get(mixture.skeleton).mirror)

    def __len__(self) -> int:
        return self.mixture.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Target]:
        image, keypoints = self.crop(number)
        width, height = self.mixture.size
        points = keypoints[None, :, :2] / (np.array([width, height], np.float32) - 1)
        labelled = torch.from_numpy(keypoints[None, :, 2] > 0)
        nobody = torch.zeros(0, 4)
        target = Target(
            keypoints=torch.from_numpy(points.astype(np.float32)),
            labelled=labelled,
            areas=torch.ones(1),
            ignored=nobody,
            visible=labelled,
            bare=nobody,
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]),
        )
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), target

    def crop(self, number: int) -> tuple[Image, Floats]:
        """The picture (H, W, 3) uint8 RGB of this number, and the keypoints (K, 3) of its person in its pixels; the
        third number is above zero where they are labelled."""
        rng = np.random.default_rng((self.mixture.seed, number))
        if rng.random() < self.settings.empty:
            return self._nobody(rng)
        picture, keypoints = self._person(rng)
        image = picture.image
        known = keypoints[:, 2] > 0
        if rng.random() < self.settings.parts:
            image, known = _part(image, keypoints, rng)
        matrix = self._matrix(keypoints[known, :2], rng)
        image = np.asarray(cv2.warpAffine(image, matrix, self.mixture.size), np.uint8)
        keypoints = np.concatenate((keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2], keypoints[:, 2:]), 1)
        if rng.random() < 0.5:
            image, keypoints = np.ascontiguousarray(image[:, ::-1]), keypoints[self._mirror]
            keypoints[:, 0] = self.mixture.size[0] - 1 - keypoints[:, 0]
        if rng.random() < self.settings.beside and self._scenes.can_paste:
            image = self._beside(image, rng)
        if rng.random() < self.settings.occluded:
            image = augment.occlude(([image], [picture.labels[:0]]), rng, int(rng.integers(1, 3)), 0.3)[0][0]
        return augment.filmed([image], rng)[0], keypoints.astype(np.float32)

    def _person(self, rng: Rng) -> tuple[Picture, Floats]:
        """A picture, and the keypoints (K, 3) of somebody in it."""
        for _ in range(TRIES):
            picture = self._scenes.draw(rng)
            people = picture.labels
            worth = ((people.keypoints[..., 2] > 0).sum(1) >= FEWEST) & ~people.crowd
            if worth.any():
                return picture, people.keypoints[rng.choice(np.flatnonzero(worth))]
        raise SourceError(f"nobody in {TRIES} pictures has {FEWEST} labelled keypoints of {self.mixture.skeleton}")

    def _nobody(self, rng: Rng) -> tuple[Image, Floats]:
        """A crop of a place where nobody is, and keypoints that are known to be elsewhere."""
        for _ in range(TRIES):
            picture = self._scenes.draw(rng)
            (image,), (labels,) = without_people(picture.image, picture.labels, rng)
            if not len(labels):
                break
        else:
            raise SourceError(f"none of {TRIES} pictures has a place without people; set crops: {{empty: 0}}")
        height, width = image.shape[:2]
        size = np.array([width, height]) * rng.uniform(0.3, 1.0, 2)
        box = np.concatenate((rng.uniform(0, 1, 2) * ((width, height) - size), size)).astype(np.float32)
        crop = crop_boxes(box[None], self.mixture.size)[0]
        crop[2:] *= rng.uniform(0.4, 1.0)  # so that the picture's border, black beyond, is not what tells
        image = np.asarray(cv2.warpAffine(image, matrix(crop, self.mixture.size, udp=True), self.mixture.size))
        elsewhere = np.full((len(self._mirror), 3), -1e3, np.float32)
        elsewhere[:, 2] = 1
        return augment.filmed([image], rng)[0], elsewhere

    def _matrix(self, points: Floats, rng: Rng) -> Floats:
        """(2, 3) from the picture to the crop around the points (N, 2), about as a detector would place it."""
        settings = self.settings
        low, extent = points.min(0), np.maximum(np.ptp(points, axis=0), 4.0)
        box = with_margin(np.concatenate((low, extent)))
        box[:2] += settings.shift * rng.standard_normal(2) * extent
        crop = crop_boxes(box[None].astype(np.float32), self.mixture.size)[0]
        crop[2:] *= np.exp(settings.scale * np.clip(rng.standard_normal(), -2, 2))
        if rng.random() < settings.far:
            crop[2:] *= rng.uniform(1.0, 2.5)
        turn = settings.degrees * rng.standard_normal() if rng.random() < settings.turned else 0.0
        return np.asarray(matrix(crop, self.mixture.size, udp=True, rotation=turn))

    def _beside(self, image: Image, rng: Rng) -> Image:
        """The crop with somebody else who covers one side of it."""
        other = self._scenes.draw_cutout(rng)
        width, height = self.mixture.size
        x, y, w, h = other.labels[0].boxes[0]
        scale = height * rng.uniform(0.5, 1.1) / max(w, h, 1.0)
        side = width * (0.5 + rng.choice([-1, 1]) * rng.uniform(0.35, 0.6))
        matrix = augment.translation(-x - w / 2, -y - h / 2)
        matrix = augment.scaling(rng.choice([-1, 1]) * scale, scale) @ matrix
        matrix = augment.translation(side, height * rng.uniform(0.35, 0.65)) @ matrix
        return augment.paste(([image], [other.labels[0][:0]]), other, matrix)[0][0]


def _part(image: Image, keypoints: Floats, rng: Rng) -> tuple[Image, Mask]:
    """The picture with a border through the person, black beyond it, and which keypoints (K,) are left: those above a
    horizontal line, more rarely those below or beside one. All of it where too few would be left."""
    known = keypoints[:, 2] > 0
    axis = 1 if rng.random() < 0.8 else 0
    places = keypoints[:, axis]
    low, high = places[known].min(), places[known].max()
    border = low + (high - low) * rng.uniform(0.15, 0.9)
    before = rng.random() < (0.85 if axis else 0.5)
    left = known & ((places < border) if before else (places >= border))
    if left.sum() < FEWEST:
        return image, known
    image, cut = image.copy(), int(np.clip(border, 0, image.shape[1 - axis]))
    gone = slice(cut, None) if before else slice(None, cut)
    image[(gone, slice(None)) if axis else (slice(None), gone)] = 0
    return image, left


def crop_samples(data: Mapping[str, Any], common: Mapping[str, Any]) -> TrainingCrops:
    """Crops from the section ``data`` of a training configuration that has a part ``crops``.

    Args:
        data: ``crops`` holds `CropSettings`, everything else is the `Mixture`'s.
        common: what the mixture takes from the rest of the configuration.
    """
    rest = {key: value for key, value in data.items() if key != "crops"}
    return TrainingCrops(filled(CropSettings, data["crops"], "crops"), Mixture.from_dict({**common, **rest}))
