"""Overfit a few pictures: if the losses, the matching and the optimizer are right, a model can.

    python test/overfit.py --dataset coco --root DIR --backbone FILE

takes the eight pictures of a data set whose people are the largest, trains on nothing else, and prints COCO's AP on the
same pictures through the estimator, as a user would run the trained file. Exit code 1 below an AP of 0.95. With its
defaults it takes some eight minutes of one core. The tests do the same with pictures of the synthetic scene.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from pave_ros import Estimator
from pave_ros.datasets import Dataset, Sample, open_dataset
from pave_ros.evaluation.coco import coco_ap
from pave_ros.evaluation.result import Result
from pave_ros.training import augmentation as augment
from pave_ros.training.config import TrainingConfig
from pave_ros.training.sources import target_of
from pave_ros.training.target import Target
from pave_ros.training.trainer import Trainer

WANTED = 0.95


class Few:
    """An endless supply of the same few pictures, stretched to one size."""

    def __init__(self, samples: Sequence[Sample], size: tuple[int, int]) -> None:
        self._items = [_item(sample, size) for sample in samples]

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        return self._items[index % len(self._items)]


def _item(sample: Sample, size: tuple[int, int]) -> tuple[Tensor, Target]:
    height, width = size
    picture = cv2.resize(sample.image(), (width, height), interpolation=cv2.INTER_AREA)
    matrix = augment.scaling(width / sample.width, height / sample.height)
    target = target_of(augment.move(sample.labels, matrix, (width, height)), (width, height))
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))), target


def largest(dataset: Dataset, count: int) -> list[Sample]:
    """The pictures whose smallest person is the largest, seen as a share of the picture; all people count."""

    def smallest_person(sample: Sample) -> float:
        labels = sample.labels
        known = (labels.keypoints[..., 2] > 0).any(axis=1) & ~labels.crowd
        return float(labels.areas.min() / (sample.width * sample.height)) if len(labels) and known.all() else -1.0

    chosen = sorted(dataset, key=smallest_person)[-count:]
    if len(chosen) < count or smallest_person(chosen[0]) <= 0:
        raise ValueError(f"{dataset.name}: has no {count} pictures in which everybody is labelled")
    return chosen


def overfit(
    samples: Sequence[Sample],
    output: Path,
    *,
    model: str = "detrpose_lite",
    size: tuple[int, int] = (160, 160),
    steps: int = 150,
    learning_rate: float = 1e-3,
    backbone: Path | None = None,
    denoising: int = 20,
) -> Result:
    """Train on these pictures alone, each in every step, and score the outcome on them; with fewer than the published
    twenty `denoising` queries a step costs less."""
    config = TrainingConfig(
        model=model, output=output, data={}, steps=steps, batch_size=len(samples), input_size=size, workers=0,
        backbone=backbone, learning_rate=learning_rate, backbone_learning_rate=learning_rate / 2, warmup=20,
        final=0.02, clip_norm=1.0, ema_decay=0.9, ema_warmup=1, checkpoint_every=0, log_every=0,
        objective_options={"denoising": denoising},
    )  # fmt: skip
    weights = Trainer(config, Few(samples, size)).run()
    estimator = Estimator(model, weights, "cpu", input_size=size, score_threshold=0.0)
    return coco_ap(samples, [estimator(sample.image()) for sample in samples])


def main() -> int:
    """The command line; 0 when the pictures were learnt."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="coco")
    parser.add_argument("--root", type=Path, default=Path("."))
    parser.add_argument("--split", default="all")
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--model", default="detrpose_lite")
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    given = parser.parse_args()
    samples = largest(open_dataset(given.dataset, given.root, given.split), given.pictures)
    print("pictures:", ", ".join(str(sample.id) for sample in samples))
    with tempfile.TemporaryDirectory() as folder:
        result = overfit(
            samples, Path(folder), model=given.model, size=(given.size, given.size), steps=given.steps,
            learning_rate=given.learning_rate, backbone=given.backbone,
        )  # fmt: skip
    print(", ".join(f"{name} {value:.4f}" for name, value in result.values.items()), f"({result.persons} people)")
    return 0 if result.values["AP"] > WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
