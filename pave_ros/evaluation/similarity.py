"""Who is who: predicted people against annotated ones by COCO's object keypoint similarity (OKS)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from pave_ros import skeletons
from pave_ros.datasets.base import Labels, convert
from pave_ros.persons import Persons

ALIKE = 0.5  # OKS from which two people are the same
SURE = 0.3  # what the node shows by default; who is less sure counts only in average precision, which looks at scores


def oks(labels: Labels, persons: Persons) -> npt.NDArray[np.float64]:
    """(M, N) OKS of annotated and predicted people of one layout, 0..1, over the labelled keypoints; 0 for people
    without labelled keypoints. A keypoint that is not predicted counts as far away."""
    sigmas = np.array(skeletons.get(labels.skeleton).sigmas)
    truth, found = labels.keypoints[:, None].astype(float), persons.keypoints[None].astype(float)
    squared = ((truth[..., :2] - found[..., :2]) ** 2).sum(axis=-1)
    scale = 8 * sigmas**2 * (labels.areas[:, None, None] + np.spacing(1))
    alike = np.where(np.isnan(squared), 0, np.exp(-squared / scale))
    labelled = truth[..., 2] > 0
    return np.asarray((alike * labelled).sum(axis=-1) / np.maximum(labelled.sum(axis=-1), 1))


def partners(labels: Labels, persons: Persons) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """For each of M annotated people the predicted one, -1 for none, and their OKS, so that the sum is largest."""
    alike = oks(labels, persons)
    chosen = np.full(len(labels), -1, np.intp)
    rows, columns = linear_sum_assignment(alike, maximize=True)
    chosen[rows] = np.where(alike[rows, columns] > 0, columns, -1)
    return chosen, np.where(chosen >= 0, alike[np.arange(len(labels)), chosen] if len(persons) else 0, 0)


def in_skeleton(persons: Persons, skeleton: str) -> Persons:
    """The same people in another keypoint layout, matched by name; what they lack is NaN."""
    if persons.skeleton == skeleton:
        return persons
    return replace(persons, keypoints=convert(persons.keypoints, persons.skeleton, skeleton), skeleton=skeleton)
