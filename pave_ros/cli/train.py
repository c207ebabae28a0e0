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

    from pave_ros.training.config import TrainingConfig
    from pave_ros.training.samples import samples_of
    from pave_ros.training.settings import ConfigError
    from pave_ros.training.sources import ValidationPictures
    from pave_ros.training.trainer import Trainer
    from pave_ros.training.validation import validate

    settings = TrainingConfig.read(config)
    try:
        samples = samples_of(settings)
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from error
    check = partial(validate, pictures=ValidationPictures(samples.mixture), limit=settings.validate_limit)
    trainer = Trainer(settings, samples, validate=check if samples.mixture.weights else None)
    if trainer.step and trainer.process.first:
        done = trainer.step >= settings.steps
        out.print(f"{trainer.step} steps are done" if done else f"going on after step {trainer.step}")
    try:
        weights = trainer.run()
    except KeyboardInterrupt:
        if trainer.process.first:
            out.print(f"interrupted after step {trainer.step}; the same command goes on from there")
        raise
    if trainer.process.first:
        out.print(f"weights: {weights}", soft_wrap=True)
