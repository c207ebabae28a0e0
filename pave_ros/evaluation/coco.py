"""Average precision by object keypoint similarity: COCO's, and CrowdPose's variant, both through pycocotools."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pave_ros import skeletons
from pave_ros.datasets.base import BODY_SHARE, Labels, Sample
from pave_ros.evaluation.result import Result, never_predicted, note_missing
from pave_ros.evaluation.similarity import ALIKE, oks
from pave_ros.persons import Floats, Persons, boxes_of
from pave_ros.tracking import overlap

Mask = npt.NDArray[np.bool_]

# Where COCOeval.summarize puts its numbers, and what the papers call them.
COCO_NAMES = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
# Bounds of the crowd index in CrowdPose's own evaluation code, with which the published numbers were made.
CROWD_LEVELS = {"AP_E": (-np.inf, 0.2), "AP_M": (0.2, 0.8), "AP_H": (0.8, np.inf)}
TOUCHING = 0.1  # overlap from which somebody found may be meant to be the labelled person
FAR = 1e7  # pixels; a keypoint that a model does not give is as wrong as can be

_STDOUT = threading.Lock()  # A program has one.


def coco_ap(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """COCO's ten numbers for keypoints, with the sigmas of the labels' layout.

    Args:
        samples: the labelled pictures.
        predictions: the people found in each, in the same layout; the best twenty of a picture count.
    """
    stats = _stats(_evaluator(samples, predictions))
    return _result("COCO keypoints", dict(zip(COCO_NAMES, stats, strict=True)), samples, predictions)


def labelled_ap(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """COCO's numbers where only some of the people in a picture are labelled, and maybe with other keypoints than a
    model gives.

    Who is found apart from every labelled person, the boxes around the labelled keypoints overlapping by less than
    `TOUCHING` and the OKS being below `ALIKE`, is left out, for nobody knows whether they are there; where everybody is
    labelled they count as wrong. Keypoints that no prediction has are left out.

    Args: as of `coco_ap`.
    """
    skeleton, lacking = skeletons.get(samples[0].labels.skeleton if samples else "coco17"), never_predicted(predictions)
    given = np.array([name not in lacking for name in skeleton.keypoints])
    truth = [replace(sample, labels=_with(sample.labels, given)) for sample in samples]
    touching = [p if s.labels.complete else p[_touching(s.labels, p)] for s, p in zip(truth, predictions, strict=True)]
    notes = ("of the labelled people alone", *note_missing(predictions, "left out"))
    return replace(coco_ap(truth, touching), notes=notes)


def _with(labels: Labels, keypoints: Mask) -> Labels:
    """The same people with these of their keypoints alone (K,)."""
    return replace(labels, keypoints=labels.keypoints * keypoints[:, None])


def _touching(labels: Labels, persons: Persons) -> Mask:
    """(N,) whether the labelled keypoints of each person found are about where those of somebody labelled are."""
    labelled = labels.keypoints[..., 2:] > 0
    shared = np.where(labelled[:, None], persons.keypoints[None], np.nan)  # (M, N, K, 3)
    boxes = boxes_of(np.where(labelled, labels.keypoints, np.nan))
    overlaps = [overlap(boxes[m : m + 1], boxes_of(shared[m]))[0] for m in range(len(labels))]
    near = np.reshape(overlaps, (len(labels), len(persons))) >= TOUCHING
    # The box of an arm that hangs down is a line, which hardly overlaps with another beside it.
    return np.asarray((near | (oks(labels, persons) >= ALIKE)).any(axis=0))


def crowdpose_ap(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """CrowdPose's numbers: AP and AR without ranges of area, the area of a person being 0.53 of the box, and AP of
    easy, medium and hard pictures by their crowd index.

    Args: as of `coco_ap`.
    """
    evaluator = _evaluator(samples, predictions, areas_of_boxes=True)
    evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
    stats = _stats(evaluator)
    named = dict(zip(COCO_NAMES, stats, strict=True))
    values = {name: named[name] for name in ("AP", "AP50", "AP75")}
    indices = np.array([np.nan if s.crowd_index is None else s.crowd_index for s in samples])
    ids = _picture_ids(samples)
    for name, (low, high) in CROWD_LEVELS.items():
        level = np.flatnonzero((indices >= low) & (indices < high))
        evaluator.params.imgIds = [ids[i] for i in level]
        values[name] = _stats(evaluator)[0] if len(level) else np.nan
    values.update({name: named[name] for name in ("AR", "AR50", "AR75")})
    return _result("CrowdPose", values, samples, predictions)


def _result(metric: str, values: dict[str, float], samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    persons = sum(int((~s.labels.crowd & s.labels.counted).sum()) for s in samples)
    return Result(metric, values, len(samples), persons, note_missing(predictions))


def _stats(evaluator: COCOeval) -> list[float]:
    """COCO's ten numbers, NaN where it says -1."""
    with _quietly():
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) if value >= 0 else np.nan for value in evaluator.stats]


@contextmanager
def _quietly() -> Iterator[None]:
    """pycocotools prints as it goes."""
    with _STDOUT, redirect_stdout(io.StringIO()):
        yield


def _evaluator(samples: Sequence[Sample], predictions: Sequence[Persons], areas_of_boxes: bool = False) -> COCOeval:
    ids = _picture_ids(samples)
    truth = [a for i, sample in zip(ids, samples, strict=True) for a in _annotations(i, sample, areas_of_boxes)]
    found = [a for i, persons in zip(ids, predictions, strict=True) for a in _detections(i, persons)]
    evaluator = COCOeval(_index(ids, truth), _index(ids, found), "keypoints")
    names = {sample.labels.skeleton for sample in samples} | {persons.skeleton for persons in predictions}
    if len(names) > 1:
        raise ValueError(f"labels and predictions of different keypoint layouts: {', '.join(sorted(names))}")
    if names:
        evaluator.params.kpt_oks_sigmas = np.array(skeletons.get(names.pop()).sigmas)
    return evaluator


def _picture_ids(samples: Sequence[Sample]) -> list[int]:
    """Numbers in the order of the data set's own ids, which decides between equal scores."""
    ids = [sample.id for sample in samples]
    if len(set(ids)) < len(ids):
        return list(range(1, len(ids) + 1))
    in_order = sorted(ids, key=lambda one: (isinstance(one, str), one))
    ranks = {one: rank for rank, one in enumerate(in_order, start=1)}
    return [ranks[one] for one in ids]


def _annotations(picture: int, sample: Sample, areas_of_boxes: bool) -> list[dict[str, Any]]:
    labels = sample.labels
    areas = BODY_SHARE * labels.boxes[:, 2] * labels.boxes[:, 3] if areas_of_boxes else labels.areas
    counted = labels.counted
    return [
        {
            "image_id": picture,
            "category_id": 1,
            "keypoints": labels.keypoints[i].ravel().tolist(),
            "num_keypoints": int((labels.keypoints[i, :, 2] > 0).sum()) if counted[i] else 0,
            "bbox": labels.boxes[i].tolist(),
            "area": float(areas[i]),
            "iscrowd": int(labels.crowd[i]),
        }
        for i in range(len(labels))
    ]


def _detections(picture: int, persons: Persons) -> list[dict[str, Any]]:
    return [
        {
            "image_id": picture,
            "category_id": 1,
            "keypoints": np.where(np.isnan(points), FAR, points).ravel().tolist(),
            "score": float(score),
            "area": _extent(points),
        }
        for points, score in zip(persons.keypoints, persons.scores, strict=True)
    ]


def _extent(points: Floats) -> float:
    """Area of the box around the keypoints, which pycocotools takes for the area of a detection."""
    present = points[~np.isnan(points[:, :2]).any(axis=1), :2].astype(float)
    return float(np.ptp(present, axis=0).prod()) if len(present) else 0.0


def _index(pictures: list[int], annotations: list[dict[str, Any]]) -> COCO:
    """A COCO object of these annotations, which are numbered from 1: a match with number 0 would not count."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": picture} for picture in pictures],
        "annotations": [dict(annotation, id=i) for i, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": 1, "name": "person"}],
    }
    with _quietly():
        coco.createIndex()
    return coco
