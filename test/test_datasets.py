"""Readers of data sets against tiny ones, written here in each published format."""

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
from scipy.io import savemat

from pave_ros import skeletons
from pave_ros.datasets import DatasetError, Labels, convert, open_dataset
from pave_ros.datasets.base import ListedDataset, Sample, held_out
from pave_ros.datasets.coco import read_coco_json

WIDTH, HEIGHT = 64, 48


def write_picture(path: Path, color: tuple[int, int, int] = (255, 0, 0)) -> None:
    """A picture of one RGB colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), color[::-1], np.uint8))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def annotation(number: int, image: int, skeleton: str, **more: Any) -> dict[str, Any]:
    """A person whose keypoint k lies at (k + 1, 2k + 1), visible, the first one hidden, the last one not labelled."""
    count = len(skeletons.get(skeleton))
    points = [[k + 1, 2 * k + 1, 1 if k == 0 else 2] for k in range(count - 1)] + [[0, 0, 0]]
    box = [1.0, 2.0, 30.0, 40.0]
    base = {"id": number, "image_id": image, "category_id": 1, "keypoints": sum(points, []), "bbox": box}
    return {**base, "num_keypoints": count - 1, "iscrowd": 0, **more}


def coco_file(skeleton: str, names: list[str] | None = None, **image: Any) -> dict[str, Any]:
    keypoints = names or list(skeletons.get(skeleton).keypoints)
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT, **image},
            {"id": 8, "file_name": "b.png", "width": WIDTH, "height": HEIGHT, **image},
        ],
        "annotations": [annotation(1, 7, skeleton, area=500.0), annotation(2, 7, skeleton, iscrowd=1, area=9.0)],
        "categories": [{"id": 1, "name": "person", "keypoints": keypoints}],
    }


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
    with pytest.raises(DatasetError, match=r"images\.tar: a\.png in it is no picture that OpenCV can read"):
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


# JHMDB


def jhmdb_joints(frames: int) -> np.ndarray[Any, Any]:
    """(2, 15, frames) in MATLAB's count from one; joint k at x = k + 2 + frame, y = 3 + 2k; the last is outside."""
    k, t = np.meshgrid(np.arange(15), np.arange(frames), indexing="ij")
    joints = np.stack([k + 2.0 + t, 3.0 + 2 * k])
    joints[0, -1] = -5
    return joints


@pytest.fixture
def jhmdb(tmp_path: Path) -> Path:
    for clip, mark in (("one", 1), ("two", 2)):
        (tmp_path / "joint_positions/run" / clip).mkdir(parents=True)
        savemat(tmp_path / "joint_positions/run" / clip / "joint_positions.mat", {"pos_img": jhmdb_joints(3)})
        for number in (1, 2):
            path = tmp_path / f"splits/run_test_split{number}.txt"
            path.parent.mkdir(exist_ok=True)
            with path.open("a") as file:
                file.write(f"{clip}.avi {mark if number == 1 else 3 - mark} \n")
    masks = np.zeros((240, 320, 3), np.uint8)
    masks[10:30, 5:45, 0] = 1
    (tmp_path / "puppet_mask/run/one").mkdir(parents=True)
    savemat(tmp_path / "puppet_mask/run/one/puppet_mask.mat", {"part_mask": masks})
    for i in range(3):
        path = tmp_path / f"Rename_Images/run/one/{i + 1:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((240, 320, 3), 50 * i, np.uint8))
    write_video(tmp_path / "ReCompress_Videos/run/two.avi", 3)
    return tmp_path


def write_video(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = "mp4v" if path.suffix == ".mp4" else "MJPG"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25, (320, 240))
    for i in range(frames):
        writer.write(np.full((240, 320, 3), 50 * i, np.uint8))
    writer.release()


def test_jhmdb_is_read_from_its_published_layout(jhmdb: Path) -> None:
    dataset = open_dataset("jhmdb", jhmdb, "train")
    assert [(s.video, s.frame, s.id) for s in dataset] == [("run/one", i, f"run/one/{i + 1:05d}") for i in range(3)]
    labels = dataset[1].labels
    assert labels.keypoints[0, 1].tolist() == [3, 4, 2], "counted from zero"
    assert labels.keypoints[0, -1].tolist() == [0, 0, 0], "outside of the picture"
    first = dataset[0].labels
    assert (first.boxes[0].tolist(), first.areas[0]) == ([5, 10, 40, 20], 800)
    assert labels.boxes[0].tolist() == [2, 2, 13, 26], "an empty mask gives no box, the keypoints do"
    assert not labels.complete and labels.track_ids.tolist() == [0]
    assert dataset[2].image()[0, 0].tolist() == [100, 100, 100]


def test_jhmdb_frames_come_from_the_videos_where_there_are_no_pictures(jhmdb: Path) -> None:
    dataset = open_dataset("jhmdb", jhmdb, "test")
    assert {s.video for s in dataset} == {"run/two"}
    assert abs(int(dataset[2].image()[0, 0, 0]) - 100) < 5
    assert {s.video for s in open_dataset("jhmdb", jhmdb, "train2")} == {"run/two"}
    assert len(open_dataset("jhmdb", jhmdb, "all")) == 6


def test_jhmdb_with_fewer_masks_than_joints_and_joints_of_another_shape(jhmdb: Path) -> None:
    masks = np.zeros((240, 320, 2), np.uint8)
    masks[10:30, 5:45, 0] = 1
    savemat(jhmdb / "puppet_mask/run/one/puppet_mask.mat", {"part_mask": masks})
    assert [s.labels.areas[0] for s in open_dataset("jhmdb", jhmdb, "train")][0] == 800
    savemat(jhmdb / "joint_positions/run/one/joint_positions.mat", {"pos_img": np.ones((2, 14, 3))})
    with pytest.raises(DatasetError, match=r"joint_positions.mat: .*\(2, 14, 3\), not \(2, 15, frames\)"):
        open_dataset("jhmdb", jhmdb, "train")
    (jhmdb / "joint_positions/run/one/joint_positions.mat").unlink()
    with pytest.raises(DatasetError, match="joint_positions.mat: cannot be read: No such file"):
        open_dataset("jhmdb", jhmdb, "train")


def test_jhmdb_says_what_is_missing(jhmdb: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'dev'; it has train, test"):
        open_dataset("jhmdb", jhmdb, "dev")
    with pytest.raises(DatasetError, match=r"holds no \*_test_split3.txt"):
        open_dataset("jhmdb", jhmdb, "train3")
    (jhmdb / "joint_positions/run/one/joint_positions.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(DatasetError, match="joint_positions.mat"):
        open_dataset("jhmdb", jhmdb, "train")


@pytest.mark.parametrize("video", ["clip.avi", "clip.mp4"])
def test_jhmdb_as_clips_keeps_the_frames_of_a_film_together(tmp_path: Path, video: str) -> None:
    names = [f"run/film{f}_run_f_cm_np1_fr_med_{i}" for f in range(40) for i in range(2)]
    clip = {
        "bbox": [[5, 6, 20, 30]] * 3,
        "mask_area": [123] * 3,
        "joints15_xy": (jhmdb_joints(3).transpose(2, 1, 0) - 1).tolist(),
    }
    content = {
        "joint_names": list(skeletons.get("jhmdb15").keypoints),
        "sequences": [{"video": f"videos/{video}", "jhmdb_name": name, **clip} for name in names],
    }
    write_json(tmp_path / "annotations.json", content)
    write_video(tmp_path / "videos" / video, 2)
    train, val = (open_dataset("jhmdb", tmp_path, split) for split in ("train", "val"))
    films = [{str(s.video).partition("_run_")[0] for s in part} for part in (train, val)]
    assert len(train) + len(val) == 3 * len(names) and not films[0] & films[1] and films[1]
    assert train[0].labels.keypoints[0, 1].tolist() == [2, 4, 2]
    assert (train[0].labels.boxes[0].tolist(), train[0].labels.areas[0]) == ([5, 6, 20, 30], 123)
    assert abs(int(train[1].image()[0, 0, 0]) - 50) < 5
    with pytest.raises(DatasetError, match=f"{video}: has 2 frames, but frame 2 is annotated"):
        train[2].image()


def test_jhmdb_in_cocos_format(tmp_path: Path) -> None:
    content = coco_file("jhmdb15")
    content["images"] = [{"id": 1, "file_name": "clip/00002.png", "width": WIDTH, "height": HEIGHT}]
    content["annotations"] = [annotation(1, 1, "jhmdb15", track_id=0)]
    write_json(tmp_path / "sub1.json", content)
    write_picture(tmp_path / "clip/00002.png")
    sample = open_dataset("jhmdb", tmp_path / "sub1.json")[0]
    assert (sample.video, sample.frame) == ("clip", 1)
    assert sample.labels.keypoints[0, 1].tolist() == [1, 2, 2], "counted from zero"
    box = content["annotations"][0]["bbox"]
    assert sample.labels.boxes[0].tolist() == [box[0] - 1, box[1] - 1, *box[2:]]
    content["annotations"][0]["keypoints"][3:6] = [-12, 400, 2]
    write_json(tmp_path / "sub1.json", content)
    outside = open_dataset("jhmdb", tmp_path / "sub1.json")[0]
    assert outside.labels.keypoints[0, 1].tolist() == [0, 0, 0]
    assert sample.image().shape == (HEIGHT, WIDTH, 3)


def test_jhmdb_in_cocos_format_is_in_the_order_of_time(tmp_path: Path) -> None:
    content = coco_file("jhmdb15")
    content["images"] = [
        {"id": i, "file_name": f"clip/{i:05d}.png", "width": WIDTH, "height": HEIGHT} for i in (3, 1, 2)
    ]
    content["annotations"] = []
    write_json(tmp_path / "sub1.json", content)
    dataset = open_dataset("jhmdb", tmp_path / "sub1.json")
    assert [s.frame for s in dataset] == [0, 1, 2] and [s.id for s in dataset.clip(1, (-1, 0, 1))] == [1, 2, 3]


# LSP


@pytest.mark.parametrize(("name", "digits"), [("lsp", 4), ("lspet", 5)])
def test_lsp_and_lspet_store_their_joints_differently(tmp_path: Path, name: str, digits: int) -> None:
    joints = np.zeros((4, 14, 3))
    joints[..., 0], joints[..., 1] = np.arange(14) + 1, np.arange(14) + 2
    visible = np.zeros((4, 14), bool)
    visible[:, ::2] = True
    joints[..., 2] = visible if name == "lspet" else ~visible
    savemat(tmp_path / "joints.mat", {"joints": joints.transpose((1, 2, 0) if name == "lspet" else (2, 1, 0))})
    for i in range(4):
        write_picture(tmp_path / f"images/im{i + 1:0{digits}d}.jpg")
    dataset = open_dataset(name, tmp_path, "all")
    assert (len(dataset), dataset.skeleton.name) == (4, "lsp14")
    points = dataset[2].labels.keypoints[0]
    assert points[0].tolist() == [1, 2, 2]
    assert points[1].tolist() == ([2, 3, 1] if name == "lsp" else [0, 0, 0])
    assert (dataset[2].width, dataset[2].height, dataset[2].labels.complete) == (WIDTH, HEIGHT, False)
    if name == "lsp":
        assert [s.id for s in open_dataset(name, tmp_path, "train")] == [1, 2]
        assert [s.id for s in open_dataset(name, tmp_path, "val")] == [3, 4]


def test_lsp_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="joints.mat: not found.*sam.johnson.io"):
        open_dataset("lsp", tmp_path)
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 14, 2))})
    with pytest.raises(DatasetError, match="im0002.jpg"):
        open_dataset("lsp", tmp_path)
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 16, 2))})
    with pytest.raises(DatasetError, match=r"joints of shape \(3, 16, 2\)"):
        open_dataset("lsp", tmp_path)


# The synthetic scene


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
