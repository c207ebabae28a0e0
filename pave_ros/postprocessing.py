"""From a network's raw outputs to people, per system; in numpy, so that every engine shares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros.models.info import ModelInfo
from pave_ros.persons import Persons

Array = npt.NDArray[Any]
DETRPOSE_SELECTED = 60
DETRPOSE_PERSON = 1


def detrpose_ranked(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """The published post-processing of DETRPose for the first picture of a batch.

    Args:
        outputs: ``pred_logits`` (1, Q, classes) and ``pred_keypoints`` (1, Q, 2 K) relative to the picture.
        size: (width, height) of the picture in pixels.

    Returns:
        Scores (60,), labels (60,) and keypoints (60, K, 2) in pixels, best first: the best pairs of query and class,
        so a query may come twice.
    """
    logits, keypoints = outputs["pred_logits"][0], outputs["pred_keypoints"][0]
    scores = 1 / (1 + np.exp(-logits.ravel()))
    best = np.argsort(-scores, kind="stable")[:DETRPOSE_SELECTED]
    queries, labels = np.divmod(best, logits.shape[1])
    points = keypoints[queries].reshape(len(best), -1, 2) * np.asarray(size, keypoints.dtype)
    return scores[best], labels, points


def _detrpose(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array]:
    scores, labels, points = detrpose_ranked(outputs, size)
    person = labels == DETRPOSE_PERSON
    scores, points = scores[person], points[person]
    # DETRPose has no confidence per keypoint: each carries its person's.
    certainty = np.broadcast_to(scores[:, None, None], (*points.shape[:2], 1))
    return np.concatenate((points, certainty), -1), scores


# System -> (keypoints (N, K, 3), scores (N,)), best first.
_SYSTEMS: dict[str, Callable[[Mapping[str, Array], tuple[int, int]], tuple[Array, Array]]] = {
    "detrpose": _detrpose,
}


def persons(
    info: ModelInfo,
    outputs: Mapping[str, Array],
    size: tuple[int, int],
    score_threshold: float = 0.0,
    max_persons: int | None = None,
) -> Persons:
    """The people in a network's raw outputs for one picture.

    Args:
        info: the model that made the outputs.
        outputs: by name, with a leading batch dimension of one.
        size: (width, height) of the original picture in pixels.
        score_threshold: people below it are left out, 0..1.
        max_persons: at most so many are kept, the best; None keeps all.
    """
    keypoints, scores = _SYSTEMS[info.system](outputs, size)
    kept = np.flatnonzero(scores >= score_threshold)[:max_persons]
    return Persons.from_keypoints(keypoints[kept], scores[kept], info.skeleton)
