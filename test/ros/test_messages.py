"""People as messages and back, in types that every ROS version takes."""

from __future__ import annotations

import numpy as np
import pytest
from std_msgs.msg import Header

from pave_ros import skeletons
from pave_ros.persons import Persons
from pave_ros.ros import messages


def some_people(count: int) -> Persons:
    random = np.random.default_rng(0)
    keypoints = random.uniform(0, 100, (count, 17, 3)).astype(np.float32)
    keypoints[:, 3, :2] = np.nan
    people = Persons.from_keypoints(keypoints, random.uniform(0, 1, count), "coco17")
    people.track_ids[:] = np.arange(count) + 5
    people.ages[:] = np.arange(count) * 3
    return people


@pytest.mark.parametrize("count", [0, 1, 20])
def test_there_and_back(count: int) -> None:
    people = some_people(count)
    header = Header(frame_id="front", stamp=messages.stamp(12_000_000_034))
    message = messages.poses(people, header, (480, 640), "porch")
    assert (message.camera, message.height, message.width, message.skeleton) == ("porch", 480, 640, "coco17")
    assert message.header == header
    back = messages.persons(message)
    assert len(back) == count and back.skeleton == "coco17"
    for name in ("scores", "boxes", "track_ids", "ages") + (("keypoints",) if count else ()):
        assert np.array_equal(getattr(back, name), getattr(people, name), equal_nan=True), name
        assert getattr(back, name).dtype == getattr(people, name).dtype


def test_every_keypoint_is_there_missing_ones_as_nan() -> None:
    (person,) = messages.poses(some_people(1), Header(), (1, 1), "").persons
    assert len(person.keypoints) == 17 and np.isnan(person.keypoints[3].x)
    assert len(person.keypoints_3d) == 0


def test_untracked_people_are_minus_one() -> None:
    people = Persons.from_keypoints(np.zeros((1, 17, 3)), [0.5], "coco17")
    assert messages.poses(people, Header(), (1, 1), "").persons[0].track_id == -1


@pytest.mark.parametrize("name", list(skeletons.SKELETONS))
def test_skeletons(name: str) -> None:
    layout = skeletons.get(name)
    message = messages.skeleton(layout)
    assert (message.name, tuple(message.keypoints)) == (name, layout.keypoints)
    assert np.array(message.edges).reshape(-1, 2).tolist() == [list(edge) for edge in layout.edges]
    assert tuple(message.mirror) == tuple(layout.mirror)
    assert list(message.sigmas) == pytest.approx(layout.sigmas)
    assert len(message.sigmas) == len(message.mirror) == len(message.keypoints)


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_000_000_000, 1_795_239_235_745_916_766])
def test_stamps(nanoseconds: int) -> None:
    assert messages.nanoseconds(messages.stamp(nanoseconds)) == nanoseconds


def test_an_age_that_is_too_large_for_us_is_the_largest() -> None:
    message = messages.poses(some_people(1), Header(), (1, 1), "")
    message.persons[0].age = 2**32 - 1
    assert messages.persons(message).ages.tolist() == [2**31 - 1]
