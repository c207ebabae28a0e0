"""Any person detector in an ONNX file, run by ONNX Runtime.

What a file takes and gives is read from its inputs and outputs. Known are

- one output of (x1, y1, x2, y2, score, class) rows, keypoints behind them or not: YOLO with its own suppression of
  overlaps;
- one output with numbers for each anchor: x, y, width, height and the scores of the classes, keypoints behind them or
  not (YOLOv8 and later), or the score of there being anything before them (YOLOv5 to 7);
- three outputs for boxes, scores and labels, and the input ``orig_target_sizes``: RT-DETR, D-FINE, DEIM;
- three outputs for boxes, scores and labels, and no input but the picture: torchvision's own export.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros.detection.base import DetectorError
from pave_ros.engines.onnxruntime import open_session, providers_for
from pave_ros.frames import Image
from pave_ros.persons import Boxes
from pave_ros.preprocessing import check_image

Array = npt.NDArray[Any]
FREE_SIDE = 640  # Pixels of the input's sides where the file leaves them free.
GREY = 114  # What letterboxed pictures are filled up with.
LEAST_SCORE = 0.05  # Boxes below it are not worth the comparison with all others.
OVERLAP = 0.65  # Boxes of one person overlap more than this (Ultralytics' default is 0.7, COCO's evaluation .65).
ANYTHING_FIRST = (2, 81)  # Numbers behind a box, in files without names, of YOLOv5's one class and of COCO's 80.
POSES = (17 * 2, 17 * 3)  # Numbers of YOLO's pose models for a person's keypoints, of two or three each.
PEOPLE = ("person", "people", "human", "pedestrian")  # What the class is called, the first that a file knows.
TARGET_SIZES = "orig_target_sizes"
SIZE_TYPES: dict[str, type[np.generic]] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
}
SEE = "see the documentation of pave_ros.detection.onnx for the files that are understood"


class OnnxDetector:
    """One file.

    Args:
        path: the ONNX file; its input of four axes is the picture, (1, 3, H, W) RGB in 0..1.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        person: number of the class of people; None takes that of the file's own list of names (`PEOPLE`), else its
            only class, and of a file without names 1 for torchvision's layout, whose 0 is the background, and 0 for the
            others.
    """

    def __init__(self, path: Path, device: str = "auto", person: int | None = None) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no such detector file: {path}")
        self.name = path.stem
        _, providers = providers_for(device)
        try:
            self._session = open_session(path, providers)
        except Exception as error:  # ONNX Runtime's errors share no public base class.
            raise DetectorError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[-1]})") from None
        picture, self._size_type = _inputs(self._session.get_inputs(), path)
        self._picture = picture.name
        self._size = tuple(side if isinstance(side, int) else FREE_SIDE for side in picture.shape[:1:-1])
        outputs = self._session.get_outputs()
        if len(outputs) == 1 and len(outputs[0].shape) != 3:
            raise DetectorError(f"{path}: its output {outputs[0].name!r} is {outputs[0].shape}, no boxes as of YOLO")
        self._outputs = [item.name for item in outputs]
        self._fields = _fields(self._outputs, path)
        self._path = path
        names = self._names()
        self._classes = len(names)
        self._person = self._number_of_people(names) if person is None else person

    def _names(self) -> dict[int, str]:
        """Number and name of each class, in small letters; none where the file does not say."""
        text = self._session.get_modelmeta().custom_metadata_map.get("names", "{}")
        try:
            names = ast.literal_eval(text)
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(number): str(name).lower() for number, name in pairs}
        except (ValueError, TypeError, SyntaxError, OverflowError, RecursionError, MemoryError):
            raise DetectorError(f"{self._path}: its names of the classes cannot be read: {text[:60]}") from None

    def _number_of_people(self, names: dict[int, str]) -> int:
        numbers = [number for word in PEOPLE for number, name in names.items() if name == word]
        if numbers or len(names) == 1:
            return [*numbers, *names][0]
        if names:
            known = ", ".join(list(names.values())[:5])
            raise DetectorError(f"{self._path}: none of its {len(names)} classes is called person, but {known}")
        return int(bool(self._fields) and self._size_type is None)

    def __call__(self, image: Image, bgr: bool = False) -> Boxes:
        check_image(image)
        height, width = image.shape[:2]
        if self._size_type is not None:
            picture, scale = cv2.resize(image, self._size), 1.0
        else:
            picture, scale = letterboxed(image, self._size)
        rgb = picture[..., ::-1] if bgr else picture
        feed: dict[str, Array] = {self._picture: np.ascontiguousarray(rgb.transpose(2, 0, 1)[None], np.float32) / 255}
        if self._size_type is not None:
            feed[TARGET_SIZES] = np.array([[width, height]], self._size_type)
        answers = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        if self._fields:
            found = self._columns(*(answers[name] for name in self._fields))
        else:
            found = self._rows(np.asarray(answers[self._outputs[0]][0], np.float32))
        corners, scores, labels = found
        finite = np.isfinite(corners).all(1)  # Or the comparison of overlaps loses everybody.
        people = (labels == self._person) & (scores >= LEAST_SCORE) & finite
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1)[people] / scale
        kept = np.ravel(cv2.dnn.NMSBoxes(boxes.tolist(), scores[people].tolist(), LEAST_SCORE, OVERLAP)).astype(int)
        return Boxes.of(boxes[kept], scores[people][kept])

    def _columns(self, corners: Array, scores: Array, labels: Array) -> tuple[Array, Array, Array]:
        """Corners (A, 4), scores (A,) and labels (A,) of the outputs for them."""
        if not corners.size == 4 * scores.size == 4 * labels.size:
            raise DetectorError(
                f"{self._path}: boxes {corners.shape}, scores {scores.shape} and labels {labels.shape} do not go "
                f"together, one score and one label for each box; {SEE}"
            )
        return corners.reshape(-1, 4), scores.ravel(), labels.ravel()

    def _rows(self, answer: Array) -> tuple[Array, Array, Array]:
        """Corners (A, 4), scores (A,) and labels (A,) of YOLO's one output, with a row or a column for each anchor."""
        in_rows = answer.shape[0] >= answer.shape[1]
        # Of so many rows each is a number of all anchors.
        upright = answer.shape[0] - 4 - self._classes not in (0, 1, *POSES)
        found = answer.shape[1] == 6 or (upright and self._classes and answer.shape[1] - 6 in POSES)
        # Where the sixth is no whole number, it is no class: it is the score of one.
        if found and not (answer[:, 5] % 1).any():
            return answer[:, :4], answer[:, 4], answer[:, 5].astype(int)
        anchors = answer if in_rows else answer.T
        centres, sizes, scores = anchors[:, :2], anchors[:, 2:4], self._scores(anchors[:, 4:], in_rows)
        return np.concatenate((centres - sizes / 2, centres + sizes / 2), 1), scores.max(1), scores.argmax(1)

    def _scores(self, numbers: Array, in_rows: bool) -> Array:
        """(A, classes) of what an anchor tells behind its box; whether the file has a row for it, as YOLOv5 does."""
        count = numbers.shape[1]
        classes = self._classes or count - (in_rows and count in ANYTHING_FIRST)
        if count == classes + 1:
            return np.asarray(numbers[:, :1] * numbers[:, 1:])
        if count - classes in (0, *POSES):
            return numbers[:, :classes]
        raise DetectorError(
            f"{self._path}: {4 + count} numbers for each box, but {classes} classes, which is no layout of YOLO's boxes"
        )


def _inputs(inputs: Sequence[Any], path: Path) -> tuple[Any, type[np.generic] | None]:
    """The input that is the picture, and the type of `TARGET_SIZES`, None for a file without it."""
    picture = next((item for item in inputs if len(item.shape) == 4), inputs[0])
    shape = picture.shape
    if len(shape) != 4 or any(isinstance(side, int) and side != n for side, n in zip(shape, (1, 3), strict=False)):
        raise DetectorError(f"{path}: its input {picture.name!r} is {shape}, not a picture (1, 3, H, W)")
    if picture.type != "tensor(float)":
        raise DetectorError(f"{path}: its input {picture.name!r} is {picture.type}, not float32")
    others = [item for item in inputs if item is not picture]
    unknown = [item for item in others if item.name != TARGET_SIZES or item.type not in SIZE_TYPES]
    if unknown:
        asked = ", ".join(f"{item.name} of {item.type}" for item in unknown)
        raise DetectorError(f"{path}: beside the picture it asks for {asked}; {SEE}")
    return picture, next((SIZE_TYPES[item.type] for item in others), None)


def _fields(outputs: list[str], path: Path) -> tuple[str, ...]:
    """The names of the outputs for boxes, scores and labels; none for a single output."""
    if len(outputs) == 1:
        return ()
    found = tuple(next((n for n in outputs if word in n.lower()), "") for word in ("box", "score", "label"))
    if not all(found):
        raise DetectorError(
            f"{path}: of the outputs {', '.join(outputs)} it is not clear which are boxes, scores and labels; {SEE}"
        )
    return found


def letterboxed(image: Image, size: tuple[int, ...]) -> tuple[Image, float]:
    """The picture scaled to fit into size (width, height), at its top left, the rest grey; and by which factor."""
    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    shown = cv2.resize(image, (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)))
    out = np.full((height, width, 3), GREY, np.uint8)
    out[: shown.shape[0], : shown.shape[1]] = shown
    return out, scale
