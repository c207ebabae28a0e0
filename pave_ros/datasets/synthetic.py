"""The project's synthetic scene as a data set: exact labels, no files, as many pictures as wanted."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache, partial

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Dataset, DatasetError, Labels, Sample
from pave_ros.frames import Image
from pave_ros.synthetic import Scene, SyntheticFrame

# Seeds of the scenes of each split; training and validation never share a scene.
SEEDS = {"train": 0, "val": 1_000_000, "test": 2_000_000}
BACKS_FROM = 500_000  # Of those of a split, the scenes from here on are such in which people turn their backs.
FEWEST_SEEN = 3  # people with fewer visible keypoints count neither way: nobody would annotate them


class SyntheticDataset(Dataset):
    """Pictures of many scenes, drawn when they are asked for.

    Args:
        split: ``train``, ``val`` or ``test``; each has scenes of its own.
        scenes: number of scenes, each of a place, a camera and people of its own, with one to six people at once.
        frames: pictures of each scene, one and a half seconds apart.
        width, height: of the pictures, pixels.
        backs: see `Scene`; scenes in which it is not 0 are others.
    """

    STEP = 45  # frames between two pictures of a scene

    def __init__(
        self,
        split: str = "val",
        scenes: int = 50,
        frames: int = 4,
        width: int = 640,
        height: int = 480,
        backs: float = 0.0,
    ) -> None:
        if split not in SEEDS:
            raise DatasetError(f"the synthetic scene has no split {split!r}; it has {', '.join(SEEDS)}")
        self._numbers = range(scenes * frames)
        super().__init__("synthetic", skeletons.get("coco17"), len(self._numbers), range(scenes * frames))
        self._seed = SEEDS[split] + bool(backs) * BACKS_FROM
        self._frames, self._drawing = frames, (width, height, backs)

    @property
    def ids(self) -> list[int | str]:
        return [_id(*self._place_of(index)) for index in range(len(self))]

    def _sample(self, index: int) -> Sample:
        return self._drawn(*self._place_of(index))

    def _part(self, part: slice) -> SyntheticDataset:
        some = copy(self)
        some._numbers = self._numbers[part]
        some._length = len(some._numbers)
        some.annotated = range(some._length)
        return some

    def clip(self, index: int, offsets: Sequence[int]) -> list[Sample]:
        """The frames of the same scene, thirty a second, at `index` plus each offset; never before its beginning."""
        seed, number = self._place_of(index)
        return [self._drawn(seed, max(number + offset, 0)) for offset in offsets]

    def _place_of(self, index: int) -> tuple[int, int]:
        scene, number = divmod(self._numbers[index], self._frames)
        return self._seed + scene, number * self.STEP

    def _drawn(self, seed: int, number: int) -> Sample:
        frame = _frame(seed, *self._drawing, number)
        keypoints = np.dstack([frame.persons.keypoints[..., :2], frame.visibility])
        labels = Labels.from_keypoints(
            np.nan_to_num(keypoints),
            frame.persons.skeleton,
            boxes=frame.persons.boxes,
            areas=frame.areas,
            track_ids=frame.persons.track_ids,
            crowd=(frame.visibility == 2).sum(axis=1) < FEWEST_SEEN,
        )
        read = partial(_image, seed, *self._drawing, number)
        return Sample(_id(seed, number), *self._drawing[:2], labels, read, video=str(seed), frame=number)


def _id(seed: int, number: int) -> str:
    return f"{seed}/{number}"


@lru_cache(maxsize=2)  # a scene takes a second to build, its frames a fraction of that
def _scene(seed: int, width: int, height: int, backs: float) -> Scene:
    return Scene(seed=seed, width=width, height=height, persons=1 + seed % 6, backs=backs)


@lru_cache(maxsize=16)
def _frame(seed: int, width: int, height: int, backs: float, number: int) -> SyntheticFrame:
    return _scene(seed, width, height, backs).frame(number)


def _image(seed: int, width: int, height: int, backs: float, number: int) -> Image:
    return _frame(seed, width, height, backs, number).image.copy()
