"""Boxes for top-down models where no detector is to be judged with them: the annotated ones, or those of a file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros.datasets.base import Dataset, DatasetError, Sample
from pave_ros.datasets.files import broken_entries, read_json
from pave_ros.persons import Boxes

BoxesOf = Callable[[Sample], Boxes]
GROUND_TRUTH = "ground-truth"
# Names of PoseTrack 2018's pictures, from which the numbers of its pictures are made.
_POSETRACK18 = re.compile(r"(\d{6})_(mpiinew|mpii|bonn)_[^/]+/(\d{6})\.jpg$")
_POSETRACK18_SOURCES = {"mpii": 1, "bonn": 2, "mpiinew": 3}


def annotated_boxes(sample: Sample) -> Boxes:
    """The boxes of all people with a labelled keypoint, as sure as can be."""
    labels = sample.labels
    return Boxes.of(labels.boxes[~labels.crowd & (labels.keypoints[..., 2] > 0).any(axis=1)])


def boxes_in(path: Path, dataset: Dataset) -> BoxesOf:
    """What a detector has found in a data set's pictures.

    Args:
        path: a list in COCO's format of detections, objects with ``image_id``, ``bbox`` (x, y, width, height),
            ``score`` and ``category_id``; instead of the id ``image_name`` will do, as in DCPose's files for PoseTrack.
        dataset: whose pictures they are.

    Raises:
        DatasetError: the file does not fit.
    """
    known = set(dataset.ids)
    found: dict[Any, list[list[float]]] = defaultdict(list)
    with broken_entries(path, cure=""):
        for entry in entries_of(path, dataset):
            picture = _picture(entry, known)
            if picture is not None:
                x, y, width, height = map(float, entry["bbox"])
                found[picture].append([x, y, width, height, float(entry.get("score", 1.0))])
    if not found:
        raise DatasetError(f"{path}: holds no boxes for the pictures of {dataset.name}; is it of another split?")

    def boxes(sample: Sample) -> Boxes:
        rows = np.array(found.get(sample.id, []), np.float32).reshape(-1, 5)
        return Boxes.of(rows[:, :4], rows[:, 4])

    return boxes


def entries_of(path: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """What a file in COCO's format says of people, or of animals where a data set is of these: a list of objects, or
    one under ``annotations``. DatasetError when it is no such file, or holds other categories only."""
    content = read_json(path, cure="")
    with broken_entries(path, cure=""):
        entries = list(content["annotations"] if isinstance(content, dict) else content)
        wanted = {None, *dataset.categories}
        people = [entry for entry in entries if entry.get("category_id") in wanted]
    if entries and not people:
        ids = ", ".join(sorted(map(str, dataset.categories)))
        raise DatasetError(f"{path}: not one of its entries has a category_id of {dataset.name}'s people ({ids})")
    return people


def _picture(entry: dict[str, Any], known: set[int | str]) -> int | str | None:
    """Which picture of the data set a detection is of."""
    if entry.get("image_id") in known:
        return entry["image_id"]
    name = str(entry.get("image_name", ""))
    if match := _POSETRACK18.search(name):
        number = int(f"{_POSETRACK18_SOURCES[match[2]]}{match[1]}{int(match[3]):04d}")
        if number in known:
            return number
    # PoseTrack 2017's own names, with or without the folder of all pictures.
    return next((key for key in (name, name.removeprefix("images/"), f"images/{name}") if key in known), None)
