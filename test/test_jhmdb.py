"""Readers of JHMDB, LSP and LSPET against tiny data sets, written here in each published format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from annotations import HEIGHT, WIDTH, annotation, coco_file, write_json, write_picture
from scipy.io import savemat

from pave_ros import skeletons
from pave_ros.datasets import DatasetError, open_dataset
from pave_ros.training.prepare import jhmdb_masks


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


@pytest.mark.parametrize(("split", "clip"), [("val", "two"), ("val2", "one"), ("test2", "one"), ("train1", "one")])
def test_the_splits_of_jhmdb(jhmdb: Path, split: str, clip: str) -> None:
    assert {s.video for s in open_dataset("jhmdb", jhmdb, split)} == {f"run/{clip}"}


def test_joints_on_the_border_of_the_picture_are_in_it(jhmdb: Path) -> None:
    joints = jhmdb_joints(1)
    joints[:, :6, 0] = np.transpose([(1, 1), (320, 240), (0.5, 9), (9, 0.5), (321, 9), (9, 241)])  # from one
    savemat(jhmdb / "joint_positions/run/one/joint_positions.mat", {"pos_img": joints})
    found = open_dataset("jhmdb", jhmdb, "train")[0].labels.keypoints[0, :6].tolist()
    assert found == [[0, 0, 2], [319, 239, 2], *[[0, 0, 0]] * 4]


def test_the_validation_part_of_lspet_is_the_same_for_everybody(tmp_path: Path) -> None:
    savemat(tmp_path / "joints.mat", {"joints": np.ones((14, 3, 25))})
    for n in range(1, 26):
        write_picture(tmp_path / f"images/im{n:05d}.jpg")
    val = [4, 19, 20, 22, 23]
    assert open_dataset("lspet", tmp_path, "val").ids == val
    assert open_dataset("lspet", tmp_path, "train").ids == [n for n in range(1, 26) if n not in val]
    with pytest.raises(DatasetError, match="no split 'test'"):
        open_dataset("lspet", tmp_path, "test")


@pytest.mark.parametrize("name", ["lsp", "lspet"])
def test_where_to_get_lsp_and_lspet(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"to be had from http://sam\.johnson\.io/research/{name}\.html$"):
        open_dataset(name, tmp_path)


def test_what_is_done_to_a_frame_is_not_done_to_the_video(jhmdb: Path) -> None:
    sample = open_dataset("jhmdb", jhmdb, "test")[1]
    image = sample.image()
    assert image.any()
    image[:] = 0
    assert sample.image().any()


@pytest.mark.parametrize(("split", "numbers"), [
    ("train", [1, 2]), ("test", [3, 4, 5]), ("val", [3, 4, 5]), ("all", [1, 2, 3, 4, 5]),
])  # fmt: skip
def test_pictures_of_lsp_have_their_own_joints(tmp_path: Path, split: str, numbers: list[int]) -> None:
    """Picture n is 30 + n pixels wide, and its joints lie at (n, 2n)."""
    joints = np.zeros((3, 14, 5))
    joints[0], joints[1] = np.arange(1, 6), 2 * np.arange(1, 6)
    savemat(tmp_path / "joints.mat", {"joints": joints})
    (tmp_path / "images").mkdir()
    for n in range(1, 6):
        cv2.imwrite(str(tmp_path / f"images/im{n:04d}.jpg"), np.zeros((40, 30 + n, 3), np.uint8))
    dataset = open_dataset("lsp", tmp_path, split)
    assert dataset.ids == numbers
    for sample, n in zip(dataset, numbers, strict=True):
        assert sample.width == 30 + n and sample.image().shape == (40, 30 + n, 3)
        assert (sample.labels.keypoints == [n, 2 * n, 2]).all()


def test_masks_of_puppets_are_those_of_a_frame_if_it_has_one(tmp_path: Path) -> None:
    """As published, or of a video that has another name; of a single frame as well."""
    parts = np.array([[[0, 1], [2, 0], [0, 3]]] * 2)  # of two frames, 3x2 pixels
    for place, content in (("puppet_mask/walk/puppet_mask", parts), ("puppet_masks/a", parts[..., 1])):
        (tmp_path / place).parent.mkdir(parents=True)
        savemat(tmp_path / f"{place}.mat", {"part_mask": content})
    write_json(tmp_path / "annotations.json", {"sequences": [{"jhmdb_name": "run", "video": "videos/a.mp4"}]})
    mask = jhmdb_masks(tmp_path)
    first, second, single = mask("walk", 0), mask("walk", 1), mask("run", 0)
    assert first is not None and second is not None and single is not None
    assert first.tolist() == [[0, 255, 0]] * 2 and first.dtype == np.uint8
    assert second.tolist() == single.tolist() == [[255, 0, 255]] * 2
    assert mask("walk", 2) is None and mask("run", 1) is None and mask("jump", 0) is None
