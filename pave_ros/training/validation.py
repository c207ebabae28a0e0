"""How good the weights are while they are trained: COCO's AP on the pictures that training never sees."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from pave_ros import postprocessing
from pave_ros.datasets.base import Labels, Sample
from pave_ros.engines.pytorch import PyTorchEngine
from pave_ros.evaluation.coco import labelled_ap
from pave_ros.evaluation.result import Result
from pave_ros.evaluation.score import Metric
from pave_ros.evaluation.similarity import in_skeleton
from pave_ros.frames import Frame, Image
from pave_ros.models.base import PoseModel
from pave_ros.persons import Boxes, Persons
from pave_ros.preprocessing import network_input
from pave_ros.topdown.stages import TopDown
from pave_ros.training.sources import ValidationPictures

# The people in a picture (H, W, 3) uint8 RGB, down to the least sure. The labels are for those who start from boxes.
Finder = Callable[[Image, Labels], Persons]


def validate(model: PoseModel, pictures: ValidationPictures, limit: int = 0) -> dict[str, float]:
    """AP of each source of the pictures, 0..1, and their mean as ``mean``; nothing where there are no pictures.

    Args:
        model: the network, which is run in evaluation mode and left in the mode it was in.
        pictures: the validation part of a mixture.
        limit: at most so many pictures of each source, evenly spread; 0 for all.
    """
    training = model.training
    model.eval()
    scores = {name: result.values["AP"] for name, result in by_source(_finder(model), pictures, limit).items()}
    model.train(training)
    if not scores:
        return {}
    known = [score for score in scores.values() if not np.isnan(score)]
    return {**scores, "mean": float(np.mean(known)) if known else float("nan")}


def by_source(
    find: Finder, pictures: ValidationPictures, limit: int = 0, metric: Metric = labelled_ap
) -> dict[str, Result]:
    """COCO's numbers for each source of the pictures by name, of whatever finds people; `limit` as of `validate`.

    A source may have keypoints that a network is not taught, and pictures of which not everybody is labelled: neither
    counts by itself, see `labelled_ap`.
    """
    results = {}
    for name in dict.fromkeys(pictures.names):
        indices = [i for i, source in enumerate(pictures.names) if source == name]
        if limit and len(indices) > limit:
            indices = [indices[i] for i in np.linspace(0, len(indices) - 1, limit).astype(int)]
        samples, predictions = [], []
        for index in indices:
            image, labels = pictures.scene(index)
            height, width = image.shape[:2]
            samples.append(Sample(index, width, height, labels, partial(np.asarray, image)))
            predictions.append(in_skeleton(find(image, labels), labels.skeleton))
        results[name] = metric(samples, predictions)
    return results


def _finder(model: PoseModel) -> Finder:
    device = next(model.parameters()).device
    if model.info.top_down:
        # An engine folds what it runs; the network that is trained stays as it is.
        top_down = TopDown(PyTorchEngine(copy.deepcopy(model), str(device), "fp32"), None)

        def in_boxes(image: Image, labels: Labels) -> Persons:
            boxes = Boxes.of(labels.boxes[~labels.crowd])
            return top_down.estimate([Frame(stamp=0, image=image, boxes=boxes)] * model.info.window, len(boxes))

        return in_boxes

    @torch.no_grad()
    def find(image: Image, labels: Labels) -> Persons:
        tensor = torch.from_numpy(network_input(image, model.info)).to(device)
        outputs = {key: value.float().cpu().numpy() for key, value in model(tensor).items()}
        height, width = image.shape[:2]
        return postprocessing.persons(model.info, outputs, (width, height), max_persons=20)

    return find
