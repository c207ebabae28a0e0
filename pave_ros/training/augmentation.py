"""Augmentation that keeps keypoints right, the same for every frame of a clip.

A clip is a list of pictures (H, W, 3) uint8 RGB of one size, with a list of their `Labels`; a single picture is a clip
of one. Everything that moves pixels about is one affine map, so that a picture is sampled once; what it moves out of
the picture stops being labelled, what it covers becomes hidden, and people of whom too little is left count neither
way. All chance comes from the generator that is passed in.

OpenCV does the work: it maps and filters a picture several times faster than the tensor libraries, and its operations
take their parameters from outside, so that one draw serves a whole clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.datasets.base import BODY_SHARE, PER_PERSON, Labels
from pave_ros.frames import Image
from pave_ros.persons import Floats
from pave_ros.training.settings import check_bounds, check_ranges

Rng = np.random.Generator
Size = tuple[int, int]  # width, height, pixels
Matrix = npt.NDArray[np.float64]  # (3, 3) map of homogeneous points x, y, 1
Clip = tuple[list[Image], list[Labels]]

MIN_KEYPOINTS = 3  # of a person with fewer of them in view nothing but the box is taught
LABELLED, VISIBLE = 1, 2
VIEW_BOUNDS = ((("flip", "turn"), 0, 1), (("degrees", "shift"), 0, math.inf), (("stretch",), 1, math.inf))


# --- Geometry. Points are continuous: the first pixel reaches from 0 to 1, so that scaling a picture scales its points.


def translation(x: float, y: float) -> Matrix:
    """Map that moves points by x, y pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def scaling(x: float, y: float | None = None) -> Matrix:
    """Map that scales points about the origin; a negative factor mirrors."""
    return np.diag([x, x if y is None else y, 1.0])


def rotation(degrees: float) -> Matrix:
    """Map that turns points about the origin, clockwise as seen in the picture."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def mirroring(width: int) -> Matrix:
    """Map that mirrors a picture of this width, left to right."""
    return translation(width, 0) @ scaling(-1, 1)


def warp(clip: Clip, matrix: Matrix, size: Size, fill: Sequence[int] | None = None) -> Clip:
    """Map the pictures and labels of a clip.

    Args:
        clip: pictures and labels.
        matrix: where points go; where it mirrors, left and right keypoints are swapped.
        size: of the new pictures.
        fill: RGB colour around the mapped pictures; None continues their borders.
    """
    images, labels = clip
    return [warp_image(image, matrix, size, fill) for image in images], [move(one, matrix, size) for one in labels]


def warp_image(image: Image, matrix: Matrix, size: Size, fill: Sequence[int] | None = None) -> Image:
    """The picture (H, W, 3) or mask (H, W) mapped to a new size, averaged where it shrinks."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale < 0.6:  # interpolation between four pixels would leave out the others
        height, width = image.shape[:2]
        small = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ scaling(width / small[0], height / small[1])
    centres = translation(-0.5, -0.5) @ matrix @ translation(0.5, 0.5)  # OpenCV counts from the centre of a pixel
    border = cv2.BORDER_REPLICATE if fill is None else cv2.BORDER_CONSTANT
    value = [0, 0, 0] if fill is None else [int(v) for v in fill]
    return np.asarray(cv2.warpAffine(image, centres[:2], size, borderMode=border, borderValue=value), np.uint8)


def move(labels: Labels, matrix: Matrix, size: Size) -> Labels:
    """Labels of a mapped picture: see `warp`. People who are out of the picture are dropped."""
    keypoints = labels.keypoints.copy()
    keypoints[..., :2] = _mapped(keypoints[..., :2], matrix)
    keypoints[~(labels.keypoints[..., 2] > 0)] = 0
    determinant = float(np.linalg.det(matrix[:2, :2]))
    if determinant < 0:
        keypoints = keypoints[:, list(skeletons.get(labels.skeleton).mirror)]
    boxes = _mapped_boxes(labels.boxes, matrix, keypoints)
    moved = replace(
        labels,
        keypoints=keypoints,
        boxes=boxes,
        areas=(labels.areas * abs(determinant)).astype(np.float32),
        head_boxes=_mapped_boxes(labels.head_boxes, matrix),
        ignore=tuple(_mapped(polygon, matrix) for polygon in labels.ignore),
    )
    return cropped(moved, (0, 0, *size))


def _mapped(points: npt.NDArray[np.floating[Any]], matrix: Matrix) -> Floats:
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def _mapped_boxes(boxes: Floats, matrix: Matrix, keypoints: Floats | None = None) -> Floats:
    """Boxes around mapped ellipses: a person fills a box's corners rarely, so that a turned box's own extent would be
    too large. They hold the keypoints (M, K, 3), if given."""
    centres = _mapped(boxes[:, :2] + boxes[:, 2:] / 2, matrix)
    halves = np.sqrt((boxes[:, None, 2:] / 2) ** 2 @ (matrix[:2, :2].T ** 2))[:, 0]
    low, high = centres - halves, centres + halves
    if keypoints is not None:
        labelled = keypoints[..., 2:] > 0
        low = np.minimum(low, np.where(labelled, keypoints[..., :2], np.inf).min(axis=1, initial=np.inf))
        high = np.maximum(high, np.where(labelled, keypoints[..., :2], -np.inf).max(axis=1, initial=-np.inf))
    return np.concatenate([low, high - low], axis=1).astype(np.float32)


def cropped(labels: Labels, window: tuple[float, float, float, float]) -> Labels:
    """What is left of people inside a window x, y, width, height; their coordinates stay those of the whole picture.
    People left with too few keypoints lose all of them and keep only a box, for box losses and POET's class of such
    people."""
    labels = _with_extent(labels)
    low, high = np.array(window[:2]), np.array(window[:2]) + window[2:]
    keypoints = labels.keypoints.copy()
    keypoints[((keypoints[..., :2] < low) | (keypoints[..., :2] >= high)).any(axis=2)] = 0
    keypoints[_too_few(labels.keypoints, keypoints)] = 0
    boxes, share = _cropped_boxes(labels.boxes, low, high)
    head_boxes, head_share = _cropped_boxes(labels.head_boxes, low, high)
    head_boxes[~(head_share > 0)] = np.nan
    kept = replace(
        labels,
        keypoints=keypoints,
        boxes=boxes,
        areas=(labels.areas * share).astype(np.float32),
        head_boxes=head_boxes,
        ignore=tuple(
            np.clip(polygon, low, high).astype(np.float32)
            for polygon in labels.ignore
            if (polygon.max(axis=0) > low).all() and (polygon.min(axis=0) < high).all()
        ),
    )
    return kept[(share > 0) & (boxes[:, 2:] >= 0.5).all(axis=1)]  # Of a pixel whose middle is inside, half is.


def _with_extent(labels: Labels) -> Labels:
    """The same people; the boxes of those who have keypoints are a pixel wide and high at least. Where a data set gives
    no boxes, they have no extent around a single keypoint, or around several in a line."""
    known = (labels.keypoints[..., 2] > 0).any(axis=1, keepdims=True)
    sides = np.where(known, np.maximum(labels.boxes[:, 2:], 1), labels.boxes[:, 2:])
    low = labels.boxes[:, :2] + (labels.boxes[:, 2:] - sides) / 2
    areas = np.where(labels.areas > 0, labels.areas, BODY_SHARE * sides.prod(axis=1))
    return replace(labels, boxes=np.concatenate([low, sides], axis=1), areas=areas.astype(np.float32))


def _cropped_boxes(boxes: Floats, low: npt.ArrayLike, high: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Boxes inside a window, and which share of each that is."""
    start, end = np.clip(boxes[:, :2], low, high), np.clip(boxes[:, :2] + boxes[:, 2:], low, high)
    inside = np.concatenate([start, end - start], axis=1).astype(np.float32)
    return inside, inside[:, 2:].prod(axis=1) / np.maximum(boxes[:, 2:].prod(axis=1), 1e-6)


def _too_few(before: Floats, after: Floats) -> npt.NDArray[np.bool_]:
    """People who lost labelled keypoints and have too few now. Who had few from the start keeps them."""
    had, has = ((keypoints[..., 2] > 0).sum(axis=1) for keypoints in (before, after))
    return np.asarray((has < had) & (has < MIN_KEYPOINTS))


@dataclass(frozen=True)
class View:
    """How a camera looks at a picture: chances and ranges of `placed`.

    Attributes:
        flip: chance of mirroring.
        turn: chance of turning at all.
        degrees: standard deviation of the turn.
        zoom: smallest and largest factor on top of the scale half way between showing all of the picture and filling
            the window.
        stretch: largest change of the ratio of width and height, as a factor.
        shift: how far the picture may be off, as a share of the room there is.
    """

    flip: float = 0.5
    turn: float = 0.6
    degrees: float = 14.0
    zoom: tuple[float, float] = (0.7, 1.5)
    stretch: float = 1.15
    shift: float = 1.0

    def __post_init__(self) -> None:
        check_bounds(self, VIEW_BOUNDS)
        check_ranges(self, "zoom")


def placed(source: Size, window: tuple[float, float, float, float], view: View, rng: Rng) -> Matrix:
    """Where a picture goes that is shown in a window x, y, width, height, by the chances of `view`."""
    width, height = window[2:]
    zoom = np.sqrt(width / source[0] * height / source[1]) * np.exp(rng.uniform(*np.log(view.zoom)))
    ratio = np.exp(rng.uniform(-1, 1) * np.log(view.stretch) / 2)
    room = np.array([width - source[0] * zoom * ratio, height - source[1] * zoom / ratio])
    shift = view.shift * rng.uniform(-0.5, 0.5, 2) * np.abs(room)
    matrix = translation(-source[0] / 2, -source[1] / 2)
    if rng.random() < view.flip:
        matrix = scaling(-1, 1) @ matrix
    if rng.random() < view.turn:
        matrix = rotation(view.degrees * rng.standard_normal()) @ matrix
    matrix = scaling(zoom * ratio, zoom / ratio) @ matrix
    return translation(window[0] + width / 2 + shift[0], window[1] + height / 2 + shift[1]) @ matrix


# --- Several pictures in one.


def tiles(count: int, rng: Rng, size: Size) -> list[tuple[int, int, int, int]]:
    """Cut a picture into `count` windows x, y, width, height: always the largest, across its longer side."""
    windows = [(0, 0, *size)]
    while len(windows) < count:
        windows.sort(key=lambda window: window[2] * window[3])
        x, y, width, height = windows.pop()
        share = rng.uniform(0.35, 0.65)
        if width >= height:
            cut = round(width * share)
            windows += [(x, y, cut, height), (x + cut, y, width - cut, height)]
        else:
            cut = round(height * share)
            windows += [(x, y, width, cut), (x, y + cut, width, height - cut)]
    return windows


def mosaic(clips: Sequence[Clip], size: Size, view: View, rng: Rng, aspect: float | None = None) -> Clip:
    """Clips side by side in one, each in a window of its own: a mosaic of four, a row of two, or one alone.

    Args:
        clips: of equal length.
        size: of the new pictures.
        view: how each is shown in its window; `zoom` below 1 leaves a border around it.
        rng: the chance.
        aspect: width / height of the camera whose picture is stretched to `size` in the end; None: that of `size`.
    """
    width, height = size
    camera = (max(round(height * aspect), 1), height) if aspect else size
    squeeze = scaling(width / camera[0], 1)
    images = [np.empty((height, width, 3), np.uint8) for _ in clips[0][0]]
    people: list[list[Labels]] = [[] for _ in images]
    for clip, (x, y, w, h) in zip(clips, tiles(len(clips), rng, camera), strict=True):
        source = (clip[0][0].shape[1], clip[0][0].shape[0])
        matrix = squeeze @ placed(source, (x, y, w, h), view, rng)
        left, right = round(x * squeeze[0, 0]), round((x + w) * squeeze[0, 0])
        fill = None if rng.random() < 0.4 else _like(clip[0][0], rng)
        shown, labels = warp(clip, translation(-left, -y) @ matrix, (right - left, h), fill)
        for i, (image, one) in enumerate(zip(shown, labels, strict=True)):
            images[i][y : y + h, left:right] = image
            people[i].append(_shifted(one, left, y))
    return images, [joined(labels) for labels in people]


def _like(image: Image, rng: Rng) -> list[int]:
    """A colour near the mean of a picture; now and then any grey, as around a letterboxed video."""
    if rng.random() < 0.2:
        return [int(rng.integers(256))] * 3
    mean = image[::8, ::8].reshape(-1, 3).mean(axis=0) + rng.normal(0, 25, 3)
    return [int(level) for level in np.clip(mean, 0, 255)]


def _shifted(labels: Labels, x: float, y: float) -> Labels:
    offset = np.array([x, y], np.float32)
    keypoints = labels.keypoints.copy()
    keypoints[..., :2] += np.where(keypoints[..., 2:] > 0, offset, 0)
    boxes, head_boxes = labels.boxes.copy(), labels.head_boxes.copy()
    boxes[:, :2] += offset
    head_boxes[:, :2] += offset
    ignore = tuple(polygon + offset for polygon in labels.ignore)
    return replace(labels, keypoints=keypoints, boxes=boxes, head_boxes=head_boxes, ignore=ignore)


def joined(labels: Sequence[Labels]) -> Labels:
    """The people and ignored regions of several labels of one picture; complete when all are."""
    people: dict[str, Any] = {name: np.concatenate([getattr(one, name) for one in labels]) for name in PER_PERSON}
    return replace(
        labels[0],
        **people,
        ignore=tuple(polygon for one in labels for polygon in one.ignore),
        complete=all(one.complete for one in labels),
        uncounted=None,
    )


# --- Things and people in front.


def covered(labels: Labels, mask: Image) -> Labels:
    """Labels after something was drawn where the mask (H, W) uint8 is above one half: keypoints under it are hidden,
    and people of whom fewer than three keypoints can be seen any more count neither way."""
    height, width = mask.shape
    keypoints = labels.keypoints.copy()
    x = np.clip(keypoints[..., 0].astype(int), 0, width - 1)
    y = np.clip(keypoints[..., 1].astype(int), 0, height - 1)
    hidden = (keypoints[..., 2] == VISIBLE) & (mask[y, x] > 127)
    keypoints[hidden, 2] = LABELLED
    seen = (keypoints[..., 2] == VISIBLE).sum(axis=1)
    return replace(labels, keypoints=keypoints, crowd=labels.crowd | (hidden.any(axis=1) & (seen < MIN_KEYPOINTS)))


@dataclass(frozen=True)
class Cutout:
    """One person to paste, in a clip of their own.

    Attributes:
        images: (H, W, 3) uint8 RGB.
        masks: (H, W) uint8, 255 where the person is.
        labels: of that person alone.
    """

    images: list[Image]
    masks: list[Image]
    labels: list[Labels]


def paste(clip: Clip, cutout: Cutout, matrix: Matrix) -> Clip:
    """The clip with a person in front of it, who goes where `matrix` says; the people behind are hidden."""
    images, labels = [], []
    height, width = clip[0][0].shape[:2]
    for image, own, source, mask, person in zip(*clip, cutout.images, cutout.masks, cutout.labels, strict=True):
        shape = warp_image(mask, matrix, (width, height), (0, 0, 0))
        alpha = cv2.GaussianBlur(shape, (3, 3), 0)[..., None] / np.float32(255)
        pixels = warp_image(source, matrix, (width, height), None)
        images.append((image + (pixels - image.astype(np.float32)) * alpha).astype(np.uint8))
        labels.append(joined([covered(own, shape), move(person, matrix, (width, height))]))
    return images, labels


def occlude(clip: Clip, rng: Rng, count: int = 1, largest: float = 0.4) -> Clip:
    """Put random things in front: boxes, discs, poles and shards; plain, striped, noisy, or cut from the picture.

    Args:
        clip: pictures and labels.
        rng: the chance.
        count: number of things.
        largest: longest side of a thing, as a share of the picture's height.
    """
    images, labels = [image.copy() for image in clip[0]], clip[1]
    height, width = images[0].shape[:2]
    for _ in range(count):
        mask = _shape(rng, (width, height), largest)
        texture = _texture(rng, images[0])
        for image in images:
            cv2.copyTo(texture, mask, image)
        labels = [covered(one, mask) for one in labels]
    return images, labels


def _shape(rng: Rng, size: Size, largest: float) -> Image:
    """(H, W) mask, 255 inside a random polygon: of four corners or many, turned, at times long and thin."""
    mask = np.zeros(size[::-1], np.uint8)
    radii = size[1] * largest / 2 * rng.uniform(0.15, 1, 2)
    if rng.random() < 0.25:
        radii = np.array([radii.max() * 3, radii.min() * 0.3])
    count = int(rng.choice([4, 4, 5, 7, 24]))
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    radius = 1.0 if count in (4, 24) else rng.uniform(0.5, 1, count)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii * np.reshape(radius, (-1, 1))
    turn = rotation(rng.uniform(0, 180) if rng.random() < 0.5 else rng.choice([0.0, 90.0]))[:2, :2]
    centre = rng.uniform(0, 1, 2) * size
    cv2.fillPoly(mask, [np.round(corners @ turn.T + centre).astype(np.int32)], (255,))
    return mask


def _texture(rng: Rng, image: Image) -> Image:
    """(H, W, 3) pixels for a thing: another part of the picture in other colours, stripes, noise or one colour."""
    height, width = image.shape[:2]
    colours = rng.integers(0, 256, (2, 3))
    kind = rng.integers(4)
    if kind == 0:
        rolled = np.roll(image, tuple(rng.integers(0, (height, width))), (0, 1))
        return np.ascontiguousarray(255 - rolled if rng.random() < 0.3 else rolled[:, :, rng.permutation(3)])
    if kind == 1:
        x, y = np.meshgrid(np.arange(width), np.arange(height))
        stripe = (x * rng.uniform(-0.4, 0.4) + y * rng.uniform(-0.4, 0.4)) % 2 < 1
        return np.where(stripe[..., None], colours[0], colours[1]).astype(np.uint8)
    plain = np.broadcast_to(colours[0], image.shape).astype(np.uint8)
    if kind == 2:
        grain = rng.integers(0, 60, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        return np.asarray(cv2.addWeighted(plain, 0.8, cv2.resize(grain, (width, height)), 1, 0), np.uint8)
    return plain


# --- Colour and quality: the keypoints stay where they are. One draw of the parameters for all frames.


def colour(images: list[Image], rng: Rng, strength: float = 1.0) -> list[Image]:
    """Brightness, contrast, gamma, white balance and saturation, now and then grey."""
    gain = 1 + strength * (rng.uniform(-0.35, 0.35) + rng.uniform(-0.1, 0.1, 3))
    offset = strength * rng.uniform(-30, 30)
    gamma = np.exp(strength * rng.uniform(-0.4, 0.4))
    saturation = 0.0 if rng.random() < 0.08 else 1 + strength * rng.uniform(-0.6, 0.5)
    levels = 255 * (np.arange(256) / 255)[:, None] ** gamma
    table = np.clip((levels - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)[None]
    mix = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    # The rows of `mix` are output channels; `transform` rounds and clips.
    return [np.asarray(cv2.LUT(cv2.transform(image, mix), table), np.uint8) for image in images]


def blur(images: list[Image], rng: Rng) -> list[Image]:
    """Out of focus, or moved during the exposure."""
    if rng.random() < 0.5:
        sigma = rng.uniform(0.4, 1.8)
        return [np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8) for image in images]
    length = rng.uniform(2, 9)
    kernel = np.zeros((11, 11), np.float32)
    step = length / 2 * np.array([np.cos(angle := rng.uniform(0, np.pi)), np.sin(angle)])
    start, end = np.round(5 - step).astype(int), np.round(5 + step).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return [np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8) for image in images]


def noise(images: list[Image], rng: Rng) -> list[Image]:
    """Grain of a camera in the dark: new in each frame, equally strong in all."""
    sigma = rng.uniform(2, 16)
    grain = (sigma * rng.standard_normal((4, *images[0].shape[:2]), np.float32)).astype(np.int16)
    return [
        np.clip(image + grain[rng.permutation(4)[:3]].transpose(1, 2, 0), 0, 255).astype(np.uint8) for image in images
    ]


def jpeg(images: list[Image], rng: Rng) -> list[Image]:
    """What strong compression leaves."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
    return [
        np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
        for image in images
    ]


def low_resolution(images: list[Image], rng: Rng) -> list[Image]:
    """A picture of fewer pixels, enlarged."""
    height, width = images[0].shape[:2]
    scale = rng.uniform(0.35, 0.8)
    small = (max(round(width * scale), 1), max(round(height * scale), 1))
    back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_NEAREST, cv2.INTER_CUBIC]))
    shrunk = [cv2.resize(image, small, interpolation=cv2.INTER_AREA) for image in images]
    return [np.asarray(cv2.resize(image, (width, height), interpolation=back), np.uint8) for image in shrunk]


# What happens to a picture on its way through a camera, in this order, with the chance of each.
CAMERA: tuple[tuple[Callable[[list[Image], Rng], list[Image]], float], ...] = (
    (colour, 0.8),
    (low_resolution, 0.12),
    (blur, 0.15),
    (noise, 0.2),
    (jpeg, 0.2),
)


def filmed(images: list[Image], rng: Rng) -> list[Image]:
    """The pictures as a worse camera would have taken them: each of `CAMERA` with its chance."""
    for effect, chance in CAMERA:
        if rng.random() < chance:
            images = effect(images, rng)
    return images
