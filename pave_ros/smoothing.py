"""Steadier keypoints in a stream: of whoever has not moved, the mean of what several frames say."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pave_ros import skeletons
from pave_ros.persons import Floats, Persons, boxes_of
from pave_ros.topdown.likeness import KNOWN, likeness

SMOOTHINGS = ("auto", "always", "never")
EARLIER = 2.0  # Looks of earlier frames at a keypoint that count at most, beside that of the frame itself.


@dataclass(frozen=True)
class Looks:
    """The people of a frame as the next one wants to know them.

    Attributes:
        keypoints: (N, K, 3) of x, y, score.
        count: (N, K) number of looks that the place of a keypoint is the mean of.
    """

    keypoints: Floats
    count: Floats

    @classmethod
    def first(cls, persons: Persons) -> Looks:
        """At people of whom nothing was known before."""
        return cls(persons.keypoints.copy(), np.ones(persons.keypoints.shape[:2], np.float32))


def steady(persons: Persons, before: Looks | None) -> tuple[Persons, Looks]:
    """The people of a frame with each keypoint at the mean of this look at it and of those a few frames back.

    A network errs a little differently in every frame, so the mean is nearer to the truth and trembles less. What has
    moved counts the less the further it has, by the distances that OKS tolerates: who moves far in a frame leaves no
    trail, and who moves slowly and steadily trails by up to `EARLIER` frames, within what OKS tolerates.

    Args:
        persons: the people of the frame; a box that is the extent of the keypoints goes along with them.
        before: those of the frame before, None where there is none.

    Returns:
        The people, and what the next frame wants to know of them.
    """
    if before is None or not len(persons) or not len(before.keypoints):
        return persons, Looks.first(persons)
    keypoints, areas = persons.keypoints, persons.boxes[:, 2:].prod(1)
    skeleton = skeletons.get(persons.skeleton)
    alike = likeness(keypoints, before.keypoints, areas, skeleton)
    who = alike.argmax(1)
    earlier = before.keypoints[who]
    apart = np.square(keypoints[..., :2] - earlier[..., :2]).sum(-1)
    near = np.exp(-apart / (np.asarray(skeleton.sigmas) ** 2 * np.maximum(areas, 1.0)[:, None]))
    near = np.where((alike.max(1) >= KNOWN)[:, None], np.nan_to_num(near), 0)  # NaN where a frame has no keypoint.
    count = np.minimum(before.count[who], EARLIER) * near
    weight, own = count * earlier[..., 2], np.maximum(keypoints[..., 2], np.float32(1e-3))
    share = (weight / (weight + own))[..., None]
    step = np.where(share > 0, earlier[..., :2] - keypoints[..., :2], 0)
    places = np.concatenate((keypoints[..., :2] + share * step, keypoints[..., 2:]), -1).astype(np.float32)
    extents = (persons.boxes == boxes_of(keypoints)).all(1, keepdims=True)
    steadied = replace(persons, keypoints=places, boxes=np.where(extents, boxes_of(places), persons.boxes))
    return steadied, Looks(places.copy(), (1 + count).astype(np.float32))
