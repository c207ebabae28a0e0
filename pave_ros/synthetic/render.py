"""A small software renderer in numpy: perspective camera, z-buffered triangles, textured and lit per vertex.

Pixel coordinates have x to the right and y down; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
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

    def project(self, points: npt.ArrayLike) -> tuple[Array, Array]:
        """Pixels (..., 2) and distances along the view (...) of points (..., 3); NaN for what is behind."""
        p = (np.asarray(points, np.float32) - np.asarray(self.position, np.float32)) @ self.axes.T
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
    faces: npt.NDArray[np.int32]
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

    pixels: npt.NDArray[np.intp]
    mesh: npt.NDArray[np.int32]
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
    faces = np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=False)])
    owner = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(m.faces) for m in meshes])
    corner = xy[faces]
    area = _doubled_area(corner)
    both = np.array([m.two_sided for m in meshes])[owner] if any(m.two_sided for m in meshes) else False
    shown = np.flatnonzero(((area < -1e-6) | (both & (area > 1e-6))) & np.isfinite(area))
    pixels, triangle, inverse = _visible(corner[shown], near[faces[shown]], camera.width, camera.height, behind)
    if not len(pixels):
        return Layer(pixels, owner[:0], inverse, np.zeros((0, 3), np.float32), None)
    face = shown[triangle]
    share = _shares(corner[face], near[faces[face]], pixels, camera.width)
    vertex = faces[face]
    mixed = np.einsum("nk,nkc->nc", share, values[vertex])
    mesh = owner[face]
    uv = np.einsum("nk,nkc->nc", share, np.concatenate([m.uv for m in meshes])[face])
    color = np.empty((len(pixels), 3), np.float32)
    for k, m in enumerate(meshes):
        chosen = np.flatnonzero(mesh == k)
        if not len(chosen):
            continue
        color[chosen] = _sample(m.texture, uv[chosen]) * mixed[chosen, :3]
    return Layer(pixels, mesh, inverse, color, mixed[:, 3:] if with_motion else None)


def _doubled_area(corner: Array) -> Array:
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _visible(
    corner: Array, near: Array, width: int, height: int, behind: Array | None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """The nearest triangle at every pixel.

    Triangles (T, 3, 2) with 1 / distance (T, 3) are cut into rows, rows into pixels, all at once. Returns pixels (N,),
    triangles (N,) and 1 / distance (N,).
    """
    x, y = corner[..., 0], corner[..., 1]
    top = np.maximum(np.ceil(y.min(1)), 0).astype(np.int32)
    rows = np.minimum(np.floor(y.max(1)), height - 1).astype(np.int32) - top + 1
    kept = np.flatnonzero((rows > 0) & (x.max(1) >= 0) & (x.min(1) <= width - 1))
    x, y, near, top, rows = x[kept], y[kept], near[kept], top[kept], rows[kept]
    nx, ny = np.roll(x, -1, 1), np.roll(y, -1, 1)
    a, b = y - ny, nx - x
    sign = np.sign(_doubled_area(np.stack([x, y], -1)))[:, None]
    a, b = a * sign, b * sign
    level = a == 0
    slope = np.where(level, 0, -b / np.where(level, 1, a))
    at_zero = x - slope * y
    plane = _depth_plane(x, y, near)
    lower = np.where(a > 0, at_zero, -1e9), np.where(a > 0, slope, 0)
    upper = np.where(a < 0, at_zero, 1e9), np.where(a < 0, slope, 0)
    table = np.concatenate([*lower, *upper, plane], 1).astype(np.float32)

    span_triangle = np.repeat(np.arange(len(kept)), rows)
    first = np.cumsum(rows) - rows
    line = (np.arange(len(span_triangle)) - first[span_triangle] + top[span_triangle]).astype(np.float32)
    t = table[span_triangle]
    low = (t[:, 0:3] + t[:, 3:6] * line[:, None]).max(1)
    high = (t[:, 6:9] + t[:, 9:12] * line[:, None]).min(1)
    start = np.maximum(np.ceil(low), 0)
    count = (np.minimum(np.floor(high), width - 1) - start + 1).astype(np.int32)
    spans = np.flatnonzero(count > 0)
    start, count, line, t = start[spans], count[spans], line[spans], t[spans]
    at_start = t[:, 12] * start + t[:, 13] * line + t[:, 14]

    span = np.repeat(np.arange(len(spans), dtype=np.int32), count)
    step = (np.arange(len(span)) - (np.cumsum(count) - count)[span]).astype(np.float32)
    pixel = (line * width + start).astype(np.intp)[span] + step.astype(np.intp)
    inverse = at_start[span] + t[:, 12][span] * step
    if behind is not None:
        seen = np.flatnonzero(inverse > behind[pixel])
        span, pixel, inverse = span[seen], pixel[seen], inverse[seen]
    order = np.argsort(inverse, kind="stable")
    winner = np.full(width * height, -1, np.int64)
    winner[pixel[order]] = order
    pixels = np.flatnonzero(winner >= 0)
    chosen = winner[pixels]
    return pixels, kept[span_triangle[spans[span[chosen]]]], inverse[chosen]


def _depth_plane(x: Array, y: Array, near: Array) -> Array:
    """(T, 3) coefficients of 1 / distance as p x + q y + r over every triangle."""
    x1, x2, y1, y2 = x[:, 1] - x[:, 0], x[:, 2] - x[:, 0], y[:, 1] - y[:, 0], y[:, 2] - y[:, 0]
    n1, n2 = near[:, 1] - near[:, 0], near[:, 2] - near[:, 0]
    det = x1 * y2 - x2 * y1
    p, q = (n1 * y2 - n2 * y1) / det, (x1 * n2 - x2 * n1) / det
    # Slivers that are seen edge on must not shoot towards the camera.
    limit = 0.5 * np.abs(near).max(1)
    p, q = np.clip(p, -limit, limit), np.clip(q, -limit, limit)
    return np.stack([p, q, near[:, 0] - p * x[:, 0] - q * y[:, 0]], 1)


def _shares(corner: Array, near: Array, pixels: npt.NDArray[np.intp], width: int) -> Array:
    """(N, 3) perspective-correct share of a triangle's corners in a pixel, at least 0, sum 1."""
    at = np.stack([pixels % width, pixels // width], -1).astype(np.float32)
    to = corner - at[:, None]
    x, y = to[..., 0], to[..., 1]
    nx, ny = x[:, [1, 2, 0]], y[:, [1, 2, 0]]
    opposite = x * ny - nx * y
    share = np.maximum(opposite[:, [1, 2, 0]] * np.sign(opposite.sum(1, keepdims=True)), 0) * near
    return share / np.maximum(share.sum(1, keepdims=True), 1e-12)


def _sample(texture: Image, uv: Array) -> Array:
    """(N, 3) colours of the repeating texture at (N, 2) texels, bilinear."""
    if texture.shape[:2] == (1, 1):
        return np.broadcast_to(texture[0, 0].astype(np.float32), (len(uv), 3))
    n, across = len(uv), 512
    rows = -(-n // across)
    maps = np.zeros((rows * across, 2), np.float32)
    maps[:n] = uv
    maps = maps.reshape(rows, across, 2)
    sampled = [
        cv2.remap(texture, maps[r : r + 16000], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        for r in range(0, rows, 16000)
    ]
    return np.concatenate(sampled).reshape(-1, 3)[:n].astype(np.float32)
