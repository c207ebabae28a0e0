from __future__ import annotations

import numpy as np
import pytest

from pave_ros import Persons
from pave_ros.datasets import Labels
from pave_ros.persons import Boxes, boxes_of


def test_boxes_are_the_extent_of_the_given_keypoints() -> None:
    keypoints = np.array([[[10, 20, 1], [30, 25, 1], [np.nan, np.nan, 0]]], np.float32)
    assert boxes_of(keypoints).tolist() == [[10, 20, 20, 5]]
    assert np.isnan(boxes_of(np.full((1, 3, 3), np.nan, np.float32))).all()
    assert boxes_of(np.zeros((0, 3, 3), np.float32)).shape == (0, 4)


def test_from_keypoints_fills_the_rest() -> None:
    persons = Persons.from_keypoints(np.zeros((2, 17, 3)), [0.9, 0.8], "coco17")
    assert len(persons) == 2
    assert persons.track_ids.tolist() == [-1, -1]
    assert persons.keypoints.dtype == persons.scores.dtype == persons.boxes.dtype == np.float32


def test_indexing_keeps_rows_together() -> None:
    persons = Persons.from_keypoints(np.arange(3)[:, None, None] * np.ones((3, 17, 3)), [0.9, 0.8, 0.7], "coco17")
    chosen = persons[persons.scores < 0.85]
    assert chosen.scores.tolist() == [np.float32(0.8), np.float32(0.7)]
    assert chosen.keypoints[:, 0, 0].tolist() == [1, 2]
    assert len(persons[:0]) == 0
    labels = Labels.from_keypoints(np.ones((2, 17, 3)), "coco17")
    for people in (persons, labels, Boxes.of([[0, 0, 1, 1]])):
        with pytest.raises(TypeError, match=r"number 0 alone is \[0:1\]"):
            people[0]


def test_boxes_of_any_order_without_those_that_are_none() -> None:
    given = [[0, 0, 10, 20], [5, 5, 0, 9], [1, 1, np.nan, 4], [2, 2, 3e38, 3e38], [3, 3, 4, 5]]
    found = Boxes.of(given, [0.2, 0.9, 0.9, 0.9, 1.5])
    assert found.boxes.tolist() == [[3, 3, 4, 5], [0, 0, 10, 20]]
    np.testing.assert_allclose(found.scores, [1, 0.2])


def test_nobody_has_the_shape_of_anybody() -> None:
    nobody = Persons.from_keypoints([], [], "coco17")
    assert nobody.keypoints.shape == (0, 17, 3) and nobody.boxes.shape == (0, 4) and len(nobody) == 0


def test_keypoints_of_another_skeleton_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keypoints of coco17 have the shape \(N, 17, 3\), not \(2, 13, 3\)"):
        Persons.from_keypoints(np.zeros((2, 13, 3)), [0.9, 0.8], "coco17")
    with pytest.raises(KeyError, match="unknown skeleton 'coco18'"):
        Persons.from_keypoints([], [], "coco18")


def test_people_can_be_compared_and_looked_up() -> None:
    one, other = (Persons.from_keypoints(np.zeros((1, 17, 3)), [0.9], "coco17") for _ in range(2))
    assert one == one and one != other and other in {one, other}


def test_indexing_keeps_the_boxes_and_tracks_of_the_chosen() -> None:
    persons = Persons.from_keypoints(np.arange(3)[:, None, None] * np.ones((3, 17, 3)), [0.9, 0.8, 0.7], "coco17")
    persons.boxes[:], persons.track_ids[:], persons.ages[:] = np.arange(3)[:, None], (4, 5, 6), (7, 8, 9)
    chosen = persons[1:]
    assert chosen.boxes[:, 0].tolist() == [1, 2] and chosen.track_ids.tolist() == [5, 6]
    assert chosen.ages.tolist() == [8, 9]


def test_boxes_of_just_the_threshold_are_among_the_best() -> None:
    boxes = Boxes.of([[0, 0, 1, 1]] * 3, [0.5, 0.25, 0.125])
    assert boxes.best(0.25, 9).scores.tolist() == [0.5, 0.25] and len(boxes.best(0.0, 1)) == 1
