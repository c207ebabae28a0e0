"""Data sets in COCO's format, or nearly: COCO, CrowdPose, MacaquePose, AP-10K. One reader, a row of data each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import PERSON, SAME, Dataset, DatasetError, Labels, ListedDataset, Sample, split_of
from pave_ros.datasets.files import broken_entries, first_existing, picture_reader, read_json
from pave_ros.frames import Image

Json = dict[str, Any]

UNKNOWN = -1  # Number of a track that nobody told.
LARGEST = np.iinfo(np.int32).max  # number of a track that `Labels` can hold
SIDES = ("left_", "right_")  # How the names of keypoints begin that are not in the middle of the body.
# Any pictures can be brought in with one file of this name, COCO's 17 keypoints, beside `images` or `images.tar`.
SINGLE_FILE = "annotations_coco17.json"


@dataclass(frozen=True)
class Layout:
    """Where a data set in COCO's format keeps its files.

    Attributes:
        name: as `open_dataset` knows it.
        skeleton: keypoint layout.
        annotations: where the annotations of ``{split}`` may lie under the root; the first that exists is taken.
        images: where the pictures of ``{split}`` may lie, likewise.
        source: where to get the data set.
        splits: short names of splits and what the file names say instead.
        complete: False when people other than the annotated ones may be in the pictures.
    """

    name: str
    skeleton: str
    annotations: tuple[str, ...]
    images: tuple[str, ...]
    source: str
    splits: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True


COCO = Layout(
    name="coco",
    skeleton="coco17",
    annotations=("annotations/person_keypoints_{split}.json",),
    images=("{split}", "images/{split}"),
    source="https://cocodataset.org/#download",
    splits={"train": "train2017", "val": "val2017"},
)
CROWDPOSE = Layout(
    name="crowdpose",
    skeleton="crowdpose14",
    annotations=(
        "annotations/crowdpose_{split}.json",
        "json/crowdpose_{split}.json",
        "crowdpose_{split}.json",
        "annotations/mmpose_crowdpose_{split}.json",
    ),
    images=("images",),
    source="https://github.com/jeffffffli/CrowdPose",
)
MACAQUE = Layout(
    name="macaque",
    skeleton="coco17",
    annotations=("annotations/macaque_{split}.json", "macaque_{split}.json"),
    images=("images",),
    source="https://www2.ehub.kyoto-u.ac.jp/datasets/macaquepose/index.html",
    splits={"val": "test"},
)

AP10K = Layout(
    name="ap10k",
    skeleton="ap10k17",
    annotations=("annotations/ap10k-{split}-split1.json",),
    images=("data",),
    source="https://github.com/AlexTheBad/AP-10K",
)


def open_coco(layout: Layout, root: Path, split: str) -> Dataset:
    """One split of a data set in COCO's format under `root`.

    The root may also be an annotation file, whose pictures lie in ``images`` or ``images.tar`` beside it, or right
    beside it; or a folder with such a file named ``annotations_coco17.json``, which is split by `held_out`.
    """
    if root.suffix == ".json":
        return _dataset(layout, root, first_existing(root.parent, ("images", "images.tar", "."), layout.source))
    if (root / SINGLE_FILE).exists():
        return open_single(layout, root, split)
    names = {"split": layout.splits.get(split, split)}
    annotations = first_existing(root, [p.format_map(names) for p in layout.annotations], layout.source)
    images = first_existing(root, [p.format_map(names) for p in layout.images], layout.source)
    return _dataset(layout, annotations, images)


def open_single(layout: Layout, root: Path, split: str) -> Dataset:
    """The part ``train``, ``val`` or ``all`` of a folder with ``annotations_coco17.json`` and its pictures."""
    images = first_existing(root, ("images", "images.tar"), layout.source)
    everything = _dataset(layout, root / SINGLE_FILE, images)
    samples = [sample for sample in everything if split_of(str(sample.id), split)]
    return ListedDataset(layout.name, everything.skeleton, samples, everything.categories)


def _dataset(layout: Layout, path: Path, images: Path) -> Dataset:
    content = read_coco_json(path, layout.skeleton)
    people = people_of(content, path)
    with broken_entries(path):
        names = [image["file_name"] for image in content["images"]]
        read = picture_reader(_folder_of(names, images))
        samples = [_sample(image, people[image["id"]], layout, read) for image in content["images"]]
        categories = _categories_of_results(content)
    return ListedDataset(layout.name, skeletons.get(layout.skeleton), samples, categories)


def _folder_of(names: Sequence[str], images: Path) -> Path:
    """Where the names of pictures go out from: the folder that they are in, or the one above, as some begin with it."""
    first = next(iter(names), "")
    below = not images.is_dir() or (images / first).exists() or not (images.parent / first).exists()
    return images if below else images.parent


def _sample(image: Json, people: list[Json], layout: Layout, read: Callable[[str], Callable[[], Image]]) -> Sample:
    complete = layout.complete and bool(image.get("has_all_persons", True))
    crowd_index = image.get("crowdIndex")
    return Sample(
        id=image["id"],
        width=int(image["width"]),
        height=int(image["height"]),
        labels=labels_of(people, layout.skeleton, complete=complete),
        read=read(image["file_name"]),
        crowd_index=None if crowd_index is None else float(crowd_index),
    )


def read_coco_json(path: Path, skeleton: str) -> Json:
    """A file in COCO's format; DatasetError when it is none, or has other keypoints."""
    return checked(read_json(path), path, skeleton)


def checked(content: Any, path: Path, skeleton: str) -> Json:
    """What was read from a file, if it is in COCO's format; else DatasetError. Categories with other keypoints than the
    layout's are as if they had none, unless all of them are such."""
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DatasetError(f"{path}: has no lists 'images' and 'annotations', so it is not in COCO's format")
    own = skeletons.get(skeleton).keypoints
    with broken_entries(path):
        categories = content.get("categories", [])
        posed = [names for category in categories if (names := category.get("keypoints"))]
        others = [names for names in posed if not _named_alike(names, own)]
        if posed and len(others) == len(posed):
            raise DatasetError(f"{path}: has the keypoints {', '.join(others[0])}, which are not those of {skeleton}")
        kept = [{**one, "keypoints": []} if one.get("keypoints") in others else one for one in categories]
    return {**content, "categories": kept}


def _named_alike(names: Sequence[str], keypoints: Sequence[str]) -> bool:
    """Whether the names of a file mean these keypoints, in this order. Those in the middle of the body have several
    names each: what the layout does not know stands for any of them."""

    def alike(name: str, own: str) -> bool:
        meant = next((each for each in (name, SAME.get(name)) if each in keypoints), None)
        return meant == own or (meant is None and not name.startswith(SIDES) and not own.startswith(SIDES))

    return len(names) == len(keypoints) and all(map(alike, names, keypoints))


def people_of(content: Json, path: Path) -> Mapping[Any, list[Json]]:
    """The annotations of each picture, by its id, of the categories that have keypoints, if any have; DatasetError
    where they are of none of the pictures."""
    people: dict[Any, list[Json]] = defaultdict(list)
    with broken_entries(path):
        posed = _posed(content)
        numbers = _track_numbers(content["annotations"])
        for annotation in content["annotations"]:
            if not posed or annotation.get("category_id") in {None, *posed}:
                track = numbers.get(annotation.get("track_id"), UNKNOWN)
                people[annotation["image_id"]].append({**annotation, "track_id": track})
        if people and not people.keys() & {image["id"] for image in content["images"]}:
            raise DatasetError(f"{path}: not one image_id of its annotations is the id of one of its images")
    return people


def _posed(content: Json) -> set[Any]:
    """Ids of the categories that have keypoints."""
    return {category.get("id") for category in content.get("categories", []) if category.get("keypoints")}


def _categories_of_results(content: Json) -> set[Any]:
    """Ids of the categories that are people in a results file: their own, and COCO's, which most models write, unless
    something else has it here."""
    known = {category.get("id") for category in content.get("categories", [])}
    people = _posed(content) or known
    return people if PERSON in known else {PERSON, *people}


def _track_numbers(annotations: list[Json]) -> Mapping[Any, int]:
    """The number of each track of a file: its own, or a new one where not all of them fit into `Labels.track_ids`."""
    tracks = {track for annotation in annotations if (track := annotation.get("track_id")) not in (None, UNKNOWN)}
    if all(isinstance(track, int | float) and abs(track) <= LARGEST for track in tracks):
        return {track: int(track) for track in tracks}
    return {track: number for number, track in enumerate(sorted(tracks, key=str))}


def labels_of(people: list[Json], skeleton: str, ignore: Any = (), complete: bool = True) -> Labels:
    """Labels from annotations in COCO's format; ValueError where a keypoint or an area is none that can be."""
    blank = [0.0] * (3 * len(skeletons.get(skeleton)))
    no_box = [np.nan] * 4
    labels = Labels.from_keypoints(
        [person.get("keypoints") or blank for person in people],
        skeleton,
        boxes=[person.get("bbox") or no_box for person in people],
        areas=[person.get("area", np.nan) for person in people],
        track_ids=[person.get("track_id", UNKNOWN) for person in people],
        crowd=[person.get("iscrowd", 0) for person in people],
        head_boxes=[person.get("bbox_head") or no_box for person in people],
        ignore=ignore,
        complete=complete,
    )
    if not np.isfinite(labels.keypoints).all():  # Or whoever is compared with them counts as found.
        raise ValueError("a labelled keypoint is not finite")
    areas = np.array([area for person in people if (area := person.get("area")) is not None], np.float32)
    if not (np.isfinite(areas) & (areas >= 0)).all():  # Or nobody counts whose area is this.
        raise ValueError("an area is negative or not finite")
    # Where all keypoints are hidden, CrowdPose counts none, and evaluations go by that.
    return replace(labels, uncounted=np.array([person.get("num_keypoints") == 0 for person in people], bool))
