"""Who is the same person: found twice, looked at twice, or there a frame before."""

from __future__ import annotations

import numpy as np

from pave_ros import skeletons
from pave_ros.persons import Boxes, Floats
from pave_ros.topdown.likeness import Followed, both_looks, distinct, steady_sides

AREAS = np.array([80 * 200], np.float32)
COCO = skeletons.get("coco17")
MIRROR = list(COCO.mirror)


def person(seed: int = 0, score: float = 0.8) -> Floats:
    """(1, 17, 3) somebody 80 pixels wide and 200 high."""
    points = np.random.default_rng(seed).uniform(0, 1, (17, 2)) * (80, 200)
    return np.concatenate((points, np.full((17, 1), score)), 1)[None].astype(np.float32)


def test_who_was_found_twice_or_in_part_is_one_person() -> None:
    body = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (80, 200)
    whole = np.concatenate((body, np.full((17, 1), 0.8)), 1)
    again = whole + (2, -2, -0.1)
    # Of the part only the face was sure; its other joints lie anywhere.
    part = np.concatenate((body + 300, np.full((17, 1), 0.01)), 1)
    part[:5] = whole[:5] + (1, 1, 0)
    neighbour = whole + (60, 0, -0.2)
    keypoints = np.stack((again, part, whole, neighbour)).astype(np.float32)
    boxes = np.array([[0, 0, 80, 200], [0, 0, 30, 30], [0, 0, 80, 200], [60, 0, 80, 200]], np.float32)
    scores = keypoints[..., 2].mean(1)
    coco = skeletons.get("coco17")
    assert distinct(keypoints, scores, boxes, coco, same=0.5).tolist() == [2, 3]
    assert distinct(keypoints, scores, boxes, coco, same=2.0).tolist() == [2, 0, 3, 1], "as published, all are kept"
    turned = np.stack((whole, again[list(coco.mirror)]))
    assert distinct(turned, scores[:2], boxes[:2], coco, same=0.5).tolist() == [0], "with left and right mixed up"
    nobody = distinct(keypoints[:0], scores[:0], boxes[:0], coco, same=0.5)
    assert nobody.tolist() == []


def test_two_looks_that_agree_become_their_mean() -> None:
    first, second = person(score=0.4), person(score=0.8) + np.float32([3, -3, 0])
    merged = both_looks(first, second, AREAS, COCO)
    np.testing.assert_allclose(merged[..., :2], first[..., :2] + [2.4, -2.4], atol=1e-3)  # 1 to 4
    np.testing.assert_allclose(merged[..., 2], 0.6, atol=1e-6)


def test_where_two_looks_differ_the_surer_one_is_right() -> None:
    first, second = person(score=0.5), person(score=0.8)
    second[0, 9, :2] += 70
    second[0, 9, 2] = 0.3  # not of this joint, but of the person
    merged = both_looks(first, second, AREAS, COCO)
    np.testing.assert_allclose(merged[0, 9], second[0, 9] * (1, 1, 0.8), atol=1e-5)


def test_the_first_look_says_which_side_is_left() -> None:
    first = person(score=0.5)
    merged = both_looks(first, person(score=0.8)[:, MIRROR], AREAS, COCO)
    np.testing.assert_allclose(merged[..., :2], first[..., :2], atol=1e-3)


def test_nobody_turns_round_from_one_frame_to_the_next() -> None:
    def followed(keypoints: Floats, sides: float) -> Followed:
        return Followed(Boxes.of([[0, 0, 80, 200]]), keypoints, np.array([sides], np.float32))

    seen = person()
    keypoints, sides = steady_sides(seen + np.float32([2, 0, 0]), AREAS, followed(seen, 3.0), COCO)
    assert sides[0] > 3.0, "the same again"
    np.testing.assert_array_equal(keypoints, seen + np.float32([2, 0, 0]))
    keypoints, sides = steady_sides(seen[:, MIRROR], AREAS, followed(seen, 3.0), COCO)
    np.testing.assert_array_equal(keypoints, seen)
    frames = 1
    while frames < 10 and sides[0] and np.allclose(keypoints, seen):
        keypoints, sides = steady_sides(seen[:, MIRROR], AREAS, followed(keypoints, float(sides[0])), COCO)
        frames += 1
    assert frames == 3, "what most frames say is believed in the end"
    np.testing.assert_array_equal(keypoints, seen[:, MIRROR])
    elsewhere, sides = steady_sides(seen[:, MIRROR] + np.float32([500, 0, 0]), AREAS, followed(seen, 3.0), COCO)
    assert sides[0] == 0, "somebody else"
    np.testing.assert_array_equal(elsewhere, seen[:, MIRROR] + np.float32([500, 0, 0]))
