"""Public data sets of people with annotated keypoints, and the project's own synthetic one."""

from __future__ import annotations

from pathlib import Path

from pave_ros.datasets.base import Dataset, DatasetError, Labels, Sample, convert
from pave_ros.datasets.coco import LAYOUTS, open_coco

__all__ = ["Dataset", "DatasetError", "Labels", "Sample", "convert", "open_dataset"]


def open_dataset(name: str, root: str | Path = "", split: str = "val") -> Dataset:
    """One split of a data set.

    Args:
        name: e.g. ``coco``, see `NAMES`.
        root: the folder that the data set was unpacked to, in its published layout.
        split: e.g. ``train`` or ``val``, as the data set names it.

    Raises:
        DatasetError: an unknown name, or a data set that is not there or broken; the message says what is missing.
    """
    if name not in LAYOUTS:
        raise DatasetError(f"unknown data set {name!r}; known: {', '.join(LAYOUTS)}")
    return open_coco(LAYOUTS[name], Path(root).expanduser(), split)
