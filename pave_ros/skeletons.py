"""Keypoint layouts as data: names, limbs, left/right mirror and OKS sigmas.

Sources: COCO keypoint evaluation (sigmas k_i / 2), CrowdPose's evaluation code, PoseTrack 2017 and 2018, AP-10K.
PoseTrack publishes no sigmas; the head takes the values that its common tools use (nose .026, neck and
head top .079), the rest are COCO's. LSP and JHMDB publish none either; their head and belly take the values of the
neck and the hips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """One keypoint layout of K keypoints.

    Attributes:
        name: short unique name, e.g. ``coco17``.
        keypoints: K names in the order of the arrays, ``left_*`` and ``right_*`` from the person's view.
        edges: limbs to draw, as pairs of keypoint indices.
        sigmas: K per-keypoint OKS standard deviations, relative to the square root of the person's area.
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    def index(self, keypoint: str) -> int:
        """Index of a keypoint name; KeyError lists the names when it is unknown."""
        try:
            return self.keypoints.index(keypoint)
        except ValueError:
            raise KeyError(f"{self.name} has no keypoint {keypoint!r}; it has {', '.join(self.keypoints)}") from None

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The keypoints' names without their side."""
        return tuple(_part(name) for name in self.keypoints)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For every keypoint the index that it takes in a left/right flipped picture."""
        swap = {"left": "right", "right": "left"}
        flipped = []
        for name in self.keypoints:
            side, _, part = name.partition("_")
            flipped.append(self.index(f"{swap[side]}_{part}") if side in swap else self.index(name))
        return tuple(flipped)


def _part(name: str) -> str:
    return name.removeprefix("left_").removeprefix("right_")


_SIGMA = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089, "neck": 0.079, "head_bottom": 0.079, "head_top": 0.079, "top_head": 0.079,
    "face": 0.079, "belly": 0.107,
}  # fmt: skip

_LIMBS = (
    "nose-left_eye", "nose-right_eye", "left_eye-left_ear", "right_eye-right_ear",
    "head_top-nose", "nose-head_bottom", "top_head-neck", "head_top-neck",
    "face-neck", "neck-belly", "belly-left_hip", "belly-right_hip",
    "head_bottom-left_shoulder", "head_bottom-right_shoulder", "neck-left_shoulder", "neck-right_shoulder",
    "left_ear-left_shoulder", "right_ear-right_shoulder", "left_shoulder-right_shoulder",
    "left_shoulder-left_elbow", "left_elbow-left_wrist", "right_shoulder-right_elbow", "right_elbow-right_wrist",
    "left_shoulder-left_hip", "right_shoulder-right_hip", "left_hip-right_hip",
    "left_hip-left_knee", "left_knee-left_ankle", "right_hip-right_knee", "right_knee-right_ankle",
)  # fmt: skip


_ANIMAL_LIMBS = (
    "left_eye-right_eye", "left_eye-nose", "right_eye-nose", "nose-neck", "neck-root_of_tail",
    "neck-left_shoulder", "neck-right_shoulder", "left_shoulder-left_elbow", "right_shoulder-right_elbow",
    "left_elbow-left_front_paw", "right_elbow-right_front_paw", "root_of_tail-left_hip", "root_of_tail-right_hip",
    "left_hip-left_knee", "right_hip-right_knee", "left_knee-left_back_paw", "right_knee-right_back_paw",
)  # fmt: skip

_ANIMAL_SIGMA = {**_SIGMA, "neck": 0.035, "root_of_tail": 0.035, "front_paw": 0.062, "back_paw": 0.089}


def _skeleton(name: str, names: str, limbs: tuple[str, ...] = _LIMBS, sigma: Mapping[str, float] = _SIGMA) -> Skeleton:
    """The layout of space separated keypoint names; a part named ``~x`` stands for ``left_x right_x``."""
    keypoints: list[str] = []
    for word in names.split():
        keypoints += [f"left_{word[1:]}", f"right_{word[1:]}"] if word[0] == "~" else [word]
    pairs = (limb.split("-") for limb in limbs)
    edges = tuple((keypoints.index(a), keypoints.index(b)) for a, b in pairs if a in keypoints and b in keypoints)
    sigmas = tuple(sigma[_part(name)] for name in keypoints)
    return Skeleton(name, tuple(keypoints), edges, sigmas)


SKELETONS: dict[str, Skeleton] = {
    skeleton.name: skeleton
    for skeleton in (
        _skeleton("coco17", "nose ~eye ~ear ~shoulder ~elbow ~wrist ~hip ~knee ~ankle"),
        _skeleton("posetrack15", "nose head_bottom head_top ~shoulder ~elbow ~wrist ~hip ~knee ~ankle"),
        _skeleton("posetrack17", "nose head_bottom head_top ~ear ~shoulder ~elbow ~wrist ~hip ~knee ~ankle"),
        _skeleton("crowdpose14", "~shoulder ~elbow ~wrist ~hip ~knee ~ankle top_head neck"),
        _skeleton(
            "lsp14",
            "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
            "left_shoulder left_elbow left_wrist neck head_top",
        ),
        _skeleton(
            "jhmdb15",
            "neck belly face right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow right_knee "
            "left_knee right_wrist left_wrist right_ankle left_ankle",
        ),
        _skeleton(
            "ap10k17",
            "~eye nose neck root_of_tail left_shoulder left_elbow left_front_paw right_shoulder right_elbow "
            "right_front_paw left_hip left_knee left_back_paw right_hip right_knee right_back_paw",
            _ANIMAL_LIMBS,
            _ANIMAL_SIGMA,
        ),
    )
}


def get(name: str) -> Skeleton:
    """The skeleton of this name; KeyError lists the known ones."""
    try:
        return SKELETONS[name]
    except KeyError:
        raise KeyError(f"unknown skeleton {name!r}; known: {', '.join(SKELETONS)}") from None
