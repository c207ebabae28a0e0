"""Skeletons drawn into pictures, and several pictures on one sheet."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.frames import Image
from pave_ros.persons import Floats, Persons, boxes_of
from pave_ros.preprocessing import check_image

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]  # left, top, right, bottom

_FONT = cv2.FONT_HERSHEY_DUPLEX
_DARK: Color = (20, 20, 20)
_LIGHT: Color = (255, 255, 255)
_SHIFT = 4  # OpenCV draws with 1/16 pixel precision, in whole numbers
# Tints of a person's colour as (saturation, value): left limbs lighter, right limbs deeper.
_TINTS = {"left": (0.4, 1.0), "right": (0.95, 0.85), "": (0.7, 1.0)}


def hue(identity: int) -> float:
    """Hue of a person's colour, 0..1. They lie a golden section apart: neighbouring numbers look unlike, and there is
    one for every number."""
    return float(identity * 0.61803398875 % 1.0)


def draw(
    image: Image,
    persons: Persons,
    *,
    bgr: bool = False,
    keypoint_threshold: float = 0.0,
    label: bool = True,
    boxes: bool = False,
) -> Image:
    """Draw people into a picture, in place, and return it.

    A person has one colour, the same over time when tracked; left limbs are lighter and right limbs deeper. Line
    widths follow the size of the person and of the picture.

    Args:
        image: (H, W, 3) uint8, written to.
        persons: keypoints in pixels of this picture.
        bgr: whether the channels are in the order blue, green, red.
        keypoint_threshold: keypoints with a lower score are left out, 0..1.
        label: write the track id and the score at each person.
        boxes: draw the bounding boxes as well.

    Raises:
        ValueError: not such a picture, or one that is not to be written to.
    """
    check_image(image)
    if not image.flags.writeable:
        raise ValueError("the picture is not to be written to, so nothing can be drawn into it; give a copy")
    if not image.flags.c_contiguous:  # OpenCV draws on nothing else, and says so in riddles
        image[:] = draw(
            np.ascontiguousarray(image), persons,
            bgr=bgr, keypoint_threshold=keypoint_threshold, label=label, boxes=boxes,
        )  # fmt: skip
        return image
    points = _visible(persons.keypoints, keypoint_threshold, image.shape)
    extents = np.where(np.isfinite(persons.boxes), persons.boxes, boxes_of(points))
    hues = [hue(identity) for identity in np.where(persons.track_ids >= 0, persons.track_ids, range(len(persons)))]
    drawn = np.flatnonzero(np.isfinite(extents).all(axis=1))
    for i in drawn[::-1]:  # the best on top
        if boxes:
            corners = np.stack((extents[i][:2], extents[i][:2] + extents[i][2:]))
            low, high = corners.clip(*_reach(image.shape))  # OpenCV takes no places that are too far away
            cv2.rectangle(image, _fixed(low), _fixed(high), _color(hues[i], "", bgr), 1, cv2.LINE_AA, _SHIFT)
        width = _line_width(extents[i], image.shape)
        _draw_person(image, points[i], skeletons.get(persons.skeleton), hues[i], width, bgr)
    taken: list[Rectangle] = []
    for i in drawn if label else drawn[:0]:
        track = f"{persons.track_ids[i]}  " if persons.track_ids[i] >= 0 else ""
        _draw_label(image, f"{track}{persons.scores[i]:.2f}", extents[i], _color(hues[i], "", bgr), taken)
    return image


def _visible(keypoints: Floats, threshold: float, shape: tuple[int, ...]) -> Floats:
    """Keypoints (N, K, 2), NaN where the score is too low or the place so far outside that no limb gets here."""
    xy = keypoints[..., :2]
    least, most = _reach(shape)
    with np.errstate(invalid="ignore"):
        shown = (keypoints[..., 2] >= threshold) & (xy > least).all(-1) & (xy < most).all(-1)
    return np.where(shown[..., None], xy, np.nan)


def _reach(shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The least and the largest (x, y) that are drawn to: as far beyond the picture as it is long."""
    size = np.array([shape[1], shape[0]], np.float32)
    return -size, 2 * size


def _line_width(box: Floats, shape: tuple[int, ...]) -> float:
    """Pixels: a share of the person's size, neither invisible nor clumsy in this picture."""
    longest = max(shape[:2])
    return float(np.clip(0.018 * math.hypot(box[2], box[3]), 0.0016 * longest, 0.008 * longest))


def _draw_person(
    image: Image, points: Floats, skeleton: skeletons.Skeleton, hue: float, width: float, bgr: bool
) -> None:
    given = ~np.isnan(points[:, 0])
    limbs = [(a, b) for a, b in skeleton.edges if given[a] and given[b]]
    thickness, radius = max(1, round(width)), 0.85 * width + 0.5
    # A dark rim below everything keeps the colours apart from any background.
    for a, b in limbs:
        cv2.line(image, _fixed(points[a]), _fixed(points[b]), _DARK, thickness + 2, cv2.LINE_AA, _SHIFT)
    for a, b in limbs:
        color = _color(hue, _side(skeleton.keypoints[a], skeleton.keypoints[b]), bgr)
        cv2.line(image, _fixed(points[a]), _fixed(points[b]), color, thickness, cv2.LINE_AA, _SHIFT)
    for k in np.flatnonzero(given):
        color = _color(hue, _side(skeleton.keypoints[k]), bgr)
        _disc(image, points[k], radius + 1, _DARK)
        _disc(image, points[k], radius, color)
        if radius > 2.5:
            _disc(image, points[k], radius - 1.75, _LIGHT)


def _disc(image: Image, center: Floats, radius: float, color: Color) -> None:
    cv2.circle(image, _fixed(center), round(radius * (1 << _SHIFT)), color, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _draw_label(image: Image, text: str, box: Floats, color: Color, taken: list[Rectangle]) -> None:
    """Write `text` above the box, inside the picture and off the labels that are there already."""
    height, width = image.shape[:2]
    scale = float(np.clip(0.0006 * max(height, width), 0.35, 1.2))
    (text_width, text_height), descent = cv2.getTextSize(text, _FONT, scale, 1)
    pad = round(text_height * 0.45)
    label_width, label_height = text_width + 2 * pad, text_height + descent + 2 * pad
    left = int(np.clip(box[0] + box[2] / 2 - label_width / 2, 0, max(0, width - label_width)))
    top = int(np.clip(box[1] - 1.3 * label_height, 0, max(0, height - label_height)))
    while any(_overlap((left, top, left + label_width, top + label_height), other) for other in taken):
        top += label_height // 3 + 1
    if top + label_height > height + label_height // 2:
        return  # so crowded that there is no place for it
    taken.append((left, top, left + label_width, top + label_height))
    cv2.rectangle(image, (left, top), (left + label_width, top + label_height), color, cv2.FILLED)
    origin = (left + pad, top + pad + text_height)
    cv2.putText(image, text, origin, _FONT, scale, _DARK, 1, cv2.LINE_AA)  # every hue is bright enough for that


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _side(*keypoints: str) -> str:
    """``left`` or ``right`` for a keypoint or a limb of that side, nothing for the middle of the body."""
    sides = {name.partition("_")[0] for name in keypoints} & {"left", "right"}
    return sides.pop() if len(sides) == 1 else ""


def _color(hue: float, side: str, bgr: bool) -> Color:
    r, g, b = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, *_TINTS[side]))
    return (b, g, r) if bgr else (r, g, b)


def _fixed(point: npt.NDArray[np.float32]) -> tuple[int, int]:
    return round(float(point[0]) * (1 << _SHIFT)), round(float(point[1]) * (1 << _SHIFT))


def contact_sheet(
    images: Sequence[Image], columns: int = 4, *, width: int = 1600, captions: Sequence[str] = (), gap: int = 8
) -> Image:
    """Pictures side by side on one dark sheet.

    Args:
        images: (H, W, 3) uint8 of any sizes; each is fitted into a cell of the first one's shape.
        columns: pictures in a row, at most.
        width: of the sheet in pixels.
        captions: a line of text in each picture's corner.
        gap: pixels between the pictures.

    Returns:
        (height, width, 3) uint8 in the channel order of the pictures.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    columns = max(1, min(columns, len(images), (width - gap) // (gap + 1)))
    rows = -(-len(images) // columns)
    cell_width = (width - gap * (columns + 1)) // columns
    cell_height = max(1, round(cell_width * images[0].shape[0] / images[0].shape[1]))
    sheet = np.full((rows * (cell_height + gap) + gap, width, 3), _DARK, np.uint8)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        top, left = gap + row * (cell_height + gap), gap + column * (cell_width + gap)
        cell = sheet[top : top + cell_height, left : left + cell_width]
        paste(cell, image)
        if i < len(captions):
            _caption(cell, captions[i])
    return sheet


def paste(cell: Image, image: Image) -> None:
    """Fit a picture into the middle of a cell, its shape kept."""
    scale = min(cell.shape[0] / image.shape[0], cell.shape[1] / image.shape[1])
    height, width = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    top, left = (cell.shape[0] - height) // 2, (cell.shape[1] - width) // 2
    cell[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=method)


def _caption(cell: Image, text: str) -> None:
    scale = float(np.clip(cell.shape[1] / 900, 0.35, 0.8))
    (width, height), descent = cv2.getTextSize(text, _FONT, scale, 1)
    corner = cell[: height + descent + 8, : width + 12]
    corner[:] = corner // 4
    cv2.putText(cell, text, (6, height + 5), _FONT, scale, _LIGHT, 1, cv2.LINE_AA)
