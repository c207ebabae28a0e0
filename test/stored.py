"""Stores of grey pictures with a bright person, and mixtures of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_teacher import STANDING

from pave_ros.datasets.base import Labels
from pave_ros.training.sources import (
    Mixture,
    body_mask,
)
from pave_ros.training.store import (
    Picture,
    write_store,
)


def standing(offset: tuple[float, float] = (0, 0), scale: float = 1.0) -> Labels:
    points = np.concatenate([STANDING * scale + offset, np.full((17, 1), 2)], axis=1)
    return Labels.from_keypoints(points[None], "coco17")


def picture(number: int, split: str = "train", masked: bool = False) -> Picture:
    """A grey picture with a bright person, of 160x200 pixels."""
    labels = standing((30 + number, 10))
    mask = body_mask(labels.keypoints[0], (160, 200))
    image = np.full((200, 160, 3), 60, np.uint8)
    image[mask > 0] = 220
    return Picture(f"p{number}", image, labels, split, mask if masked else None)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    write_store(tmp_path, "one", [picture(i, "val" if i % 3 == 0 else "train") for i in range(9)])
    write_store(tmp_path, "two", [picture(i, "val" if i == 0 else "train", masked=True) for i in range(4)])
    return tmp_path


def mixture(cache: Path, **options: object) -> Mixture:
    values = {"cache": cache, "weights": {"one": 2, "two": 1}, "input_size": [96, 128], **options}
    return Mixture.from_dict(values)
