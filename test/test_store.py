"""Stores of pictures, and how they are prepared: what goes in comes out, and what is damaged is named."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from annotations import coco_file, write_json, write_picture
from stored import cache as cache
from stored import mixture, picture, standing
from test_teacher import STANDING, fake_teacher

from pave_ros import files, skeletons
from pave_ros.datasets.base import Labels, ListedDataset, Sample
from pave_ros.persons import Persons
from pave_ros.skeletons import get
from pave_ros.training import prepare
from pave_ros.training import store as store_module
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
from pave_ros.training.teacher import Completion, watch


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


def test_a_store_that_was_looked_at_goes_to_workers_without_its_pictures(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 160, 3), np.uint8)
    store = write_store(tmp_path, "noisy", [Picture("a", noise, standing(), "train")])
    before = store.image(0)
    packed = pickle.dumps(store)
    assert len(packed) < 8000 < (tmp_path / "noisy.bin").stat().st_size
    np.testing.assert_array_equal(pickle.loads(packed).image(0), before)


def test_pictures_keep_their_colours_and_sizes(tmp_path: Path) -> None:
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:] = 200, 100, 0
    store = write_store(tmp_path, "wide", [Picture("a", wide, standing(), "train")])
    assert store.sizes == [(40, 20)] and store.image(0).shape == (20, 40, 3)
    np.testing.assert_allclose(store.image(0)[10, 20].astype(int), [200, 100, 0], atol=3)


def test_what_was_there_before_is_not_taken_for_the_new_pictures(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what a teacher saw, nor the index, where the new one cannot be written."""
    for ending in ("labels", "teacher"):
        (cache / f"one.{ending}.npz").touch()

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(store_module, "write_arrays", full)
    with pytest.raises(OSError, match="no space left"):
        write_store(cache, "one", [picture(i) for i in range(3)])
    assert [file.name for file in cache.glob("one*")] == ["one.bin"]
    with pytest.raises(StoreError, match=r"one\.npz: no such file"):
        PictureStore(cache, "one")


def test_every_third_annotated_frame_is_prepared_with_its_mask() -> None:
    image, mask = np.zeros((200, 160, 3), np.uint8), np.full((200, 160), 255, np.uint8)
    frames = [Sample(f"v/{i}", 160, 200, standing(), lambda: image, "v", i, labelled=i != 6) for i in range(10)]
    alone = Sample("p", 160, 200, standing(), lambda: image)
    asked = []
    everything = ListedDataset("some", get("coco17"), [*frames, alone])
    prepared = pictures_of(everything, "val", 3, lambda *of: asked.append(of) or mask, "jhmdb15")
    assert [(one.id, one.split, one.mask is mask) for one in prepared] == [
        ("v/0", "val", True), ("v/3", "val", True), ("v/9", "val", True), ("p", "val", False),
    ]  # fmt: skip
    assert asked == [("v", 0), ("v", 3), ("v", 9)]
    (one,) = pictures_of(ListedDataset("one", get("coco17"), [alone]), "train", skeleton="jhmdb15")
    assert one.labels.skeleton == "jhmdb15"


@pytest.mark.parametrize(("name", "swapped"), [("lspet", True), ("jhmdb", False)])
def test_sides_are_set_straight_where_a_data_set_mixes_them_up(tmp_path: Path, name: str, swapped: bool) -> None:
    straight = standing((30, 10)).keypoints
    mirrored = Labels.from_keypoints(straight[:, list(get("coco17").mirror)], "coco17", complete=False)
    store = write_store(tmp_path, name, [Picture("a", np.zeros((200, 160, 3), np.uint8), mirrored, "train")])
    persons = Persons.from_keypoints(straight, [0.9], "coco17")
    write_arrays(tmp_path / f"{name}.teacher.npz", {"answers": watch(lambda image: persons, [store.image(0)])})
    complete(tmp_path, store, tmp_path / "teacher.onnx", Completion())
    found = PictureStore(tmp_path, name).labels[0]
    np.testing.assert_allclose(found.keypoints[0], straight[0] if swapped else mirrored.keypoints[0])


def test_a_teacher_of_people_does_not_look_at_animals(tmp_path: Path) -> None:
    write_json(tmp_path / "all.json", coco_file("coco17"))
    for name in ("a", "b"):
        write_picture(tmp_path / f"images/{name}.png")
    teacher = fake_teacher(tmp_path / "teacher.onnx", np.zeros((1, 56)))
    prepare.prepare(tmp_path, teacher, coco=tmp_path / "all.json", macaque=tmp_path / "all.json", threads=1)
    assert sorted(file.name for file in tmp_path.glob("*.npz")) == [
        "coco.labels.npz", "coco.npz", "coco.teacher.npz", "macaque.npz",
    ]  # fmt: skip


def test_the_synthetic_scene_is_prepared_in_all_shapes_and_its_backs_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each shape a third of the scenes, rounded up, each seen four times; at least three are for validation."""
    scenes = []

    class Deserted:
        """Nobody, who is drawn faster."""

        def __init__(self, width: int, height: int, **options: Any) -> None:
            scenes.append((options["seed"], width, height, options["backs"]))
            self.image = np.zeros((height, width, 3), np.uint8)

        def frame(self, number: int) -> SimpleNamespace:
            none = np.zeros((0, 17, 3), np.float32)
            people = {"persons": Persons.from_keypoints(none, [], "coco17"), "visibility": none[..., 0]}
            return SimpleNamespace(image=self.image, areas=none[:, 0, 0], **people)

    monkeypatch.setattr(prepare, "SYNTHETIC_SIZES", ((68, 64), (96, 65), (66, 97)))
    monkeypatch.setattr("pave_ros.datasets.synthetic.Scene", Deserted)
    prepare.prepare(tmp_path, back_scenes=4)
    assert not (tmp_path / "synthetic.npz").exists()
    backs = PictureStore(tmp_path, "synthetic_backs")
    assert backs.splits == ["train"] * 24 + ["val"] * 12
    sizes = [(68, 64)] * 8 + [(96, 65)] * 8 + [(66, 97)] * 8
    assert backs.sizes == [*sizes, *sizes[::2]]
    # Other scenes than those in which nobody turns.
    assert [seed for seed, *_ in scenes] == [500_000, 500_001] * 3 + [1_500_000] * 3
    assert {share for *_, share in scenes} == {0.8}
    scenes.clear()
    prepare.prepare(tmp_path, scenes=1)
    assert len(PictureStore(tmp_path, "synthetic")) == 24 and {share for *_, share in scenes} == {0}


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError("encoder error"), "encoder error"), (OSError(28, "No space left"), "[Errno 28] No space left: '{}'")],
)
def test_why_a_file_was_not_completed_is_told(tmp_path: Path, error: OSError, told: str) -> None:
    path = tmp_path / "x.bin"
    with pytest.raises(OSError, match=re.escape(told.format(path))), files.complete(path) as partial:
        partial.touch()
        raise error
    assert list(tmp_path.iterdir()) == []
