"""PoseTrack's mean average precision of joints, after the rules of its public evaluation code (poseval).

A joint is right within half the head's size of the annotated one. People are paired by the share of right joints, then
every joint has an average precision over all pictures by its own score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.datasets.base import Labels, Sample
from pave_ros.evaluation.joints import by_group
from pave_ros.evaluation.result import Result, note_missing
from pave_ros.evaluation.similarity import in_skeleton
from pave_ros.persons import Floats, Persons

SKELETON = "posetrack15"  # the ears of the later layouts were never annotated
HEAD_SHARE = 0.6  # of the head box's diagonal, as in MPII's PCKh
THRESHOLD = 0.5  # heads

Bools = npt.NDArray[np.bool_]


@dataclass
class _Joints:
    """What happened to all predicted joints of one kind: scores, whether right; and the number annotated."""

    scores: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    annotated: int = 0


def posetrack_ap(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """Average precision of Head, Shoulder, Elbow, Wrist, Hip, Knee, Ankle, and its mean over the 15 joints.

    Args:
        samples: the labelled pictures with head boxes; those without people are left out, as poseval does.
        predictions: the people found in each.
    """
    predictions = [in_skeleton(persons, SKELETON) for persons in predictions]
    joints = [_Joints() for _ in skeletons.get(SKELETON).keypoints]
    pictures = persons = headless = 0
    for sample, found in zip(samples, predictions, strict=True):
        labels = sample.labels.to(SKELETON)
        if not len(labels):
            continue
        with_head = ~np.isnan(labels.head_boxes[:, 0])
        headless += int((~with_head).sum())
        pictures += 1
        persons += int(with_head.sum())
        _collect(joints, labels[with_head], found)
    values = by_group(np.array([_average_precision(joint) for joint in joints]), skeletons.get(SKELETON))
    notes = (f"{headless} people without a head box are left out",) if headless else ()
    return Result("PoseTrack mAP", values, pictures, persons, (*notes, *note_missing(predictions)))


def _collect(joints: list[_Joints], labels: Labels, found: Persons) -> None:
    truth = labels.keypoints.copy()
    truth[_inside(truth, labels.ignore) | (truth[..., 2] == 0)] = np.nan
    keypoints = found.keypoints.copy()
    keypoints[_inside(keypoints, labels.ignore)] = np.nan
    some = ~np.isnan(keypoints[..., 0]).all(axis=1)
    keypoints = keypoints[some]

    heads = HEAD_SHARE * np.linalg.norm(labels.head_boxes[:, 2:], axis=1)
    distances = np.linalg.norm(keypoints[:, None, :, :2] - truth[None, :, :, :2], axis=-1)  # (N, M, K)
    with np.errstate(invalid="ignore", divide="ignore"):
        near = distances / heads[None, :, None] <= THRESHOLD
    annotated = ~np.isnan(truth[..., 0])
    partner = _pairs(near.sum(axis=2) / np.maximum(annotated.sum(axis=1), 1))

    for k, joint in enumerate(joints):
        joint.annotated += int(annotated[:, k].sum())
        for n in np.flatnonzero(~np.isnan(keypoints[:, k, 0])):
            joint.scores.append(float(keypoints[n, k, 2]))
            joint.right.append(partner[n] >= 0 and bool(near[n, partner[n], k]))


def _pairs(share: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """For each of N predicted people the annotated one that it is paired with, -1 for none.

    Everyone predicted asks for the annotated person with the largest `share` (N, M) of right joints, and of those who
    ask for the same the best is taken.
    """
    partner = np.full(len(share), -1, np.intp)
    if share.size:
        wanted = share.argmax(axis=1)
        for m in range(share.shape[1]):
            offers = np.where(wanted == m, share[:, m], 0)
            if offers.max() > 0:
                partner[offers.argmax()] = m
    return partner


def _inside(keypoints: Floats, regions: Sequence[Floats]) -> Bools:
    """(N, K) whether a keypoint of (N, K, 3) lies inside one of the polygons; on the border is outside."""
    inside = np.zeros(keypoints.shape[:2], bool)
    for n, k in zip(*np.nonzero(~np.isnan(keypoints[..., 0])), strict=True):
        point = (float(keypoints[n, k, 0]), float(keypoints[n, k, 1]))
        inside[n, k] = any(cv2.pointPolygonTest(region, point, False) > 0 for region in regions if len(region) > 2)
    return inside


def _average_precision(joint: _Joints) -> float:
    """Area under precision over recall, precision made falling from the right; NaN where nothing is annotated."""
    if not joint.annotated:
        return float("nan")
    order = np.argsort(-np.array(joint.scores), kind="stable")
    right = np.array(joint.right, float)[order]
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((falling * right).sum() / joint.annotated)
