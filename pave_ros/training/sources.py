"""Training samples: labelled pictures of several data sets, mixed into ever new scenes.

A sample is a function of the configuration and of its number, nothing else: the same in every worker, on every machine,
and when a run is resumed. Pictures come from the stores that `pave_ros.training.prepare` writes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from pave_ros import skeletons
from pave_ros.datasets.base import Labels
from pave_ros.frames import Image
from pave_ros.training import augmentation as augment
from pave_ros.training.augmentation import Clip, Cutout, Matrix, Rng, Size, View
from pave_ros.training.settings import ConfigError, check_bounds, check_ranges, filled
from pave_ros.training.store import Picture, PictureStore
from pave_ros.training.target import Target

# Width / height of cameras, with their chances: several models stretch whatever comes to their input size.
ASPECTS = ((4 / 3, 0.45), (16 / 9, 0.35), (1.0, 0.1), (3 / 4, 0.1))

BOUNDS = (  # of settings
    (("fallen", "smallest", "seed"), 0, math.inf),
    (("pasted", "length"), 1, math.inf),
    (("empty", "paste", "occlude"), 0, 1),
)


class SourceError(ValueError):
    """A mixture that cannot be made; the message says why."""


@dataclass(frozen=True)
class Mixture:
    """What is mixed, and how: plain data, as a section of a training configuration gives it.

    Attributes:
        cache: folder of stores.
        weights: for each store by name how often a picture comes from it, relative to the others.
        input_size: height and width of the samples, pixels.
        tiles: chance of scenes of 1, 2, 3, ... pictures side by side.
        empty: chance that a picture is shown where it has no people; with 0, pictures without any are left out.
        fallen: how often a picture is taken whose person lies, hangs or stands on the head, relative to the others.
        paste: chance of people cut out elsewhere and pasted into the scene, one up to `pasted`.
        pasted: the most people pasted.
        occlude: chance of things in front.
        zoom, tile_zoom: range of the scale of a picture alone and of one beside others, see `View`.
        smallest: people whose box has a longer side below this, in pixels of the sample, count neither way.
        skeleton: keypoint layout of the targets; the stores' keypoints go by name, and others are not labelled.
        offset: added to keypoints, in pixels of the stored picture: 0.5 for models that take them for indices of pixels
            and want the middle of these. The model says so, not the data.
        length: samples that make an epoch; there is no end to them.
        seed: another seed gives other samples.
    """

    cache: Path
    weights: Mapping[str, float]
    input_size: tuple[int, int] = (256, 256)
    tiles: Sequence[float] = (0.6, 0.14, 0.1, 0.1, 0.03, 0.03)
    empty: float = 0.05
    fallen: float = 0.4
    paste: float = 0.35
    pasted: int = 4
    occlude: float = 0.3
    zoom: tuple[float, float] = (0.45, 1.6)
    tile_zoom: tuple[float, float] = (0.7, 1.4)
    smallest: float = 10.0
    skeleton: str = "coco17"
    offset: float = 0.0
    length: int = 20000
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self, BOUNDS)
        if min(self.tiles, default=0) < 0 or not sum(self.tiles):
            raise ConfigError(f"tiles have to be chances, one of them at least above 0, not {list(self.tiles)}")
        check_ranges(self, "zoom", "tile_zoom")
        if min(self.input_size) < 1:
            raise ConfigError(f"input_size has to be a height and a width, not {list(self.input_size)}")

    @property
    def size(self) -> Size:
        """Width and height of the samples, pixels."""
        return self.input_size[1], self.input_size[0]

    def taught(self, labels: Labels) -> Labels:
        """Labels of a stored picture as they are taught: in this layout, keypoints moved by `offset`."""
        labels = labels.to(self.skeleton)
        keypoints = labels.keypoints.copy()
        keypoints[..., :2] += np.where(keypoints[..., 2:] > 0, np.float32(self.offset), 0)
        return replace(labels, keypoints=keypoints)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Mixture:
        """A mixture from plain data; ConfigError names what is unknown, missing or of the wrong kind."""
        return filled(cls, values, "data")


def target_of(labels: Labels, size: Size, smallest: float = 0.0) -> Target:
    """Labels in pixels of a picture of this size as a training target; see `Mixture.smallest`."""
    single = ~labels.crowd & (labels.boxes[:, 2:].max(axis=1, initial=0) >= smallest)
    labelled = (labels.keypoints[..., 2] > 0).any(axis=1)
    ours = single & labelled
    people = labels[ours]
    regions = [np.concatenate([low := polygon.min(axis=0), polygon.max(axis=0) - low]) for polygon in labels.ignore]
    ignored = np.concatenate([labels.boxes[~ours], np.reshape(regions, (-1, 4))])
    return Target(
        keypoints=torch.from_numpy((people.keypoints[..., :2] / np.array(size)).astype(np.float32)),
        labelled=torch.from_numpy(people.keypoints[..., 2] > 0),
        areas=torch.from_numpy((people.areas / (size[0] * size[1])).astype(np.float32)),
        ignored=torch.from_numpy((ignored / np.array([*size, *size])).astype(np.float32)),
        visible=torch.from_numpy(people.keypoints[..., 2] > 1),
        bare=torch.from_numpy((labels.boxes[single & ~labelled] / np.array([*size, *size])).astype(np.float32)),
        boxes=torch.from_numpy((people.boxes / np.array([*size, *size])).astype(np.float32)),
    )


class _Part:
    """The pictures of one store that belong to one split.

    Args:
        folder, name, split: which pictures.
        fallen: of pictures with fallen people so many are drawn as of others.
        peopled: leave out pictures without people.

    Attributes:
        store: all pictures.
        indices: those of the split.
        cutouts: those of them whose first person can be cut out.
    """

    def __init__(self, folder: Path, name: str, split: str, fallen: float = 1.0, peopled: bool = False) -> None:
        self.store = PictureStore(folder, name)
        labels = self.store.labels
        of_split = [i for i, part in enumerate(self.store.splits) if part == split]
        self.indices = np.array([i for i in of_split if not peopled or (~labels[i].crowd).any()], np.int64)
        if not len(self.indices):
            raise SourceError(f"{folder / name}: has no pictures of the split {split!r}")
        self.cutouts = np.array([i for i in self.indices if can_cut(labels[i], bool(self.store.masked[i]))], np.int64)
        self._share = np.cumsum([fallen if has_fallen(labels[i]) else 1.0 for i in self.indices])
        if not self._share[-1]:
            raise SourceError(f"{folder / name}: everybody in it has fallen, and fallen: 0 leaves these out")

    def draw(self, rng: Rng) -> Picture:
        """Any picture, those of fallen people less often."""
        place = np.searchsorted(self._share, rng.random() * self._share[-1], side="right")
        return self.store[int(self.indices[place])]

    def draw_cutout(self, rng: Rng) -> Picture:
        """A picture whose first person can be cut out."""
        return self.store[int(rng.choice(self.cutouts))]


class TrainingScenes(Dataset[tuple[torch.Tensor, Target]]):
    """Samples (3, H, W) uint8 RGB with a `Target`, made by chance from a mixture.

    Any number from 0 on has a sample of its own: `__len__` is only how many make an epoch.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        total = sum(mixture.weights.values())
        if not mixture.weights or min(mixture.weights.values()) < 0 or not total:
            raise SourceError("the weights of a mixture have to be positive, and one of them at least above 0")
        used = {name: weight / total for name, weight in mixture.weights.items() if weight}
        peopled = not mixture.empty
        self._sources = [_Part(mixture.cache, name, "train", mixture.fallen, peopled) for name in used]
        self._chances = np.array(list(used.values()))
        with_cutouts = np.array([len(source.cutouts) > 0 for source in self._sources])
        self._paste_chances = self._chances * with_cutouts
        if with_cutouts.any():
            self._paste_chances /= self._paste_chances.sum()

    def __len__(self) -> int:
        return self.mixture.length

    def __getitem__(self, number: int) -> tuple[torch.Tensor, Target]:
        image, labels = self.scene(number)
        target = target_of(labels, self.mixture.size, self.mixture.smallest)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), target

    def scene(self, number: int) -> tuple[Image, Labels]:
        """The picture (H, W, 3) uint8 RGB and the labels, in pixels, of this number."""
        mixture, rng = self.mixture, np.random.default_rng((self.mixture.seed, number))
        aspects, chances = np.array(ASPECTS).T
        aspect = float(rng.choice(aspects, p=chances))
        count = 1 + int(rng.choice(len(mixture.tiles), p=np.array(mixture.tiles) / sum(mixture.tiles)))
        view = View(zoom=mixture.zoom if count == 1 else mixture.tile_zoom)
        clip = augment.mosaic([self._picture(rng) for _ in range(count)], mixture.size, view, rng, aspect)
        if rng.random() < mixture.paste and self.can_paste:
            for _ in range(int(rng.integers(1, mixture.pasted + 1))):
                clip = self._pasted(clip, aspect, rng)
        if rng.random() < mixture.occlude:
            clip = augment.occlude(clip, rng, int(rng.integers(1, 4)))
        return augment.filmed(clip[0], rng)[0], clip[1][0]

    def _picture(self, rng: Rng) -> Clip:
        picture = self.draw(rng)
        if rng.random() < self.mixture.empty:
            return without_people(picture.image, picture.labels, rng)
        return [picture.image], [picture.labels]

    def _pasted(self, clip: Clip, aspect: float, rng: Rng) -> Clip:
        cutout = self.draw_cutout(rng)
        return augment.paste(clip, cutout, somewhere(cutout.labels[0].boxes[0], self.mixture.size, aspect, rng))

    def draw(self, rng: Rng) -> Picture:
        """Any picture, as stored, each source with its chance."""
        picture = self._sources[rng.choice(len(self._sources), p=self._chances)].draw(rng)
        return replace(picture, labels=self.mixture.taught(picture.labels))

    @property
    def can_paste(self) -> bool:
        """Whether there is anybody who can be cut out."""
        return bool(self._paste_chances.any())

    def draw_cutout(self, rng: Rng) -> Cutout:
        """Anybody who can be cut out; only where somebody can."""
        picture = self._sources[rng.choice(len(self._sources), p=self._paste_chances)].draw_cutout(rng)
        person, mask = picture.labels[:1], picture.mask
        if mask is None:
            mask = body_mask(person.to(_COCO.name).keypoints[0], picture.image.shape[1::-1])
        return Cutout([picture.image], [mask], [self.mixture.taught(person)])


class ValidationPictures(Dataset[tuple[torch.Tensor, Target]]):
    """The pictures of a mixture's sources that are kept out of training, whole, stretched to its size; a source need
    not have any.

    Attributes:
        names: the source of each.
    """

    def __init__(self, mixture: Mixture) -> None:
        self.mixture = mixture
        stores = [PictureStore(mixture.cache, name) for name, weight in mixture.weights.items() if weight]
        self._places = [(store, i) for store in stores for i, split in enumerate(store.splits) if split == "val"]
        self.names = [store.name for store, _ in self._places]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        image, labels = self.scene(index)
        width, height = size = self.mixture.size
        stretched = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        matrix = augment.scaling(width / image.shape[1], height / image.shape[0])
        moved = augment.move(self.mixture.taught(labels), matrix, size)
        target = target_of(moved, size, self.mixture.smallest)
        return torch.from_numpy(np.ascontiguousarray(stretched.transpose(2, 0, 1))), target

    def scene(self, index: int) -> tuple[Image, Labels]:
        """The picture (H, W, 3) uint8 RGB as it is stored, and its labels in pixels."""
        store, place = self._places[index]
        return store.image(place), store.labels[place]


def without_people(image: Image, labels: Labels, rng: Rng) -> Clip:
    """A part of the picture, at least 48 pixels wide and high, in which nobody is; all of it where none is found."""
    height, width = image.shape[:2]
    low, high = labels.boxes[:, :2], labels.boxes[:, :2] + labels.boxes[:, 2:]
    nobody = labels[:0]
    for _ in range(20):
        size = np.array([width, height]) * rng.uniform(0.2, 0.9, 2)
        start = rng.uniform(0, np.array([width, height]) - size)
        clear = ((high <= start) | (low >= start + size)).any(axis=1).all() and not labels.ignore
        if clear and size.min() >= 48:
            (x, y), (w, h) = start.astype(int), size.astype(int)
            return [image[y : y + h, x : x + w]], [nobody]
    return [image], [labels]


def somewhere(box: npt.ArrayLike, size: Size, aspect: float, rng: Rng) -> Matrix:
    """Map of a person's box to some place in a scene: from an eighth of its height up to all of it, small ones more
    often, most of them in view."""
    x, y, width, height = np.asarray(box, float)
    longest = max(width, height, 1.0)
    scale = min(size[1] * np.exp(rng.uniform(np.log(0.12), np.log(1.0))) / longest, 2.0)
    squeeze = augment.scaling(size[0] / (size[1] * aspect), 1)
    matrix = augment.translation(-x - width / 2, -y - height / 2)
    matrix = augment.scaling(rng.choice([-1, 1]) * scale, scale) @ matrix
    matrix = squeeze @ augment.rotation(rng.normal(0, 8)) @ matrix
    return augment.translation(rng.uniform(0, size[0]), rng.uniform(0.2, 0.9) * size[1]) @ matrix


_COCO = skeletons.get("coco17")
# Ends and thickness, relative to the length of the trunk, of what `body_mask` draws.
_LIMBS = tuple(
    (_COCO.index(f"{side}_{start}"), _COCO.index(f"{side}_{end}"), thickness)
    for start, end, thickness in (
        ("shoulder", "elbow", 0.26),
        ("elbow", "wrist", 0.22),
        ("shoulder", "hip", 0.28),
        ("hip", "knee", 0.34),
        ("knee", "ankle", 0.26),
    )
    for side in ("left", "right")
)
_TRUNK = [_COCO.index(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
# Hands and feet go on a little after the last joint: from, to, how much further.
_ENDS = ((7, 9, 0.3), (8, 10, 0.3), (13, 15, 0.2), (14, 16, 0.2))


def has_fallen(labels: Labels) -> bool:
    """Whether the trunk of the first person is turned by more than 60 degrees from upright."""
    trunk = labels[:1].to(_COCO.name).keypoints[:, _TRUNK]
    if not len(trunk) or not (trunk[..., 2] > 0).all():
        return False
    up = trunk[0, 2:, :2].mean(axis=0) - trunk[0, :2, :2].mean(axis=0)
    return bool(up[1] < 0.5 * np.linalg.norm(up))


def can_cut(labels: Labels, masked: bool) -> bool:
    """Whether the first person can be cut out: by a mask, or because all limbs and some of the face are labelled, from
    which `body_mask` guesses the outline."""
    if not len(labels) or labels.crowd[0]:
        return False
    seen = labels[:1].to(_COCO.name).keypoints[0, :, 2] > 0
    return masked or bool(seen[5:].all() and seen[:5].sum() >= 2)


def body_mask(keypoints: npt.NDArray[np.float32], size: Size) -> Image:
    """Rough outline (H, W) uint8, 0 or 255, of a person from their keypoints (17, 3), all but some of the face."""
    points = keypoints[:, :2]
    shoulders, hips = points[_TRUNK[:2]].mean(axis=0), points[_TRUNK[2:]].mean(axis=0)
    face = points[:5][keypoints[:5, 2] > 0].mean(axis=0)
    # Seen from above or below the trunk looks short; then the width of the shoulders tells more.
    unit = max(
        float(np.linalg.norm(shoulders - hips)), 0.9 * float(np.linalg.norm(np.diff(points[_TRUNK[:2]], axis=0)))
    )
    mask = np.zeros(size[::-1], np.uint8)

    def pixel(point: npt.NDArray[np.float32]) -> tuple[int, int]:
        return round(float(point[0])), round(float(point[1]))

    def line(start: npt.NDArray[np.float32], end: npt.NDArray[np.float32], thickness: float) -> None:
        cv2.line(mask, pixel(start), pixel(end), (255,), max(round(thickness * unit), 2))

    for a, b, thickness in _LIMBS:
        line(points[a], points[b], thickness)
    for a, b, further in _ENDS:
        line(points[b], points[b] + further * (points[b] - points[a]), 0.2)
    cv2.fillConvexPoly(mask, cv2.convexHull(np.round(points[_TRUNK]).astype(np.int32)), (255,))
    line(shoulders, face, 0.3)
    cv2.circle(mask, pixel(face + 0.08 * (face - shoulders)), round(0.3 * unit) + 1, (255,), -1)
    return mask
