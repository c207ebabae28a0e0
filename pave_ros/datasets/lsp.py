"""Leeds Sports Pose and its extended training set: small pictures of one annotated person each, 14 joints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pave_ros import skeletons
from pave_ros.datasets.base import Dataset, DatasetError, Labels, ListedDataset, Sample, split_of
from pave_ros.datasets.coco import SINGLE_FILE, open_single
from pave_ros.datasets.coco import Layout as CocoLayout
from pave_ros.datasets.files import broken_entries, first_existing, picture_size, read_mat, read_rgb
from pave_ros.persons import Floats


@dataclass(frozen=True)
class Layout:
    """One of the two data sets.

    Attributes:
        name: as `open_dataset` knows it.
        picture: name of picture n, which counts from 1.
        mark: the third number of a joint that is visible; LSP stores 1 for hidden joints, LSPET 1 for visible ones.
        hidden: visibility of the other joints; LSP places them, LSPET does not.
        source: where to get it.
    """

    name: str
    picture: str
    mark: int
    hidden: int
    source: str


LSP = {
    layout.name: layout
    for layout in (
        Layout("lsp", "images/im{:04d}.jpg", 0, 1, "http://sam.johnson.io/research/lsp.html"),
        Layout("lspet", "images/im{:05d}.jpg", 1, 0, "http://sam.johnson.io/research/lspet.html"),
    )
}


def open_lsp(layout: Layout, root: Path, split: str) -> Dataset:
    """One split of LSP or LSPET.

    Args:
        layout: which of the two.
        root: the folder with ``joints.mat`` and ``images``; or with ``annotations_coco17.json`` and ``images`` or
            ``images.tar``, whose labels are then in COCO's layout with the face left out.
        split: of LSP ``train`` (the first half, as published) or ``test`` (``val`` is the same), of LSPET, which was
            published as training data, ``train`` or ``val``, see `held_out`; ``all`` of either.
    """
    if (root / SINGLE_FILE).exists():
        return open_single(CocoLayout(layout.name, "coco17", (), (), layout.source, complete=False), root, split)
    path = first_existing(root, ["joints.mat"], layout.source)
    joints = _joints(path, layout)
    samples = []
    for i in _indices(layout, len(joints), split):
        picture = root / layout.picture.format(i + 1)
        labels = Labels.from_keypoints(joints[i : i + 1], "lsp14", complete=False)
        samples.append(Sample(i + 1, *picture_size(picture), labels, partial(read_rgb, picture)))
    return ListedDataset(layout.name, skeletons.get("lsp14"), samples)


def _joints(path: Path, layout: Layout) -> Floats:
    """(N, 14, 3) of x, y, visibility."""
    with broken_entries(path):
        stored = read_mat(path)["joints"]
        stored = stored.reshape(*stored.shape[:2], -1)  # a single picture comes without the last axis
        if sorted(stored.shape[:2]) != [3, 14]:
            raise DatasetError(f"{path}: joints of shape {stored.shape}, expected (3, 14, N) or (14, 3, N)")
        joints = stored.transpose((2, 1, 0) if stored.shape[0] == 3 else (2, 0, 1)).astype(np.float32)
    joints[..., 2] = np.where(joints[..., 2] == layout.mark, 2, layout.hidden)
    return joints


def _indices(layout: Layout, count: int, split: str) -> list[int]:
    if layout.name == "lsp" and split in ("train", "test", "val"):
        half = count // 2
        return list(range(half)) if split == "train" else list(range(half, count))
    return [i for i in range(count) if split_of(str(i + 1), split)]
