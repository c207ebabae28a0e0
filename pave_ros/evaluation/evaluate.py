"""Running a model over a data set, reading results files, and showing where a model does worst."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from pave_ros import drawing
from pave_ros.datasets.base import Dataset, DatasetError, Sample
from pave_ros.datasets.files import broken_entries
from pave_ros.evaluation.boxes import BoxesOf, entries_of
from pave_ros.evaluation.result import Result
from pave_ros.evaluation.similarity import SURE, in_skeleton, partners
from pave_ros.frames import Frame, Image
from pave_ros.persons import Floats, Persons
from pave_ros.skeletons import Skeleton

if TYPE_CHECKING:
    from pave_ros.estimator import Estimator

FRAME_INTERVAL = round(1e9 / 30)  # nanoseconds between the frames of a data set's videos


class Model(Protocol):
    """What is evaluated: an `Estimator`, or anything like it."""

    @property
    def reach(self) -> int:
        """Number of frames that it looks at on either side of the one in question, 0 for image models."""
        ...

    def estimate(self, frames: Sequence[Frame], index: int = -1) -> Persons:
        """The people in one of these frames, oldest first."""
        ...


@dataclass(frozen=True)
class Run:
    """A model's answers to pictures of a data set.

    Attributes:
        samples: the labelled pictures.
        predictions: the people found in each.
        seconds: how long each picture took the model, from the pixels to the people; empty for a results file.
    """

    samples: list[Sample]
    predictions: list[Persons]
    seconds: list[float]


def part_of(dataset: Dataset, limit: int | None = None) -> list[int]:
    """Indices of the annotated pictures of a data set; with `limit`, so many of them, evenly spread."""
    indices = list(dataset.annotated)
    if not indices:
        raise DatasetError(f"{dataset.name}: holds no annotated pictures to evaluate on")
    if limit is None or limit >= len(indices):
        return indices
    return [indices[i] for i in np.linspace(0, len(indices) - 1, limit).round().astype(int)]


def run(
    dataset: Dataset,
    indices: Sequence[int],
    model: Model,
    advanced: Callable[[], None] = lambda: None,
    boxes: BoxesOf | None = None,
) -> Run:
    """Let a model look at pictures of a data set, a video model at the frames before and after them too.

    Args:
        dataset: where the pictures come from.
        indices: which of them.
        model: finds the people; the lower its score threshold, the better for average precision.
        advanced: called after each picture, to show progress.
        boxes: where the people in a picture are, for a top-down model; None leaves it to the model's detector.
    """
    result = Run([], [], [])
    frames: dict[int | str, Frame] = {}
    last: Frame | None = None
    for index in indices:
        window = dataset.clip(index, range(-model.reach, model.reach + 1))
        frames = {
            s.id: frames.get(s.id) or _frame(s, boxes) for s in window
        }  # kept with the features that they have by now
        asked, history = window[model.reach], [frames[sample.id] for sample in window]
        if last is not None and not model.reach and asked.comes_after(result.samples[-1]):
            history.insert(0, last)  # A camera would have shown it before.
        start = time.perf_counter()
        persons = model.estimate(history, len(history) - model.reach - 1)
        result.seconds.append(time.perf_counter() - start)
        last = frames[asked.id]
        result.samples.append(asked)
        result.predictions.append(persons)
        advanced()
    return result


def _frame(sample: Sample, boxes: BoxesOf | None) -> Frame:
    found = boxes(sample) if boxes else None
    return Frame(stamp=sample.frame * FRAME_INTERVAL, image=sample.image(), boxes=found)


def from_results(dataset: Dataset, indices: Sequence[int], path: Path) -> Run:
    """The people of a results file in COCO's format, a list of objects with ``image_id``, ``keypoints`` (x, y, score
    of each), ``score`` and ``category_id``, in the data set's keypoint layout; what is no person is passed over. In
    PoseTrack's format ``scores`` are those of the keypoints, and a person's is their mean if not given. DatasetError
    when the file does not fit."""
    ids = dataset.ids
    found: dict[Any, list[dict[str, Any]]] = {ids[i]: [] for i in indices}
    with broken_entries(path, cure=""):
        entries = entries_of(path, dataset)
        known = [entry for entry in entries if entry["image_id"] in found]
        if entries and not known and not {entry["image_id"] for entry in entries} & set(ids):
            raise DatasetError(f"{path}: not one of its image_ids is in {dataset.name}; is it of another split?")
        told = [float(entry["score"] if "score" in entry else np.mean(entry["scores"])) for entry in known]
        if not np.isfinite(told).all():
            raise ValueError("a score is not finite")
        for entry, score in zip(known, _in_order(told), strict=True):
            found[entry["image_id"]].append({**entry, "score": score})
        predictions = [_persons(found[ids[i]], dataset.skeleton) for i in indices]
    return Run([dataset[i] for i in indices], predictions, [])


def _in_order(scores: Sequence[float]) -> Floats:
    """Scores as float32 in the same order, also where they differ by less than that can tell: average precision goes
    by the order."""
    values, places = np.unique(np.asarray(scores, float), return_inverse=True)
    rounded = values.astype(np.float32)
    for i in range(1, len(rounded)):
        if rounded[i] <= rounded[i - 1]:
            rounded[i] = np.nextafter(rounded[i - 1], np.float32(np.inf))
    return rounded[places]


def _persons(entries: list[dict[str, Any]], skeleton: Skeleton) -> Persons:
    keypoints = np.array([entry["keypoints"] for entry in entries], np.float32)
    keypoints = keypoints.reshape(len(entries), len(skeleton), 3)
    for points, entry in zip(keypoints, entries, strict=True):
        points[:, 2] = entry.get("scores", points[:, 2])
    scores = np.array([entry["score"] for entry in entries], np.float32)
    order = np.argsort(-scores, kind="stable")
    return Persons.from_keypoints(keypoints[order], scores[order], skeleton.name)


def describe(estimator: Estimator) -> dict[str, Any]:
    """What ran, as plain data."""
    return {
        "model": estimator.name,
        "weights": estimator.weights,
        "device": estimator.device,
        **({"detector": estimator.detector} if estimator.detector else {}),
        "engine": estimator.engine,
        "precision": estimator.precision,
        "input_size": list(estimator.input_size),
    }


def write_report(path: Path, results: Sequence[Result], done: Run, about: dict[str, Any]) -> None:
    """Write a JSON file of what was run, `about`, the median milliseconds a picture, and the results. Its folder has to
    be there."""
    milliseconds = round(1000 * float(np.median(done.seconds)), 2) if done.seconds else None
    content = {**about, "milliseconds": milliseconds, "results": [result.as_json() for result in results]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def is_report(path: Path) -> bool:
    """Whether `write_report` may have written this file."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"milliseconds", "results"} <= content.keys()


def quality(sample: Sample, persons: Persons) -> float:
    """How well one picture was understood, 0..1: the sum of the OKS of all annotated people, over their number and
    that of the sure people besides, unless not everybody was annotated. 1 where there is nobody."""
    labels = sample.labels[~sample.labels.crowd & (sample.labels.keypoints[..., 2] > 0).any(axis=1)]
    sure = in_skeleton(persons[persons.scores >= SURE], labels.skeleton)
    partner, alike = partners(labels, sure)
    counted = len(labels)
    if sample.labels.complete and not sample.labels.crowd.any() and not sample.labels.ignore:
        counted += len(sure) - int((partner >= 0).sum())
    return float(alike.sum() / counted) if counted else 1.0


def write_worst(folder: Path, done: Run, count: int) -> list[Path]:
    """Write pictures of the `count` worst cases into a folder, the labels on the left, the answer on the right; of
    equally bad ones those with more people first."""
    qualities = [quality(s, p) for s, p in zip(done.samples, done.predictions, strict=True)]
    order = np.lexsort(([-len(sample.labels) for sample in done.samples], qualities))
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for rank, i in enumerate(order[:count], start=1):
        sample, persons = done.samples[i], done.predictions[i]
        path = folder / f"{rank:03d}_{str(sample.id).replace('/', '_')}.jpg"
        picture = cv2.cvtColor(_side_by_side(sample, persons, qualities[i]), cv2.COLOR_RGB2BGR)
        path.write_bytes(bytes(cv2.imencode(path.suffix, picture)[1]))  # `imwrite` says nothing of a full disk.
        written.append(path)
    return written


def _side_by_side(sample: Sample, persons: Persons, similarity: float) -> Image:
    image = sample.image()
    truth = drawing.draw(image.copy(), sample.labels.as_persons(), label=False, boxes=True)
    answer = drawing.draw(image, persons[persons.scores >= SURE], keypoint_threshold=SURE)
    captions = (f"labels of {sample.id}", f"answer, similarity {similarity:.2f}")
    return drawing.contact_sheet((truth, answer), 2, captions=captions)
