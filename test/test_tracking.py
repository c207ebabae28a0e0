"""Identity over time: on the synthetic scene's exact truth, and on small cases made by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pave_ros.persons import Persons
from pave_ros.synthetic import Scene
from pave_ros.tracking import Tracker, similarity

SECOND = 1_000_000_000
SHAPE = np.random.default_rng(1).uniform(0, 1, (17, 2)) * (40, 100)


def people(*places: tuple[float, float], noise: float = 0.0, seed: int = 0) -> Persons:
    """COCO-17 people 100 px high at these places."""
    rng = np.random.default_rng(seed)
    keypoints = np.ones((len(places), 17, 3))
    for i, place in enumerate(places):
        keypoints[i, :, :2] = SHAPE + place + rng.normal(0, noise, (17, 2))
    return Persons.from_keypoints(keypoints, np.ones(len(places)), "coco17")


def test_numbers_and_ages() -> None:
    tracker = Tracker()
    first = tracker.update(people((0, 0), (200, 0)), 0)
    assert first.track_ids.tolist() == [1, 2] and first.ages.tolist() == [0, 0]
    assert first.track_ids.dtype == first.ages.dtype == np.int32
    second = tracker.update(people((203, 0), (400, 0), (2, 0)), SECOND // 30)
    assert second.track_ids.tolist() == [2, 3, 1] and second.ages.tolist() == [1, 0, 1]


def test_nobody() -> None:
    tracker = Tracker()
    nobody = people()
    assert len(tracker.update(nobody, 0)) == 0
    assert tracker.update(people((0, 0)), 1).track_ids.tolist() == [1]
    assert len(tracker.update(nobody, 2)) == 0
    back = tracker.update(people((0, 0)), 3)
    assert back.track_ids.tolist() == [1] and back.ages.tolist() == [2]  # pictures since the first, seen or not


def test_unseen_for_longer_than_max_age_is_somebody_new() -> None:
    tracker = Tracker(max_age=0.5)
    tracker.update(people((0, 0)), 0)
    assert tracker.update(people((0, 0)), SECOND // 2).track_ids.tolist() == [1]
    tracker.update(people(), SECOND)
    assert tracker.update(people((0, 0)), 2 * SECOND).track_ids.tolist() == [2]
    with pytest.raises(ValueError, match="max_age"):
        Tracker(max_age=0)


def test_whoever_was_in_the_last_picture_keeps_the_number_however_slow_the_pictures_come() -> None:
    tracker = Tracker(max_age=1.0)
    numbers = [tracker.update(people((100, 100)), round(t * 5e9)).track_ids.tolist() for t in range(4)]
    assert numbers == [[1]] * 4
    tracker.update(people(), round(4 * 5e9))
    assert tracker.update(people((100, 100)), round(5 * 5e9)).track_ids.tolist() == [2]


@pytest.mark.parametrize("pause", [2, 10, 60])
@pytest.mark.parametrize("speed", [0.0, 60.0])
def test_who_stays_where_they_were_over_a_pause_keeps_the_number(pause: int, speed: float) -> None:
    for seed in range(10):
        tracker = Tracker()
        for i in range(31):
            now = tracker.update(people((i / 30 * speed, 0), noise=1.5, seed=100 * seed + i), i * SECOND // 30)
        assert tracker.update(people((speed, 0)), (1 + pause) * SECOND).track_ids.tolist() == now.track_ids.tolist()


def test_numbers_are_never_used_twice_not_even_after_going_back_in_time() -> None:
    tracker = Tracker()
    assert tracker.update(people((0, 0)), 5 * SECOND).track_ids.tolist() == [1]
    assert tracker.update(people((0, 0)), 0).track_ids.tolist() == [2]  # a recording that starts over
    tracker.reset()
    assert tracker.update(people((0, 0)), 1).track_ids.tolist() == [3]


def test_another_skeleton_starts_afresh() -> None:
    tracker = Tracker()
    tracker.update(people((0, 0)), 0)
    fewer = Persons.from_keypoints(people((0, 0)).keypoints[:, :14], [1], "crowdpose14")
    found = tracker.update(fewer, 1)
    assert found.track_ids.tolist() == [2] and found.ages.tolist() == [0]


def test_pictures_that_are_stamped_in_pairs_as_they_arrive() -> None:
    """Taken evenly, a thirtieth of a second apart, and told a millisecond apart: nobody is as fast as they seem."""
    tracker = Tracker()
    for i in range(60):
        stamp = (i // 2 * 2) * SECOND // 30 + (i % 2) * SECOND // 1000
        assert tracker.update(people((4 * i, 0), noise=1.5, seed=i), stamp).track_ids.tolist() == [1]


def test_who_changes_the_people_changes_no_track() -> None:
    tracker = Tracker()
    for i in range(3):
        found = tracker.update(people((0, 0), (300, 0)), i * SECOND // 30)
        assert found.track_ids.tolist() == [1, 2]
        found.keypoints[..., :2] *= 0.5
        found.boxes[...] = 0


def test_same_stamp_twice_keeps_the_numbers() -> None:
    tracker = Tracker()
    tracker.update(people((0, 0)), 0)
    assert tracker.update(people((1, 0)), 0).track_ids.tolist() == [1]
    assert tracker.update(people((2, 0)), 0).track_ids.tolist() == [1]


def ways(*velocities: float, start: tuple[float, ...]) -> Callable[[float], list[tuple[float, float]]]:
    return lambda t: [(x + v * t, 10.0 * i) for i, (x, v) in enumerate(zip(start, velocities, strict=True))]


@pytest.mark.parametrize("rate", [30, 10, 5])
def test_people_who_cross(rate: int) -> None:
    where = ways(150.0, -150.0, start=(0.0, 300.0))
    tracker, first = Tracker(), None
    for i in range(2 * rate):
        now = tracker.update(people(*where(i / rate), noise=1, seed=i), round(i * SECOND / rate))
        first = first if first is not None else now.track_ids.tolist()
        assert now.track_ids.tolist() == first


def test_person_who_disappears_behind_another_comes_back_with_the_number() -> None:
    where = ways(120.0, 0.0, start=(0.0, 120.0))
    tracker = Tracker()
    for i in range(60):
        places = where(i / 30)
        hidden = 22 <= i < 38
        now = tracker.update(people(*places[hidden:]), i * SECOND // 30)
        assert now.track_ids.tolist() == ([2] if hidden else [1, 2])


def test_keypoints_that_come_and_go() -> None:
    tracker = Tracker()
    for i in range(10):
        both = people((3 * i, 0), (200, 0))
        keypoints = both.keypoints.copy()
        keypoints[0, i % 2 :: 2, :2] = np.nan  # never the same half twice: only the boxes can be compared
        seen = Persons.from_keypoints(keypoints, both.scores, "coco17", both.boxes)
        assert tracker.update(seen, i * SECOND // 30).track_ids.tolist() == [1, 2]


def test_person_without_any_place() -> None:
    nowhere = Persons.from_keypoints(np.full((2, 17, 3), np.nan), [1, 1], "coco17")
    tracker = Tracker()
    assert tracker.update(nowhere, 0).track_ids.tolist() == [1, 2]
    assert tracker.update(nowhere, 1).track_ids.tolist() == [3, 4]


def test_similarity() -> None:
    a = people((0, 0), (1000, 0))
    alike = similarity(a.keypoints[..., :2], a.boxes, a.keypoints[..., :2], a.boxes, "coco17")
    assert alike == pytest.approx(np.eye(2), abs=1e-6)


@pytest.mark.parametrize(("rate", "switches_allowed"), [(30, 2), (10, 2)])
def test_synthetic_people(rate: int, switches_allowed: int) -> None:
    """Jittered, shuffled, sometimes missed, hidden behind each other, entering and leaving."""
    scene = Scene(seed=4, width=320, height=240, persons=6, rate=rate, blur=0, noise=0)
    rng = np.random.default_rng(0)
    runs = [Tracker(), Tracker()]
    numbers: dict[int, int] = {}
    switches = people_seen = 0
    for i in range(6 * rate):
        frame = scene.frame(i)
        visible = (frame.visibility == 2).sum(axis=1) >= 5
        order = rng.permutation(np.flatnonzero(visible & (rng.random(len(visible)) > 0.05)))
        truth = frame.persons[order]
        size = np.sqrt(truth.boxes[:, 2] * truth.boxes[:, 3])
        keypoints = truth.keypoints.copy()
        keypoints[..., :2] += rng.normal(0, 0.02, (len(truth), 17, 2)) * size[:, None, None]
        detected = Persons.from_keypoints(keypoints, np.ones(len(truth)), "coco17")
        tracked, again = (run.update(detected, round(i * SECOND / rate)) for run in runs)
        assert tracked.track_ids.tolist() == again.track_ids.tolist()
        assert len(set(tracked.track_ids.tolist())) == len(tracked)
        for person, number in zip(truth.track_ids.tolist(), tracked.track_ids.tolist(), strict=True):
            switches += numbers.get(person, number) != number
            numbers[person] = number
            people_seen += 1
    assert people_seen > 10 * rate
    assert switches <= switches_allowed


def test_who_hurries_on_where_pictures_always_come_slowly_keeps_the_number() -> None:
    tracker = Tracker(max_age=1.0)
    x = 0.0
    for i in range(8):
        x += 20 * i  # pixels in five seconds, ever more
        assert tracker.update(people((x, 0)), round(i * 5e9)).track_ids.tolist() == [1]


def test_who_appears_beside_where_somebody_left_is_somebody_new() -> None:
    tracker = Tracker()
    tracker.update(people((0, 0)), 0)
    assert tracker.update(people((90, 0)), SECOND // 30).track_ids.tolist() == [2]


def test_a_waving_arm_carries_nobody_away() -> None:
    tracker = Tracker()
    for i in range(4):
        waving = people((0, 0))
        waving.keypoints[0, [7, 9], 0] += 60 * i  # an elbow and a wrist
        tracker.update(waving, i * SECOND // 30)
    tracker.update(people(), 4 * SECOND // 30)
    assert tracker.update(people((0, 0)), 25 * SECOND // 30).track_ids.tolist() == [1]


def test_pictures_with_one_stamp_count_in_the_age() -> None:
    tracker = Tracker()
    assert [tracker.update(people((i, 0)), 0).ages.tolist() for i in range(3)] == [[0], [1], [2]]


def test_similarity_is_the_same_both_ways() -> None:
    small, large = people((0, 0)), people((10, 0))
    large.boxes[0, 2:] *= 3
    one, other = ((p.keypoints[..., :2], p.boxes) for p in (small, large))
    assert similarity(*one, *other, "coco17") == pytest.approx(similarity(*other, *one, "coco17").T)
    assert similarity(*one, *other, "coco17") > similarity(*one, one[0] + (10, 0), one[1], "coco17")


def test_person_of_whom_one_keypoint_is_seen() -> None:
    """Whose box has no extent."""
    seen = np.full((1, 17, 3), np.nan)
    seen[0, 0] = (50, 50, 1)
    tracker = Tracker()
    for i in range(3):
        assert tracker.update(Persons.from_keypoints(seen, [1], "coco17"), i).track_ids.tolist() == [1]
