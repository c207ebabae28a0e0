"""Where it happens: rooms, streets, parks and halls made by the program, drawn once as picture and depth."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from pave_ros.synthetic import texture
from pave_ros.synthetic.arrays import Array, Image, Mask, Rng, Vector
from pave_ros.synthetic.motion import Station
from pave_ros.synthetic.person import Light
from pave_ros.synthetic.render import Camera, Mesh, render
from pave_ros.synthetic.surface import Blob, blend, bounds, mesh_of

KINDS = ("room", "hall", "street", "park")


@dataclass
class Place:
    """A place while it is being furnished.

    Attributes:
        light: what shines; outdoors: whether the sky is seen.
        meshes: all that stands there; far: the background where no mesh is, filled from the rays of the camera.
        shadows: outlines (n, 2) of x, z on the ground, metres, that lie in the shade of furniture.
    """

    kind: str
    light: Light
    outdoors: bool
    meshes: list[Mesh] = field(default_factory=list)
    shadows: list[Array] = field(default_factory=list)


@dataclass(frozen=True)
class Backdrop:
    """A place seen by a camera: color (H, W, 3) float32 before the exposure, near (q H * q W,) 1 / distance of what is
    there at the quality q, ground (H, W) bool where the floor is seen."""

    color: Array
    near: Array
    ground: Mask


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


def _room(place: Place, rng: Rng, back: float, hall: bool) -> None:
    tone = rng.uniform(0.75, 1.05) * np.array([214, 206, 192]) * rng.uniform(0.9, 1.1, 3)
    wall = texture.bricks(rng, (168, 96, 74)) if rng.random() < 0.12 else texture.plaster(rng, tone)
    tall = rng.uniform(3.2, 4.6) if hall else rng.uniform(2.5, 2.9)
    half = 14.0
    quad(place, (-half, 0, back), (2 * half, 0, 0), (0, tall, 0), wall, (3, 3), 40)
    _corner(place, back)
    white = texture.plaster(rng, (226, 224, 218))
    quad(place, (-half, tall, back), (2 * half, 0, 0), (0, 0, -back), white, (3, 3), 24, gain=2.0)
    skirting = texture.to_image(texture.plain((226, 222, 214) if rng.random() < 0.7 else (96, 72, 52), 8, 8))
    box(place, (0, back + 0.02), (2 * half, 0.11, 0.04), skirting, shadow=False)
    for lamp in range(-3, 4):
        glow = np.full((4, 4, 3), 255, np.uint8)
        quad(place, (lamp * 2.4 - 0.6, tall - 0.02, back * 0.6), (1.2, 0, 0), (0, 0, -0.3), glow, gain=2.0)
    wood = texture.boards(rng, np.array([150, 106, 66]) * rng.uniform(0.5, 1.3), 256, 4)
    x = -9.0 + rng.uniform(0, 2)
    while x < 9:
        wide = rng.uniform(0.7, 2.0)
        _on_the_wall(place, rng, x, wide, back, tall, wood)
        x += wide + rng.uniform(0.4, 1.8)


def _corner(place: Place, back: float) -> None:
    """The dark where the floor meets the back wall."""
    place.shadows.append(np.array([[-14, back], [14, back], [14, back + 0.2], [-14, back + 0.2]], np.float32))


def _on_the_wall(place: Place, rng: Rng, x: float, wide: float, back: float, tall: float, wood: Image) -> None:
    """A picture, a window, a door, a shelf, a sofa, a plant or nothing at this stretch of the back wall."""
    z = back + 0.03
    choice = rng.random()
    if choice < 0.22:
        h = wide * rng.uniform(0.6, 1.2)
        h = min(h, 1.2)
        quad(
            place,
            (x, 1.6 - h / 2, z),
            (wide, 0, 0),
            (0, h, 0),
            texture.painting(rng, 192, max(64, int(192 * wide / h))),
        )
    elif choice < 0.45:
        h = rng.uniform(1.1, 1.5)
        pane = np.zeros((256, 256, 3), np.uint8)
        texture.window(rng, pane, (236, 234, 230), 0.1)
        quad(place, (x, 0.95, z), (wide, 0, 0), (0, h, 0), pane, gain=1.7)
        box(
            place,
            (x + wide / 2, back + 0.1),
            (wide + 0.1, 0.04, 0.2),
            np.full((4, 4, 3), 224, np.uint8),
            0.91,
            shadow=False,
        )
    elif choice < 0.6:
        panel = texture.plain(rng.choice(np.array([[228, 224, 216], [136, 96, 60], [92, 104, 112]])), 256, 112)
        for y in (20, 100, 180):
            cv2.rectangle(panel, (16, y), (96, y + 60), (panel[0, 0] * 0.8).tolist(), 2)
        cv2.circle(panel, (100, 140), 4, (60, 56, 50), -1)
        cv2.rectangle(panel, (0, 0), (111, 255), (panel[0, 0] * 0.7).tolist(), 5)
        quad(place, (x, 0, z), (0.95, 0, 0), (0, 2.05, 0), texture.to_image(panel))
    elif choice < 0.78:
        h = rng.uniform(0.8, 2.0)
        front = wood.copy()
        n = int(rng.integers(2, 5))
        for k in range(1, n):
            front[k * 256 // n - 3 : k * 256 // n + 3] = front[k * 256 // n - 3 : k * 256 // n + 3] // 3
        if rng.random() < 0.6:
            front = _books(rng, wood, n)
        box(place, (x + wide / 2, back + 0.2), (wide, h, 0.4), front, top=wood)
    elif choice < 0.9:
        sofa(place, rng, (x + 0.9, back + 0.6), rng.uniform(1.2, 2.0))
    else:
        plant(place, rng, (x + 0.4, back + 0.5), rng.uniform(1.1, 1.8))


def _books(rng: Rng, wood: Image, shelves: int) -> Image:
    image = wood // 2
    h = 256 // shelves
    for k in range(shelves):
        x = 6
        while x < 246:
            w, tall = int(rng.integers(6, 16)), int(h * rng.uniform(0.55, 0.85))
            color = rng.uniform(30, 220, 3)
            image[(k + 1) * h - tall - 4 : (k + 1) * h - 4, x : min(x + w, 250)] = color
            x += w + (int(rng.integers(0, 30)) if rng.random() < 0.15 else 1)
        image[(k + 1) * h - 4 : (k + 1) * h] = wood[:4]
    return image


def _street(place: Place, rng: Rng, back: float) -> None:
    x = -30.0
    while x < 30:
        columns, floors = int(rng.integers(3, 7)), int(rng.integers(2, 6))
        if rng.random() < 0.5:
            wall = texture.bricks(rng, np.array([158, 96, 76]) * rng.uniform(0.7, 1.2) * rng.uniform(0.93, 1.07, 3))
            wall = cv2.resize(wall, (128, 128), interpolation=cv2.INTER_AREA).astype(np.uint8)
        else:
            wall = texture.plaster(
                rng, np.array([206, 194, 174]) * rng.uniform(0.75, 1.1) * rng.uniform(0.94, 1.06, 3), 256
            )
        image = texture.facade(rng, wall, columns, floors)
        wide, tall = columns * 2.4, floors * 3.1
        quad(place, (x, 0, back - 2), (wide, 0, 0), (0, tall, 0), image)
        quad(place, (x + wide, 0, back - 2), (0, 0, -8), (0, tall, 0), wall, (2.0, 2.0))
        x += wide + (rng.uniform(1, 4) if rng.random() < 0.3 else 0)
    kerb = texture.speckle(rng, np.full(3, 168), 0.04, 128)
    box(place, (0, back + 0.95), (60, 0.1, 0.16), kerb, repeat=1.0)
    asphalt = texture.speckle(rng, np.full(3, 84), 0.09)
    quad(place, (-30, 0.012, back + 0.9), (60, 0, 0), (0, 0, -2.9), asphalt, (2.5, 2.5), 24)
    for i in range(int(rng.integers(0, 5))):
        car(place, rng, (-11 + i * 5.4 + rng.uniform(-0.4, 0.4), back - 0.1))
    for _ in range(int(rng.integers(0, 3))):
        tree(place, rng, (rng.uniform(-8, 8), back + 1.4))
    metal = np.full((4, 4, 3), 70, np.uint8)
    for x in rng.uniform(-8, 8, int(rng.integers(0, 3))):
        box(place, (float(x), back + 1.2), (0.12, 4.5, 0.12), metal)


def _park(place: Place, rng: Rng, back: float) -> None:
    for _ in range(int(rng.integers(4, 9))):
        tree(place, rng, (rng.uniform(-16, 16), back - rng.uniform(0.5, 14)))
    for _ in range(int(rng.integers(3, 9))):
        plant(place, rng, (rng.uniform(-10, 10), back - rng.uniform(0, 5)), rng.uniform(0.5, 0.9))
    if rng.random() < 0.5:
        wood = texture.boards(rng, (130, 100, 70), 128, 2)
        for x in np.arange(-14, 14, 2.0):
            box(place, (float(x), back - 0.3), (0.1, 1.0, 0.1), wood, shadow=False)
        for y in (0.4, 0.8):
            box(place, (0, back - 0.3), (28, 0.12, 0.05), wood, y, repeat=1.0, shadow=y > 0.5)


def _floor_texture(rng: Rng, kind: str) -> tuple[Image, float]:
    """The ground's texture and how many metres one repeat covers."""
    if kind == "park":
        return texture.grass(rng, np.array([92, 116, 52]) * rng.uniform(0.85, 1.15, 3)), 3.0
    if kind == "street":
        if rng.random() < 0.5:
            return texture.tiles(rng, np.array([150, 146, 140]) * rng.uniform(0.75, 1.1), (96, 92, 88), n=4), 2.0
        return texture.speckle(rng, np.array([112, 110, 108]) * rng.uniform(0.7, 1.1), 0.09), 2.5
    choice = rng.random()
    if choice < 0.45:
        return texture.boards(rng, np.array([158, 112, 72]) * rng.uniform(0.55, 1.25)), 1.3
    if choice < 0.75:
        light = rng.uniform(110, 215)
        return texture.tiles(
            rng, (light, light * 0.98, light * 0.94), (light * 0.7,) * 3, checker=0.3 * (rng.random() < 0.3)
        ), 2.0
    return texture.speckle(rng, rng.uniform(60, 170, 3) * 0.4 + 70, 0.08), 1.6


def _light(rng: Rng, outdoors: bool) -> Light:
    direction = np.array(
        [rng.uniform(-1, 1), rng.uniform(0.6, 1.6) if outdoors else rng.uniform(1.2, 2.2), rng.uniform(-0.3, 1.0)]
    )
    direction /= np.linalg.norm(direction)
    if outdoors:
        sunny = rng.uniform(0.05, 1.25)
        sun, above = np.array([1.0, 0.92, 0.78]) * sunny, np.array([0.42, 0.47, 0.55]) * (1.5 - 0.7 * sunny)
        below = np.array([0.26, 0.24, 0.2]) * (1.3 - 0.4 * sunny)
    else:
        warm = rng.uniform(0, 1)
        tone = np.array([1.0, 0.97 - 0.05 * warm, 0.94 - 0.16 * warm])
        lamp = rng.uniform(0.35, 0.75)
        sun, above, below = lamp * tone, (0.85 - 0.6 * lamp) * tone, 0.26 * tone
    return Light(*(a.astype(np.float32) for a in (direction, sun, above, below)))


def build(rng: Rng, kind: str, back: float, seats: list[Station], fronts: list[tuple[float, float]]) -> Place:
    """A furnished place.

    Args:
        kind: one of `KINDS`; back: z in metres (negative) behind which nobody walks.
        seats: stations with a seat, which get a chair; fronts: (x, z) of things to put between people and camera.
    """
    outdoors = kind in ("street", "park")
    place = Place(kind, _light(rng, outdoors), outdoors)
    image, covers = _floor_texture(rng, kind)
    reach = 60.0 if outdoors else -back
    quad(place, (-reach - 15, 0, 0.0), (2 * reach + 30, 0, 0), (0, 0, -reach), image, (covers, covers), 64)
    match kind:
        case "room" | "hall":
            _room(place, rng, back, kind == "hall")
        case "street":
            _street(place, rng, back)
        case _:
            _park(place, rng, back)
    wood = texture.boards(rng, np.array([140, 98, 62]) * rng.uniform(0.4, 1.4) * rng.uniform(0.92, 1.08, 3), 128, 2)
    for station in seats:
        chair(place, rng, station, wood)
    for at in fronts:
        _front(place, rng, at, wood)
    return place


def _front(place: Place, rng: Rng, at: tuple[float, float], wood: Image) -> None:
    """Something that stands between the people and the camera."""
    choice = rng.random()
    if choice < 0.45 and not place.outdoors:
        table(place, at, (rng.uniform(0.8, 1.8), 0.74, 0.7), wood)
    elif choice < 0.55 and not place.outdoors:
        stone = texture.speckle(rng, rng.uniform(120, 210) * np.ones(3), 0.05, 128)
        box(place, at, (0.24, 4.5, 0.24), stone, repeat=1.0)
    elif choice < 0.75:
        plant(place, rng, at, rng.uniform(1.0, 1.5) if not place.outdoors else rng.uniform(0.6, 0.89))
    else:
        stone = texture.bricks(rng, (150, 96, 74), size=256, rows=8) if place.outdoors else wood
        box(place, at, (rng.uniform(0.6, 1.6), rng.uniform(0.6, 1.0), 0.4), stone, repeat=0.8)


def draw(place: Place, camera: Camera, rng: Rng, quality: int) -> Backdrop:
    """The picture of a place without people, drawn at twice the size and reduced; only what hides people stays
    `quality` (1 or 2) times as large as the picture."""
    fine = camera.scaled(2)
    ahead = []
    for mesh in place.meshes:
        _, depth = fine.project(mesh.vertices)
        whole = (depth[mesh.faces] > 0.2).all(1)
        faces, uv = mesh.faces[whole], mesh.uv[whole]
        ahead.append(Mesh(mesh.vertices, faces, uv, mesh.light, mesh.texture, None, mesh.two_sided))
    layer = render(ahead, fine)
    h, w = fine.height, fine.width
    if place.outdoors:
        rays = fine.rays()
        color = texture.sky(rng, rays, float(rng.uniform(0, 1))) * float(rng.uniform(0.9, 1.05))
        color = texture.skyline(rng, rays, color)
    else:
        color = np.full((h, w, 3), 128, np.float32)
    color = color.reshape(-1, 3).astype(np.float32)
    color[layer.pixels] = layer.color
    near = np.zeros(h * w, np.float32)
    near[layer.pixels] = layer.near
    ground = np.zeros(h * w, bool)
    ground[layer.pixels] = layer.mesh == 0
    if place.outdoors:
        distance = 1 / np.maximum(layer.near, 1e-3)
        haze = (1 - np.exp(-np.maximum(distance - 10, 0) / 120))[:, None]
        color[layer.pixels] += (np.array([190, 202, 210], np.float32) - color[layer.pixels]) * haze
    color = color.reshape(h, w, 3)
    color *= _shaded(place, fine, ground.reshape(h, w))[..., None]
    return Backdrop(
        cv2.resize(color, (camera.width, camera.height), interpolation=cv2.INTER_AREA).astype(np.float32),
        near.reshape(h, w)[:: 2 // quality, :: 2 // quality].ravel(),
        np.ascontiguousarray(ground.reshape(h, w)[::2, ::2]),
    )


def _shaded(place: Place, camera: Camera, ground: Mask) -> Array:
    """(H, W) 0..1, how the shadows of the furniture darken the ground."""
    mask = np.zeros(ground.shape, np.uint8)
    for outline in place.shadows:
        points, depth = camera.project(np.insert(outline, 1, 0.0, axis=1))
        if (depth > 0.2).all():
            cv2.fillPoly(mask, [np.clip(points * 16, -(2**22), 2**22).astype(np.int32)], 255, cv2.LINE_AA, 4)
    soft = 0.012 if place.outdoors else 0.03
    dark = cv2.GaussianBlur(mask, (0, 0), soft * camera.height).astype(np.float32)
    strength = shadow_strength(place.light)
    return np.where(ground, 1 - strength * dark / 255, 1).astype(np.float32)


def shadow_strength(light: Light) -> float:
    """Share of the light on the ground that comes from the sun or lamp."""
    direct = float(light.sun.mean() * light.direction[1])
    return direct / (direct + float(light.above.mean())) * 0.9
