"""A camera's view of people who come, do something and leave; with exact ground truth."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from pave_ros.persons import Persons
from pave_ros.synthetic import appearance, place
from pave_ros.synthetic.arrays import Array, Image, Indices, Rng
from pave_ros.synthetic.body import KEYPOINTS, kinematics
from pave_ros.synthetic.motion import Station, Visit
from pave_ros.synthetic.person import Person
from pave_ros.synthetic.render import Camera, Layer, Mesh, render

PERIOD = 26.0
"""Seconds between the beginnings of two visits of the same slot; more where the way of the first is long."""


_GRAIN_SHIFT = 64
_LONGEST = 1 / 30  # seconds that the shutter is open, however rare the frames are
_LOOK_AHEAD = 2.0


@dataclass(frozen=True)
class SyntheticFrame:
    """One picture and the truth about it.

    Attributes:
        image: (H, W, 3) uint8 RGB, contiguous.
        persons: the N people with at least one pixel in the picture, by track id; skeleton coco17. Keypoints are
            exact, in pixels, (0, 0) being the centre of the first pixel; also where they are hidden or outside of the
            picture; NaN only behind the camera. Their score tells the visibility: 1 visible, 0.5 occluded, 0 outside.
            Boxes are the extents of the visible pixels of the body with hair, clothes and bag. Scores are 1.
            Ages count the pictures since the person set out for the scene or the scene began.
        visibility: (N, 17) uint8, 0 outside of the picture, 1 occluded, 2 visible.
        labels: (H, W) uint8, 0 where nobody is, k + 1 where `persons[k]` is seen.
        areas: (N,) int32, visible pixels of each person.
        positions: (N, 17, 3) metres, the keypoints to the right of, below and ahead of the camera.
        near: (H, W) 1 / metres ahead of what is seen, 0 in the sky.
        focal: of the camera, pixels; it looks through the middle of the picture.
    """

    image: Image
    persons: Persons
    visibility: Image
    labels: Image
    areas: Indices
    positions: Array
    near: Array
    focal: float

    @property
    def depth(self) -> Array:
        """(H, W) metres ahead of what is seen, NaN in the sky."""
        return np.where(self.near > 0, 1 / np.maximum(self.near, 1e-6), np.float32(np.nan))


@dataclass(frozen=True)
class _Actor:
    """Somebody who is there at a certain time."""

    track_id: int
    age: int
    person: Person
    visit: Visit
    time: float


def check_options(
    *,
    seed: int,
    width: int,
    height: int,
    persons: int,
    rate: float,
    kind: str,
    blur: float,
    noise: float,
    quality: int,
    backs: float,
) -> None:
    """ValueError where an argument of `Scene` is out of range; building one takes a while."""
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, not {seed}")
    if not (64 <= width <= 8192 and 64 <= height <= 8192):
        raise ValueError(f"width and height must lie between 64 and 8192 pixels, not {width} x {height}")
    if not 0 <= persons <= 100:
        raise ValueError(f"persons must lie between 0 and 100, not {persons}")
    if not 0 < rate <= 1000:
        raise ValueError(f"rate must lie above 0 and up to 1000 frames a second, not {rate}")
    if kind and kind not in place.KINDS:
        raise ValueError(f"unknown kind {kind!r}; known: {', '.join(place.KINDS)}")
    if not 0 <= blur <= 1:
        raise ValueError(f"blur must lie between 0 and 1, not {blur}")
    if not 0 <= noise <= 64:
        raise ValueError(f"noise must lie between 0 and 64 grey levels, not {noise}")
    if quality not in (1, 2):
        raise ValueError(f"quality must be 1 or 2, not {quality}")
    if not 0 <= backs <= 1:
        raise ValueError(f"backs must lie between 0 and 1, not {backs}")


class Scene:
    """An endless scene; every frame can be asked for at any time and always looks the same.

    Args:
        seed: chooses the place, the camera, the light and the people; any int from 0.
        width, height: of the pictures, pixels, at least 64.
        persons: the most people at once, 0 to 100.
        rate: frames a second.
        kind: one of `place.KINDS` ("room", "hall", "street", "park"), or "" for the seed's choice.
        blur: share of the time between two frames during which the shutter is open, 0..1; 0 for no motion blur. It is
            never open for longer than 1/30 s.
        noise: standard deviation of the sensor's noise, grey levels of 255.
        quality: 1, or 2 to draw people at twice the size and reduce them: cleaner edges, half the speed.
        backs: share of the places where people stop at which they turn their back on the camera, 0..1.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        width: int = 640,
        height: int = 480,
        persons: int = 4,
        rate: float = 30.0,
        *,
        kind: str = "",
        blur: float = 0.4,
        noise: float = 2.0,
        quality: int = 1,
        backs: float = 0.0,
    ) -> None:
        check_options(
            seed=seed, width=width, height=height, persons=persons, rate=rate,
            kind=kind, blur=blur, noise=noise, quality=quality, backs=backs,
        )  # fmt: skip
        self.seed, self.width, self.height, self.persons, self.rate = seed, width, height, persons, float(rate)
        self.blur, self.noise, self.quality = blur, noise, quality
        rng = np.random.default_rng([seed, 1])
        self.kind = kind or str(rng.choice(place.KINDS))
        self._lanes(rng, backs)
        self._place = place.build(rng, self.kind, self._back, [s for s in self._stations if s.seat], self._fronts(rng))
        self._backdrop = place.draw(self._place, self.camera, rng, quality)
        self._expose(rng)
        self._background = self._tone(self._backdrop.color)
        grain = np.random.default_rng([seed, 2]).normal(0, noise, (height + _GRAIN_SHIFT, width + _GRAIN_SHIFT, 3))
        self._grain = np.rint(grain).astype(np.int16)
        self._played = -1
        self._person = lru_cache(maxsize=2 * persons + 2)(self._make_person)
        self._visit = lru_cache(maxsize=2 * persons + 2)(self._make_visit)
        # Seconds, of each visit of each slot, as far as known.
        self._starts: list[tuple[float, ...]] = [(self._offset(slot),) for slot in range(persons)]

    def _lanes(self, rng: Rng, backs: float) -> None:
        """Choose the camera, and a lane on the ground for every slot, so that people do not walk into each other."""
        view = rng.uniform(0.85, 1.25)
        height = float(np.clip(rng.normal(1.55, 0.45), 0.7, 3.2))
        self._tilt = rng.uniform(-0.5, 0.5) if self.kind in ("street", "park") else rng.uniform(-0.25, 0.25)
        near = float(
            rng.choice([rng.uniform(1.7, 2.6), rng.uniform(2.6, 4.2), rng.uniform(4.0, 6.0)], p=[0.25, 0.55, 0.2])
        )
        gap = rng.uniform(0.75, 1.5) if self.persons < 7 else 0.7
        depths = near + gap * np.arange(max(self.persons, 1))
        rng.shuffle(depths[: self.persons])
        self._depths = depths
        self._back = -float(depths.max()) - rng.uniform(1.2, 3.0) - abs(np.sin(self._tilt)) * 2
        middle = near + gap * (self.persons - 1) / 2
        pitch = np.arctan2(height - rng.uniform(0.75, 1.0), middle)
        self.camera = Camera(
            self.width,
            self.height,
            max(self.width, self.height * 1.2) * view,
            (0.0, height, 0.0),
            float(pitch),
            rng.normal(0, 0.012),
        )
        half = self.width / 2 / self.camera.focal
        self._stations: list[Station] = []
        turned = np.random.default_rng([self.seed, 7]).random(self.persons) < backs
        for depth, away in zip(depths[: self.persons], turned, strict=True):
            x = rng.uniform(-0.75, 0.75) * half * depth
            seat = 0.45 if rng.random() < 0.2 else 0.0
            yaw = rng.uniform(-1.1, 1.1) + np.pi * away
            at = self._at(float(depth), float(x))
            self._stations.append(Station(*at, seat, yaw, bool(away)))

    def _at(self, depth: float, along: float) -> tuple[float, float]:
        """(x, z) of a point `along` metres to the right on the lane at some depth; lanes are tilted."""
        return float(along * np.cos(self._tilt)), float(-depth + along * np.sin(self._tilt) * 0.6)

    def _fronts(self, rng: Rng) -> list[tuple[float, float]]:
        n = int(rng.integers(0, 3)) if rng.random() < 0.6 and self._depths.min() > 2.5 else 0
        half = self.width / 2 / self.camera.focal
        near = float(self._depths.min()) - 0.7
        return [self._at(near, rng.uniform(-0.9, 0.9) * half * near) for _ in range(n)]

    def _expose(self, rng: Rng) -> None:
        """Choose exposure and white balance from what the camera sees, as cameras do."""
        level = float(np.clip(self._backdrop.color.mean(), 40, 220))
        self._gain = ((rng.uniform(95, 135) / level) ** 0.6 * (1 + rng.normal(0, 0.03, 3))).astype(np.float32)

    def _tone(self, color: Array) -> Image:
        """Colours (..., 3) as the sensor gives them: highlights are compressed."""
        light = np.maximum(color, 0) * (self._gain / np.float32(255))
        return np.clip(301.0 * (1 - np.exp(-1.6 * light)) + 0.5, 0, 255).astype(np.uint8)

    def _make_person(self, track_id: int) -> Person:
        return Person(appearance.sample(np.random.default_rng([self.seed, 3, track_id])))

    def _make_visit(self, slot: int, number: int) -> tuple[int, Visit]:
        """Track id and the plan of a slot's visit."""
        track_id = 1 + slot + number * self.persons
        rng = np.random.default_rng([self.seed, 4, track_id])
        depth = float(self._depths[slot])
        reach = self._outside(depth)
        sides = rng.choice([-1.0, 1.0], 2)
        station = self._stations[slot]
        near = (rng.uniform(-0.4, 0.4), rng.uniform(-0.15, 0.15)) if not station.seat else (0.0, 0.0)
        stops = [replace(station, x=station.x + near[0], z=station.z + near[1])]
        what = rng.random()
        if what < 0.25:
            sides[1] = -sides[0]
            strolls = int(rng.integers(1, 4)) if what > 0.08 else 0
            stops = [Station(*self._at(depth, float(x) * reach)) for x in rng.uniform(-0.6, 0.6, strolls)]
        entry, leave = (self._at(depth, float(side) * reach) for side in sides)
        build = self._person(track_id).build
        visit = Visit(rng, build, entry, leave, stops, what < 0.25, PERIOD * 0.95)
        return track_id, visit

    def _latest(self, slot: int, t: float) -> tuple[int, float]:
        """Number of the last visit of a slot that has begun at a time, and when that was, see `_starts`."""
        starts = self._starts[slot]
        while starts[-1] <= t:
            _, visit = self._visit(slot, len(starts) - 1)
            starts = (*starts, max(starts[0] + len(starts) * PERIOD, starts[-1] + visit.end))
        self._starts[slot] = starts  # As a whole: several threads may ask.
        number = bisect(starts, t) - 1
        return number, starts[number]

    def _offset(self, slot: int) -> float:
        """When the first visit of a slot began, seconds; before the first frame for most."""
        rng = np.random.default_rng([self.seed, 5, slot])
        return float(rng.uniform(-0.7, -0.12) * PERIOD)

    def _outside(self, depth: float) -> float:
        """How far along its lane a person is out of the picture on either side, metres."""
        half = (self.width / 2 + 10) / self.camera.focal
        slope = abs(np.sin(self._tilt)) * 0.6
        return float((half * depth + 0.9) / max(np.cos(self._tilt) - half * slope, 0.25))

    def _actors(self, t: float) -> list[_Actor]:
        actors = []
        for slot in range(self.persons):
            number, start = self._latest(slot, t)
            track_id, visit = self._visit(slot, number)
            if t - start <= visit.end:
                age = int((t - max(start, 0.0)) * self.rate + 1e-6)
                actors.append(_Actor(track_id, age, self._person(track_id), visit, t - start))
        return sorted(actors, key=lambda a: a.track_id)

    def frame(self, i: int) -> SyntheticFrame:
        """The i-th picture, i from 0 on; the same for the same arguments of the scene, in whatever order."""
        if i < 0:
            raise ValueError(f"frames are counted from 0, not {i}")
        actors = self._actors(i / self.rate)
        open_for = min(self.blur / self.rate, _LONGEST)
        fine = self.camera.scaled(self.quality)
        poses = [a.visit.pose(a.time + dt) for dt in (-open_for / 2, 0.0, open_for / 2) for a in actors]
        meshes: list[Mesh] = []
        world = np.zeros((0, 17, 3), np.float32)
        if actors:
            offsets = np.stack([a.person.build.offsets for a in actors] * 3)
            rotations, joints = (x.reshape(3, len(actors), *x.shape[1:]) for x in kinematics(np.stack(poses), offsets))
            world = np.stack([a.person.keypoints(rotations[1, k], joints[1, k]) for k, a in enumerate(actors)])
            _, depth = self.camera.project(joints[1, :, 0])
            shown = [k for k in range(len(actors)) if depth[k] > 0.8]
            actors, world = [actors[k] for k in shown], world[shown]
            for a, k in zip(actors, shown, strict=True):
                ends = rotations[2, k] - rotations[0, k], joints[2, k] - joints[0, k]
                later = rotations[1, k] + ends[0], joints[1, k] + ends[1]
                pixel = float(depth[k]) / fine.focal
                meshes.append(a.person.mesh(rotations[1, k], joints[1, k], later, self._place.light, pixel))
        layer = render(meshes, fine, self._backdrop.near) if meshes else None
        image = self._develop(i, layer, meshes)
        if i == self._played + 1:
            self._look_ahead(i / self.rate)
        self._played = i
        return self._truth(image, layer, actors, world)

    def _look_ahead(self, t: float) -> None:
        """Prepare those who come next bit by bit, so that no frame of a film takes much longer than the others."""
        for actor in self._actors(t + _LOOK_AHEAD):
            depth = -actor.visit.place(actor.time)[1]
            if actor.person.prepare(depth / (self.camera.focal * self.quality)):
                return

    def _develop(self, i: int, layer: Layer | None, meshes: list[Mesh]) -> Image:
        """The picture: background, shadows, people, lens, sensor."""
        image = self._background.copy()
        if layer is not None and len(layer.pixels):
            self._cast(image, meshes)
            self._compose(image, layer)
        image = cv2.GaussianBlur(image, (3, 3), 0.6)
        if self.noise:
            y, x = np.random.default_rng([self.seed, 6, i]).integers(0, _GRAIN_SHIFT, 2)
            image = cv2.add(image, self._grain[y : y + self.height, x : x + self.width], dtype=cv2.CV_8U)
        return np.ascontiguousarray(image)

    def _compose(self, image: Image, layer: Layer) -> None:
        """Put the people into the picture, smeared along their movement."""
        q, h, w = self.quality, self.height, self.width
        cover = np.zeros((q * h * q * w, 4), np.uint8)
        cover[layer.pixels, :3] = self._tone(layer.color)
        cover[layer.pixels, 3] = 255
        flow = np.zeros((q * h * q * w, 2), np.float32)
        if self.blur and layer.motion is not None:
            flow[layer.pixels] = np.clip(layer.motion / q, -60, 60)
        speed = float(np.abs(flow).max())
        margin = int(min(np.ceil(speed / 2) + 2, 32))
        rows, columns = layer.pixels // (q * w) // q, layer.pixels % (q * w) // q
        top, left = max(int(rows.min()) - margin, 0), max(int(columns.min()) - margin, 0)
        bottom, right = min(int(rows.max()) + margin, h), min(int(columns.max()) + margin, w)
        area = slice(top, bottom), slice(left, right)
        part = slice(q * top, q * bottom), slice(q * left, q * right)
        people = np.ascontiguousarray(cover.reshape(q * h, q * w, 4)[part])
        if q > 1:
            people = cv2.resize(people, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(np.uint8)
        if speed > 0.7:
            people = _smeared(people, flow.reshape(q * h, q * w, 2)[part][::q, ::q], margin)
        alpha = cv2.cvtColor(people[..., 3], cv2.COLOR_GRAY2RGB)
        behind = cv2.multiply(image[area], 255 - alpha, scale=1 / 255)
        image[area] = cv2.add(behind, np.ascontiguousarray(people[..., :3]))

    def _cast(self, image: Image, meshes: list[Mesh]) -> None:
        """Darken the ground by the people's shadows and, under their feet, by the light that they keep away."""
        h, w = self.height, self.width
        mask = np.zeros((h // 2 + 1, w // 2 + 1), np.uint8)
        touch = np.zeros_like(mask)
        light = self._place.light.direction
        for mesh in meshes:
            v = mesh.vertices[::2]
            self._dot(mask, v - light * (v[:, 1:2] / max(light[1], 0.25)))
            self._dot(touch, v[v[:, 1] < 0.12] * np.array([1, 0, 1], np.float32))
        square = np.ones((3, 3), np.uint8)
        cast = cv2.GaussianBlur(cv2.dilate(mask, square), (0, 0), 1.2 if self._place.outdoors else 3.0)
        under = cv2.GaussianBlur(cv2.dilate(touch, square), (0, 0), 2.5)
        strength = self._place.light.share_on_ground
        left = cv2.multiply(
            255 - cv2.convertScaleAbs(cast, alpha=strength), 255 - cv2.convertScaleAbs(under, alpha=0.5), scale=1 / 255
        )
        left = cv2.resize(left, (left.shape[1] * 2, left.shape[0] * 2), interpolation=cv2.INTER_LINEAR)[:h, :w]
        rows = np.flatnonzero((left < 255).any(1))
        if len(rows):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            kept = np.where(self._backdrop.ground[part], left[part], 255).astype(np.uint8)
            image[part] = cv2.multiply(image[part], cv2.cvtColor(kept, cv2.COLOR_GRAY2RGB), scale=1 / 255)

    def _dot(self, mask: Image, points: Array) -> None:
        xy, _ = self.camera.project(points)
        xy = np.nan_to_num(xy, nan=-9) / 2
        inside = (xy[:, 0] >= 0) & (xy[:, 1] >= 0) & (xy[:, 0] < mask.shape[1]) & (xy[:, 1] < mask.shape[0])
        x, y = xy[inside].astype(np.int32).T
        mask[y, x] = 255

    def _truth(self, image: Image, layer: Layer | None, actors: list[_Actor], world: Array) -> SyntheticFrame:
        q, h, w = self.quality, self.height, self.width
        fine_labels, fine_near = np.zeros(q * h * q * w, np.uint8), self._backdrop.near.astype(np.float32)
        if layer is not None:
            fine_labels[layer.pixels] = layer.mesh + 1
            fine_near[layer.pixels] = layer.near
        labels = fine_labels.reshape(q * h, q * w)[::q, ::q].ravel()
        near = fine_near.reshape(q * h, q * w)[::q, ::q].ravel()
        counts = np.bincount(labels, minlength=len(actors) + 1)[1:].astype(np.int32)
        present = np.flatnonzero(counts)
        renumber = np.zeros(len(actors) + 1, np.uint8)
        renumber[present + 1] = np.arange(1, len(present) + 1)
        labels = renumber[labels]
        actors, world = [actors[k] for k in present], world[present]
        xy, depth = self.camera.project(world)
        visibility = self._visibility(xy, depth, labels, near, actors)
        boxes = np.zeros((len(actors), 4), np.float32)
        picture = labels.reshape(h, w)
        for k in range(len(actors)):
            boxes[k] = cv2.boundingRect((picture == k + 1).astype(np.uint8))
        score = np.array([0.0, 0.5, 1.0], np.float32)[visibility]
        persons = Persons(
            keypoints=np.concatenate([xy, score[..., None]], -1).astype(np.float32),
            scores=np.ones(len(actors), np.float32),
            boxes=boxes,
            track_ids=np.array([a.track_id for a in actors], np.int32),
            ages=np.array([a.age for a in actors], np.int32),
            skeleton="coco17",
        )
        return SyntheticFrame(
            image, persons, visibility, picture, counts[present],
            self.camera.seen_from(world), near.reshape(h, w), self.camera.focal,
        )  # fmt: skip

    def _visibility(self, xy: Array, depth: Array, labels: Image, near: Array, actors: list[_Actor]) -> Image:
        """(N, 17): visible is what the nearest surface at its pixel belongs to, up to the flesh around a joint."""
        h, w = self.height, self.width
        at = np.nan_to_num(np.round(xy), nan=-1).astype(np.int64)
        inside = (at >= 0).all(-1) & (at[..., 0] < w) & (at[..., 1] < h) & np.isfinite(xy).all(-1)
        pixel = np.where(inside, at[..., 1] * w + at[..., 0], 0)
        margin = np.array([m for *_, m in KEYPOINTS], np.float32)
        surface = 1 / np.maximum(near[pixel], 1e-6)
        own = labels[pixel] == np.arange(1, len(actors) + 1)[:, None]
        seen = own & (surface > depth - margin)
        return np.where(inside, np.where(seen, 2, 1), 0).astype(np.uint8)


def _smeared(people: Image, flow: Array, reach: int) -> Image:
    """A layer (h, w, 4), its alpha last, blurred along the movement (h, w, 2) in pixels; around the people the
    movement of the nearest ones counts."""
    h, w = people.shape[:2]
    size = (2 * reach + 1, 2 * reach + 1)
    solid = people[..., 3] > 0
    share = cv2.blur(solid.astype(np.float32), size)
    flow = np.where(solid[..., None], flow, cv2.blur(flow, size) / np.maximum(share, 1e-3)[..., None])
    x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    total = np.zeros(people.shape, np.uint16)
    for tap in (-0.5, -0.25, 0.0, 0.25, 0.5):
        moved = flow * np.float32(tap)
        total += cv2.remap(people, x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR).astype(np.uint16)
    return (total // 5).astype(np.uint8)
