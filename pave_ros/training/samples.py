"""The training samples that a configuration asks for: pictures, clips of frames or crops of people."""

from __future__ import annotations

from pave_ros import models
from pave_ros.training.clips import TAUGHT_BY_CLIPS, TrainingClips, clip_samples
from pave_ros.training.config import TrainingConfig
from pave_ros.training.crops import TAUGHT_BY_CROPS, TrainingCrops, crop_samples
from pave_ros.training.settings import ConfigError
from pave_ros.training.sources import Mixture, TrainingScenes

Samples = TrainingClips | TrainingCrops | TrainingScenes


def samples_of(settings: TrainingConfig) -> Samples:
    """The samples of the section ``data``; ConfigError where settings are wrong, or the model learns from others."""
    data, common = settings.data, settings.of_samples
    if repeated := [name for name in common if name in data]:
        raise ConfigError(f"data: {repeated[0]} stands beside data, not in it")
    system = models.split_name(settings.model)[0]
    if "clips" in data and system not in TAUGHT_BY_CLIPS:
        raise ConfigError(f"data: clips: {settings.model} looks at single pictures, not at clips")
    if ("crops" in data) != (system in TAUGHT_BY_CROPS):
        looks = "one person's crop, so it needs them" if system in TAUGHT_BY_CROPS else "whole pictures, not at crops"
        raise ConfigError(f"data: crops: {settings.model} looks at {looks}")
    if "clips" in data:
        return clip_samples(data, common)
    if "crops" in data:
        return crop_samples(data, common)
    return TrainingScenes(Mixture.from_dict({**common, **data}))
