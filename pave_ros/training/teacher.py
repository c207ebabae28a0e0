"""Labels that a data set leaves out, from a teacher: a pose model that is already trained.

The teacher is an ONNX file of MoveNet MultiPose's layout, given by its path. It fills in the faces of people who are
annotated without, adds the people who are not annotated, sets left and right straight where an annotator mixed them up,
and turns whoever it is not sure about into regions that count neither way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pave_ros import skeletons
from pave_ros.datasets.base import BODY_SHARE, Labels
from pave_ros.engines.onnxruntime import open_session
from pave_ros.evaluation.similarity import oks
from pave_ros.frames import Image
from pave_ros.persons import Floats, Persons
from pave_ros.postprocessing import firsts
from pave_ros.tracking import coverage
from pave_ros.training.augmentation import joined

SKELETON = skeletons.get("coco17")
_STRIDE = 32  # pixels; height and width of the teacher's input are multiples of it
_CLOSER = 1.75  # pictures with more than one person are looked at again, larger: those in the background are small
_MIRROR = list(SKELETON.mirror)
_FACE = np.arange(17) < 5
LEAST = 0.05  # score below which somebody is nobody


class TeacherError(ValueError):
    """The file given as teacher is not one; the message says what was expected."""


class Teacher:
    """MoveNet MultiPose, or a model of the same layout.

    Args:
        path: ONNX file; input int32 RGB (1, H, W, 3) with H and W multiples of 32, output (1, N, 56): 17 times y, x,
            score, then ymin, xmin, ymax, xmax, score, relative to the input.
        size: pixels of the longest side that a picture is scaled to; MoveNet was trained at 256.
        threads: CPU threads, 0 for all.
    """

    def __init__(self, path: str | Path, size: int = 256, threads: int = 0) -> None:
        if not Path(path).is_file():
            raise TeacherError(f"{path}: no such file; the teacher is an ONNX file of MoveNet MultiPose")
        self._session = open_session(Path(path), ["CPUExecutionProvider"], threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(int32)" or outputs[0].shape[-1] != 56:
            raise TeacherError(f"{path}: not a MoveNet MultiPose: expected one int32 input and an output (1, N, 56)")
        self._input = inputs[0].name
        self.size = size

    def __call__(self, image: Image) -> Persons:
        """The people in a picture (H, W, 3) uint8 RGB, in `coco17`: all that the teacher gives, however unsure."""
        found = distinct(self._look(image, self.size))
        return found if len(found) < 2 else distinct(found, self._look(image, round(_CLOSER * self.size)))

    def _look(self, image: Image, size: int) -> Persons:
        height, width = image.shape[:2]
        scale = size / max(height, width)
        inner = (max(round(width * scale), 1), max(round(height * scale), 1))
        resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        outer = [-(-side // _STRIDE) * _STRIDE for side in inner]
        padded = np.zeros((1, outer[1], outer[0], 3), np.int32)
        padded[0, : inner[1], : inner[0]] = resized
        found = self._session.run(None, {self._input: padded})[0][0]
        to_pixels = np.array([outer[0] * width / inner[0], outer[1] * height / inner[1]], np.float32)
        points = found[:, :51].reshape(-1, 17, 3)[..., [1, 0, 2]]
        points[..., :2] *= to_pixels
        low, high = found[:, [52, 51]] * to_pixels, found[:, [54, 53]] * to_pixels
        return Persons.from_keypoints(points, found[:, 55], SKELETON.name, np.concatenate([low, high - low], axis=1))


def distinct(*looks: Persons, same: float = 0.5) -> Persons:
    """The people of several looks at one picture, each once, best score first.

    Args:
        looks: people, in `coco17`.
        same: object keypoint similarity, or overlap of boxes, from which two are one.
    """
    order = np.argsort(-np.concatenate([look.scores for look in looks]), kind="stable")
    keypoints, scores, boxes = (
        np.concatenate([getattr(look, name) for look in looks])[order] for name in ("keypoints", "scores", "boxes")
    )
    everyone = Persons.from_keypoints(keypoints, scores, SKELETON.name, boxes)
    everyone = everyone[everyone.scores >= LEAST]
    areas = BODY_SHARE * everyone.boxes[:, 2:].prod(axis=1)
    likeness = np.maximum(
        similarities(Labels.from_keypoints(everyone.keypoints, SKELETON.name, areas=areas), everyone),
        np.minimum(shares := coverage(everyone.boxes, everyone.boxes), shares.T),
    )
    return everyone[np.array(firsts((likeness >= same).T), int)]


@dataclass(frozen=True)
class Completion:
    """How far to trust the teacher.

    Attributes:
        person: score from which a person who is not annotated becomes one.
        maybe: score from which a person who is not annotated makes a region that counts neither way.
        keypoint: score from which a keypoint of the teacher becomes a label.
        match: object keypoint similarity from which an annotated and a found person are the same.
        swap: by how much that similarity has to rise for left and right of an annotation to be swapped.
    """

    person: float = 0.3
    maybe: float = 0.12
    keypoint: float = 0.3
    match: float = 0.4
    swap: float = 0.15

    def __call__(self, labels: Labels, found: Persons, size: tuple[int, int], sides: bool = False) -> Labels:
        """Labels (coco17) completed by what the teacher found in the picture.

        Args:
            labels: the annotated people; returned unchanged when they are complete.
            found: people of `Teacher`.
            size: width and height of the picture, pixels.
            sides: whether left and right of the annotation may be wrong.
        """
        if labels.complete:
            return labels
        certain = found[found.scores >= self.maybe]
        similarity = similarities(labels, certain)
        if sides:
            labels = self._straighten(labels, certain, similarity)
            similarity = similarities(labels, certain)
        matched = similarity.max(axis=0, initial=0) >= self.match
        labels = self._fill_faces(labels, certain, similarity)
        # Found on top of an annotated person: the same one seen differently, or somebody close by.
        on_top = coverage(certain.boxes, labels.boxes).max(axis=1, initial=0) >= 0.5
        others = np.asarray(~matched & ((certain.scores >= self.person) | ~on_top))
        return self._add(labels, certain[others], ~on_top[others], size)

    def _straighten(self, labels: Labels, found: Persons, similarity: Floats) -> Labels:
        """Swap left and right of the people with whom the teacher agrees better that way."""
        mirrored = replace(labels, keypoints=labels.keypoints[:, _MIRROR])
        swapped = similarities(mirrored, found).max(axis=1, initial=0)
        wrong = (swapped >= self.match) & (swapped > similarity.max(axis=1, initial=0) + self.swap)
        return replace(labels, keypoints=np.where(wrong[:, None, None], mirrored.keypoints, labels.keypoints))

    def _fill_faces(self, labels: Labels, found: Persons, similarity: Floats) -> Labels:
        keypoints = labels.keypoints.copy()
        for person, scores in enumerate(similarity):
            if not len(scores) or scores.max() < self.match:
                continue
            theirs = found.keypoints[scores.argmax()]
            fill = _FACE & (keypoints[person, :, 2] == 0) & (theirs[:, 2] >= self.keypoint)
            keypoints[person, fill] = _as_labels(theirs[fill])
        return replace(labels, keypoints=keypoints)

    def _add(self, labels: Labels, found: Persons, apart: npt.NDArray[np.bool_], size: tuple[int, int]) -> Labels:
        boxes = _clipped(found.boxes, size)
        keypoints = np.where(found.keypoints[..., 2:] >= self.keypoint, _as_labels(found.keypoints), 0)
        outside = (keypoints[..., :2] < 0) | (keypoints[..., :2] >= size)
        keypoints[outside.any(axis=2)] = 0
        # Half of a person's keypoints at least: a lone head or arm is too often none.
        sure = apart & (found.scores >= self.person) & ((keypoints[..., 2] > 0).sum(axis=1) >= 6)
        keypoints[~sure] = 0
        added = Labels.from_keypoints(
            keypoints, labels.skeleton, boxes=boxes, areas=BODY_SHARE * boxes[:, 2] * boxes[:, 3], crowd=~sure
        )
        return joined([labels, added[np.asarray((boxes[:, 2:] > 1).all(axis=1))]])


def _as_labels(points: Floats) -> Floats:
    """Keypoints x, y, score as labelled, visible ones."""
    return np.concatenate([points[..., :2], np.full_like(points[..., :1], 2)], axis=-1)


def _clipped(boxes: Floats, size: tuple[int, int]) -> Floats:
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.concatenate([low, high - low], axis=1).astype(np.float32)


def similarities(labels: Labels, found: Persons) -> Floats:
    """(M, N) object keypoint similarity over the labelled keypoints, 0 for a person with fewer than four of them."""
    labelled = (labels.keypoints[..., 2] > 0).sum(axis=1)
    return np.where(labelled[:, None] >= 4, oks(labels, found), 0).astype(np.float32)


def watch(teacher: Callable[[Image], Persons], images: Iterable[Image], keep: int = 12) -> npt.NDArray[np.float32]:
    """What the teacher finds in pictures, (pictures, keep, 17 * 3 + 4 + 1) float32 of keypoints, box, score."""
    answers = []
    for image in images:
        persons = teacher(image)
        rows = [persons.keypoints.reshape(len(persons), 51), persons.boxes, persons.scores[:, None]]
        answer = np.zeros((keep, 56), np.float32)
        answer[: min(len(persons), keep)] = np.concatenate(rows, axis=1)[:keep]
        answers.append(answer)
    return np.array(answers, np.float32).reshape(-1, keep, 56)


def recalled(answer: Floats) -> Persons:
    """One picture's people from a row of `watch`."""
    return Persons.from_keypoints(answer[:, :51].reshape(-1, 17, 3), answer[:, 55], SKELETON.name, answer[:, 51:55])
