"""PoseTrack's two formats of annotations, against tiny data sets written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from pave_ros import skeletons
from pave_ros.datasets import Dataset, DatasetError, open_dataset

SKELETON = skeletons.get("posetrack17")
VIDEO = "000001_mpii_test"


def write_pictures(root: Path, folder: str, names: list[str]) -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(root / folder / name), np.full((40, 60, 3), 200, np.uint8))


def frames_2018(**image: Any) -> dict[str, Any]:
    points = [[k + 1, k + 2, 1] for k in range(17)]
    points[3] = points[4] = [0, 0, 0]  # the ears
    points[5] = [9, 8, 0]  # hidden, as in 2021
    return {
        "images": [
            {
                "file_name": f"images/val/{VIDEO}/{i:06d}.png",
                "id": 100 + i,
                "frame_id": 100 + i,
                "vid_id": "000001",
                "is_labeled": i > 0,
                "ignore_regions_x": [[0, 5, 5], [10, 20, 20, 10]] if i else [],
                "ignore_regions_y": [[0, 0, 5], [10, 10, 20, 20]] if i else [],
                **image,
            }
            for i in range(3)
        ],
        "annotations": [
            {
                "id": i,
                "image_id": 100 + i,
                "track_id": 4,
                "keypoints": sum(points, []),
                "bbox": [1, 2, 30, 20],
                "bbox_head": [3, 4, 6, 8],
            }
            for i in (1, 2)
        ],
        "categories": [{"name": "person", "keypoints": list(SKELETON.keypoints)}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_pictures(tmp_path, f"images/val/{VIDEO}", [f"{i:06d}.png" for i in range(3)])
    return tmp_path


def write_2018(root: Path, folder: str, content: dict[str, Any]) -> Path:
    path = root / folder / "val" / f"{VIDEO}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return path


def test_pictures_between_those_that_are_listed_are_there_too(root: Path) -> None:
    content = frames_2018(is_labeled=True)
    content["images"] = [content["images"][2], content["images"][0]]
    write_2018(root, "annotations", content)
    dataset = open_dataset("posetrack18", root, "val")
    assert [(s.frame, s.labelled) for s in dataset] == [(0, True), (1, False), (2, True)]
    assert [s.frame for s in dataset.clip(2, (-1, 0, 1))] == [1, 2, 2]
    assert dataset[1].image().shape == (40, 60, 3)


@pytest.mark.parametrize("named", [True, False])
def test_files_without_the_ears(root: Path, named: bool) -> None:
    """As those that PAVE-Net evaluates PoseTrack 2017 with."""
    content = frames_2018()
    names = [name for name in SKELETON.keypoints if "ear" not in name]
    content["categories"] = [{"name": "person", "keypoints": names}] if named else []
    for annotation in content["annotations"]:
        points = annotation["keypoints"]
        annotation["keypoints"] = points[:9] + points[15:]
    write_2018(root, "annotations", content)
    labels = open_dataset("posetrack17", root, "val")[1].labels
    assert labels.skeleton == "posetrack15" and labels.keypoints.shape == (1, 15, 3)
    assert labels.keypoints[0, 4].tolist() == [7, 8, 2], "the right shoulder"


@pytest.mark.parametrize(("year", "folder"), [("18", "annotations"), ("21", "posetrack_data")])
def test_2018_and_2021(root: Path, year: str, folder: str) -> None:
    write_2018(root, folder, frames_2018())
    dataset = open_dataset(f"posetrack{year}", root, "val")
    assert (dataset.skeleton.name, len(dataset)) == ("posetrack17", 3)
    video = f"images/val/{VIDEO}/000001"
    assert [(s.id, s.video, s.frame, s.labelled) for s in dataset] == [
        (100, video, 0, False),
        (101, video, 1, True),
        (102, video, 2, True),
    ]
    assert dataset.annotated == [1, 2]
    sample, labels = dataset[1], dataset[1].labels
    assert (sample.width, sample.height) == (60, 40), "read from the first picture"
    assert labels.keypoints[0, 0].tolist() == [1, 2, 2]
    assert labels.keypoints[0, 3].tolist() == [0, 0, 0]
    assert labels.keypoints[0, 5].tolist() == [9, 8, 1], "placed but hidden"
    assert labels.track_ids.tolist() == [4]
    assert labels.boxes.tolist() == [[1, 2, 30, 20]] and labels.head_boxes.tolist() == [[3, 4, 6, 8]]
    assert [polygon.tolist() for polygon in labels.ignore] == [
        [[0, 0], [5, 0], [5, 5]],
        [[10, 10], [20, 10], [20, 20], [10, 20]],
    ]
    assert not len(dataset[0].labels) and not dataset[0].labels.ignore
    assert sample.image().shape == (40, 60, 3)
    assert [s.id for s in dataset.clip(1, (-2, -1, 0, 1))] == [100, 100, 101, 102]


def test_single_ignore_region_without_the_outer_list(root: Path) -> None:
    content = frames_2018(ignore_regions_x=[1, 2, 3], ignore_regions_y=[4, 5, 6])
    write_2018(root, "annotations", content)
    (polygon,) = open_dataset("posetrack18", root)[0].labels.ignore
    assert polygon.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_one_file_of_several_videos(root: Path) -> None:
    content = frames_2018(width=60, height=40)
    content["images"][2]["vid_id"] = "000002"
    path = root / "annotations" / "posetrack18_val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    dataset = open_dataset("posetrack18", path)
    videos = [f"images/val/{VIDEO}/{number}" for number in ("000001", "000002")]
    assert [(s.video, s.frame) for s in dataset] == [(videos[0], 0), (videos[0], 1), (videos[1], 0)]


@pytest.mark.parametrize("together", [False, True])
def test_videos_of_two_sources_may_have_the_same_number(root: Path, together: bool) -> None:
    other = "000001_bonn_train"
    write_pictures(root, f"images/val/{other}", [f"{i:06d}.png" for i in range(3)])
    of_mpii, of_bonn = frames_2018(width=60, height=40), frames_2018(width=60, height=40)
    for image in of_bonn["images"]:
        image.update(id=image["id"] + 100, file_name=image["file_name"].replace(VIDEO, other))
    of_bonn["annotations"] = []
    if together:
        of_mpii["images"] += of_bonn["images"]
    else:
        (write_2018(root, "annotations", of_mpii).parent / f"{other}.json").write_text(json.dumps(of_bonn))
    (root / "val.json").write_text(json.dumps(of_mpii))
    dataset = open_dataset("posetrack18", root / "val.json" if together else root)
    assert len(dataset) == 6 and len({s.video for s in dataset}) == 2
    last = dataset.ids.index(102)
    assert [s.id for s in dataset.clip(last, (-1, 0, 1))] == [101, 102, 102]


def test_tracks_that_are_unknown_or_have_large_numbers(root: Path) -> None:
    content = frames_2018()
    path = write_2018(root, "annotations", content)
    for ids, numbers in (((4, None), [4, -1]), ((10**10, 7), [0, 1]), ((10**10, 10**10), [0, 0])):
        for annotation, track in zip(content["annotations"], ids, strict=True):
            annotation["track_id"] = track
        path.write_text(json.dumps(content))
        assert [int(s.labels.track_ids[0]) for s in open_dataset("posetrack18", root) if s.labelled] == numbers


def test_the_15_joints_of_2017_from_files_of_2018(root: Path) -> None:
    write_2018(root, "annotations", frames_2018())
    dataset = open_dataset("posetrack17", root)
    assert dataset.skeleton.name == "posetrack15"
    nose, left_shoulder = dataset[1].labels.keypoints[0, [0, 3]].tolist()
    assert (nose, left_shoulder) == ([1, 2, 2], [9, 8, 1])


def frames_2017() -> list[dict[str, Any]]:
    """As MATLAB's structures become JSON: every value in a list of its own."""
    points = [
        {"id": [0], "x": [11.5], "y": [12.5], "is_visible": [1]},  # right ankle
        {"id": [12], "x": [21], "y": [22], "is_visible": [0]},  # neck
        {"id": [14], "x": [31], "y": [32], "is_visible": []},  # top of the head
    ]
    person = {"x1": [1], "y1": [2], "x2": [5], "y2": [8], "track_id": [3], "annopoints": [{"point": points}]}
    bare = {**person, "track_id": [6], "annopoints": []}
    region = {"point": [{"x": [0], "y": [0]}, {"x": [9], "y": [0]}, {"x": [9], "y": [7]}]}
    names = [f"images/clip_mpii/{i:08d}.png" for i in (1, 2)]
    return [
        {"image": [{"name": names[0]}], "annorect": [person, bare], "is_labeled": [1], "ignore_regions": [region]},
        {"image": [{"name": names[1]}], "annorect": [], "is_labeled": [0]},
    ]


def check_2017(dataset: Dataset) -> None:
    assert (dataset.skeleton.name, len(dataset), list(dataset.annotated)) == ("posetrack15", 2, [0])
    labels = dataset[0].labels
    skeleton = skeletons.get("posetrack15")
    assert labels.keypoints[0, skeleton.index("right_ankle")].tolist() == [11.5, 12.5, 2]
    assert labels.keypoints[0, skeleton.index("head_bottom")].tolist() == [21, 22, 1]
    assert labels.keypoints[0, skeleton.index("head_top")].tolist() == [31, 32, 1]
    assert int((labels.keypoints[..., 2] > 0).sum()) == 3
    assert labels.track_ids.tolist() == [3, 6]
    assert labels.head_boxes.tolist() == [[1, 2, 4, 6]] * 2
    assert [polygon.tolist() for polygon in labels.ignore] == [[[0, 0], [9, 0], [9, 7]]]
    assert (dataset[1].video, dataset[1].frame) == ("16_mpii", 1)
    assert dataset[1].image().shape == (40, 60, 3)


def test_2017_as_json(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/clip_mpii", ["00000001.png", "00000002.png"])
    path = tmp_path / "annotations/val/16_mpii.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"annolist": frames_2017()}))
    check_2017(open_dataset("posetrack17", tmp_path, "val"))


def matlab(value: Any) -> Any:
    """What JSON was made from: lists of dictionaries as arrays of structures, lists of one value as the value."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        keys = sorted({key for item in value for key in item})
        array = np.empty(len(value), [(key, object) for key in keys])
        for i, item in enumerate(value):
            for key in keys:
                array[i][key] = matlab(item.get(key, []))
        return array
    if isinstance(value, list):
        return value[0] if len(value) == 1 else np.array(value)
    return value


def test_2017_as_published_by_matlab(tmp_path: Path) -> None:
    write_pictures(tmp_path, "images/clip_mpii", ["00000001.png", "00000002.png"])
    path = tmp_path / "posetrack_data/annotations/val/16_mpii.mat"
    path.parent.mkdir(parents=True)
    savemat(path, {"annolist": matlab(frames_2017())})
    check_2017(open_dataset("posetrack17", tmp_path, "val"))


def test_missing_parts_are_named(root: Path) -> None:
    with pytest.raises(DatasetError, match="annotations/val.*not found.*posetrack.net"):
        open_dataset("posetrack18", root)
    (root / "annotations/val").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no annotations.*posetrack.net"):
        open_dataset("posetrack18", root)
    (root / "annotations/val/bad.json").write_text('{"annolist": [{}]}')
    with pytest.raises(DatasetError, match="bad.json: an entry is broken"):
        open_dataset("posetrack17", root)
    (root / "annotations/val/bad.json").unlink()
    content = frames_2018()
    for image in content["images"]:
        image["file_name"] = image["file_name"].replace("images/", "elsewhere/")
    path = root / "annotations/val/moved.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="elsewhere/val.*not found in any folder above .*moved.json"):
        open_dataset("posetrack18", root)


def test_a_video_in_both_formats_of_2017_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "annotations/val"
    folder.mkdir(parents=True)
    frames = frames_2017()
    (folder / "16_mpii.json").write_text(json.dumps({"annolist": frames}))
    savemat(folder / "16_mpii.mat", {"annolist": matlab(frames)})
    for frame in frames:
        frame["image"][0]["name"] = frame["image"][0]["name"].replace("clip", "other")
    savemat(folder / "17_mpii.mat", {"annolist": matlab(frames)})
    for clip in ("clip_mpii", "other_mpii"):
        write_pictures(tmp_path, f"images/{clip}", ["00000001.png", "00000002.png"])
    videos = [(s.video, s.frame) for s in open_dataset("posetrack17", tmp_path, "val")]
    assert videos == [("16_mpii", 0), ("16_mpii", 1), ("17_mpii", 0), ("17_mpii", 1)]
