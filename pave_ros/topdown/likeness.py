"""How alike people are: who was found twice, looked at twice, or there before, left and right mixed up or not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pave_ros.persons import Boxes, Floats, Ints
from pave_ros.postprocessing import firsts
from pave_ros.skeletons import Skeleton

AGREED = 0.1  # Distance, of a person's size, up to which two looks at a keypoint agree.
DOUBTFUL = np.float32(0.8)  # Share of its score that a keypoint keeps about which they do not.
KNOWN = 0.5  # Likeness from which somebody is who was there a frame before.
LASTING = np.float32(0.9)  # Share of what earlier frames told of the sides that counts a frame later.


def likeness(keypoints: Floats, others: Floats, areas: Floats, skeleton: Skeleton) -> Floats:
    """(N, M) object keypoint similarity of N people (N, K, 3) of x, y, score and areas (N,) in square pixels with M
    others (M, K, 3), over the keypoints that the first are sure of."""
    spread = 8 * np.asarray(skeleton.sigmas) ** 2 * np.maximum(areas, 1.0)[:, None]
    certain = keypoints[..., 2]
    apart = np.square(keypoints[:, None, :, :2] - others[:, :, :2]).sum(-1)
    near = np.nan_to_num(np.exp(-apart / spread[:, None]))  # NaN where one of the two has no such keypoint.
    similar = (near * certain[:, None]).sum(-1)
    return np.asarray(similar / np.maximum(certain.sum(1), 1e-6)[:, None])


def distinct(keypoints: Floats, scores: Floats, boxes: Floats, skeleton: Skeleton, same: float) -> Ints:
    """Indices of people, best first, without duplicates and parts of better ones.

    Args:
        keypoints: (N, K, 3) of x, y in pixels and score.
        scores: (N,) of the people.
        boxes: (N, 4) of x, y, width, height.
        skeleton: keypoint layout.
        same: object keypoint similarity from which two are one, over the keypoints that the worse of them is sure of;
            also where their left and right are the other way round.
    """
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    if same > 1:  # Nothing is as alike as that.
        return order
    keypoints, areas = keypoints[order], boxes[order, 2:].prod(1)
    mirrored = keypoints[:, list(skeleton.mirror)]
    alike = [likeness(keypoints, others, areas, skeleton) for others in (keypoints, mirrored)]
    return np.asarray(order[firsts(np.maximum(*alike) >= same)])


def both_looks(first: Floats, second: Floats, areas: Floats, skeleton: Skeleton) -> Floats:
    """Keypoints (N, K, 3) of the same people from two looks.

    Where they agree the mean, weighted by the squares of the scores, and else what the look says that is surer of the
    person, lest limbs of two poses mix. Which side is left is for the first look to say, which shows more around them.

    Args:
        first, second: (N, K, 3) of x, y, score of each look.
        areas: (N,) of the people, square pixels.
        skeleton: keypoint layout.
    """
    mirrored = second[:, list(skeleton.mirror)]
    straight, turned = (np.diag(likeness(first, other, areas, skeleton)) for other in (second, mirrored))
    looks = np.stack((first, np.where((turned > straight)[:, None, None], mirrored, second)))
    weights = np.maximum(looks[..., 2:] ** 2, np.float32(1e-9))
    mean = (weights * looks).sum(0) / weights.sum(0)
    mean[..., 2] = looks[..., 2].mean(0)
    surer = looks[looks[..., 2].mean(-1).argmax(0), np.arange(len(first))]
    apart = np.linalg.norm(looks[0, ..., :2] - looks[1, ..., :2], axis=-1)
    agreed = apart < AGREED * np.sqrt(areas)[:, None]
    return np.where(agreed[..., None], mean, surer * (1, 1, DOUBTFUL)).astype(np.float32)


@dataclass(frozen=True)
class Followed:
    """People of a frame, as the next one wants to know them.

    Attributes:
        boxes: around their keypoints, with the scores of the boxes that they were seen in.
        keypoints: (N, K, 3) of x, y, score.
        sides: (N,) confidence from 0 up in which side is left, accumulated over the frames.
        vain: (V, 4) boxes in which nobody was, or nobody but those whom other boxes show.
    """

    boxes: Boxes
    keypoints: Floats
    sides: Floats
    vain: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))


def steady_sides(keypoints: Floats, areas: Floats, before: Followed, skeleton: Skeleton) -> tuple[Floats, Floats]:
    """The people of a frame (N, K, 3) with left and right as most frames saw them, and how sure that is, (N,).

    Nobody turns round from one frame to the next: whose left and right are the other way round than a frame before is
    put right, until so many frames say so that they outweigh the earlier ones.

    Args:
        keypoints: (N, K, 3) of x, y, score.
        areas: (N,) of the people, square pixels.
        before: the people in the frame before.
        skeleton: keypoint layout.
    """
    if not len(keypoints) or not len(before.keypoints):
        return keypoints, np.zeros(len(keypoints), np.float32)
    mirrored = keypoints[:, list(skeleton.mirror)]
    straight, turned = (likeness(people, before.keypoints, areas, skeleton) for people in (keypoints, mirrored))
    who = np.maximum(straight, turned).argmax(1)[:, None]
    straight, turned = (np.take_along_axis(alike, who, 1)[:, 0] for alike in (straight, turned))
    known = np.maximum(straight, turned) >= KNOWN
    sides = known * (LASTING * before.sides[who[:, 0]] + straight - turned)
    wrong = known & (turned > straight) & (sides >= 0)
    return np.where(wrong[:, None, None], mirrored, keypoints), np.abs(sides).astype(np.float32)
