"""A small software renderer in numpy: perspective camera, z-buffered triangles, textured and lit per vertex.

Pixel coordinates have x to the right and y down; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros.synthetic.arrays import Array, Image, Indices

NEAR = 0.15
"""Distance in metres before which nothing is drawn."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the origin that looks along -z.

    Attributes:
        width, height: size of the picture in pixels.
        focal: focal length in pixels.
        position: (3,) metres; pitch: radians, positive looks down; roll: radians.
    """

    width: int
    height: int
    focal: float
    position: tuple[float, float, float]
    pitch: float = 0.0
    roll: float = 0.0

    @property
    def axes(self) -> Array:
        """(3, 3) world directions of the picture's right, of its down, and of the view, as rows."""
        s, c = np.sin(self.pitch), np.cos(self.pitch)
        right, down, ahead = np.array([1.0, 0, 0]), np.array([0, -c, s]), np.array([0, -s, -c])
        s, c = np.sin(self.roll), np.cos(self.roll)
        return np.stack([c * right + s * down, c * down - s * right, ahead]).astype(np.float32)

    def seen_from(self, points: npt.ArrayLike) -> Array:
        """Points (..., 3) of the world in metres to the camera's right, below and ahead of it."""
        return np.asarray((np.asarray(points, np.float32) - np.asarray(self.position, np.float32)) @ self.axes.T)

    def project(self, points: npt.ArrayLike) -> tuple[Array, Array]:
        """Pixels (..., 2) and distances along the view (...) of points (..., 3); NaN for what is behind."""
        p = self.seen_from(points)
        depth = p[..., 2]
        safe = np.where(depth > NEAR, depth, np.nan)
        centre = np.array([(self.width - 1) / 2, (self.height - 1) / 2], np.float32)
        return p[..., :2] * (self.focal / safe)[..., None] + centre, depth

    def rays(self) -> Array:
        """(H, W, 3) unit directions through the pixels."""
        x, y = np.meshgrid(np.arange(self.width, dtype=np.float32), np.arange(self.height, dtype=np.float32))
        local = np.stack(
            [(x - (self.width - 1) / 2) / self.focal, (y - (self.height - 1) / 2) / self.focal, np.ones_like(x)], -1
        )
        rays = local @ self.axes
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)

    def scaled(self, factor: int) -> Camera:
        """The same view with so many times the pixels each way."""
        return Camera(
            self.width * factor, self.height * factor, self.focal * factor, self.position, self.pitch, self.roll
        )


@dataclass(frozen=True)
class Mesh:
    """Something to draw.

    Attributes:
        vertices: (V, 3) world metres; faces: (F, 3).
        uv: (F, 3, 2) texture coordinates of the corners in texels; the texture repeats.
        light: (V, 3) RGB light on every vertex, 1 shows the texture as it is.
        texture: (h, w, 3) uint8 RGB.
        motion: (V, 3) metres that a vertex moves while the shutter is open, or None.
        two_sided: whether the back of the triangles is drawn too.
    """

    vertices: Array
    faces: Indices
    uv: Array
    light: Array
    texture: Image
    motion: Array | None = None
    two_sided: bool = False


@dataclass(frozen=True)
class Layer:
    """What was drawn, for the N pixels that show something.

    Attributes:
        pixels: (N,) flat index y * width + x; mesh: (N,) which mesh is seen there.
        near: (N,) 1 / distance; color: (N, 3) float32, 0..255 before the exposure; motion: (N, 2) pixels, or None.
    """

    pixels: Indices
    mesh: Indices
    near: Array
    color: Array
    motion: Array | None


def render(meshes: Sequence[Mesh], camera: Camera, behind: Array | None = None) -> Layer:
    """Draw meshes with correct mutual occlusion.

    Args:
        behind: (H * W,) 1 / distance of what is already there and hides what lies behind it.
    """
    with_motion = any(m.motion is not None for m in meshes)
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    xy, depth = camera.project(np.concatenate([m.vertices for m in meshes]))
    near = (1 / np.maximum(depth, NEAR)).astype(np.float32)
    values = np.concatenate([m.light for m in meshes])
    if with_motion:
        moved, _ = camera.project(np.concatenate([m.vertices + (0 if m.motion is None else m.motion) for m in meshes]))
        values = np.concatenate([values, np.nan_to_num(moved - xy)], 1)
    faces = np.concatenate([m.faces + np.int32(start) for m, start in zip(meshes, starts, strict=False)])
    first = np.cumsum([0] + [len(m.faces) for m in meshes])
    corners = _Corners.take(xy, near, faces)
    area = corners.doubled_area()
    front = area < -1e-6
    for k, m in enumerate(meshes):
        if m.two_sided:
            part = slice(first[k], first[k + 1])
            front[part] |= area[part] > 1e-6
    shown = np.flatnonzero(front)
    pixels, triangle, inverse = _visible(corners[shown], area[shown], camera.width, camera.height, behind)
    face = shown[triangle]
    owner = np.repeat(np.arange(len(meshes), dtype=np.int32), np.diff(first))
    mesh = owner[face]
    share = corners[face].shares(pixels, camera.width)
    mixed = np.einsum("kn,nkc->nc", share, values[faces[face]])
    color = np.empty((len(pixels), 3), np.float32)
    for k, m in enumerate(meshes):
        chosen = np.flatnonzero(mesh == k)
        if len(chosen):
            uv = np.einsum("kn,nkc->nc", share[:, chosen], m.uv[face[chosen] - first[k]])
            color[chosen] = _sample(m.texture, uv) * mixed[chosen, :3]
    return Layer(pixels, mesh, inverse, color, mixed[:, 3:] if with_motion else None)


@dataclass(frozen=True)
class _Corners:
    """The corners of T triangles as columns: x, y in pixels and near, 1 / distance, each (3, T)."""

    x: Array
    y: Array
    near: Array

    @classmethod
    def take(cls, xy: Array, near: Array, faces: Indices) -> _Corners:
        columns = np.ascontiguousarray(faces.T)
        x, y = np.ascontiguousarray(xy[:, 0]), np.ascontiguousarray(xy[:, 1])
        return cls(x[columns], y[columns], near[columns])

    def __getitem__(self, index: Indices) -> _Corners:
        return _Corners(self.x[:, index], self.y[:, index], self.near[:, index])

    def doubled_area(self) -> Array:
        """(T,) twice the area, negative where the front is seen; NaN where a corner is behind the camera."""
        x, y = self.x, self.y
        return (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])

    def plane(self, area: Array) -> tuple[Array, Array, Array]:
        """Coefficients of 1 / distance as p x + q y + r over every triangle."""
        x, y, near = self.x, self.y, self.near
        n1, n2 = near[1] - near[0], near[2] - near[0]
        p = (n1 * (y[2] - y[0]) - n2 * (y[1] - y[0])) / area
        q = ((x[1] - x[0]) * n2 - (x[2] - x[0]) * n1) / area
        # Slivers that are seen edge on must not shoot towards the camera.
        limit = 0.5 * near.max(0)
        p, q = np.clip(p, -limit, limit), np.clip(q, -limit, limit)
        return p, q, near[0] - p * x[0] - q * y[0]

    def shares(self, pixels: Indices, width: int) -> Array:
        """(3, T) perspective-correct share of each corner in one pixel per triangle, at least 0, sum 1."""
        row = pixels // width
        x = self.x - (pixels - row * width).astype(np.float32)
        y = self.y - row.astype(np.float32)
        opposite = np.stack([x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]])
        opposite *= np.sign(opposite[0] + opposite[1] + opposite[2])
        share = np.maximum(opposite, 0) * self.near
        return share / np.maximum(share[0] + share[1] + share[2], 1e-12)


def _visible(
    corners: _Corners, area: Array, width: int, height: int, behind: Array | None
) -> tuple[Indices, Indices, Array]:
    """The nearest triangle at every pixel: pixels (N,), triangles (N,) and 1 / distance (N,).

    Triangles are cut into rows, rows into pixels, all at once.
    """
    x, y = corners.x, corners.y
    top = np.ceil(np.maximum(np.minimum(np.minimum(y[0], y[1]), y[2]), 0)).astype(np.int32)
    bottom = np.floor(np.minimum(np.maximum(np.maximum(y[0], y[1]), y[2]), height - 1)).astype(np.int32)
    left, right = np.minimum(np.minimum(x[0], x[1]), x[2]), np.maximum(np.maximum(x[0], x[1]), x[2])
    kept = np.flatnonzero((bottom >= top) & (right >= 0) & (left <= width - 1) & (np.floor(right) >= left))
    corners, area, top, rows = corners[kept], area[kept], top[kept], (bottom - top + 1)[kept]
    triangle = np.repeat(np.arange(len(kept)), rows)
    line = (np.arange(len(triangle)) - np.repeat(np.cumsum(rows) - rows - top, rows)).astype(np.float32)

    low, high = np.full(len(line), -1e8, np.float32), np.full(len(line), 1e8, np.float32)
    sign = np.sign(area)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        a = (corners.y[i] - corners.y[j]) * sign
        level = a == 0
        slope = np.where(level, 0, (corners.x[i] - corners.x[j]) * sign / np.where(level, 1, a))
        at_zero = np.where(level, np.float32(1e9), corners.x[i] - slope * corners.y[i])
        # An edge bounds the row from the left or from the right; the other bound is moved out of the way, and both
        # are for a level edge.
        apart = np.where(a > 0, np.float32(0), np.float32(-1e9))[triangle]
        bound = slope[triangle] * line + at_zero[triangle]
        np.maximum(low, bound + apart, out=low)
        np.minimum(high, bound + (apart + np.float32(1e9)), out=high)
    start = np.maximum(np.ceil(low), 0)
    count = (np.minimum(np.floor(high), width - 1) - start + 1).astype(np.int32)
    spans = np.flatnonzero(count > 0)
    start, count, line, triangle = start[spans], count[spans], line[spans], triangle[spans]
    p, q, r = (column[triangle] for column in corners.plane(area))
    at_start = p * start + q * line + r

    step = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    # In whole numbers: float32 cannot count the pixels of a picture larger than 4096 x 4096.
    pixel = np.repeat(line.astype(np.intp) * width + start.astype(np.intp), count) + step
    inverse = np.repeat(at_start, count) + np.repeat(p, count) * step.astype(np.float32)
    owner = np.repeat(triangle, count)
    if behind is not None:
        seen = np.flatnonzero(inverse > behind[pixel])
        owner, pixel, inverse = owner[seen], pixel[seen], inverse[seen]
    nearest = np.zeros(width * height, np.float32)
    np.maximum.at(nearest, pixel, inverse)
    front = np.flatnonzero(inverse == nearest[pixel])
    winner = np.full(width * height, -1, np.intp)
    winner[pixel[front]] = owner[front]
    pixels = np.flatnonzero(winner >= 0)
    return pixels, kept[winner[pixels]], nearest[pixels]


def _sample(texture: Image, uv: Array) -> Array:
    """(N, 3) colours of the repeating texture at (N, 2) texels, bilinear."""
    if texture.shape[:2] == (1, 1):
        return np.broadcast_to(texture[0, 0].astype(np.float32), (len(uv), 3))
    n, across = len(uv), 512
    rows = -(-n // across)
    x, y = np.zeros((2, rows * across), np.float32)
    x[:n], y[:n] = uv.T
    x, y = x.reshape(rows, across), y.reshape(rows, across)
    limit = 16000  # rows that remap takes at once
    sampled = [
        cv2.remap(texture, x[r : r + limit], y[r : r + limit], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for r in range(0, rows, limit)
    ]
    return np.concatenate(sampled).reshape(-1, 3)[:n].astype(np.float32)
