"""The light of a place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pave_ros.synthetic.arrays import Array


@dataclass(frozen=True)
class Light:
    """The light of a place, RGB, 1 shows a surface in its own colour.

    Attributes:
        direction: (3,) unit vector towards the sun or lamp; sun: its colour.
        above, below: light from the sky or ceiling, and thrown back by the ground.
    """

    direction: Array
    sun: Array
    above: Array
    below: Array

    @property
    def share_on_ground(self) -> float:
        """How much of the light on the ground comes from the sun or lamp, 0..1; so dark are shadows."""
        direct = float(self.sun.mean() * self.direction[1])
        return 0.9 * direct / (direct + float(self.above.mean()))

    def on(self, normals: Array, shade: Array | float = 1.0, lit: Array | float = 1.0) -> Array:
        """(V, 3) light on surfaces with these normals; `shade` scales the light from around, `lit` the sun's."""
        facing = normals @ self.direction
        facing = np.maximum(facing, 0) * 0.9 + np.maximum(facing + 0.3, 0) * 0.08
        up = (normals[:, 1:2] + 1) / 2
        around = (self.below + (self.above - self.below) * up) * np.reshape(shade, (-1, 1))
        return (around + self.sun * (facing * lit)[:, None]).astype(np.float32)

    def reaching(self, vertices: Array, cell: float = 0.045) -> Array:
        """(V,) 0..1 how much of the sun's light gets past the other parts of a body to its vertices; the body is
        looked at from the sun, on a grid of so many metres."""
        side = np.cross(self.direction, (0.0, 0.0, 1.0)).astype(np.float32)
        side /= np.linalg.norm(side)
        axes = np.stack([side, np.cross(self.direction, side), self.direction]).astype(np.float32)
        u, v, height = axes @ vertices.T
        column, row = ((u - u.min()) / cell).astype(np.intp) + 1, ((v - v.min()) / cell).astype(np.intp) + 1
        grid = np.full((int(row.max()) + 2, int(column.max()) + 2), -1e3, np.float32)
        np.maximum.at(grid, (row, column), height)
        above = cv2.blur(cv2.dilate(grid, np.ones((2, 2), np.uint8)), (2, 2))[row, column] - height
        return np.clip(1.6 - above / 0.09, 0.0, 1.0).astype(np.float32)
