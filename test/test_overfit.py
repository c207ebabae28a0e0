"""A fresh network overfits a few pictures: losses, matching, denoising and optimizer work together."""

from pathlib import Path

from overfit import largest, overfit

from pave_ros.datasets.synthetic import SyntheticDataset


def test_pictures_of_the_synthetic_scene_are_learnt_by_heart(tmp_path: Path) -> None:
    samples = largest(SyntheticDataset("train", scenes=8, frames=1, width=192, height=144), 2)
    result = overfit(samples, tmp_path, size=(96, 96), steps=160, learning_rate=1e-3, denoising=4)
    assert result.persons >= 2 and result.values["AP"] > 0.95, result.values
