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
POET_PERSON = 1  # Label 0 are people of whom no keypoint can be told.


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


def poet_people(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """The published post-processing of POET for the first picture of a batch, with the visibility left as it is.

    Args:
        outputs: ``pred_logits`` (1, Q, 3) and ``pred_kpts`` (1, Q, 2 + 3 K), see `pave_ros.models.poet`.
        size: (width, height) of the picture in pixels.

    Returns:
        Of each query score (Q,), label (Q,) and keypoints (Q, K, 3) of x, y in pixels and visibility 0..1.
    """
    logits, poses = outputs["pred_logits"][0], outputs["pred_kpts"][0]
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    chances = (odds / odds.sum(-1, keepdims=True))[:, :-1]  # The last class is nobody.
    centres, keypoints = poses[:, None, :2], poses[:, 2:].reshape(len(poses), -1, 3)
    points = (centres + (keypoints[..., :2] - 0.5) * 2) * np.asarray(size, poses.dtype)
    return chances.max(-1), chances.argmax(-1), np.concatenate((points, keypoints[..., 2:]), -1)


def _poet(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array]:
    scores, labels, keypoints = poet_people(outputs, size)
    best = np.argsort(-scores, kind="stable")
    best = best[labels[best] == POET_PERSON]
    return keypoints[best], scores[best]


def _certainty(sigmas: Array) -> Array:
    """(..., 2) deviations relative to the picture -> (..., 1) how sure a keypoint is, at most 0.7 (published)."""
    return np.prod(1 - np.exp(-0.2 / sigmas), axis=-1, keepdims=True) * 0.7


def pavenet_people(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """The published post-processing of PAVE-Net and PETR for the first picture of a batch; there is no suppression.

    Args:
        outputs: ``pred_logits`` (1, N, 1), ``pred_keypoints`` and, but for PETR, ``pred_sigmas`` (1, N, 2 K).
        size: (width, height) of the picture in pixels.

    Returns:
        Keypoints (N, K, 3) of x, y in pixels and score, scores (N,), and boxes (N, 4) of x, y, width, height. Joints
        that the model is not sure of at all are drawn towards the picture's corner, but not so their boxes.
    """
    scores = 1 / (1 + np.exp(-outputs["pred_logits"][0, :, 0]))
    keypoints = outputs["pred_keypoints"][0]
    points = np.clip(keypoints.reshape(len(scores), -1, 2), 0, 1) * np.asarray(size, keypoints.dtype)
    low, high = points.min(1), points.max(1)
    certainty = np.ones_like(points[..., :1])
    if "pred_sigmas" in outputs:
        certainty = _certainty(outputs["pred_sigmas"][0].reshape(points.shape))
        points = points * certainty**5 / (certainty**5 + 1e-10)
        certainty = certainty * scores[:, None, None]
    return np.concatenate((points, certainty), -1), scores, np.concatenate((low, high - low), -1)


def querypose_people(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """The published post-processing of QueryPose for the first picture of a batch; there is no suppression.

    Args:
        outputs: ``class_logits`` (1, Q, 1), ``boxes`` (1, Q, 4) x1, y1, x2, y2 relative to the picture, and ``poses``
            (1, Q, K, 3) of x, y relative to the box and certainty, see `pave_ros.models.querypose`.
        size: (width, height) of the picture in pixels.

    Returns:
        Of everybody whose box lies in the picture: keypoints (N, K, 3) of x, y in pixels, the centre of the first
        pixel at 0.5, and certainty; scores (N,), that of the box times the keypoints' mean certainty; and boxes (N, 4)
        of x, y, width, height, cut at the picture's borders.
    """
    logits, boxes, poses = (outputs[name][0] for name in ("class_logits", "boxes", "poses"))
    scale = np.asarray(size, boxes.dtype)
    low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
    points = (poses[..., :2] + 0.5) * (high - low)[:, None] + low[:, None]
    scores = poses[..., 2].mean(1) / (1 + np.exp(-logits[:, 0]))
    low, high = np.clip(low, 0, scale), np.clip(high, 0, scale)
    shown = (high > low).all(1)
    keypoints = np.concatenate((points, poses[..., 2:]), -1)
    return keypoints[shown], scores[shown], np.concatenate((low, high - low), -1)[shown]


def _querypose(outputs: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, Array, Array]:
    keypoints, scores, boxes = querypose_people(outputs, size)
    keypoints[..., :2] -= 0.5  # As the published evaluation does it: data sets count from a pixel's centre.
    best = np.argsort(-scores, kind="stable")
    return keypoints[best], scores[best], boxes[best]


CENTERNET_CANDIDATES = 60  # Cells that are looked at, the best; each person has several.
CENTERNET_LEAST = 0.02  # Score below which a cell is nobody.
CENTERNET_SAME = 0.35  # Mean distance of two cells' rough keypoints, by their size, below which they are one person.
CENTERNET_REACH = 0.4  # Deviation, by the person's size, of a rough keypoint from the joint's spot in the heatmap.
CENTERNET_OWN = 4  # Power of the nearness by which people share a spot; the higher, the more has the nearest.
CENTERNET_FAR = np.float32(7)  # Logarithm of a nearness, negative, beyond which all is equally far.
CENTERNET_POWER = 0.65
CENTERNET_SPOT = 0.04  # Score of a spot that is as good as none: then the rough keypoint counts.


def centernet_people(
    outputs: Mapping[str, Array], size: tuple[int, int], score_threshold: float = 0.0
) -> tuple[Array, Array]:
    """People of CenterNet for the first picture of a batch: cells that mean the same person are made one, and rough
    keypoints go to the spot of their joint in the heatmap that is strong and near (section 4.2 of the paper).

    Args:
        outputs: ``pred_logits`` (1, Q), ``pred_keypoints`` (1, Q, 2 K) and ``joints`` (1, K, h, w), see
            `pave_ros.models.centernet`.
        size: (width, height) of the picture in pixels.
        score_threshold: who cannot reach it is left out; looking for spots takes its time.

    Returns:
        Keypoints (N, K, 3) of x, y in pixels and score, and scores (N,), best first.
    """
    scores = 1 / (1 + np.exp(-outputs["pred_logits"][0, :CENTERNET_CANDIDATES]))
    scale = np.asarray(size, np.float32)
    rough = outputs["pred_keypoints"][0, : len(scores)].reshape(len(scores), -1, 2) * scale
    order = np.argsort(-scores, kind="stable")
    people = _distinct(rough, order[scores[order] >= CENTERNET_LEAST])
    kept = people[scores[people] >= score_threshold ** (1 / CENTERNET_POWER)]  # Spots only lower a score.
    keypoints = _snapped(rough[people], scores[people], len(kept), outputs["joints"][0], scale)
    # A cell knows whether somebody is there; the spots know whether the joints were found. The power brings a score
    # from which people are shown to that of the other models, about 0.3.
    certainty = (scores[kept] * np.sqrt(keypoints[..., 2].mean(1))) ** CENTERNET_POWER
    best = np.argsort(-certainty, kind="stable")
    return keypoints[best], certainty[best]


def _extent(rough: Array) -> Array:
    """(N,) longer side of people's keypoints (N, K, 2), at least a pixel."""
    return np.asarray(np.maximum((rough.max(1) - rough.min(1)).max(-1), 1.0))


def firsts(same: npt.NDArray[np.bool_]) -> list[int]:
    """Greedy non-maximum suppression: indices of those of N candidates, best first, that are not the `same` (N, N) as
    an earlier one that is kept."""
    kept: list[int] = []
    for i in range(len(same)):
        if not same[i, kept].any():
            kept.append(i)
    return kept


def _distinct(rough: Array, order: Array) -> Array:
    """Those of the people, in this order, who are not nearly the same as one before."""
    extent, rough = _extent(rough[order]), rough[order]
    apart = np.hypot(*(axis[:, None] - axis for axis in np.moveaxis(rough, -1, 0))).mean(-1)
    return np.asarray(order[firsts(apart < CENTERNET_SAME * np.minimum(extent, extent[:, None]))])


def _snapped(rough: Array, scores: Array, first: int, joints: Array, scale: Array) -> Array:
    """Rough keypoints (N, K, 2) in pixels of people with scores (N,) -> (first, K, 3) those of the first so many, at
    the spots of the heatmaps (K, h, w), with the spots' scores.

    A spot counts by how strong it is, how near, and how much nearer than to others, as far as these are sure: where
    one's own joint is hidden, the spot of a neighbour's may be the nearest there is.
    """
    count, height, width = joints.shape
    if not first:
        return np.zeros((0, count, 3), np.float32)
    cell = scale / np.array([width, height], np.float32)
    x, y = ((np.arange(side, dtype=np.float32) + 0.5) * step for side, step in zip((width, height), cell, strict=True))
    reach = 2 * (CENTERNET_REACH * _extent(rough))[:, None, None] ** 2
    # Logarithms of the nearness, (N, K, w) and (N, K, h).
    apart_x, apart_y = (
        np.maximum(-((rough[..., i, None] - at) ** 2) / reach, -CENTERNET_FAR) for i, at in enumerate((x, y))
    )
    own_x, own_y = np.exp(CENTERNET_OWN * apart_x), np.exp(CENTERNET_OWN * apart_y) * scores[:, None, None]
    everybody = own_y.transpose(1, 2, 0) @ own_x.transpose(1, 0, 2)  # (K, h, w)
    near_x, near_y = (np.exp((CENTERNET_OWN + 1) * apart[:first]) for apart in (apart_x, apart_y))
    likely = joints / everybody * near_y[..., None] * near_x[:, :, None]  # (first, K, h, w)
    row, column = np.divmod(likely.reshape(*likely.shape[:2], height * width).argmax(-1), width)
    spot = joints[np.arange(count), row, column]
    point = _refined(joints, row, column) * cell
    weight = (spot / (spot + CENTERNET_SPOT))[..., None]
    return np.concatenate((weight * point + (1 - weight) * rough[:first], spot[..., None]), -1)


def _refined(joints: Array, row: Array, column: Array) -> Array:
    """(N, K, 2) x, y, in cells, of the centre of mass of the 3x3 cells around spots (N, K) of heatmaps (K, h, w)."""
    padded = np.pad(joints, ((0, 0), (1, 1), (1, 1)))
    around = np.arange(3)
    index = np.arange(len(joints))[:, None, None]
    mass = padded[index, (row[..., None] + around)[..., None], (column[..., None] + around)[..., None, :]]
    mass = mass / np.maximum(mass.sum((-1, -2), keepdims=True), 1e-9)
    return np.stack(
        (column + (mass.sum(-2) * (around - 0.5)).sum(-1), row + (mass.sum(-1) * (around - 0.5)).sum(-1)), -1
    )


# System -> (keypoints (N, K, 3), scores (N,)) and, where they are more than the extents of the keypoints, boxes (N, 4);
# best first.
_SYSTEMS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "centernet": centernet_people,
    "detrpose": _detrpose,
    "pavenet": pavenet_people,
    "poet": _poet,
    "querypose": _querypose,
}
_SPARING = {"centernet"}  # Those that spend nothing on who is below the threshold, if they know it.


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
    known = {"score_threshold": score_threshold} if info.system in _SPARING else {}
    keypoints, scores, *boxes = _SYSTEMS[info.system](outputs, size, **known)
    kept = np.flatnonzero(scores >= score_threshold)[:max_persons]
    return Persons.from_keypoints(keypoints[kept], scores[kept], info.skeleton, *(b[kept] for b in boxes))
