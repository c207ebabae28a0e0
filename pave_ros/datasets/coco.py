"""Data sets in COCO's format, or nearly: COCO, CrowdPose, MacaquePose. One reader, a row of data each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Dataset, DatasetError, Labels, Sample, read_rgb

Json = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """Where a data set in COCO's format keeps its files.

    Attributes:
        name: as `open_dataset` knows it.
        skeleton: keypoint layout.
        annotations: where the annotations of ``{split}`` may lie under the root, the first that exists is taken.
        images: where the pictures of ``{split}`` may lie, likewise.
        splits: short names of the splits and what the file names say.
        source: where to get the data set.
    """

    name: str
    skeleton: str
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    splits: Mapping[str, str]
    source: str


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="coco",
            skeleton="coco17",
            annotations=("annotations/person_keypoints_{split}.json",),
            images=("{split}", "images/{split}"),
            splits={"train": "train2017", "val": "val2017"},
            source="https://cocodataset.org/#download",
        ),
        Layout(
            name="crowdpose",
            skeleton="crowdpose14",
            annotations=(
                "annotations/crowdpose_{split}.json",
                "json/crowdpose_{split}.json",
                "crowdpose_{split}.json",
                "annotations/mmpose_crowdpose_{split}.json",
            ),
            images=("images",),
            splits={},
            source="https://github.com/jeffffffli/CrowdPose",
        ),
        Layout(
            name="macaque",
            skeleton="coco17",
            annotations=("annotations/macaque_{split}.json", "macaque_{split}.json"),
            images=("images",),
            splits={},
            source="https://www2.ehub.kyoto-u.ac.jp/datasets/macaquepose/index.html",
        ),
    )
}


def open_coco(layout: Layout, root: Path, split: str) -> Dataset:
    """One split of a data set in COCO's format under `root`. The root may also be an annotation file itself, whose
    pictures lie beside it or in ``images`` there. DatasetError says what is missing."""
    if root.suffix == ".json":
        return _dataset(layout, root, first_existing(root.parent, ("images", "."), layout.source))
    names = {"split": layout.splits.get(split, split)}
    annotations = first_existing(root, [p.format_map(names) for p in layout.annotations], layout.source)
    images = first_existing(root, [p.format_map(names) for p in layout.images], layout.source)
    return _dataset(layout, annotations, images)


def _dataset(layout: Layout, annotations: Path, images: Path) -> Dataset:
    content = read_coco_json(annotations)
    check_keypoints(content, layout.skeleton, annotations)
    samples = samples_of(content, layout.skeleton, images, annotations)
    return Dataset(layout.name, skeletons.get(layout.skeleton), samples)


def first_existing(root: Path, candidates: Iterable[str], source: str) -> Path:
    """The first of the files or folders that is there; DatasetError names all that were looked for."""
    paths = [root / candidate for candidate in candidates]
    for path in paths:
        if path.exists():
            return path
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; the data set is to be had from {source}")
    looked = " or ".join(str(path) for path in paths)
    found = ", ".join(sorted(p.name for p in root.iterdir())[:12]) or "nothing"
    raise DatasetError(f"{looked}: not found; {root} holds {found}. The data set is to be had from {source}")


def read_json(path: Path) -> Any:
    """The content of a JSON file; DatasetError when it is missing or broken."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not a whole JSON file ({error}); download or unpack it again") from error


def read_coco_json(path: Path) -> Json:
    """A JSON file with the lists that COCO's format has; DatasetError when it is none."""
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DatasetError(f"{path}: has no lists 'images' and 'annotations', so it is not in COCO's format")
    return content


def check_keypoints(content: Json, skeleton: str, path: Path) -> None:
    """DatasetError when the file is of another keypoint layout, going by its category's number of keypoints."""
    expected = len(skeletons.get(skeleton))
    for category in content.get("categories", []):
        names = category.get("keypoints")
        if names and len(names) != expected:
            raise DatasetError(f"{path}: has {len(names)} keypoints ({', '.join(names)}), {skeleton} has {expected}")


def samples_of(content: Json, skeleton: str, images: Path, path: Path) -> list[Sample]:
    """The samples of a file in COCO's format, in its order; pictures are looked for in `images`."""
    people: dict[Any, list[Json]] = defaultdict(list)
    for annotation in content["annotations"]:
        people[annotation.get("image_id")].append(annotation)
    try:
        return [_sample(image, people[image["id"]], skeleton, images) for image in content["images"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: a broken entry: {type(error).__name__} {error}") from error


def _sample(image: Json, people: list[Json], skeleton: str, images: Path) -> Sample:
    return Sample(
        id=image["id"],
        width=int(image["width"]),
        height=int(image["height"]),
        labels=labels_of(people, skeleton, complete=bool(image.get("has_all_persons", True))),
        read=partial(read_rgb, images / image["file_name"]),
        crowd_index=image.get("crowdIndex"),
    )


def labels_of(people: list[Json], skeleton: str, ignore: Any = (), complete: bool = True) -> Labels:
    """Labels from annotations in COCO's format."""
    blank = [0.0] * (3 * len(skeletons.get(skeleton)))
    no_box = [np.nan] * 4
    return Labels.from_keypoints(
        [person.get("keypoints") or blank for person in people],
        skeleton,
        boxes=[person["bbox"] for person in people],
        areas=[person.get("area", np.nan) for person in people],
        track_ids=[person.get("track_id", -1) for person in people],
        crowd=[person.get("iscrowd", 0) for person in people],
        head_boxes=[person.get("bbox_head") or no_box for person in people],
        ignore=ignore,
        complete=complete,
    )
