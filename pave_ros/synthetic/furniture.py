"""What stands in a place: planes and boxes, leaves, rounded solids, and the furniture, trees and cars made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pave_ros.synthetic import texture
from pave_ros.synthetic.arrays import Array, Image, Rng, Vector
from pave_ros.synthetic.light import Light
from pave_ros.synthetic.motion import Station
from pave_ros.synthetic.render import Mesh
from pave_ros.synthetic.surface import Blob, blend, bounds, mesh_of


@dataclass
class Place:
    """A place while it is being furnished.

    Attributes:
        light: what shines; outdoors: whether the sky is seen.
        meshes: all that stands there, the ground first.
        shadows: outlines (n, 2) of x, z on the ground, metres, that lie in the shade of furniture.
    """

    light: Light
    outdoors: bool
    meshes: list[Mesh] = field(default_factory=list)
    shadows: list[Array] = field(default_factory=list)


def quad(
    place: Place,
    origin: Vector,
    along: Vector,
    up: Vector,
    image: Image,
    size: tuple[float, float] | None = None,
    cells: int = 1,
    gain: Array | float = 1.0,
) -> None:
    """Add a rectangle that spans `along` and `up` from its origin; its front is where along x up points.

    `size` is what one repeat of the texture covers in metres either way; None stretches it over the whole.
    """
    corner, u, v = (np.asarray(a, np.float32) for a in (origin, along, up))
    s, t = np.meshgrid(np.linspace(0, 1, cells + 1, dtype=np.float32), np.linspace(0, 1, cells + 1, dtype=np.float32))
    vertices = corner + s.reshape(-1, 1) * u + t.reshape(-1, 1) * v
    i = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    faces = np.concatenate([np.stack([i, i + 1, i + cells + 2], 1), np.stack([i, i + cells + 2, i + cells + 1], 1)])
    h, w = image.shape[:2]
    lengths = np.linalg.norm(u), np.linalg.norm(v)
    ru, rv = (lengths[0] / size[0], lengths[1] / size[1]) if size else (1, 1)
    uv = np.stack([s.ravel() * ru * (w if size else w - 1), (1 - t.ravel()) * rv * (h if size else h - 1)], 1)
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    light = place.light.on(np.repeat(normal[None].astype(np.float32), len(vertices), 0)) * gain
    if cells > 1 and not place.outdoors:
        light *= _falloff(vertices)
    place.meshes.append(
        Mesh(
            vertices,
            faces.astype(np.int32),
            uv[faces].astype(np.float32),
            light.astype(np.float32),
            image,
            two_sided=True,
        )
    )


def _hull(points: Array) -> Array:
    """Outline (n, 2) around points (N, 2)."""
    return cv2.convexHull(np.ascontiguousarray(points))[:, 0].astype(np.float32)


def _falloff(vertices: Array) -> Array:
    """(V, 1) how the light of a room's lamps differs from place to place: brighter in the middle."""
    x, y, z = vertices.T
    lamps = 0.8 + 0.3 * np.exp(-((x / 5) ** 2 + ((z + 4) / 4) ** 2)) + 0.08 * np.cos(x * 2.6) * np.clip(y / 3, 0, 1)
    return lamps[:, None].astype(np.float32)


def box(
    place: Place,
    center: tuple[float, float],
    size: tuple[float, float, float],
    image: Image,
    base: float = 0.0,
    yaw: float = 0.0,
    repeat: float | None = None,
    shadow: bool = True,
    top: Image | None = None,
) -> None:
    """Add a box standing at (x, z) with its lower side `base` metres up; size is width (x), height, depth (z)."""
    c, s = np.cos(yaw), np.sin(yaw)
    ax, az = np.array([c, 0, -s]) * size[0], np.array([s, 0, c]) * size[2]
    up = np.array([0, size[1], 0])
    o = np.array([center[0], base, center[1]]) - ax / 2 - az / 2
    tile = (repeat, repeat) if repeat else None
    for corner, u, v in (
        (o + az, ax, up),
        (o + ax + az, -az, up),
        (o + ax, -ax, up),
        (o, az, up),
        (o + up + az, ax, -az),
    ):
        quad(place, corner, u, v, top if top is not None and v is not up else image, tile)
    if shadow:
        sides = [o, o + ax, o + ax + az, o + az]
        slope = place.light.direction[[0, 2]] / max(place.light.direction[1], 0.25)
        points = [p[[0, 2]] - slope * h for p in sides for h in (base, min(base + size[1], 3.5))]
        place.shadows.append(_hull(np.array(points, np.float32)))


def foliage(place: Place, rng: Rng, center: Vector, radius: Vector, color: Vector, leaves: int, size: float) -> None:
    """Add leaves that fill an ellipsoid, darker inside and below; `size` is a leaf's length in metres."""
    at = rng.normal(0, 1, (leaves, 3)).astype(np.float32)
    at *= (rng.uniform(0.45, 1, (leaves, 1)) / np.linalg.norm(at, axis=1, keepdims=True)).astype(np.float32)
    lump = 1 + 0.25 * np.sin(at @ rng.normal(0, 4, (3, 4))).mean(1, keepdims=True)
    outward = at / np.linalg.norm(at, axis=1, keepdims=True)
    middle, reach = np.asarray(center, np.float32), np.asarray(radius, np.float32)
    u = rng.normal(0, 1, (leaves, 3)).astype(np.float32)
    u *= size * 0.5 / np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(u, outward + 0.6 * rng.normal(0, 1, (leaves, 3))).astype(np.float32)
    v *= size * 0.32 / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-6)
    stem = middle + at * lump * reach
    vertices = np.stack([stem - u, stem - v, stem + u, stem + v], 1).reshape(-1, 3).astype(np.float32)
    first = 4 * np.arange(leaves)[:, None]
    faces = np.concatenate([first + [0, 1, 2], first + [0, 2, 3]]).astype(np.int32)
    normal = outward + 0.5 * rng.normal(0, 1, (leaves, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    deep = np.clip(np.linalg.norm(at, axis=1) * 1.3 - 0.45, 0.12, 1) * (0.75 + 0.25 * outward[:, 1])
    light = place.light.on(normal.astype(np.float32), deep, deep) * rng.uniform(0.75, 1.25, (leaves, 1))
    image = texture.to_image(np.asarray(color, np.float32).reshape(1, 1, 3))
    uv = np.zeros((len(faces), 3, 2), np.float32)
    place.meshes.append(Mesh(vertices, faces, uv, np.repeat(light, 4, 0).astype(np.float32), image, two_sided=True))
    slope = place.light.direction[[0, 2]] / max(place.light.direction[1], 0.25)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.sin(turn), np.cos(turn)], 1) * reach[[0, 2]]
    place.shadows.append((middle[[0, 2]] - slope * middle[1] + around).astype(np.float32))


def rounded(
    place: Place, blobs: list[Blob], at: tuple[float, float], yaw: float, color: Vector, step: float, gloss: float = 0.0
) -> None:
    """Add a smooth solid of blobs given about the origin: cushions, car bodies. `gloss` mirrors the sky."""
    distance = blend(blobs, 0.04)
    vertices, normals, faces = mesh_of(distance, *bounds(blobs, 3 * step), step)
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    vertices = vertices @ turn.T + np.array([at[0], 0, at[1]], np.float32)
    normals = normals @ turn.T
    shade = np.clip(0.45 + vertices[:, 1] * 0.8, 0.4, 1)
    light = place.light.on(normals, shade) + gloss * np.clip(normals[:, 1:2], 0, 1) ** 2
    image = texture.to_image(np.asarray(color, np.float32).reshape(1, 1, 3))
    place.meshes.append(
        Mesh(vertices, faces, np.zeros((len(faces), 3, 2), np.float32), light.astype(np.float32), image)
    )
    place.shadows.append(_hull(vertices[:, [0, 2]]))


def chair(place: Place, rng: Rng, station: Station, image: Image) -> None:
    """A seat behind somebody who stands on the station: a chair or a bench, or a plain box."""
    c, s = np.cos(station.yaw), np.sin(station.yaw)
    x, z = station.x - 0.43 * s, station.z - 0.43 * c
    wide = 0.46 if rng.random() < 0.6 else 1.4
    style = rng.random()
    if style < 0.3:
        box(place, (x, z), (max(wide, 0.5), station.seat, 0.46), image, yaw=station.yaw)
        return
    box(place, (x, z), (wide, 0.05, 0.46), image, station.seat - 0.05, station.yaw)
    for i in (-1, 1):
        for j in (-1, 1):
            dx, dz = i * (wide / 2 - 0.04), j * 0.2
            at = (x + dx * c + dz * s, z - dx * s + dz * c)
            box(place, at, (0.045, station.seat - 0.05, 0.045), image, yaw=station.yaw, shadow=False)
    if style < 0.85:
        back = (x - 0.23 * s, z - 0.23 * c)
        box(place, back, (wide, 0.42, 0.04), image, station.seat + 0.08, station.yaw, shadow=False)
        for i in (-1, 1):
            at = (back[0] + i * (wide / 2 - 0.04) * c, back[1] - i * (wide / 2 - 0.04) * s)
            box(place, at, (0.045, 0.2, 0.045), image, station.seat - 0.05, station.yaw, shadow=False)


def table(place: Place, at: tuple[float, float], size: tuple[float, float, float], image: Image) -> None:
    """A table with four legs; size is width, height, depth."""
    box(place, at, (size[0], 0.045, size[2]), image, size[1] - 0.045)
    for i in (-1, 1):
        for j in (-1, 1):
            corner = (at[0] + i * (size[0] / 2 - 0.06), at[1] + j * (size[2] / 2 - 0.06))
            box(place, corner, (0.06, size[1] - 0.045, 0.06), image, shadow=False)


def plant(place: Place, rng: Rng, at: tuple[float, float], height: float) -> None:
    """A pot plant, or a bush when it is low."""
    green = np.array([70, 104, 50]) * rng.uniform(0.75, 1.25, 3)
    if height < 0.9:
        wide = height * rng.uniform(0.5, 0.9)
        foliage(place, rng, (at[0], height * 0.48, at[1]), (wide, height * 0.52, wide), green, 900, 0.09)
        return
    pot = texture.speckle(rng, rng.uniform(60, 220, 3) * 0.5 + 60, 0.05, 64)
    box(place, at, (0.32, 0.36, 0.32), pot)
    foliage(place, rng, (at[0], height * 0.62, at[1]), (0.32, height * 0.36, 0.32), green, 260, rng.uniform(0.12, 0.26))


def tree(place: Place, rng: Rng, at: tuple[float, float]) -> None:
    """A trunk and a crown of leaves."""
    tall = rng.uniform(4.5, 9)
    bark = texture.speckle(rng, np.array([84, 66, 50]) * rng.uniform(0.8, 1.2), 0.16, 128, 8)
    box(place, at, (tall * 0.04, tall * 0.55, tall * 0.04), bark, yaw=0.5, shadow=False)
    green = np.array([84, 112, 52]) * rng.uniform(0.75, 1.25, 3)
    for _ in range(6):
        p = np.array([at[0], tall * rng.uniform(0.5, 0.9), at[1]]) + rng.normal(0, tall * 0.11, 3) * (1, 0.3, 1)
        foliage(place, rng, p, tall * rng.uniform(0.16, 0.26) * np.array([1, 0.8, 1]), green, 700, tall * 0.035)


_PAINTS = np.array([[150, 30, 32], [44, 60, 96], [180, 182, 186], [38, 40, 44], [226, 226, 222], [70, 88, 70]])


def car(place: Place, rng: Rng, at: tuple[float, float]) -> None:
    """A parked car, seen from the side."""
    paint = _PAINTS[rng.integers(len(_PAINTS))] * rng.uniform(0.9, 1.1)
    body = [
        Blob("", (-1.8, 0.56, 0), (1.75, 0.54, 0), 0.27, 0.25, (1.2, 1, 3.1)),
        Blob("", (-1.55, 0.72, 0), (0.9, 0.7, 0), 0.2, 0.2, (1.6, 1, 4.0)),
        Blob("", (0.8, 0.66, 0), (1.55, 0.6, 0), 0.2, 0.17, (1.5, 1, 4.0)),
        Blob("", (-0.75, 1.26, 0), (0.05, 1.26, 0), 0.1, 0.1, (2.6, 1, 5.4)),
        *(Blob("", (-0.25, 0.85, z), (-0.2, 1.25, z), 0.05, 0.05) for z in (-0.6, 0.6)),
    ]
    cabin = [Blob("", (-0.95, 0.98, 0), (0.3, 0.94, 0), 0.34, 0.34, (1.5, 1, 1.75))]
    rounded(place, body, at, 0.0, paint, 0.09, 0.3)
    rounded(place, cabin, at, 0.0, np.array([48, 58, 66]), 0.09, 0.35)
    for x in (-1.3, 1.28):
        for z in (-0.72, 0.72):
            rounded(
                place, [Blob("", (x, 0.32, z), (x, 0.32, z), 0.32, 0.32, (1, 1, 0.36))], at, 0.0, np.full(3, 30), 0.06
            )
            rounded(
                place, [Blob("", (x, 0.32, z), (x, 0.32, z), 0.2, 0.2, (1, 1, 0.62))], at, 0.0, np.full(3, 150), 0.05
            )


def sofa(place: Place, rng: Rng, at: tuple[float, float], wide: float) -> None:
    """A sofa that looks towards the camera."""
    color = rng.uniform(60, 200) + rng.uniform(-35, 35, 3)
    half = wide / 2
    blobs = [
        Blob("", (-half, 0.25, 0), (half, 0.25, 0), 0.2, 0.2, (1, 0.9, 1.8)),
        Blob("", (-half, 0.6, -0.3), (half, 0.6, -0.3), 0.22, 0.22, (1, 1.2, 0.7)),
        Blob("", (-half, 0.4, -0.2), (-half, 0.42, 0.3), 0.16, 0.16, (0.8, 1.3, 1)),
        Blob("", (half, 0.4, -0.2), (half, 0.42, 0.3), 0.16, 0.16, (0.8, 1.3, 1)),
    ]
    rounded(place, blobs, at, 0.0, color, 0.045)
