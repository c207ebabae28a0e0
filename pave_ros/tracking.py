"""Identity over time: which person of this picture is which person of the pictures before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pave_ros import skeletons
from pave_ros.persons import Floats, Persons

Doubles = npt.NDArray[np.float64]

# Chosen on the synthetic scene (6 seeds, 40 people, 15 s each; jittered keypoints, missed and hidden people). Identity
# switches at 30, 10, 5, 3 frames a second: 7, 5, 7, 7; without the velocity 8, 10, 15, 26; with the
# benchmark's own sigmas 9, 12, 18, 45; with the overlap of boxes in place of keypoints 8, 12, 19, 33.
TOLERANCE = 3.0  # factor on the OKS sigmas, which measure an annotator's care, not a person's way between two frames
MIN_SIMILARITY = 0.1  # less alike than this is somebody else
SMOOTHING = 0.5  # share of the newest measurement in a track's velocity
SHORTEST = 0.01  # seconds; over less it counts less, for a pixel of trembling between two pictures that were stamped
# when they arrived, a millisecond apart, would be a thousand pixels a second


@dataclass
class _Track:
    """A person that is followed: as last seen, and how they moved."""

    number: int
    keypoints: Floats  # (K, 2) pixels, NaN where none
    box: Floats  # (4,) pixels
    seen: int  # nanoseconds
    velocity: Floats  # (2,) pixels a second
    step: float = 0.0  # seconds between the last two pictures
    age: int = 0  # pictures since the first

    def moved(self, stamp: int, longest: float) -> Floats:
        """How far the person should have come by then, (2,) pixels. Nowhere, after a pause of more than `longest`
        seconds: over that the little that somebody trembles would become meters."""
        elapsed = (stamp - self.seen) / 1e9
        if elapsed > max(longest, 2 * self.step):  # The step, for pictures that always come as slowly.
            return np.zeros(2, np.float32)
        return (self.velocity * elapsed).astype(np.float32)


class Tracker:
    """Gives people the same number over time.

    Every track is moved on with its velocity and compared with every person by object keypoint similarity (by the
    overlap of the boxes where they have no keypoint in common); the Hungarian method pairs them. Numbers start at 1
    and are never used twice. One tracker follows the people of one camera; the same input gives the same numbers.

    Args:
        max_age: seconds that a person may stay unseen and still get the old number back, above 0; whoever was in the
            last picture does however long ago that was.
    """

    def __init__(self, max_age: float = 1.0) -> None:
        if not max_age > 0:
            raise ValueError(f"max_age must be more than 0 seconds, not {max_age}")
        self.max_age = max_age
        self._tracks: list[_Track] = []
        self._last_number = 0
        self._last_stamp: int | None = None
        self._skeleton = ""
        self._size: tuple[int, ...] = ()

    def reset(self) -> None:
        """Forget everybody; whoever comes next gets a new number."""
        self._tracks = []
        self._last_stamp = None

    def update(self, persons: Persons, stamp_ns: int, size: tuple[int, ...] = ()) -> Persons:
        """The same people in the same order, with `track_ids` and `ages` filled in.

        Args:
            persons: the people of the next picture.
            stamp_ns: its time in nanoseconds. One before the last (a recording that starts over) forgets everybody,
                and so does another keypoint layout.
            size: of the picture; another one forgets everybody too, for tracks are places in pixels.
        """
        starts_over = self._last_stamp is not None and stamp_ns < self._last_stamp
        if starts_over or (persons.skeleton, size) != (self._skeleton, self._size):
            self.reset()
        self._skeleton, self._size = persons.skeleton, size
        earliest = min(stamp_ns - self.max_age * 1e9, stamp_ns if self._last_stamp is None else self._last_stamp)
        self._last_stamp = stamp_ns
        self._tracks = [track for track in self._tracks if track.seen >= earliest]
        for track in self._tracks:
            track.age += 1
        pairs = self._pairs(persons, stamp_ns)
        tracks = []
        for i in range(len(persons)):
            if i in pairs:
                track = pairs[i]
                _follow(track, persons.keypoints[i, :, :2], persons.boxes[i], stamp_ns)
            else:
                track = self._begin(persons.keypoints[i, :, :2], persons.boxes[i], stamp_ns)
            tracks.append(track)
        return replace(
            persons,
            track_ids=np.array([track.number for track in tracks], np.int32),
            ages=np.array([track.age for track in tracks], np.int32),
        )

    def _begin(self, keypoints: Floats, box: Floats, stamp: int) -> _Track:
        self._last_number += 1
        track = _Track(self._last_number, keypoints.copy(), box.copy(), stamp, np.zeros(2, np.float32))
        self._tracks.append(track)
        return track

    def _pairs(self, persons: Persons, stamp: int) -> dict[int, _Track]:
        """Which person is which track."""
        if not self._tracks or not len(persons):
            return {}
        moved = np.stack([track.moved(stamp, self.max_age) for track in self._tracks])
        keypoints = np.stack([track.keypoints for track in self._tracks]) + moved[:, None]
        boxes = np.stack([track.box for track in self._tracks])
        boxes[:, :2] += moved
        alike = similarity(keypoints, boxes, persons.keypoints[..., :2], persons.boxes, persons.skeleton)
        alike[alike < MIN_SIMILARITY] = 0
        rows, columns = linear_sum_assignment(alike, maximize=True)
        return {int(i): self._tracks[t] for t, i in zip(rows, columns, strict=True) if alike[t, i] > 0}


def _follow(track: _Track, keypoints: Floats, box: Floats, stamp: int) -> None:
    """Take over where a track's person is now."""
    elapsed = (stamp - track.seen) / 1e9
    steps = keypoints - track.keypoints
    common = np.isfinite(steps).all(-1)
    # The median step ignores a waving arm; the centre of the box jumps when legs disappear behind a table.
    step = np.median(steps[common], axis=0) if common.any() else _centers(box) - _centers(track.box)
    if elapsed > 0 and np.isfinite(step).all():
        newest = SMOOTHING * min(elapsed / SHORTEST, 1)
        track.velocity = ((1 - newest) * track.velocity + newest * step / elapsed).astype(np.float32)
    # Copies, for whoever gets the people may do with them what they like.
    track.keypoints, track.box, track.seen, track.step = keypoints.copy(), box.copy(), stamp, elapsed


def similarity(keypoints_a: Floats, boxes_a: Floats, keypoints_b: Floats, boxes_b: Floats, skeleton: str) -> Doubles:
    """(A, B) object keypoint similarities of people, 0..1, with sigmas widened by `TOLERANCE`.

    Args:
        keypoints_a, keypoints_b: (A, K, 2) and (B, K, 2) pixels, NaN where not given. Two people without a keypoint in
            common are compared by the intersection over union of their boxes instead.
        boxes_a, boxes_b: (A, 4) and (B, 4) of x, y, width, height; the geometric mean of two areas is their scale.
        skeleton: name of the keypoint layout.
    """
    sigmas = 2 * TOLERANCE * np.asarray(skeletons.get(skeleton).sigmas)
    areas = np.sqrt(_areas(boxes_a)[:, None] * _areas(boxes_b)[None])
    distances = ((keypoints_a[:, None].astype(float) - keypoints_b[None]) ** 2).sum(-1)
    common = np.isfinite(distances)
    exponents = -distances / (2 * np.maximum(areas, 1)[..., None] * sigmas**2)
    terms = np.where(common, np.exp(np.where(common, exponents, 0)), 0)
    count = common.sum(-1)
    return np.where(count > 0, terms.sum(-1) / np.maximum(count, 1), overlap(boxes_a, boxes_b))


def overlap(boxes_a: Floats, boxes_b: Floats) -> Doubles:
    """(A, B) intersection over union of boxes; 0 where one is not finite."""
    shared = _shared(boxes_a, boxes_b)
    union = _areas(boxes_a)[:, None] + _areas(boxes_b)[None] - shared
    return np.asarray(np.nan_to_num(shared / np.maximum(union, 1e-9)))


def coverage(boxes_a: Floats, boxes_b: Floats) -> Doubles:
    """(A, B) share of each of `boxes_a` that lies in each of `boxes_b`; 0 where one is not finite."""
    return np.asarray(np.nan_to_num(_shared(boxes_a, boxes_b) / np.maximum(_areas(boxes_a)[:, None], 1e-6)))


def _shared(boxes_a: Floats, boxes_b: Floats) -> Doubles:
    """(A, B) areas that boxes have in common."""
    a, b = boxes_a[:, None].astype(float), boxes_b[None].astype(float)
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(-1))


def _areas(boxes: Floats) -> Doubles:
    return np.asarray(np.nan_to_num(boxes[:, 2].astype(float) * boxes[:, 3]))


def _centers(box: Floats) -> Floats:
    return np.asarray(box[:2] + box[2:] / 2, np.float32)
