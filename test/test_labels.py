"""Labels of people, their conversion between skeletons, and clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotations import coco_file, write_json

from pave_ros import skeletons
from pave_ros.datasets import DatasetError, Labels, convert
from pave_ros.datasets.base import ListedDataset, Sample
from pave_ros.datasets.coco import read_coco_json


def labels(**more: Any) -> Labels:
    points = np.zeros((2, 17, 3))
    points[0, :2] = [[10, 20, 2], [30, 60, 1]]
    points[1, 2] = [5, 6, -1]
    return Labels.from_keypoints(points, "coco17", **more)


def test_labels_follow_from_keypoints_where_nothing_else_is_given() -> None:
    people = labels()
    assert people.boxes.tolist() == [[10, 20, 20, 40], [0, 0, 0, 0]]
    assert people.areas.tolist() == pytest.approx([0.53 * 800, 0])
    assert people.keypoints[1].tolist() == np.zeros((17, 3)).tolist(), "negative visibility is not labelled"
    assert people.track_ids.tolist() == [-1, -1] and not people.crowd.any() and np.isnan(people.head_boxes).all()
    some = labels(boxes=[[1, 2, 3, 4], [np.nan] * 4], areas=[7, np.nan])
    assert some.boxes.tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]] and some.areas.tolist() == [7, 0]


def test_labels_are_their_own() -> None:
    """What is handed over may be used again."""
    given = {
        "boxes": np.ones((1, 4), np.float32),
        "areas": np.ones(1, np.float32),
        "track_ids": np.ones(1, np.int32),
        "crowd": np.ones(1, bool),
        "head_boxes": np.ones((1, 4), np.float32),
    }
    keypoints, region = np.ones((1, 17, 3), np.float32), np.ones((3, 2), np.float32)
    labels = Labels.from_keypoints(keypoints, "coco17", ignore=[region], **given)
    for array in (keypoints, region, *given.values()):
        array[:] = 0
    assert (labels.keypoints == 1).all() and (labels.ignore[0] == 1).all()
    assert all((getattr(labels, name) == 1).all() for name in given)


def test_labels_can_be_chosen_from() -> None:
    people = labels(track_ids=[4, 5])
    assert people[np.array([False, True])].track_ids.tolist() == [5]
    assert len(people[:0]) == 0


def test_labels_as_persons() -> None:
    persons = labels(track_ids=[4, 5]).as_persons()
    assert persons.keypoints[0, :2].tolist() == [[10, 20, 1], [30, 60, 1]]
    assert np.isnan(persons.keypoints[1, :, :2]).all() and persons.keypoints[1, :, 2].tolist() == [0] * 17
    assert persons.track_ids.tolist() == [4, 5]


def test_names_in_the_middle_of_the_body_are_compared_where_they_are_known(tmp_path: Path) -> None:
    names = list(skeletons.get("posetrack15").keypoints)
    neck, top = names.index("head_bottom"), names.index("head_top")
    for one, other, fits in (("neck", "top_head", True), ("throat", "crown", True), ("head_top", "head_bottom", False)):
        names[neck], names[top] = one, other
        path = tmp_path / "file.json"
        write_json(path, coco_file("posetrack15", names))
        if fits:
            read_coco_json(path, "posetrack15")
        else:
            with pytest.raises(DatasetError, match="head_top.*not those of posetrack15"):
                read_coco_json(path, "posetrack15")


def test_keypoints_are_converted_by_name() -> None:
    crowdpose, posetrack = skeletons.get("crowdpose14"), skeletons.get("posetrack15")
    points = np.arange(14 * 3, dtype=np.float32).reshape(1, 14, 3)
    converted = convert(points, "crowdpose14", "posetrack15")
    for theirs, ours in (("left_knee", "left_knee"), ("head_top", "top_head"), ("head_bottom", "neck")):
        assert np.array_equal(converted[0, posetrack.index(theirs)], points[0, crowdpose.index(ours)])
    paws = convert(points[:, :14], "crowdpose14", "ap10k17")[0, :, 0]
    assert paws[skeletons.get("ap10k17").index("left_front_paw")] == points[0, crowdpose.index("left_wrist"), 0]
    assert paws[skeletons.get("ap10k17").index("right_back_paw")] == points[0, crowdpose.index("right_ankle"), 0]
    nose = converted[0, posetrack.index("nose")]
    assert np.isnan(nose[:2]).all() and nose[2] == 0
    assert labels().to("crowdpose14").keypoints[0].tolist() == np.zeros((14, 3)).tolist()


def sample(number: int, video: str | None) -> Sample:
    picture = np.zeros((2, 2, 3), np.uint8)
    return Sample(number, 2, 2, labels(), lambda: picture, video=video, frame=number, labelled=number != 1)


def test_clips_stay_within_their_video() -> None:
    videos = ["a", "a", "b", "b", "b", None]
    dataset = ListedDataset("toy", skeletons.get("coco17"), [sample(i, video) for i, video in enumerate(videos)])
    assert [s.id for s in dataset.clip(3, (-2, -1, 0, 1, 2))] == [2, 2, 3, 4, 4]
    assert [s.id for s in dataset.clip(0, (-1, 0))] == [0, 0]
    assert [s.id for s in dataset.clip(5, (-1, 0, 1))] == [5, 5, 5]
    assert [s.id for s in dataset.clip(-2, (-2, -1, 0))] == [2, 3, 4]
    assert dataset.annotated == [0, 2, 3, 4, 5]
    assert [s.id for s in dataset[2:4].clip(1, (-1, 0, 1))] == [2, 3, 3]


def test_a_frame_comes_directly_after_another_of_its_video_alone() -> None:
    assert sample(2, "a").comes_after(sample(1, "a"))
    for one, other in (((1, "a"), (2, "a")), ((1, "a"), (1, "a")), ((3, "a"), (1, "a")), ((2, "b"), (1, "a"))):
        assert not sample(*one).comes_after(sample(*other))
    assert not sample(2, None).comes_after(sample(1, None)), "single pictures"
