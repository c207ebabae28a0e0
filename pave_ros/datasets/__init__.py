"""Public data sets of people, and animals, with annotated keypoints, and the project's own synthetic one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pave_ros.datasets.base import Dataset, DatasetError, Labels, Sample, convert
from pave_ros.datasets.coco import AP10K, COCO, CROWDPOSE, MACAQUE, open_coco
from pave_ros.datasets.jhmdb import open_jhmdb
from pave_ros.datasets.lsp import LSP, open_lsp
from pave_ros.datasets.posetrack import POSETRACK, open_posetrack

__all__ = ["READERS", "Dataset", "DatasetError", "Labels", "Sample", "convert", "open_dataset"]


def _open_synthetic(root: Path, split: str) -> Dataset:
    from pave_ros.datasets.synthetic import SyntheticDataset

    return SyntheticDataset(split)


READERS: Mapping[str, Callable[[Path, str], Dataset]] = {
    **{layout.name: partial(open_coco, layout) for layout in (COCO, CROWDPOSE, MACAQUE, AP10K)},
    **{name: partial(open_posetrack, layout) for name, layout in POSETRACK.items()},
    "jhmdb": open_jhmdb,
    **{name: partial(open_lsp, layout) for name, layout in LSP.items()},
    "synthetic": _open_synthetic,
}


def open_dataset(name: str, root: str | Path = ".", split: str = "val") -> Dataset:
    """One split of a data set.

    Args:
        name: one of `READERS`, e.g. ``coco``.
        root: the folder that the data set was unpacked to, in its published layout, see docs/datasets.md. The
            synthetic scene needs none.
        split: e.g. ``train`` or ``val``, as the data set names it.

    Raises:
        DatasetError: an unknown name, or a data set that is not there or broken; the message says what is missing.
    """
    if name not in READERS:
        raise DatasetError(f"unknown data set {name!r}; known: {', '.join(READERS)}")
    return READERS[name](Path(root).expanduser(), split)
