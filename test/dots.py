"""What trainings of the tests learn from, and their settings."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.multiprocessing
from torch import Tensor

from pave_ros.training.config import TrainingConfig
from pave_ros.training.target import Target


def target(people: int, keypoints: int = 2, seed: int = 0) -> Target:
    generator = torch.Generator().manual_seed(seed)
    return Target(
        keypoints=torch.rand(people, keypoints, 2, generator=generator),
        labelled=torch.ones(people, keypoints, dtype=torch.bool),
        areas=torch.full((people,), 0.1),
        ignored=torch.zeros(0, 4),
        visible=torch.ones(people, keypoints, dtype=torch.bool),
        bare=torch.zeros(0, 4),
        boxes=torch.full((people, 4), 0.1),
    )


class Dots:
    """Pictures of one person each, made of its number."""

    def __getitem__(self, index: int) -> tuple[Tensor, Target]:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, 96, 96), generator=generator, dtype=torch.uint8)
        return image, target(1 + index % 2, 17, seed=index)


def config(output: Path, **changes: object) -> TrainingConfig:
    settings: dict[str, object] = {
        "model": "detrpose_n", "output": output, "data": {}, "steps": 4, "batch_size": 4, "workers": 0,
        "warmup": 2, "learning_rate": 1e-3, "ema_warmup": 2, "log_every": 1,
    }  # fmt: skip
    return TrainingConfig(**{**settings, **changes})  # type: ignore[arg-type]
