"""Prepare data sets for training, once: decode, write stores of pictures; let a teacher look, complete the labels.

    python -m pave_ros.training.prepare CACHE --lspet DIR --jhmdb DIR --coco DIR --scenes 500 --teacher FILE.onnx

What is there already is not made again: the pictures (``<name>.bin``, ``<name>.npz``) and what the teacher saw in them
(``<name>.teacher.npz``) stay; the completed labels (``<name>.labels.npz``) are cheap and made anew.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from pave_ros.datasets import open_dataset
from pave_ros.datasets.base import Dataset, held_out
from pave_ros.datasets.files import read_mat
from pave_ros.frames import Image
from pave_ros.training.store import (
    Picture,
    PictureStore,
    StoreError,
    pack_labels,
    read_arrays,
    write_arrays,
    write_store,
)
from pave_ros.training.teacher import Completion, Teacher, recalled, watch

SPLITS = ("train", "val")
JHMDB_STRIDE = 3  # every third frame of its videos: neighbouring ones are nearly the same picture
SYNTHETIC_SIZES = ((640, 480), (640, 360), (480, 640))
BACKS = 0.8  # Share of people who turn their back on the camera in `synthetic_backs`; real data sets have few of them.
# Longest side, in pixels, at which the teacher first sees a data set; its pictures differ in resolution.
TEACHER_SIZES = {"lspet": 256, "jhmdb": 320, "coco": 512}
ANIMALS = {"macaque", "ap10k"}  # The teacher knows people only.
LAYOUT = "coco17"  # of the sources below, which are mixed with each other and completed by the teacher
SIDES_UNSURE = {"lspet"}  # about one in ten of its people has left and right mixed up

Masks = Callable[[str, int], "Image | None"]


def pictures_of(
    dataset: Dataset, split: str, stride: int = 1, masks: Masks | None = None, skeleton: str | None = None
) -> Iterator[Picture]:
    """The pictures of a data set with their labels.

    Args:
        dataset: labelled pictures.
        split: which part of the data set it is.
        stride: take every `stride`-th frame of its videos.
        masks: gives the mask of the first person from the name of a video and the number of a frame.
        skeleton: keypoint layout of the labels; None for the data set's own.
    """
    for sample in dataset:
        if sample.labelled and sample.frame % stride == 0:
            mask = masks(sample.video, sample.frame) if masks and sample.video else None
            labels = sample.labels.to(skeleton or dataset.skeleton.name)
            yield Picture(str(sample.id), sample.image(), labels, split, mask)


def jhmdb_masks(root: Path) -> Masks:
    """The puppet masks of JHMDB, 255 where the actor is; None for what has none. In ``puppet_mask/<video>/`` as
    published, or in ``puppet_masks/`` under the file names of an ``annotations.json``."""
    index = root / "annotations.json"
    clips = json.loads(index.read_text())["sequences"] if index.exists() else []
    renamed = {clip["jhmdb_name"]: root / "puppet_masks" / f"{Path(clip['video']).stem}.mat" for clip in clips}

    @lru_cache(maxsize=2)
    def of(video: str) -> Image | None:
        path = renamed.get(video, root / "puppet_mask" / video / "puppet_mask.mat")
        return (
            np.where(np.atleast_3d(read_mat(path)["part_mask"]) > 0, 255, 0).astype(np.uint8) if path.exists() else None
        )

    def mask(video: str, frame: int) -> Image | None:
        masks = of(video)
        return masks[..., frame] if masks is not None and frame < masks.shape[2] else None

    return mask


def synthetic_pictures(scenes: int, split: str, backs: float = 0.0) -> Iterator[Picture]:
    """Pictures of the synthetic scene in several shapes, four of each of `scenes` scenes; `backs` as of `Scene`."""
    from pave_ros.datasets.synthetic import SyntheticDataset

    each = -(-scenes // len(SYNTHETIC_SIZES))
    for width, height in SYNTHETIC_SIZES:
        yield from pictures_of(SyntheticDataset(split, each, width=width, height=height, backs=backs), split)


def store_of(folder: Path, name: str, pictures: Callable[[], Iterable[Picture]]) -> PictureStore:
    """The store of this name, with the labels as annotated; made from `pictures` when it is not there."""
    try:
        return PictureStore(folder, name, completed=False)
    except StoreError:
        return write_store(folder, name, track(pictures(), f"{name}: decoding"))


def complete(folder: Path, store: PictureStore, teacher: Path, completion: Completion, threads: int = 0) -> None:
    """Let the teacher look at a store's pictures, once, and write the completed labels.

    Raises:
        StoreError: the labels are not in the teacher's layout, or what is kept of its answers is not about these
            pictures.
    """
    if others := {labels.skeleton for labels in store.labels} - {LAYOUT}:
        raise StoreError(f"{store.name}: its labels are {others.pop()}; the teacher completes {LAYOUT} alone")
    cache = folder / f"{store.name}.teacher.npz"
    if not cache.exists():
        model = Teacher(teacher, TEACHER_SIZES.get(store.name, 320), threads=threads)
        images = (store.image(i) for i in track(range(len(store)), f"{store.name}: the teacher looks"))
        write_arrays(cache, {"answers": watch(model, images)})
    answers = read_arrays(cache).get("answers", ())
    if len(answers) != len(store):
        raise StoreError(
            f"{cache}: {len(answers)} answers of the teacher, but {store.name} has {len(store)} pictures; remove it "
            "and run `python -m pave_ros.training.prepare` again"
        )
    labels = [
        completion(own, recalled(answer), size, sides=store.name in SIDES_UNSURE)
        for own, answer, size in zip(store.labels, answers, store.sizes, strict=True)
    ]
    write_arrays(folder / f"{store.name}.labels.npz", pack_labels(labels))


def _opened(name: str, root: Path) -> Iterator[Picture]:
    masks = jhmdb_masks(root) if name == "jhmdb" else None
    if root.suffix == ".json":  # one file of annotations, which knows no parts
        for picture in pictures_of(open_dataset(name, root), "", skeleton=LAYOUT):
            yield replace(picture, split="val" if held_out(picture.id) else "train")
        return
    for split in SPLITS:
        yield from pictures_of(open_dataset(name, root, split), split, JHMDB_STRIDE, masks, LAYOUT)


def _drawn(scenes: int, backs: float) -> Iterator[Picture]:
    for split, count in zip(SPLITS, (scenes, max(scenes // 20, 3)), strict=True):
        yield from synthetic_pictures(count, split, backs)


def prepare(
    cache: Annotated[Path, typer.Argument(help="Folder to write to.")],
    teacher: Annotated[
        Path | None, typer.Option(help="MoveNet MultiPose as an ONNX file, which labels the people that were left out.")
    ] = None,
    lspet: Annotated[Path | None, typer.Option(help="Folder of LSPET.")] = None,
    jhmdb: Annotated[Path | None, typer.Option(help="Folder of JHMDB.")] = None,
    coco: Annotated[Path | None, typer.Option(help="Folder of COCO pictures.")] = None,
    macaque: Annotated[Path | None, typer.Option(help="Folder of MacaquePose, or its annotation file.")] = None,
    ap10k: Annotated[Path | None, typer.Option(help="Folder of AP-10K, or its annotation file.")] = None,
    scenes: Annotated[int, typer.Option(help="Scenes of the synthetic source, four pictures each.")] = 0,
    back_scenes: Annotated[int, typer.Option(help="Scenes of the source synthetic_backs, four pictures each.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads of the teacher, 0 for all.")] = 0,
) -> None:
    """Write the pictures and labels that training reads; with a teacher, the labels completed."""
    roots = {"coco": coco, "jhmdb": jhmdb, "lspet": lspet, "macaque": macaque, "ap10k": ap10k}
    for name, root in roots.items():
        if root is not None:
            store = store_of(cache, name, partial(_opened, name, root))
            if teacher is not None and name not in ANIMALS:
                complete(cache, store, teacher, Completion(), threads)
    if scenes:
        store_of(cache, "synthetic", partial(_drawn, scenes, 0.0))
    if back_scenes:
        store_of(cache, "synthetic_backs", partial(_drawn, back_scenes, BACKS))


if __name__ == "__main__":
    try:
        typer.run(prepare)
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"error: {error}")
