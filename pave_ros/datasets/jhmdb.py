"""JHMDB: short clips of one acting person each, 320x240 pixels, 15 joints and a mask in every frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.datasets.base import Dataset, DatasetError, Labels, ListedDataset, Sample, split_of
from pave_ros.datasets.coco import Json, labels_of, people_of, read_coco_json
from pave_ros.datasets.files import (
    broken_entries,
    first_existing,
    frame_of,
    picture_reader,
    read_json,
    read_mat,
    read_rgb,
)
from pave_ros.persons import Floats

SOURCE = "http://jhmdb.is.tue.mpg.de"
SIZE = (320, 240)
_SPLITS = {"train": ("1", "1"), "test": ("2", "1"), "val": ("2", "1")}  # mark in the split files, number of the split


def open_jhmdb(root: Path, split: str) -> Dataset:
    """One split of JHMDB.

    Args:
        root: the folder with ``joint_positions``, ``splits``, ``Rename_Images`` (or ``ReCompress_Videos``) and, for
            boxes and areas, ``puppet_mask``; or one with ``annotations.json`` and ``videos``; or a JSON file in COCO's
            format with the clips' folders beside it.
        split: ``train`` or ``test`` (``val`` is the same) of the first published split, ``train2`` and so on of the
            others, or ``all``. With ``annotations.json``: ``train``, ``val`` or ``all``, films kept apart.
    """
    if root.suffix == ".json":
        samples = _from_coco(root)
    elif (root / "annotations.json").exists():
        samples = _from_clips(root, split)
    else:
        samples = _published(root, split)
    return ListedDataset("jhmdb", skeletons.get("jhmdb15"), samples)


def _published(root: Path, split: str) -> list[Sample]:
    joints = first_existing(root, ["joint_positions"], SOURCE)
    samples = []
    for video in _videos_of(root, joints, split):
        path = joints / video / "joint_positions.mat"
        with broken_entries(path):
            # (2, 15, T) in MATLAB's pixels, which count from one
            places = np.atleast_3d(read_mat(path)["pos_img"])
            if places.shape[:2] != (2, 15):
                raise ValueError(f"pos_img is {places.shape}, not (2, 15, frames)")
            keypoints = np.moveaxis(places, (0, 1, 2), (2, 1, 0)) - 1.0
        boxes, areas = _of_masks(root / "puppet_mask" / video / "puppet_mask.mat", len(keypoints))
        folder = first_existing(root, [f"Rename_Images/{video}", f"ReCompress_Videos/{video}.avi"], SOURCE)
        samples += _samples(video, folder, keypoints, boxes, areas)
    return samples


def _videos_of(root: Path, joints: Path, split: str) -> list[str]:
    """Names ``class/clip`` of a split, from the files ``splits/CLASS_test_splitN.txt`` of lines ``CLIP.avi 1 or 2``."""
    if split == "all":
        return sorted(f"{p.parent.parent.name}/{p.parent.name}" for p in joints.glob("*/*/joint_positions.mat"))
    name, number = split.rstrip("123"), split.lstrip("abcdefghijklmnopqrstuvwxyz")
    if name not in _SPLITS:
        raise DatasetError(f"JHMDB has no split {split!r}; it has train, test, train2, test2, train3, test3 and all")
    mark, first = _SPLITS[name]
    folder = first_existing(root, ["splits"], SOURCE)
    found = []
    for path in sorted(folder.glob(f"*_test_split{number or first}.txt")):
        action = path.name.partition("_test_split")[0]
        with broken_entries(path):
            lines = [line.split() for line in path.read_text().splitlines()]
        found += [f"{action}/{line[0].removesuffix('.avi')}" for line in lines if line[1:] == [mark]]
    if not found:
        missing = f"*_test_split{number or first}.txt"
        raise DatasetError(f"{folder}: holds no {missing} that names clips; get them from {SOURCE}")
    return found


def _of_masks(path: Path, count: int) -> tuple[Floats | None, Floats | None]:
    """Boxes (T, 4) and areas (T,) of the actor's mask in each frame, None without a mask file."""
    if not path.exists():
        return None, None
    with broken_entries(path):
        masks = np.atleast_3d(read_mat(path)["part_mask"]) > 0
    boxes, areas = np.full((count, 4), np.nan, np.float32), np.full(count, np.nan, np.float32)
    for i in range(min(count, masks.shape[2])):
        ys, xs = np.nonzero(masks[..., i])
        if len(xs):
            boxes[i] = xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1
            areas[i] = len(xs)
    return boxes, areas


def _from_clips(root: Path, split: str) -> list[Sample]:
    path = root / "annotations.json"
    content = read_json(path)
    samples = []
    with broken_entries(path):
        if tuple(content["joint_names"]) != skeletons.get("jhmdb15").keypoints:
            raise DatasetError(f"{path}: has other joints than JHMDB: {', '.join(content['joint_names'])}")
        for clip in content["sequences"]:
            action, _, name = clip["jhmdb_name"].partition("/")
            film = name.partition(f"_{action}_")[0]
            if split_of(film, split):
                samples += _samples(
                    clip["jhmdb_name"], root / clip["video"], clip["joints15_xy"], clip["bbox"], clip["mask_area"]
                )
    return samples


def _samples(video: str, pictures: Path, keypoints: npt.ArrayLike, boxes: Any, areas: Any) -> list[Sample]:
    """The frames of one clip; `pictures` is a folder of pictures that count from 1, or a video."""
    places = np.asarray(keypoints, np.float32)
    in_folder = pictures.is_dir()
    samples = []
    for i, points in enumerate(places):
        inside = ((points >= 0) & (points < SIZE)).all(axis=1)
        labels = Labels.from_keypoints(
            np.column_stack([points, np.where(inside, 2, 0)])[None],
            "jhmdb15",
            boxes=None if boxes is None else boxes[i],
            areas=None if areas is None else areas[i],
            track_ids=[0],
            complete=False,
        )
        read = partial(read_rgb, pictures / f"{i + 1:05d}.png") if in_folder else partial(frame_of, pictures, i)
        samples.append(Sample(f"{video}/{i + 1:05d}", *SIZE, labels, read, video=video, frame=i))
    return samples


def _from_coco(path: Path) -> list[Sample]:
    content = read_coco_json(path, "jhmdb15")
    people = people_of(content, path)
    read = picture_reader(path.parent)
    samples = []
    with broken_entries(path):
        for image in content["images"]:
            annotations = [_from_zero(person) for person in people[image["id"]]]
            samples.append(_sample(image, annotations, read(image["file_name"])))
    return sorted(samples, key=lambda sample: (sample.video or "", sample.frame))  # Files list them as they like.


def _sample(image: Json, people: list[Json], read: Any) -> Sample:
    labels = labels_of(people, "jhmdb15", complete=False)
    clip, _, number = str(image["file_name"]).rpartition("/")
    frame = int(Path(number).stem) - 1
    return Sample(image["id"], int(image["width"]), int(image["height"]), labels, read, video=clip, frame=frame)


def _from_zero(person: Json) -> Json:
    """An annotation with its places counted from zero, as JSON files made of JHMDB keep MATLAB's count, and without
    keypoints outside of the picture."""
    points = np.array(person["keypoints"], np.float32).reshape(-1, 3) - (1, 1, 0)
    points[((points[:, :2] < 0) | (points[:, :2] >= SIZE)).any(axis=1), 2] = 0
    x, y, *size = person.get("bbox") or [np.nan] * 4
    return dict(person, keypoints=points.tolist(), bbox=[x - 1, y - 1, *size])
