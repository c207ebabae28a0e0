"""The people of a batch beside what a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pave_ros.training.matching import Matches, keypoint_similarity, people_of
from pave_ros.training.target import Target


@dataclass(frozen=True)
class People:
    """Those who were matched, over all pictures: keypoints (M, K, 2), labelled (M, K), areas (M,)."""

    keypoints: Tensor
    labelled: Tensor
    areas: Tensor

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True)
class Truth:
    """What is to be learned from a batch.

    Attributes:
        targets: one for each picture.
        sigmas: (K,) of OKS.
        size: (width, height) of the pictures, pixels.
    """

    targets: Sequence[Target]
    sigmas: Tensor
    size: tuple[int, int]

    def of(self, matches: Matches) -> People:
        """The matched people, picture after picture."""
        return People(*people_of(self.targets, matches, "keypoints", "labelled", "areas"))

    def similarity(self, poses: Tensor, keypoints: Tensor, labelled: Tensor, areas: Tensor) -> Tensor:
        """OKS as of `keypoint_similarity`, of poses and areas that are shares of the picture, in pixels: in a picture
        that is wider than high, a share of its width is further than one of its height."""
        scale = poses.new_tensor(self.size)
        return keypoint_similarity(poses * scale, keypoints * scale, labelled, areas * scale.prod(), self.sigmas)
