"""PCK, the share of keypoints that lie within some part of the person's size of the annotated place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Labels, Sample
from pave_ros.evaluation.joints import by_group
from pave_ros.evaluation.result import Result, never_predicted, note_missing
from pave_ros.evaluation.similarity import SURE, partners
from pave_ros.persons import Floats, Persons


def _head(labels: Labels) -> Floats:
    return np.asarray(0.6 * np.linalg.norm(labels.head_boxes[:, 2:], axis=1), np.float32)


def _torso(labels: Labels) -> Floats:
    skeleton = skeletons.get(labels.skeleton)
    ends = labels.keypoints[:, [skeleton.index("left_shoulder"), skeleton.index("right_hip")]]
    lengths = np.linalg.norm(ends[:, 0, :2] - ends[:, 1, :2], axis=1)
    return np.where((ends[..., 2] > 0).all(axis=1), lengths, np.nan).astype(np.float32)


def _box(labels: Labels) -> Floats:
    return labels.boxes[:, 2:].max(axis=1, initial=0)


@dataclass(frozen=True)
class Measure:
    """What a distance is measured by, (M,) pixels, NaN where a person lacks it, the share of it that is right, and
    whether the mean is over all annotated keypoints, as PCKh's total is published, or over the kinds of keypoints."""

    name: str
    size: Callable[[Labels], Floats]
    threshold: float
    total: bool = False


# PCKh of MPII and PoseTrack: 0.6 of the head box's diagonal. LSP: left shoulder to right hip. JHMDB: the longer side
# of the box around the person.
MEASURES = {
    "head": Measure("PCKh@0.5", _head, 0.5, total=True),
    "torso": Measure("PCK@0.2 torso", _torso, 0.2),
    "box": Measure("PCK@0.2 box", _box, 0.2),
}


def pck(samples: Sequence[Sample], predictions: Sequence[Persons], measure: str) -> Result:
    """PCK by group of keypoints, and its mean over all keypoints.

    Every annotated person is compared with the predicted one that is most alike, each predicted person being used
    once; whoever has none has all keypoints wrong. Unsure people (below `SURE`) are left out, or every guess would be
    rewarded. People found besides do no harm, so pictures whose other people were not annotated can be used.
    Keypoints that no prediction has are left out.

    Args:
        samples: the labelled pictures.
        predictions: the people found in each, in the same layout.
        measure: key of `MEASURES`.
    """
    chosen = MEASURES[measure]
    skeleton = skeletons.get(samples[0].labels.skeleton if samples else "coco17")
    right = np.zeros(len(skeleton))
    annotated = np.zeros(len(skeleton))
    pictures = persons = 0
    for sample, found in zip(samples, predictions, strict=True):
        size = chosen.size(sample.labels)
        labels = sample.labels[~sample.labels.crowd & (size > 0)]
        near, labelled = _near(labels, found[found.scores >= SURE], chosen)
        right += (near & labelled).sum(axis=0)
        annotated += labelled.sum(axis=0)
        pictures += 1
        persons += int(labelled.any(axis=1).sum())
    annotated[[skeleton.index(name) for name in never_predicted(predictions)]] = 0
    with np.errstate(invalid="ignore"):
        shares = np.where(annotated > 0, right / annotated, np.nan)
    values = by_group(shares, skeleton)
    if chosen.total and annotated.any():
        values["Mean"] = float(right[annotated > 0].sum() / annotated.sum())
    return Result(chosen.name, values, pictures, persons, note_missing(predictions, "left out"))


def _near(labels: Labels, found: Persons, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """(M, K) whether each keypoint is right, and whether it is labelled."""
    labelled = labels.keypoints[..., 2] > 0
    partner, _ = partners(labels, found)
    near = np.zeros(labelled.shape, bool)
    paired = np.flatnonzero(partner >= 0)
    steps = labels.keypoints[paired, :, :2] - found.keypoints[partner[paired], :, :2]
    limits = measure.threshold * measure.size(labels)[paired, None]
    near[paired] = np.linalg.norm(steps, axis=-1) <= limits  # NaN, not predicted, is not near
    return near, labelled
