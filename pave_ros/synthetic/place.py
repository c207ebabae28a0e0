"""Where it happens: rooms, streets, parks and halls made by the program, drawn once as picture and depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pave_ros.synthetic import texture
from pave_ros.synthetic.arrays import Array, Image, Mask, Rng
from pave_ros.synthetic.furniture import Place, box, car, chair, plant, quad, sofa, table, tree
from pave_ros.synthetic.light import Light
from pave_ros.synthetic.motion import Station
from pave_ros.synthetic.render import Camera, Mesh, render

KINDS = ("room", "hall", "street", "park")


@dataclass(frozen=True)
class Backdrop:
    """A place seen by a camera: color (H, W, 3) float32 before the exposure, near (q H * q W,) 1 / distance of what is
    there at the quality q, ground (H, W) bool where the floor is seen."""

    color: Array
    near: Array
    ground: Mask


def _room(place: Place, rng: Rng, back: float, hall: bool) -> None:
    tone = rng.uniform(0.75, 1.05) * np.array([214, 206, 192]) * rng.uniform(0.9, 1.1, 3)
    wall = texture.bricks(rng, (168, 96, 74)) if rng.random() < 0.12 else texture.plaster(rng, tone)
    tall = rng.uniform(3.2, 4.6) if hall else rng.uniform(2.5, 2.9)
    half = 14.0
    quad(place, (-half, 0, back), (2 * half, 0, 0), (0, tall, 0), wall, (1.8, 1.8), 40)
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
        _on_the_wall(place, rng, x, wide, back, wood)
        x += wide + rng.uniform(0.4, 1.8)


def _corner(place: Place, back: float) -> None:
    """The dark where the floor meets the back wall."""
    place.shadows.append(np.array([[-14, back], [14, back], [14, back + 0.2], [-14, back + 0.2]], np.float32))


def _on_the_wall(place: Place, rng: Rng, x: float, wide: float, back: float, wood: Image) -> None:
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
    place = Place(_light(rng, outdoors), outdoors)
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
    strength = place.light.share_on_ground
    return np.where(ground, 1 - strength * dark / 255, 1).astype(np.float32)
