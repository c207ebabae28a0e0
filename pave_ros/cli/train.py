"""`pave_ros train`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pave_ros.cli.console import out


def train(
    config: Annotated[Path, typer.Argument(help="Settings, see config/training and docs/training.md.")],
) -> None:
    """Train a model; goes on where an earlier run with the same output folder stopped. Several processes:
    torchrun --nproc_per_node=2 -m pave_ros.cli train CONFIG."""
    from functools import partial

    from pave_ros import models
    from pave_ros.training.clips import TAUGHT_BY_CLIPS, TrainingClips, clip_samples
    from pave_ros.training.config import TrainingConfig
    from pave_ros.training.crops import TAUGHT_BY_CROPS, TrainingCrops, crop_samples
    from pave_ros.training.settings import ConfigError
    from pave_ros.training.sources import Mixture, TrainingScenes, ValidationPictures
    from pave_ros.training.trainer import Trainer
    from pave_ros.training.validation import validate

    settings = TrainingConfig.read(config)
    common = settings.of_samples
    if repeated := [name for name in common if name in settings.data]:
        raise ConfigError(f"{config}: data: {repeated[0]} stands beside data, not in it")
    system = models.split_name(settings.model)[0]
    if "clips" in settings.data and system not in TAUGHT_BY_CLIPS:
        raise ConfigError(f"{config}: data: clips: {settings.model} looks at single pictures, not at clips")
    if ("crops" in settings.data) != (system in TAUGHT_BY_CROPS):
        looks = "one person's crop, so it needs them" if system in TAUGHT_BY_CROPS else "whole pictures, not at crops"
        raise ConfigError(f"{config}: data: crops: {settings.model} looks at {looks}")
    samples: TrainingClips | TrainingCrops | TrainingScenes
    if "clips" in settings.data:
        samples = clip_samples(settings.data, common)
    elif "crops" in settings.data:
        samples = crop_samples(settings.data, common)
    else:
        samples = TrainingScenes(Mixture.from_dict({**common, **settings.data}))
    check = partial(validate, pictures=ValidationPictures(samples.mixture), limit=settings.validate_limit)
    trainer = Trainer(settings, samples, validate=check if samples.mixture.weights else None)
    if trainer.step and trainer.process.first:
        done = trainer.step >= settings.steps
        out.print(f"{trainer.step} steps are done" if done else f"going on after step {trainer.step}")
    weights = trainer.run()
    if trainer.process.first:
        out.print(f"weights: {weights}", soft_wrap=True)
