"""One dressed person: the pieces of a figure hung on the bones, ready to be posed and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pave_ros.synthetic.appearance import SHEET, Appearance, mipmaps
from pave_ros.synthetic.arrays import Array, Image, Indices
from pave_ros.synthetic.body import BONES, REST, keypoint_anchors
from pave_ros.synthetic.figure import joined, piece
from pave_ros.synthetic.light import Light
from pave_ros.synthetic.render import Mesh

DETAILS = (1.0, 1.5, 2.2)
"""Sizes of the mesh cells, relative to the finest, for people near and far."""


@dataclass(frozen=True)
class _Bound:
    """A mesh with its vertices and normals written in the frames of the bones."""

    faces: Indices
    uv: Array
    shade: Array
    points: Array
    normals: Array


class Person:
    """A person of a given appearance.

    Args:
        appearance: figure, build, clothes and texture.
    """

    def __init__(self, appearance: Appearance) -> None:
        self.appearance = appearance
        self.build = appearance.build
        self.keypoint_bones, self.keypoint_places = keypoint_anchors(self.build)
        self._bound: dict[float, _Bound] = {}
        self._prepared: set[tuple[str, float]] = set()

    @cached_property
    def atlases(self) -> list[Image]:
        return mipmaps(self.appearance.paint())

    def keypoints(self, rotations: Array, joints: Array) -> Array:
        """(..., 17, 3) COCO keypoints in world metres for bones (..., B, 3, 3) and (..., B, 3)."""
        bones = self.keypoint_bones
        return joints[..., bones, :] + np.einsum("...kij,kj->...ki", rotations[..., bones, :, :], self.keypoint_places)

    def mesh(self, rotations: Array, joints: Array, later: tuple[Array, Array], light: Light, pixel: float) -> Mesh:
        """The person in a pose.

        Args:
            rotations, joints: (B, 3, 3) and (B, 3) from `kinematics`; later: the same when the shutter closes.
            pixel: size of a pixel at the person in metres; it chooses how fine the mesh and the texture are.
        """
        bound = self._bind(_detail(pixel))
        now, then = _motion_matrix(rotations, joints), _motion_matrix(*later)
        moved = bound.points @ np.concatenate([now, then - now], 1)
        normals = bound.normals @ rotations.transpose(0, 2, 1).reshape(-1, 3)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
        level = int(np.clip(np.floor(np.log2(max(pixel, 1e-4) / 0.0028)), 0, len(self.atlases) - 1))
        return Mesh(
            vertices=moved[:, :3],
            faces=bound.faces,
            uv=bound.uv * np.float32(SHEET / 2**level) - np.float32(0.5),
            light=light.on(normals, bound.shade, light.reaching(moved[:, :3])),
            texture=self.atlases[level],
            motion=moved[:, 3:],
        )

    def prepare(self, pixel: float) -> bool:
        """Do a part of the work that the first `mesh` with such a pixel would need; False when nothing is left."""
        detail, look = _detail(pixel), self.appearance
        if detail in self._bound:
            return False
        for what, kind in look.pieces:
            if (what, detail) not in self._prepared:
                piece(look.figure, what, kind, detail)
                self._prepared.add((what, detail))
                return True
        self._bind(detail)
        return True

    def _bind(self, detail: float) -> _Bound:
        if detail not in self._bound:
            look = self.appearance
            parts = (piece(look.figure, what, kind, detail) for what, kind in look.pieces)
            mesh = joined(p for p in parts if p is not None)
            n, b = len(mesh.vertices), len(BONES)
            local = np.einsum("bij,vbj->vbi", self.build.scales, mesh.vertices[:, None] - REST)
            points = np.concatenate([local, np.ones((n, b, 1), np.float32)], 2) * mesh.weights[..., None]
            inverse = np.linalg.inv(self.build.scales).transpose(0, 2, 1)
            normals = np.einsum("bij,vj->vbi", inverse, mesh.normals) * mesh.weights[..., None]
            self._bound[detail] = _Bound(
                mesh.faces,
                mesh.uv,
                mesh.shade,
                points.reshape(n, -1).astype(np.float32),
                normals.reshape(n, -1).astype(np.float32),
            )
        return self._bound[detail]


def _detail(pixel: float) -> float:
    """The size of mesh cells for pixels of so many metres."""
    return DETAILS[int(np.clip(np.log2(max(pixel, 1e-4) / 0.004) * 1.3 + 1, 0, len(DETAILS) - 0.01))]


def _motion_matrix(rotations: Array, joints: Array) -> Array:
    """(4B, 3) matrix that takes points written in the bones' frames to the world."""
    return np.concatenate([rotations.transpose(0, 2, 1), joints[:, None]], 1).reshape(-1, 3)
