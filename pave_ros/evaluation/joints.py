"""Keypoints in the groups that the tables of PoseTrack, JHMDB and LSP have."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pave_ros.skeletons import Skeleton

GROUPS = ("Head", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle")
_HEAD = {"nose", "eye", "ear", "face", "head_top", "top_head", "head_bottom", "neck"}
_ONLY_HEAD = {"jhmdb15": {"face"}}  # its tables count the neck, like the belly, in the mean only


def by_group(values: npt.NDArray[np.float64], skeleton: Skeleton) -> dict[str, float]:
    """Means of per-keypoint values (K,) over each group, and ``Mean`` over all keypoints; NaN values do not count."""
    head = _ONLY_HEAD.get(skeleton.name, _HEAD)
    members = {group: [part == group.lower() for part in skeleton.parts] for group in GROUPS}
    members["Head"] = [part in head for part in skeleton.parts]
    means = {group: _mean(values[np.array(chosen)]) for group, chosen in members.items()}
    return {**means, "Mean": _mean(values)}


def _mean(values: npt.NDArray[np.float64]) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
