"""Which metrics are told of which data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pave_ros.datasets.base import Sample
from pave_ros.evaluation.coco import coco_ap, crowdpose_ap, labelled_ap
from pave_ros.evaluation.jitter import jitter
from pave_ros.evaluation.pck import pck
from pave_ros.evaluation.posetrack import posetrack_ap
from pave_ros.evaluation.result import Result
from pave_ros.evaluation.similarity import in_skeleton
from pave_ros.persons import Persons

Metric = Callable[[Sequence[Sample], Sequence[Persons]], Result]


def _ap(samples: Sequence[Sample], predictions: Sequence[Persons]) -> Result:
    """COCO's numbers, of the labelled people alone where the file says of a picture that others are in it."""
    complete = all(sample.labels.complete for sample in samples)
    return coco_ap(samples, predictions) if complete else labelled_ap(samples, predictions)


_PCKH, _PCK_TORSO, _PCK_BOX = (partial(pck, measure=measure) for measure in ("head", "torso", "box"))

# The first is what papers about the data set compare.
METRICS: dict[str, tuple[Metric, ...]] = {
    "coco": (_ap,),
    "crowdpose": (crowdpose_ap,),
    "macaque": (_ap,),
    "ap10k": (_ap,),
    "posetrack17": (posetrack_ap, _PCKH, jitter),
    "posetrack18": (posetrack_ap, _PCKH, jitter),
    "posetrack21": (posetrack_ap, _PCKH, jitter),
    "jhmdb": (_PCK_BOX, _PCK_TORSO, labelled_ap, jitter),
    "lsp": (_PCK_TORSO, labelled_ap),
    "lspet": (_PCK_TORSO, labelled_ap),
    "synthetic": (coco_ap, _PCK_BOX),
}


def score(name: str, samples: Sequence[Sample], predictions: Sequence[Persons]) -> list[Result]:
    """The numbers that are told of a data set.

    Args:
        name: of the data set, see `METRICS`.
        samples: its labelled pictures.
        predictions: the people found in each picture, in any keypoint layout; keypoints go by name, and the results
            note which were never predicted.
    """
    if len(samples) != len(predictions):
        raise ValueError(f"{len(predictions)} predictions for {len(samples)} pictures")
    in_layout = [
        in_skeleton(persons, sample.labels.skeleton) for sample, persons in zip(samples, predictions, strict=True)
    ]
    return [metric(samples, in_layout) for metric in METRICS[name]]
