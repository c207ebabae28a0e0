"""The result type of every model, the people of one picture as arrays; and what top-down models start from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from pave_ros import skeletons

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Index: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.integer] | slice  # of some of several people


def check_index(index: Index) -> None:
    """TypeError for a number, with which the arrays would lose a dimension."""
    if isinstance(index, int | np.integer):
        raise TypeError(
            f"chosen are people by a mask, an array or a slice; number {index} alone is [{index}:{index + 1}]"
        )


@dataclass(frozen=True, eq=False)
class Persons:
    """N people with K keypoints each, best score first, in pixels of the original picture.

    Attributes:
        keypoints: (N, K, 3) float32 of x, y, score; x and y are NaN where a keypoint is not given.
        scores: (N,) float32, confidence of each person, 0..1.
        boxes: (N, 4) float32 of x, y, width, height, (x, y) being the top left corner.
        track_ids: (N,) int32, the same number for the same person over time, -1 where untracked.
        ages: (N,) int32, number of pictures since the person was first seen, 0 at the first.
        skeleton: name of the keypoint layout, see `pave_ros.skeletons`.
    """

    keypoints: Floats
    scores: Floats
    boxes: Floats
    track_ids: Ints
    ages: Ints
    skeleton: str

    @classmethod
    def from_keypoints(
        cls, keypoints: npt.ArrayLike, scores: npt.ArrayLike, skeleton: str, boxes: npt.ArrayLike | None = None
    ) -> Persons:
        """People from keypoints (N, K, 3) and scores (N,); without boxes, the extent of the keypoints is taken.

        ValueError where the keypoints are not those of the skeleton, KeyError for one that is not known.
        """
        points, joints = np.asarray(keypoints, np.float32), len(skeletons.get(skeleton))
        n = len(points)
        if not n:  # nobody, as an empty list
            points = points.reshape(0, joints, 3)
        if points.shape != (n, joints, 3):
            raise ValueError(f"keypoints of {skeleton} have the shape (N, {joints}, 3), not {points.shape}")
        return cls(
            keypoints=points,
            scores=np.asarray(scores, np.float32).reshape(n),
            boxes=boxes_of(points) if boxes is None else np.asarray(boxes, np.float32).reshape(n, 4),
            track_ids=np.full(n, -1, np.int32),
            ages=np.zeros(n, np.int32),
            skeleton=skeleton,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Index) -> Persons:
        """The chosen people, as `Persons`; the index is a mask, an integer array or a slice. TypeError for a number:
        one person is ``people[i : i + 1]``."""
        check_index(index)
        return replace(
            self,
            keypoints=self.keypoints[index],
            scores=self.scores[index],
            boxes=self.boxes[index],
            track_ids=self.track_ids[index],
            ages=self.ages[index],
        )


@dataclass(frozen=True, eq=False)
class Boxes:
    """Where N people are in a picture, best score first, before anything is known of their joints.

    Attributes:
        boxes: (N, 4) float32 of x, y, width, height in pixels of the original picture.
        scores: (N,) float32, confidence of each, 0..1.
    """

    boxes: Floats
    scores: Floats

    @classmethod
    def of(cls, boxes: npt.ArrayLike, scores: npt.ArrayLike | None = None) -> Boxes:
        """Boxes in any order; without scores all are sure, and scores are cut off at 0 and 1. What has no extent, or
        one that is not finite, is left out."""
        rows = np.asarray(boxes, np.float32).reshape(-1, 4)
        sure = np.ones(len(rows), np.float32) if scores is None else np.asarray(scores, np.float32).reshape(len(rows))
        sure = np.nan_to_num(sure, nan=0.0).clip(0, 1)
        order = np.argsort(-sure, kind="stable")
        finite = np.isfinite(rows).all(1) & (rows[:, 2:].astype(float).prod(1) < np.finfo(np.float32).max)
        order = order[(finite & (rows[:, 2:] > 0).all(1))[order]]
        return cls(rows[order], sure[order])

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Index) -> Boxes:
        """The chosen boxes; the index is a mask, an integer array or a slice, and TypeError for a number."""
        check_index(index)
        return Boxes(self.boxes[index], self.scores[index])

    def scaled(self, x: float, y: float) -> Boxes:
        """The same in a picture that is so many times as wide and as high."""
        return Boxes(self.boxes * np.array([x, y, x, y], np.float32), self.scores)

    def best(self, threshold: float, most: int) -> Boxes:
        """At most so many, and none below the threshold."""
        return self[np.flatnonzero(self.scores >= threshold)[:most]]


def boxes_of(keypoints: Floats) -> Floats:
    """(N, 4) extents x, y, width, height of keypoints (N, K, 2 or 3); NaN keypoints are left out, none gives NaN."""
    if not len(keypoints):
        return np.zeros((0, 4), np.float32)
    xy = keypoints[..., :2]
    missing = np.isnan(xy)
    low = np.where(missing, np.inf, xy).min(axis=1)
    high = np.where(missing, -np.inf, xy).max(axis=1)
    boxes = np.concatenate([low, high - low], axis=1)
    return np.where(np.isfinite(boxes), boxes, np.nan).astype(np.float32)
