"""Smooth surfaces from signed distances: primitives, their blend, and the mesh of the zero level (surface nets)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pave_ros.synthetic.arrays import Array, Indices, Mask, Vector

Distance = Callable[[Array], Array]


@dataclass(frozen=True)
class Blob:
    """A capsule from `a` to `b` whose radius goes from `ra` to `rb`, squeezed by `squash` along (x, y, z).

    With a equal to b it is an ellipsoid. `clips` are half spaces (normal, offset) that cut it: what has
    normal . p > offset is taken away. Metres; `bone` names the bone that it belongs to.
    """

    bone: str
    a: Vector
    b: Vector
    ra: float
    rb: float
    squash: Vector = (1.0, 1.0, 1.0)
    clips: tuple[tuple[Vector, float], ...] = ()

    def distance(self, p: Array) -> Array:
        """(N,) approximate signed distance of points (N, 3), exact near the surface."""
        k = np.asarray(self.squash, np.float32)
        a, b = np.asarray(self.a, np.float32), np.asarray(self.b, np.float32)
        q, ab = (p - a) / k, (b - a) / k
        length = float(ab @ ab)
        h = np.clip(q @ ab / length, 0.0, 1.0) if length > 0 else np.zeros(len(p), np.float32)
        q -= h[:, None] * ab
        norm = np.sqrt(np.einsum("ni,ni->n", q, q)) + np.float32(1e-9)
        gradient = np.sqrt((q * q) @ (1 / k**2)) / norm if (k != 1).any() else np.float32(1)
        d = (norm - (self.ra + (self.rb - self.ra) * h)) / np.maximum(gradient, 1e-6)
        for normal, offset in self.clips:
            d = np.maximum(d, p @ np.asarray(normal, np.float32) - offset)
        return d.astype(np.float32)

    def grown(self, by: float) -> Blob:
        """The same, thicker by so many metres."""
        return replace(self, ra=self.ra + by, rb=self.rb + by)


def blend(blobs: Sequence[Blob], softness: float) -> Distance:
    """The union of all, with the seams rounded over about `softness` metres."""

    def distance(p: Array) -> Array:
        total = blobs[0].distance(p)
        for blob in blobs[1:]:
            d = blob.distance(p)
            mix = np.maximum(softness - np.abs(total - d), 0.0) if softness else 0.0
            total = np.minimum(total, d) - (mix * mix) / (4 * softness) if softness else np.minimum(total, d)
        return total

    return distance


def bounds(blobs: Sequence[Blob], margin: float) -> tuple[Array, Array]:
    """Corners (3,) of a box around all of them."""
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for blob in blobs:
        for end, radius in ((blob.a, blob.ra), (blob.b, blob.rb)):
            reach = radius * np.asarray(blob.squash) + margin
            low, high = np.minimum(low, end - reach), np.maximum(high, end + reach)
    return low.astype(np.float32), high.astype(np.float32)


_CORNERS = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1])


def mesh_of(distance: Distance, low: Array, high: Array, step: float) -> tuple[Array, Array, Indices]:
    """Vertices (V, 3), outward unit normals (V, 3) and triangles (F, 3) of the zero level inside a box.

    `step` is the cell size in metres. One vertex per cell that the surface crosses, pulled onto the surface.
    """
    shape = np.ceil((high - low) / step).astype(int) + 1
    axes = [low[i] + step * np.arange(shape[i], dtype=np.float32) for i in range(3)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    field = distance(grid).reshape(shape)
    inside = field < 0
    cells = np.lib.stride_tricks.sliding_window_view(inside, (2, 2, 2))
    count = cells.sum((3, 4, 5))
    active = np.argwhere((count > 0) & (count < 8))
    corner = active[:, None] + _CORNERS
    value = field[corner[..., 0], corner[..., 1], corner[..., 2]]
    va, vb = value[:, _EDGES[:, 0]], value[:, _EDGES[:, 1]]
    crossing = (va < 0) != (vb < 0)
    t = np.where(crossing, va / np.where(crossing, va - vb, 1), 0)[..., None]
    points = _CORNERS[_EDGES[:, 0]] * (1 - t) + _CORNERS[_EDGES[:, 1]] * t
    offset = (points * crossing[..., None]).sum(1) / crossing.sum(1)[:, None]
    vertices = (low + step * (active + offset)).astype(np.float32)
    normals = gradient(distance, vertices)
    for _ in range(2):
        vertices -= np.clip(distance(vertices), -step / 2, step / 2)[:, None] * normals
    index = np.full(count.shape, -1, np.int64)
    index[tuple(active.T)] = np.arange(len(active))
    return vertices, gradient(distance, vertices), _faces(inside, index)


def _faces(inside: Mask, index: Indices) -> Indices:
    """Two triangles for every grid edge that crosses the surface, joining the four cells around it."""
    triangles = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        grid = np.moveaxis(inside, (axis, u, v), (0, 1, 2))
        cells = np.moveaxis(index, (axis, u, v), (0, 1, 2))
        here, there = grid[:-1, 1:-1, 1:-1], grid[1:, 1:-1, 1:-1]
        i, j, k = np.nonzero(here != there)
        quad = np.stack([cells[i, j, k], cells[i, j + 1, k], cells[i, j + 1, k + 1], cells[i, j, k + 1]], 1)
        outward = here[i, j, k]
        quad = np.where(outward[:, None], quad, quad[:, ::-1])
        triangles += [quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]
    return np.concatenate(triangles).astype(np.int32)


def gradient(distance: Distance, p: Array, eps: float = 2e-3) -> Array:
    """(N, 3) unit direction in which the distance grows fastest."""
    steps = np.eye(3, dtype=np.float32) * eps
    g = np.stack([distance(p + s) - distance(p - s) for s in steps], -1)
    return (g / np.maximum(np.linalg.norm(g, axis=-1, keepdims=True), 1e-9)).astype(np.float32)
