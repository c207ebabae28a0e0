"""Agreement of two models, on people that were put where they are by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pave_ros.evaluation.agreement import Agreement, agreement
from pave_ros.persons import Persons


def people(*places: tuple[float, float], scores: list[float] | None = None, joint: float = 0.9) -> Persons:
    """Stick figures 100 pixels wide and 200 high whose first keypoint is at each place."""
    figure = np.stack([np.linspace(0, 100, 17), np.linspace(0, 200, 17), np.full(17, joint)], axis=1)
    keypoints = [figure + (x, y, 0) for x, y in places]
    return Persons.from_keypoints(np.reshape(keypoints, (-1, 17, 3)), scores or [0.9] * len(places), "coco17")


def test_people_are_matched_once_and_only_nearby() -> None:
    reference = people((0, 0), (500, 0), (1000, 0))
    found = people((3, 2), (700, 0), (2000, 0), (3000, 0))
    assert agreement([(reference, found)]) == Agreement(pictures=1, people=3, matched=1, found=4)
    assert agreement([(people((0, 0), (4, 0)), people((2, 0)))]).matched == 1, "one cannot be two"


def test_the_limit_is_an_oks_of_one_half() -> None:
    sigmas = np.array([0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
                       0.087, 0.087, 0.089, 0.089])  # fmt: skip
    area = 0.53 * 100 * 200

    def oks(offset: float) -> float:
        return float(np.exp(-(offset**2) / (2 * area * (2 * sigmas) ** 2)).mean())

    near = next(offset for offset in np.arange(0, 100, 0.5) if oks(offset) < 0.52)
    far = next(offset for offset in np.arange(0, 100, 0.5) if oks(offset) < 0.49)
    assert agreement([(people((0, 0)), people((near - 0.5, 0)))]).share == 1
    assert agreement([(people((0, 0)), people((far, 0)))]).share == 0


def test_only_who_is_sure_counts() -> None:
    reference = people((0, 0), (500, 0), scores=[0.31, 0.29])
    found = people((500, 0), (0, 0), scores=[0.9, 0.29])
    assert agreement([(reference, found)]) == Agreement(pictures=1, people=1, matched=0, found=1)
    assert agreement([(reference, found)], sure=0.2).share == 1
    assert agreement([(people((0, 0), joint=0.1), people((0, 0)))]).people == 0, "none of its keypoints is sure"


def test_pictures_add_up() -> None:
    both = agreement([(people((0, 0)), people((0, 0))), (people((0, 0)), people())])
    assert both == Agreement(2, 2, 1, 1) and both.share == pytest.approx(0.5)
    assert math.isnan(agreement([]).share)
