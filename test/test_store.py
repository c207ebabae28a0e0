"""Stores of pictures, and how they are prepared: what goes in comes out, and what is damaged is named."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from stored import cache as cache
from stored import mixture, picture, standing
from test_teacher import STANDING, fake_teacher

from pave_ros import skeletons
from pave_ros.datasets.base import Labels, ListedDataset, Sample
from pave_ros.skeletons import get
from pave_ros.training import prepare
from pave_ros.training.prepare import complete, pictures_of, store_of
from pave_ros.training.sources import (
    SourceError,
    TrainingScenes,
    has_fallen,
)
from pave_ros.training.store import (
    Picture,
    PictureStore,
    StoreError,
    pack_labels,
    read_arrays,
    write_arrays,
    write_store,
)
from pave_ros.training.teacher import Completion


def test_a_store_gives_back_what_was_put_in(cache: Path) -> None:
    store = PictureStore(cache, "two")
    for i, stored in enumerate(store):
        original = picture(i, "val" if i == 0 else "train", masked=True)
        assert (stored.id, stored.split) == (original.id, original.split)
        assert np.abs(stored.image.astype(int) - original.image).mean() < 3
        np.testing.assert_array_equal(stored.labels.keypoints, original.labels.keypoints)
        assert stored.mask is not None
        assert original.mask is not None
        np.testing.assert_array_equal(stored.mask, original.mask)
    assert PictureStore(cache, "one")[0].mask is None
    assert len(pickle.loads(pickle.dumps(store))[1].labels) == 1


def test_labels_survive_with_regions_and_nobody(tmp_path: Path) -> None:
    triangle = np.array([[1, 2], [3, 4], [5, 7]], np.float32)
    nobody = Labels.from_keypoints(np.zeros((0, 17, 3)), "coco17", ignore=[triangle], complete=False)
    two = Labels.from_keypoints(np.ones((2, 17, 3)), "coco17", crowd=[True, False], track_ids=[4, 5])
    image = np.zeros((8, 8, 3), np.uint8)
    store = write_store(tmp_path, "few", [Picture("a", image, nobody, "train"), Picture("b", image, two, "train")])
    np.testing.assert_array_equal(store.labels[0].ignore[0], triangle)
    assert (len(store.labels[0]), store.labels[0].complete) == (0, False)
    assert store.labels[1].crowd.tolist() == [True, False]
    assert store.labels[1].track_ids.tolist() == [4, 5]
    assert store.labels[1].ignore == ()


def test_whom_a_data_set_does_not_count_is_stored(tmp_path: Path) -> None:
    own = Labels.from_keypoints(np.ones((2, 17, 3)), "coco17")
    image = np.zeros((8, 8, 3), np.uint8)
    one = replace(own, uncounted=np.array([True, False]))
    store = write_store(tmp_path, "few", [Picture("a", image, own, "val"), Picture("b", image, one, "val")])
    assert [labels.counted.tolist() for labels in store.labels] == [[True, True], [False, True]]
    older = {name: value for name, value in read_arrays(tmp_path / "few.npz").items() if name != "uncounted"}
    write_arrays(tmp_path / "few.npz", older)
    assert [labels.counted.all() for labels in PictureStore(tmp_path, "few").labels] == [True, True]


def test_a_store_is_written_anew_while_it_is_read(cache: Path) -> None:
    """By a training, or by what it is written from; where that breaks off, it stays."""
    read, unread = PictureStore(cache, "one"), PictureStore(cache, "one")
    before = read.image(8)

    def breaks_off() -> Iterator[Picture]:
        yield from unread[:2]
        raise ValueError("no picture")

    with pytest.raises(ValueError, match="no picture"):
        write_store(cache, "one", breaks_off())
    np.testing.assert_array_equal(PictureStore(cache, "one").image(8), before)
    smaller = write_store(cache, "one", (one for one in unread if one.split == "val"))
    assert smaller.ids == ["p0", "p3", "p6"]
    np.testing.assert_array_equal(read.image(8), before)
    assert not list(cache.glob("*part*"))


def test_missing_and_cut_off_stores_are_named(cache: Path) -> None:
    with pytest.raises(StoreError, match="prepare"):
        PictureStore(cache, "three")
    file = cache / "one.bin"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(StoreError, match="cut off"):
        PictureStore(cache, "one")
    file.write_bytes(bytes(len(file.read_bytes()) + 10))
    with pytest.raises(StoreError, match=r"one\.bin: damaged at picture 0"):
        PictureStore(cache, "one").image(0)
    index = cache / "one.npz"
    for content in (b"", index.read_bytes()[:-100]):
        index.write_bytes(content)
        with pytest.raises(StoreError, match=r"one\.npz: damaged \(.*; remove it"):
            PictureStore(cache, "one")


@pytest.mark.parametrize("change", [
    {"keypoints": None}, {"ids": np.array(1)}, {"splits": np.array([])}, {"sizes": np.zeros((1, 2))},
    {"regions": np.array([0])},
])  # fmt: skip
def test_indices_that_hold_something_else_are_named(cache: Path, change: dict[str, Any]) -> None:
    index = cache / "one.npz"
    arrays = {**read_arrays(index), **change}
    write_arrays(index, {name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(StoreError, match=r"one\.npz: damaged \(.*; remove it"):
        PictureStore(cache, "one")


def test_labels_that_hold_something_else_are_named(cache: Path) -> None:
    labels = cache / "one.labels.npz"
    write_arrays(labels, {"people": np.array(3)})
    content = bytearray(labels.read_bytes())
    content[40:80] = b"\xff" * 40  # what is compressed
    for damaged in (labels.read_bytes(), content):
        labels.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"one\.labels\.npz: damaged \(.*; remove it"):
            PictureStore(cache, "one")


def test_a_file_of_annotations_is_parted_once(tmp_path: Path) -> None:
    """Each picture is for training or for validation."""
    (tmp_path / "images").mkdir()
    pictures = [{"id": i, "file_name": f"{i}.jpg", "width": 8, "height": 8} for i in range(60)]
    for row in pictures:
        cv2.imwrite(str(tmp_path / "images" / str(row["file_name"])), np.zeros((8, 8, 3), np.uint8))
    people = [{"id": i, "image_id": i, "category_id": 1, "keypoints": [4, 4, 2] * 17, "num_keypoints": 17, "iscrowd": 0,
               "bbox": [1, 1, 6, 6], "area": 30} for i in range(60)]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(skeletons.get("coco17").keypoints)}
    content = {"images": pictures, "annotations": people, "categories": [category]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    prepare.prepare(tmp_path / "cache", coco=tmp_path / "all.json")
    store = PictureStore(tmp_path / "cache", "coco")
    assert sorted(store.ids, key=int) == [str(i) for i in range(60)]
    assert 0 < store.splits.count("val") < 20
    assert not list((tmp_path / "cache").glob("*part*"))


def test_labels_of_other_pictures_are_neither_kept_nor_taken(cache: Path) -> None:
    labels = cache / "one.labels.npz"
    np.savez(labels, **pack_labels([standing() for _ in range(9)]))
    assert len(PictureStore(cache, "one")) == 9
    write_store(cache, "one", [picture(i) for i in range(3)])
    assert not labels.exists(), "what a teacher said of those before"
    np.savez(labels, **pack_labels([standing() for _ in range(9)]))
    with pytest.raises(StoreError, match=r"one\.labels\.npz: of other pictures"):
        PictureStore(cache, "one")


def test_a_store_keeps_the_joints_that_coco_lacks(tmp_path: Path) -> None:
    points = np.concatenate([STANDING[5:] + (30, 10), [[60, 10], [60, 40]]])  # CrowdPose's last: top of the head, neck
    own = Labels.from_keypoints(np.concatenate([points, np.full((14, 1), 2)], 1)[None], "crowdpose14")
    image = np.full((200, 160, 3), 60, np.uint8)
    samples = [Sample(i, 160, 200, own, lambda: image) for i in range(2)]
    write_store(tmp_path, "crowd", pictures_of(ListedDataset("crowd", get("crowdpose14"), samples), "train"))
    plain = {"tiles": [1], "paste": 0, "occlude": 0, "empty": 0, "zoom": [1, 1]}
    for skeleton, joints in (("crowdpose14", 14), ("coco17", 12)):
        scenes = TrainingScenes(mixture(tmp_path, weights={"crowd": 1}, skeleton=skeleton, **plain))
        assert max(int(scenes[i][1].labelled.sum()) for i in range(10)) == joints
    lying = Labels.from_keypoints(own.keypoints[..., [1, 0, 2]], "crowdpose14")
    assert has_fallen(lying) and not has_fallen(own)


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    lying = standing((30, 10)).keypoints[..., [1, 0, 2]]
    labels = Labels.from_keypoints(lying, "coco17")
    write_store(tmp_path, "lying", [Picture("p", np.zeros((160, 200, 3), np.uint8), labels, "train")])
    with pytest.raises(SourceError, match="lying: everybody in it has fallen, and fallen: 0 leaves these out"):
        TrainingScenes(mixture(tmp_path, weights={"lying": 1}, fallen=0))


def test_preparing_says_in_a_line_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pave_ros.training.prepare", str(tmp_path / "cache"), "--coco", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ") and str(tmp_path) in done.stderr


def test_a_teacher_does_not_look_where_it_cannot_complete(tmp_path: Path) -> None:
    own = Labels.from_keypoints(np.ones((1, 14, 3)), "crowdpose14", complete=False)
    store = write_store(tmp_path, "crowd", [Picture("a", np.zeros((8, 8, 3), np.uint8), own, "train")])
    with pytest.raises(StoreError, match="crowd: its labels are crowdpose14; the teacher completes coco17 alone"):
        complete(tmp_path, store, tmp_path / "teacher.onnx", Completion())


def test_preparing_completes_labels_once(tmp_path: Path) -> None:
    limbs = standing((30, 10)).keypoints.copy()
    limbs[:, :5] = 0
    own = Labels.from_keypoints(limbs, "coco17", complete=False)
    samples = [Sample(7, 160, 200, own, lambda: np.zeros((200, 160, 3), np.uint8))]
    dataset = ListedDataset("tiny", get("coco17"), samples)
    answer = np.zeros((1, 56), np.float32)
    points = (STANDING + (30, 10)) / (256, 320)  # 160x200 becomes 256x320 pixels
    answer[0, :51] = np.column_stack([points[:, 1], points[:, 0], np.full(17, 0.9)]).ravel() * np.tile(
        [1.6, 1.6, 1], 17
    )
    answer[0, 51:] = 0.1, 0.1, 0.9, 0.9, 0.8
    teacher = fake_teacher(tmp_path / "teacher.onnx", answer)
    for _ in range(2):
        store = store_of(tmp_path, "tiny", lambda: pictures_of(dataset, "train"))
        assert (store.labels[0].keypoints[0, :5, 2] == 0).all()
        complete(tmp_path, store, teacher, Completion(), threads=1)
    completed = PictureStore(tmp_path, "tiny")
    assert (completed.labels[0].keypoints[0, :5, 2] == 2).all()
    np.testing.assert_allclose(completed.labels[0].keypoints[0, 0, :2], STANDING[0] + (30, 10), atol=0.1)
    for answers, told in (({"other": np.zeros(1)}, "0 answers"), ({"answers": np.zeros(3)}, "3 answers")):
        write_arrays(tmp_path / "tiny.teacher.npz", answers)
        with pytest.raises(StoreError, match=rf"tiny\.teacher\.npz: {told} of the teacher, but tiny has 1 pictures"):
            complete(tmp_path, store, teacher, Completion(), threads=1)
