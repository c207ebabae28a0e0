"""Readers of data sets in COCO's format against tiny ones, written here."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from annotations import HEIGHT, WIDTH, coco_file, write_json, write_picture

from pave_ros.datasets import DatasetError, Labels, open_dataset
from pave_ros.datasets.base import held_out


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", coco_file("coco17"))
    write_picture(tmp_path / "val2017/a.png")
    write_picture(tmp_path / "val2017/b.png")
    return tmp_path


def test_coco_is_read_from_its_published_layout(coco: Path) -> None:
    dataset = open_dataset("coco", coco, "val")
    assert (len(dataset), dataset.skeleton.name) == (2, "coco17")
    sample, labels = dataset[0], dataset[0].labels
    assert (sample.id, sample.width, sample.height, sample.video) == (7, WIDTH, HEIGHT, None)
    assert labels.keypoints[0, :2].tolist() == [[1, 1, 1], [2, 3, 2]]
    assert labels.keypoints[0, -1].tolist() == [0, 0, 0]
    assert labels.boxes[0].tolist() == [1, 2, 30, 40]
    assert labels.areas.tolist() == [500, 9]
    assert labels.crowd.tolist() == [False, True]
    assert labels.complete and len(dataset[1].labels) == 0
    assert sample.image().shape == (HEIGHT, WIDTH, 3) and sample.image()[0, 0].tolist() == [255, 0, 0]


def test_samples_can_be_sent_to_workers(coco: Path) -> None:
    sample = pickle.loads(pickle.dumps(open_dataset("coco", coco)[0]))
    assert sample.image()[0, 0].tolist() == [255, 0, 0]


def test_a_missing_folder_says_what_was_looked_for_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder.*cocodataset.org"):
        open_dataset("coco", tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(
        DatasetError, match="person_keypoints_val2017.json: not found.*holds readme.txt.*cocodataset.org"
    ):
        open_dataset("coco", tmp_path)
    with pytest.raises(DatasetError, match="known: coco, crowdpose"):
        open_dataset("cocoa", tmp_path)


def test_broken_files_are_named(coco: Path) -> None:
    path = coco / "annotations/person_keypoints_val2017.json"
    whole = path.read_text()
    path.write_text(whole[:-20])
    with pytest.raises(DatasetError, match="person_keypoints_val2017.json: not a whole JSON file"):
        open_dataset("coco", coco)
    path.write_text("[]")
    with pytest.raises(DatasetError, match="not in COCO's format"):
        open_dataset("coco", coco)
    content = json.loads(whole)
    content["annotations"][0]["keypoints"] = [1, 2, 3]
    write_json(path, content)
    with pytest.raises(DatasetError, match="person_keypoints_val2017.json: an entry is broken"):
        open_dataset("coco", coco)


@pytest.mark.parametrize("change", [
    {"keypoints": [float("nan"), 1, 2] * 17}, {"keypoints": [1, 1, float("nan")] * 17}, {"area": -1},
    {"area": float("inf")}, {"area": float("nan")},
])  # fmt: skip
def test_numbers_that_are_none_are_named(coco: Path, change: dict[str, Any]) -> None:
    """Of the truth they would make an evaluation better than it is."""
    path = coco / "annotations/person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= change
    write_json(path, content)
    with pytest.raises(DatasetError, match=r"person_keypoints_val2017\.json: an entry is broken .*finite"):
        open_dataset("coco", coco)
    content["annotations"][0] |= {"keypoints": [float("nan"), 1, 0] * 17, "area": None}  # not labelled, not given
    write_json(path, content)
    assert open_dataset("coco", coco)


def test_broken_pictures_are_named(coco: Path) -> None:
    path = coco / "val2017/a.png"
    path.write_bytes(path.read_bytes()[:20])
    sample = open_dataset("coco", coco)[0]
    with pytest.raises(DatasetError, match="a.png"):
        sample.image()
    path.unlink()
    with pytest.raises(DatasetError, match="a.png.*unpack or download"):
        sample.image()
    cv2.imwrite(str(path), np.zeros((5, 6, 3), np.uint8))
    with pytest.raises(DatasetError, match="6x5 pixels, but annotated as 64x48"):
        sample.image()


def test_pictures_are_read_as_their_labels_count_pixels(coco: Path) -> None:
    """As they are stored, whatever the camera's orientation says."""
    image = PIL.Image.new("RGB", (WIDTH, HEIGHT))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(coco / "val2017/a.png", "JPEG", exif=exif)
    assert open_dataset("coco", coco)[0].image().shape == (HEIGHT, WIDTH, 3)


def test_annotations_of_another_data_set_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", coco_file("crowdpose14"))
    (tmp_path / "val2017").mkdir()
    with pytest.raises(DatasetError, match="top_head.*not those of coco17"):
        open_dataset("coco", tmp_path)
    animals = ["left_eye", "right_eye", *[f"paw{i}" for i in range(15)]]
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", coco_file("coco17", animals))
    with pytest.raises(DatasetError, match="paw14.*not those of coco17"):
        open_dataset("coco", tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "file", "skeleton"),
    [
        ("crowdpose", "test", "annotations/crowdpose_test.json", "crowdpose14"),
        ("crowdpose", "val", "json/crowdpose_val.json", "crowdpose14"),
        ("crowdpose", "trainval", "annotations/mmpose_crowdpose_trainval.json", "crowdpose14"),
        ("macaque", "val", "annotations/macaque_test.json", "coco17"),
        ("ap10k", "val", "annotations/ap10k-val-split1.json", "ap10k17"),
    ],
)
def test_other_data_sets_in_cocos_format(tmp_path: Path, name: str, split: str, file: str, skeleton: str) -> None:
    write_json(tmp_path / file, coco_file(skeleton, crowdIndex=0.33))
    write_picture(tmp_path / ("data/a.png" if name == "ap10k" else "images/a.png"))
    dataset = open_dataset(name, tmp_path, split)
    assert (dataset.skeleton.name, dataset[0].crowd_index) == (skeleton, 0.33)
    assert dataset[0].image().shape == (HEIGHT, WIDTH, 3)


def test_crowdpose_has_no_areas_so_the_box_gives_them(tmp_path: Path) -> None:
    content = coco_file("crowdpose14")
    del content["annotations"][0]["area"]
    write_json(tmp_path / "crowdpose_val.json", content)
    (tmp_path / "images").mkdir()
    assert open_dataset("crowdpose", tmp_path)[0].labels.areas[0] == pytest.approx(0.53 * 30 * 40)


def test_pictures_are_read_in_place_from_a_tar_archive(tmp_path: Path) -> None:
    write_json(tmp_path / "annotations_coco17.json", coco_file("coco17"))
    write_picture(tmp_path / "images/a.png", (0, 255, 0))
    write_picture(tmp_path / "images/b.png", (0, 0, 255))
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "images", "images")
    (tmp_path / "images/a.png").unlink()
    (tmp_path / "images/b.png").unlink()
    (tmp_path / "images").rmdir()
    dataset = open_dataset("lspet", tmp_path, "all")
    assert [s.image()[5, 5].tolist() for s in dataset] == [[0, 255, 0], [0, 0, 255]]
    assert not dataset[0].labels.complete, "only one person of each picture is annotated"
    (tmp_path / "images.tar").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="images.tar: not a whole, uncompressed tar archive"):
        open_dataset("lspet", tmp_path, "all")


def test_pictures_of_the_same_name_in_a_tar_archive_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    content = coco_file("coco17")
    for image, name in zip(content["images"], ("a/1.png", "b/1.png"), strict=True):
        image["file_name"] = name
        write_picture(tmp_path / "images" / name, (200, 0, 0) if name.startswith("b") else (50, 0, 0))
    write_json(tmp_path / "labels.json", content)
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "images", "images")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert [one.image()[0, 0, 0] for one in open_dataset("coco", tmp_path / "labels.json")] == [50, 200]
    for image, name in zip(content["images"], ("1.png", "c/1.png"), strict=True):
        image["file_name"] = name
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(DatasetError, match=r"images\.tar: holds several 1\.png"):
        open_dataset("coco", tmp_path / "labels.json")


@pytest.mark.parametrize("folder", ["", "val2017/"])
def test_names_may_begin_with_the_folder_of_the_pictures(coco: Path, folder: str) -> None:
    content = coco_file("coco17")
    for image in content["images"]:
        image["file_name"] = folder + image["file_name"]
    write_json(coco / "annotations/person_keypoints_val2017.json", content)
    assert open_dataset("coco", coco)[1].image().shape == (HEIGHT, WIDTH, 3)
    content["images"][0]["file_name"] = content["images"][1]["file_name"] = "images/a.png"
    write_json(coco / "labels.json", content)
    write_picture(coco / "images/a.png")
    assert open_dataset("coco", coco / "labels.json")[0].image().shape == (HEIGHT, WIDTH, 3)


def test_a_picture_in_a_tar_archive_that_opencv_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "annotations_coco17.json", coco_file("coco17"))
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name)
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "a.png")
        tar.add(tmp_path / "b.png")

    def refuse(*_: object) -> None:
        raise cv2.error("more pixels than CV_IO_MAX_IMAGE_PIXELS")

    sample = open_dataset("coco", tmp_path, "all")[0]
    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(DatasetError, match=r"images\.tar: a\.png in it: .*; unpack or download"):
        sample.image()


def test_a_crowd_index_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "crowdpose_val.json"
    (tmp_path / "images").mkdir()
    write_json(path, coco_file("crowdpose14", crowdIndex="0.25"))
    assert open_dataset("crowdpose", tmp_path)[0].crowd_index == 0.25
    write_json(path, coco_file("crowdpose14", crowdIndex="dense"))
    with pytest.raises(DatasetError, match=r"crowdpose_val\.json: an entry is broken"):
        open_dataset("crowdpose", tmp_path)


def test_only_what_has_keypoints_is_a_person(tmp_path: Path) -> None:
    content = coco_file("coco17")
    content["categories"].append({"id": 18, "name": "dog"})
    content["annotations"].append({"id": 3, "image_id": 8, "category_id": 18, "bbox": [1, 1, 9, 9]})
    del content["annotations"][0]["category_id"]
    write_json(tmp_path / "labels.json", content)
    write_picture(tmp_path / "images/a.png")
    assert [len(one.labels) for one in open_dataset("coco", tmp_path / "labels.json")] == [2, 0]


def test_what_has_other_keypoints_is_no_person(tmp_path: Path) -> None:
    content = coco_file("coco17")
    content["categories"].insert(0, {"id": 18, "name": "dog", "keypoints": ["nose", "tail"]})
    content["annotations"].append({"id": 3, "image_id": 8, "category_id": 18, "keypoints": [1, 1, 2, 3, 3, 2]})
    write_json(tmp_path / "labels.json", content)
    write_picture(tmp_path / "images/a.png")
    assert [len(one.labels) for one in open_dataset("coco", tmp_path / "labels.json")] == [2, 0]


def test_annotations_of_no_picture_and_pictures_of_one_id_are_refused(tmp_path: Path) -> None:
    content = coco_file("coco17")
    write_picture(tmp_path / "images/a.png")
    for image in content["images"]:
        image["id"] = str(image["id"])
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(DatasetError, match=r"labels\.json: not one image_id of its annotations is"):
        open_dataset("coco", tmp_path / "labels.json")
    content["images"][0]["id"] = content["images"][1]["id"] = 7
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(DatasetError, match="coco: 1 ids are those of several pictures, 7 for one"):
        open_dataset("coco", tmp_path / "labels.json")


def test_regions_without_corners_are_none() -> None:
    square = [[0, 0], [0, 9], [9, 9], [9, 0]]
    nobody = Labels.from_keypoints(np.zeros((0, 17, 3)), "coco17", ignore=[[], square, [[]]])
    assert [region.tolist() for region in nobody.ignore] == [square]


def test_a_single_file_is_split_the_same_way_by_everybody(tmp_path: Path) -> None:
    content = coco_file("coco17")
    content["images"] = [{"id": i, "file_name": "a.png", "width": 9, "height": 9} for i in range(400)]
    write_json(tmp_path / "annotations_coco17.json", content)
    (tmp_path / "images").mkdir()
    train, val, everything = (open_dataset("coco", tmp_path, split) for split in ("train", "val", "all"))
    ids = [{sample.id for sample in part} for part in (train, val, everything)]
    assert ids[0] | ids[1] == ids[2] and not ids[0] & ids[1]
    assert 20 <= len(ids[1]) <= 60
    assert held_out("5") == (5 in ids[1])
    with pytest.raises(DatasetError, match="no split 'test'; it has train, val and all"):
        open_dataset("coco", tmp_path, "test")


def test_synthetic_scene_as_a_data_set() -> None:
    dataset = open_dataset("synthetic", split="val")
    sample = dataset[1]
    assert sample.image().shape == (sample.height, sample.width, 3)
    assert sample.labels.skeleton == "coco17" and len(sample.labels) > 0
    again = open_dataset("synthetic", split="val")[1]
    assert np.array_equal(again.image(), sample.image())
    assert np.array_equal(again.labels.keypoints, sample.labels.keypoints)
    before, now = dataset.clip(1, (-1, 0))
    assert (before.frame, now.frame, now.id) == (sample.frame - 1, sample.frame, sample.id)
    assert dataset[1:3][0].id == sample.id and len(dataset[1:3]) == len(dataset[1:3].annotated) == 2
    with pytest.raises(DatasetError, match="train, val, test"):
        open_dataset("synthetic", split="dev")


# Labels, samples, clips


@pytest.mark.parametrize(
    ("told", "complete"), [({}, True), ({"has_all_persons": 1}, True), ({"has_all_persons": 0}, False)]
)
def test_a_picture_may_say_that_not_everybody_is_annotated(
    tmp_path: Path, told: dict[str, int], complete: bool
) -> None:
    write_json(tmp_path / "annotations_coco17.json", coco_file("coco17", **told))
    write_picture(tmp_path / "images/a.png")
    assert [one.labels.complete for one in open_dataset("coco", tmp_path, "all")] == [complete] * 2
    of_lspet = open_dataset("lspet", tmp_path, "all")
    assert not any(one.labels.complete for one in of_lspet), "of whose pictures nobody says so"


def test_who_has_no_number_of_keypoints_is_counted(tmp_path: Path) -> None:
    """Where it is told to be none, CrowdPose does not count who has hidden ones alone."""
    content = coco_file("coco17")
    content["annotations"] = [dict(content["annotations"][0], id=i) for i in range(3)]
    content["annotations"][0]["num_keypoints"] = 0
    content["annotations"][1]["num_keypoints"] = None
    del content["annotations"][2]["num_keypoints"]
    write_json(tmp_path / "labels.json", content)
    write_picture(tmp_path / "images/a.png")
    assert open_dataset("coco", tmp_path / "labels.json")[0].labels.counted.tolist() == [False, True, True]
