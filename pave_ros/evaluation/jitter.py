"""Jitter, how much the error of a keypoint changes from one frame of a video to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Sample
from pave_ros.evaluation.joints import by_group
from pave_ros.evaluation.pck import MEASURES
from pave_ros.evaluation.result import Result, note_missing
from pave_ros.evaluation.similarity import SURE, partners
from pave_ros.persons import Floats, Persons


def jitter(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """Jitter by group of keypoints, and its mean over all keypoints, as a share of the longer side of the person's box.

    Who moves smoothly and is predicted with a constant offset has none; what counts is the length of the difference
    between the errors of two consecutive frames. Keypoints count where they are labelled and predicted in both. Like
    in `pck`, everybody is compared with the sure person who is most alike; whoever is missed in either frame does not
    count, so read it next to a metric that misses them. NaN for all where no two frames are consecutive.

    Args:
        samples: the labelled pictures, those of a video in order.
        predictions: the people found in each, in the same layout.
    """
    skeleton = skeletons.get(samples[0].labels.skeleton if samples else "coco17")
    changes: list[Floats] = [np.empty((0, len(skeleton)), np.float32)]
    pictures = 0
    before: dict[int, Floats] = {}
    last: Sample | None = None
    for sample, found in zip(samples, predictions, strict=True):
        errors = _errors(sample, found[found.scores >= SURE])
        if last and sample.comes_after(last):
            pairs = [error - before[track] for track, error in errors.items() if track in before]
            changes += [np.linalg.norm(pair, axis=-1)[None] for pair in pairs]
            pictures += bool(pairs)
        before, last = errors, sample
    lengths = np.concatenate(changes)
    counted = (~np.isnan(lengths)).sum(axis=0)
    means = np.where(counted, np.nansum(lengths, axis=0) / np.maximum(counted, 1), np.nan)
    notes = note_missing(predictions, "left out")
    return Result("Jitter, of the box", by_group(means.astype(float), skeleton), pictures, len(lengths), notes)


def _errors(sample: Sample, found: Persons) -> dict[int, Floats]:
    """By track, (K, 2) how far each keypoint is off, NaN where it is not labelled or not predicted."""
    size = MEASURES["box"].size(sample.labels)
    counted = ~sample.labels.crowd & (size > 0) & (sample.labels.track_ids >= 0)
    labels, size = sample.labels[counted], size[counted]
    partner, _ = partners(labels, found)
    errors = {}
    for person in np.flatnonzero(partner >= 0):
        truth = labels.keypoints[person]
        off = (found.keypoints[partner[person], :, :2] - truth[:, :2]) / size[person]
        errors[int(labels.track_ids[person])] = np.where(truth[:, 2:] > 0, off, np.nan)
    return errors
