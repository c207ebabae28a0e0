"""What every data set gives: samples of pictures with the people annotated in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, overload
from zlib import crc32

import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.frames import Image
from pave_ros.persons import Floats, Index, Ints, Persons, boxes_of, check_index
from pave_ros.skeletons import Skeleton

# Share of a person's box that the body covers, where a data set gives no segment: what CrowdPose's evaluation takes.
BODY_SHARE = 0.53
PERSON = 1  # COCO's category of people

# One joint, named differently by the layouts: `convert` may fill either from the other.
_ALIASES = (
    ("top_head", "head_top"),
    ("neck", "head_bottom"),
    ("left_front_paw", "left_wrist"),
    ("right_front_paw", "right_wrist"),
    ("left_back_paw", "left_ankle"),
    ("right_back_paw", "right_ankle"),
)
SAME = {name: other for a, b in _ALIASES for name, other in ((a, b), (b, a))}


# The fields of `Labels` that have a row for each person.
PER_PERSON = ("keypoints", "boxes", "areas", "track_ids", "crowd", "head_boxes")


class DatasetError(ValueError):
    """A data set that is not there, or is broken; the message names the file and says where to get it."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The annotated people of one picture, M of them with K keypoints each, in pixels of the picture.

    Attributes:
        keypoints: (M, K, 3) float32 of x, y, visibility as COCO has it: 0 not labelled (x = y = 0), 1 labelled but
            hidden, 2 visible.
        boxes: (M, 4) float32 of x, y, width, height.
        areas: (M,) float32, square pixels of the person's segment; where a data set gives none, 0.53 of the box.
        track_ids: (M,) int32, the same number for the same person over a video, -1 unknown.
        crowd: (M,) bool, a group of people, or a person that counts neither way.
        skeleton: name of the keypoint layout, see `pave_ros.skeletons`.
        head_boxes: (M, 4) float32 like `boxes`, NaN where not annotated.
        ignore: polygons (P, 2) float32 of x, y inside which people are not annotated.
        complete: False when people other than the annotated ones may be in the picture.
        uncounted: (M,) bool, whom the data set does not count when it evaluates, labelled or not; None for nobody.
    """

    keypoints: Floats
    boxes: Floats
    areas: Floats
    track_ids: Ints
    crowd: npt.NDArray[np.bool_]
    skeleton: str
    head_boxes: Floats
    ignore: tuple[Floats, ...] = ()
    complete: bool = True
    uncounted: npt.NDArray[np.bool_] | None = None

    @classmethod
    def from_keypoints(
        cls,
        keypoints: npt.ArrayLike,
        skeleton: str,
        *,
        boxes: npt.ArrayLike | None = None,
        areas: npt.ArrayLike | None = None,
        track_ids: npt.ArrayLike | None = None,
        crowd: npt.ArrayLike | None = None,
        head_boxes: npt.ArrayLike | None = None,
        ignore: Sequence[npt.ArrayLike] = (),
        complete: bool = True,
    ) -> Labels:
        """Labels from keypoints (M, K, 3); what is not given follows from them: the box is their extent, the area 0.53
        of the box, no track, no crowd, no head box. Boxes and areas may be NaN for some people, with the same
        effect."""
        given = np.array(keypoints, np.float32)
        points = given.reshape(len(given), len(skeletons.get(skeleton)), 3)
        points[points[..., 2] <= 0] = 0
        n = len(points)
        nan = np.full((n, 4), np.nan, np.float32)
        box = nan if boxes is None else np.asarray(boxes, np.float32).reshape(n, 4)
        box = np.where(np.isnan(box), _extents(points), box)
        area = nan[:, 0] if areas is None else np.asarray(areas, np.float32).reshape(n)
        return cls(
            keypoints=points,
            boxes=box,
            areas=np.where(np.isnan(area), BODY_SHARE * box[:, 2] * box[:, 3], area).astype(np.float32),
            track_ids=np.full(n, -1, np.int32) if track_ids is None else np.array(track_ids, np.int32).reshape(n),
            crowd=np.zeros(n, bool) if crowd is None else np.array(crowd, bool).reshape(n),
            skeleton=skeleton,
            head_boxes=nan if head_boxes is None else np.array(head_boxes, np.float32).reshape(n, 4),
            ignore=tuple(region for polygon in ignore if len(region := np.array(polygon, np.float32).reshape(-1, 2))),
            complete=complete,
        )

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def counted(self) -> npt.NDArray[np.bool_]:
        """(M,) whom an evaluation counts: who has a labelled keypoint, if the data set says nothing else."""
        labelled: npt.NDArray[np.bool_] = np.any(self.keypoints[..., 2] > 0, axis=1)
        return labelled if self.uncounted is None else labelled & ~self.uncounted

    def __getitem__(self, index: Index) -> Labels:
        """The chosen people, as `Labels`; the index is a mask, an integer array or a slice. TypeError for a number."""
        check_index(index)
        uncounted = None if self.uncounted is None else self.uncounted[index]
        return replace(self, uncounted=uncounted, **{name: getattr(self, name)[index] for name in PER_PERSON})

    def to(self, skeleton: str) -> Labels:
        """The same people in another layout; keypoints that this one lacks are not labelled."""
        if skeleton == self.skeleton:
            return self
        return replace(self, keypoints=convert(self.keypoints, self.skeleton, skeleton, 0.0), skeleton=skeleton)

    def as_persons(self) -> Persons:
        """The same people as a model's result, to draw or compare them; all scores are 1."""
        keypoints = np.where(self.keypoints[..., 2:] > 0, self.keypoints, (np.nan, np.nan, 0)).astype(np.float32)
        keypoints[..., 2] = keypoints[..., 2] > 0
        persons = Persons.from_keypoints(keypoints, np.ones(len(self)), self.skeleton, self.boxes)
        return replace(persons, track_ids=self.track_ids)


def _extents(keypoints: Floats) -> Floats:
    """(N, 4) boxes around the labelled keypoints (N, K, 3), 0 where there are none."""
    return np.nan_to_num(boxes_of(np.where(keypoints[..., 2:] > 0, keypoints[..., :2], np.nan)))


def convert(keypoints: Floats, source: str, target: str, missing: float = np.nan) -> Floats:
    """Keypoints (N, K, 3) of the layout `source` as (N, L, 3) in `target`, matched by name.

    The top of the head and the neck go by two names each, which are taken for one another, and so are the paws of an
    animal for wrists and ankles. What `source` lacks has
    x and y `missing` and score (or visibility) 0.
    """
    have = skeletons.get(source).keypoints
    converted = np.zeros((len(keypoints), len(skeletons.get(target)), 3), np.float32)
    converted[..., :2] = missing
    for i, name in enumerate(skeletons.get(target).keypoints):
        found = name if name in have else SAME.get(name)
        if found in have:
            converted[:, i] = keypoints[:, have.index(found)]
    return converted


@dataclass(frozen=True)
class Sample:
    """One picture of a data set with its labels.

    Attributes:
        id: the data set's own number of the picture, or its name; results files speak of it.
        width, height: pixels.
        labels: the annotated people.
        read: loads the picture, (H, W, 3) uint8 RGB; use `image`.
        video: name of the video that the picture belongs to, None for a single picture.
        frame: number of the picture in its video.
        labelled: False for a frame between annotated ones, whose labels are empty because nobody looked.
        crowd_index: CrowdPose's measure of crowdedness, 0..1, None elsewhere.
    """

    id: int | str
    width: int
    height: int
    labels: Labels
    read: Callable[[], Image] = field(repr=False, compare=False)
    video: str | None = None
    frame: int = 0
    labelled: bool = True
    crowd_index: float | None = None

    def comes_after(self, other: Sample) -> bool:
        """Whether they are frames of one video, this one directly after the other."""
        return self.video is not None and (self.video, self.frame) == (other.video, other.frame + 1)

    def image(self) -> Image:
        """The picture, (H, W, 3) uint8 RGB, read anew each time. DatasetError when it is missing or broken, or has
        another size than its annotation says."""
        image = self.read()
        if image.shape[:2] != (self.height, self.width):
            found = f"{image.shape[1]}x{image.shape[0]}"
            raise DatasetError(
                f"picture {self.id}: {found} pixels, but annotated as {self.width}x{self.height} "
                "(pixels as stored, whatever EXIF says of turning them)"
            )
        return image


class Dataset(Sequence[Sample], ABC):
    """Samples of one data set.

    Args:
        name: as `open_dataset` knows it.
        skeleton: keypoint layout of the labels.
        length: number of samples.
        annotated: indices of the samples that somebody has labelled.
        categories: ``category_id`` of what a results file holds of its people, or animals.
    """

    def __init__(
        self,
        name: str,
        skeleton: Skeleton,
        length: int,
        annotated: Sequence[int],
        categories: Set[Any] = frozenset({PERSON}),
    ) -> None:
        self.name = name
        self.skeleton = skeleton
        self.annotated = annotated
        self.categories = categories
        self._length = length

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> Dataset: ...

    def __getitem__(self, index: int | slice) -> Sample | Dataset:
        return self._part(index) if isinstance(index, slice) else self._sample(range(self._length)[index])

    @property
    @abstractmethod
    def ids(self) -> list[int | str]:
        """Those of all samples, without reading them."""

    @abstractmethod
    def _sample(self, index: int) -> Sample:
        """Number `index`, from 0 on."""

    @abstractmethod
    def _part(self, part: slice) -> Dataset:
        """Some of the samples alone."""

    @abstractmethod
    def clip(self, index: int, offsets: Sequence[int]) -> list[Sample]:
        """The pictures of the same video at `index` plus each offset, clamped at the video's ends; a single picture
        is repeated."""


class ListedDataset(Dataset):
    """A data set whose samples are known one by one.

    Args:
        name, skeleton, categories: see `Dataset`.
        samples: what it holds; those of one video must come in the order of time.

    Raises:
        DatasetError: two have the same id.
    """

    def __init__(
        self,
        name: str,
        skeleton: Skeleton,
        samples: Sequence[Sample],
        categories: Set[Any] = frozenset({PERSON}),
    ) -> None:
        if repeated := [id for id, count in Counter(sample.id for sample in samples).items() if count > 1]:
            raise DatasetError(f"{name}: {len(repeated)} ids are those of several pictures, {repeated[0]!r} for one")
        labelled = [i for i, sample in enumerate(samples) if sample.labelled]
        super().__init__(name, skeleton, len(samples), labelled, categories)
        self._samples = samples
        self._videos: dict[str, list[int]] = defaultdict(list)
        self._place: dict[int, int] = {}
        for i, sample in enumerate(samples):
            if sample.video is not None:
                self._place[i] = len(self._videos[sample.video])
                self._videos[sample.video].append(i)

    @property
    def ids(self) -> list[int | str]:
        return [sample.id for sample in self._samples]

    def _sample(self, index: int) -> Sample:
        return self._samples[index]

    def _part(self, part: slice) -> ListedDataset:
        return ListedDataset(self.name, self.skeleton, self._samples[part], self.categories)

    def clip(self, index: int, offsets: Sequence[int]) -> list[Sample]:
        index = range(len(self))[index]
        if index not in self._place:
            return [self[index]] * len(offsets)
        video = self._videos[self[index].video or ""]
        last = len(video) - 1
        return [self[video[min(max(self._place[index] + offset, 0), last)]] for offset in offsets]


def held_out(group: str) -> bool:
    """Whether a group of pictures (one picture, or all of one source) belongs to the validation part of a data set
    that has no split of its own: a tenth of the groups, chosen by a hash of the name, so the same for everybody."""
    return crc32(group.encode()) % 1000 < 100


def split_of(group: str, split: str) -> bool:
    """Whether a group belongs to `split`: ``train``, ``val`` (see `held_out`) or ``all``; DatasetError for others."""
    if split not in ("train", "val", "all"):
        raise DatasetError(f"this data set has no split {split!r}; it has train, val and all")
    return split == "all" or held_out(group) == (split == "val")
