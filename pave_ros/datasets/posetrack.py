"""PoseTrack 2017, 2018 and 2021: videos with tracked people and regions in which nobody was annotated.

One annotation file for each video, in one of two formats: 2017's `annolist` (JSON or MATLAB, 15 joints), and COCO's
with additions (17 keypoints, of which the ears were never annotated).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Dataset, DatasetError, Labels, ListedDataset, Sample
from pave_ros.datasets.coco import Json, checked, labels_of, people_of
from pave_ros.datasets.files import broken_entries, first_existing, picture_size, read_json, read_mat, read_rgb

# The joints of 2017 by their number in the files; the neck is what 2018 calls the bottom of the head.
_JOINTS_2017 = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "head_bottom", "nose", "head_top",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One year's data set: its name, keypoint layout, where the annotations of ``{split}`` lie, and its home."""

    name: str
    skeleton: str
    annotations: tuple[str, ...]
    source: str


_FOLDERS = ("annotations/{split}", "posetrack_data/{split}", "posetrack_data/annotations/{split}")
POSETRACK = {
    layout.name: layout
    for layout in (
        Layout("posetrack17", "posetrack15", _FOLDERS, "https://posetrack.net"),
        Layout("posetrack18", "posetrack17", _FOLDERS, "https://posetrack.net"),
        Layout(
            "posetrack21", "posetrack17", ("posetrack_data/{split}", *_FOLDERS), "https://github.com/anDoer/PoseTrack21"
        ),
    )
}


def open_posetrack(layout: Layout, root: Path, split: str) -> Dataset:
    """One split of PoseTrack under `root`, all frames of its videos; those that were not annotated have `labelled`
    False. The root may also be one annotation file, whose pictures are looked for in the folders above it.

    Both formats of files are read whatever the year, and the keypoints brought into the layout of the year asked for.
    """
    if root.suffix in (".json", ".mat"):
        files = [root]
    else:
        folder = first_existing(root, [p.format(split=split) for p in layout.annotations], layout.source)
        files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".mat"))
        stems = {p.stem for p in files if p.suffix == ".json"}
        files = [p for p in files if p.suffix == ".json" or p.stem not in stems]
        if not files:
            raise DatasetError(f"{folder}: holds no annotations (.json or .mat); get them from {layout.source}")
    samples = [sample for file in files for sample in _samples(file, layout.skeleton)]
    return ListedDataset(layout.name, skeletons.get(layout.skeleton), samples)


def _samples(path: Path, skeleton: str) -> list[Sample]:
    content = read_mat(path) if path.suffix == ".mat" else read_json(path)
    with broken_entries(path):
        if isinstance(content, dict) and "annolist" in content:
            return _samples_2017(_plain(content["annolist"]), path, skeleton)
        layout = _layout_2018(content)
        return _samples_2018(checked(content, path, layout), path, layout, skeleton)


def _layout_2018(content: Any) -> str:
    """The layout of a file in COCO's format: with 15 keypoints where somebody has left out the ears."""
    if isinstance(content, dict):
        names = (category.get("keypoints") for category in content.get("categories", []))
        xs = ((annotation.get("keypoints") or ())[::3] for annotation in content.get("annotations", []))
        if len(next(filter(None, chain(names, xs)), ())) == len(skeletons.get("posetrack15")):
            return "posetrack15"
    return "posetrack17"


def _samples_2018(content: Json, path: Path, layout: str, skeleton: str) -> list[Sample]:
    people = people_of(content, path)
    videos: dict[str, list[Json]] = defaultdict(list)
    for image in content["images"]:
        videos[_video_of(image)].append(image)
    everything = {str(image["file_name"]) for image in content["images"]}
    samples = []
    for video, images in videos.items():
        root = _root_of(path, images[0]["file_name"])
        size = _size(root, images[0])
        for number, image in _in_time(images, root, everything):
            annotations = [dict(a, keypoints=_visibility_2018(a.get("keypoints"))) for a in people[image["id"]]]
            ignore = _polygons(image.get("ignore_regions_x"), image.get("ignore_regions_y"))
            samples.append(
                Sample(
                    id=image["id"],
                    width=size[0],
                    height=size[1],
                    labels=labels_of(annotations, layout, ignore).to(skeleton),
                    read=partial(read_rgb, root / image["file_name"]),
                    video=video,
                    frame=number,
                    labelled=bool(image.get("is_labeled", True)),
                )
            )
    return samples


def _video_of(image: Json) -> str:
    """Name of the video that a picture is of: with its folder, for each source of the videos has numbers of its own."""
    return str(Path(image["file_name"]).parent / str(image.get("vid_id", "")))


def _in_time(images: list[Json], root: Path, everything: set[str]) -> list[tuple[int, Json]]:
    """The pictures of a video with their numbers, and those beside them that are not listed in `everything`: some files
    list none but the annotated ones, where models want their neighbours."""
    folder = root / Path(images[0]["file_name"]).parent
    listed = {number: image for image in images if (number := _number(Path(image["file_name"]))) is not None}
    if len(listed) < len(images):
        return list(enumerate(images))
    for path in sorted(folder.glob(f"*{Path(images[0]['file_name']).suffix}")):
        name, number = str(path.relative_to(root)), _number(path)
        if number is not None and name not in everything:
            listed.setdefault(number, {"id": name, "file_name": name, "is_labeled": False})
    first = min(listed)
    return [(number - first, listed[number]) for number in sorted(listed)]


def _number(path: Path) -> int | None:
    """Of a frame: what the name of its file ends with."""
    match = re.search(r"(\d+)$", path.stem)
    return int(match[1]) if match else None


def _size(root: Path, image: Json) -> tuple[int, int]:
    """Width and height; the published files do not tell, and all frames of a video have one size."""
    if "width" in image and "height" in image:
        return int(image["width"]), int(image["height"])
    return picture_size(root / image["file_name"])


def _visibility_2018(keypoints: list[float] | None) -> list[float] | None:
    """The third number is 1 for annotated keypoints, 0 for others and, in 2021, for hidden ones, which have a place."""
    if not keypoints:
        return None
    points = np.array(keypoints, np.float32).reshape(-1, 3)
    placed = (points[:, :2] != 0).any(axis=1)
    points[:, 2] = np.where(points[:, 2] > 0, 2, placed)
    return [float(value) for value in points.ravel()]


def _polygons(xs: list[Any] | None, ys: list[Any] | None) -> list[np.ndarray[Any, Any]]:
    """Regions from their x and y; a single region may come without the outer list."""
    if not xs or not ys:
        return []
    if not isinstance(xs[0], list):
        xs, ys = [xs], [ys]
    return [np.stack([x, y], axis=1) for x, y in zip(xs, ys, strict=True)]


def _root_of(path: Path, picture: str) -> Path:
    """The folder above an annotation file from which the names of its pictures go out."""
    for parent in path.parents:
        if (parent / picture).exists():
            return parent
    raise DatasetError(f"{picture}: not found in any folder above {path}; unpack the pictures of the data set there")


def _samples_2017(frames: list[Json], path: Path, skeleton: str) -> list[Sample]:
    names = [str(_only(_only(frame["image"])["name"])) for frame in frames]
    root = _root_of(path, names[0])
    width, height = picture_size(root / names[0])
    samples = []
    for number, (frame, name) in enumerate(zip(frames, names, strict=True)):
        labels = _labels_2017(_several(frame.get("annorect")), _several(frame.get("ignore_regions")))
        samples.append(
            Sample(
                id=name,
                width=width,
                height=height,
                labels=labels.to(skeleton),
                read=partial(read_rgb, root / name),
                video=path.stem,
                frame=number,
                labelled=bool(_only(frame.get("is_labeled", len(labels) > 0))),
            )
        )
    return samples


def _labels_2017(people: list[Json], regions: list[Json]) -> Labels:
    joints = [skeletons.get("posetrack15").index(name) for name in _JOINTS_2017]
    keypoints = np.zeros((len(people), len(joints), 3), np.float32)
    for person, points in zip(people, keypoints, strict=True):
        annotated = [a for a in _several(person.get("annopoints")) if "point" in a]
        for point in _several(annotated[0]["point"]) if annotated else ():
            visible = _only(point.get("is_visible", 1))
            points[joints[int(_only(point["id"]))]] = _only(point["x"]), _only(point["y"]), 2 if visible else 1
    corners = np.array([[_only(person[key]) for key in ("x1", "y1", "x2", "y2")] for person in people], np.float32)
    heads = corners.reshape(-1, 4)
    heads[:, 2:] -= heads[:, :2]
    return Labels.from_keypoints(
        keypoints,
        "posetrack15",
        track_ids=[int(_only(person.get("track_id", -1))) for person in people],
        head_boxes=heads,
        ignore=[[(_only(p["x"]), _only(p["y"])) for p in _several(region["point"])] for region in regions],
    )


def _plain(value: Any) -> Any:
    """MATLAB's structures and arrays as the dictionaries and lists that the JSON files hold."""
    if hasattr(value, "_fieldnames"):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    return value


def _several(value: Any) -> list[Any]:
    """A list of structures; MATLAB stores a single one, and none, in other ways."""
    if isinstance(value, dict):
        return [value] if value else []
    return [item for item in value if item] if isinstance(value, list) else []


def _only(value: Any) -> Any:
    """The value that may come alone in a list, as JSON made from MATLAB has it; an empty one counts as 0 or no."""
    if isinstance(value, list):
        return value[0] if value else 0
    return value
