"""Steadier keypoints in a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pave_ros import skeletons
from pave_ros.estimator import Estimator
from pave_ros.frames import Frame, Image
from pave_ros.persons import Persons
from pave_ros.smoothing import Looks, steady

COCO = skeletons.get("coco17")
SIZE = float(np.sqrt(80 * 200))


def person(score: float = 0.5) -> Persons:
    """Somebody in a box 80 pixels wide and 200 high."""
    points = np.random.default_rng(0).uniform(0, 1, (17, 2)) * (80, 200)
    return Persons.from_keypoints(
        np.concatenate((points, np.full((17, 1), score)), 1)[None], [score], "coco17", [[0, 0, 80, 200]]
    )


def moved(persons: Persons, step: np.ndarray) -> Persons:
    """The same with keypoints moved by (..., 2) pixels."""
    return replace(persons, keypoints=persons.keypoints + np.pad(step, [(0, 0)] * (step.ndim - 1) + [(0, 1)]))


def test_places_are_the_mean_of_the_last_looks() -> None:
    seen = person()
    places, looks = steady(seen, None)
    np.testing.assert_array_equal(places.keypoints, seen.keypoints)
    assert (looks.count == 1).all(), "nobody was there before"
    rng, reach = np.random.default_rng(0), 0.2 * np.asarray(COCO.sigmas, np.float32)[:, None] * SIZE
    errors: list[list[float]] = [[], []]
    for _ in range(60):
        look = moved(seen, (reach * rng.standard_normal((17, 2))).astype(np.float32))
        places, looks = steady(look, looks)
        for found, apart in zip((look, places), errors, strict=True):
            apart.append(float(np.square(found.keypoints - seen.keypoints).mean()))
    assert np.mean(errors[1]) < 0.5 * np.mean(errors[0]) and looks.count.min() > 1 and looks.count.max() <= 3
    np.testing.assert_allclose(places.keypoints[..., 2], 0.5)
    np.testing.assert_array_equal(places.boxes, seen.boxes)


@pytest.mark.parametrize(("way", "stays"), [(0.3, True), (3.0, False)])
def test_who_moves_leaves_no_trail(way: float, stays: bool) -> None:
    before, step = person(), np.zeros((17, 2), np.float32)
    step[10, 0] = way * COCO.sigmas[10] * SIZE  # a wrist, by so much of what OKS tolerates
    places, looks = steady(moved(before, step), Looks.first(before))
    share = (places.keypoints - before.keypoints)[0, 10, 0] / step[10, 0]
    assert (share < 0.6 if stays else share > 0.999) and (looks.count[0, 10] > 1.5) == stays
    np.testing.assert_allclose(places.keypoints[0, :10], before.keypoints[0, :10], atol=1e-3)
    elsewhere = moved(before, np.full((17, 2), 500, np.float32))
    apart, looks = steady(elsewhere, Looks.first(before))
    np.testing.assert_array_equal(apart.keypoints, elsewhere.keypoints)
    assert (looks.count == 1).all(), "somebody else"


def test_who_moves_slowly_trails_by_two_frames_at_most() -> None:
    behind = {}
    for pace in (1.0, 20.0):  # pixels a frame
        places, looks = steady(person(), None)
        for i in range(1, 30):
            look = moved(person(), np.full((17, 2), pace * i, np.float32))
            places, looks = steady(look, looks)
        behind[pace] = (look.keypoints - places.keypoints)[0, COCO.index("left_hip"), 0] / pace
    assert 1.5 < behind[1] < 2 and behind[20] < 0.1


def test_keypoints_that_a_frame_does_not_have() -> None:
    before, now = person(), moved(person(), np.full((17, 2), 1, np.float32))
    before.keypoints[0, 3, :2] = now.keypoints[0, 4, :2] = np.nan
    places, looks = steady(now, Looks.first(before))
    np.testing.assert_array_equal(places.keypoints[0, 3], now.keypoints[0, 3])
    assert np.isnan(places.keypoints[0, 4, :2]).all() and np.isfinite(places.keypoints[0, 5:]).all()
    assert looks.count[0, 3] == looks.count[0, 4] == 1 and looks.count[0, 5] > 1


def test_who_changes_the_people_changes_nothing_for_the_next_frame() -> None:
    expected, looks = person(), None
    for _ in range(3):
        found, looks = steady(person(), looks)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)
        found.keypoints[..., :2] *= 0.5


def test_extents_go_along_with_the_keypoints() -> None:
    first = Persons.from_keypoints(person().keypoints, [0.5], "coco17")
    there = moved(first, np.full((17, 2), 2, np.float32))
    second = Persons.from_keypoints(there.keypoints, [0.5], "coco17")
    places, _ = steady(second, Looks.first(first))
    assert (first.boxes[0, :2] < places.boxes[0, :2]).all() and (places.boxes[0, :2] < second.boxes[0, :2]).all()


def test_any_model_in_a_stream_if_asked_for() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    pictures = [picture, np.clip(picture, 4, 250), np.clip(picture, 8, 246)]

    def stream(smoothing: str) -> list[Persons]:
        estimator = Estimator("poet_r50", "random", "cpu", input_size=(96, 128), score_threshold=0.0, max_persons=3,
                              smoothing=smoothing)  # fmt: skip
        assert estimator.earlier == (smoothing == "always")
        return [persons for _, persons in estimator.video(_frames(pictures))]

    plain, smoothed, published = (stream(smoothing) for smoothing in ("never", "always", "auto"))
    looks = None
    for raw, found, unchanged in zip(plain, smoothed, published, strict=True):
        expected, looks = steady(raw, looks)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-3)
        np.testing.assert_array_equal(unchanged.keypoints, raw.keypoints)
    assert not np.allclose(plain[2].keypoints, smoothed[2].keypoints)


def test_another_size_or_no_frame_before_is_a_first_look() -> None:
    estimator = Estimator("poet_r50", "random", "cpu", input_size=(96, 128), score_threshold=0.0, max_persons=3,
                          smoothing="always")  # fmt: skip
    small, large = (np.full((side, side, 3), 90, np.uint8) for side in (64, 96))
    frames = _frames([small, large])
    for index in (0, 1, 1):
        estimator.estimate(frames, index)
        looks = frames[index].looks
        assert looks is not None and (looks.count == 1).all()
    with pytest.raises(ValueError, match="unknown smoothing 'strong'; known: auto, always, never"):
        Estimator("poet_r50", "random", "cpu", smoothing="strong")


def _frames(pictures: list[Image]) -> list[Frame]:
    return [Frame(stamp=i, image=picture) for i, picture in enumerate(pictures)]


def test_a_keypoint_of_somebody_else_in_the_same_place_draws_nothing() -> None:
    before = person()
    other = moved(before, np.full((17, 2), 500, np.float32))
    other.keypoints[0, 9, :2] = before.keypoints[0, 9, :2] + 1  # their wrists touch
    places, looks = steady(other, Looks.first(before))
    np.testing.assert_array_equal(places.keypoints, other.keypoints)
    assert (looks.count == 1).all()


def test_keypoints_of_no_score_keep_their_place() -> None:
    seen = person(score=0.0)
    _, looks = steady(seen, None)
    places, _ = steady(seen, looks)
    np.testing.assert_allclose(places.keypoints, seen.keypoints)


def test_who_moves_the_people_a_little_changes_nothing_for_the_next_frame() -> None:
    expected, looks = person(), None
    for _ in range(3):
        found, looks = steady(person(), looks)
        np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)
        found.keypoints[..., :2] += 1


def test_person_of_whom_one_keypoint_is_seen() -> None:
    """Whose box has no extent."""
    keypoints = np.full((1, 17, 3), np.nan)
    keypoints[..., 2] = 0
    keypoints[0, 0] = (50, 50, 0.5)
    one = Persons.from_keypoints(keypoints, [0.5], "coco17")
    _, looks = steady(one, Looks.first(one))
    assert looks.count[0, 0] == 2


def test_looks_of_another_estimator_are_none_of_its_own() -> None:
    frames = _frames([np.full((64, 64, 3), 90, np.uint8)] * 2)
    for _ in range(2):
        estimator = Estimator("poet_r50", "random", "cpu", input_size=(96, 128), score_threshold=0.0, max_persons=3,
                              smoothing="always")  # fmt: skip
        estimator.estimate(frames[1:])
        estimator.estimate(frames, 1)
        looks = frames[1].looks
        assert looks is not None and frames[0].looks is None and (looks.count == 1).all()
        estimator.estimate(frames, 0)


def test_the_first_frame_has_none_before_it() -> None:
    estimator = Estimator("poet_r50", "random", "cpu", input_size=(96, 128), score_threshold=0.0, max_persons=3,
                          smoothing="always")  # fmt: skip
    frames = _frames([np.full((64, 64, 3), 90, np.uint8)] * 2)
    for index in (1, 0):
        estimator.estimate(frames, index)
    assert frames[0].looks is not None and (frames[0].looks.count == 1).all()


def test_looks_in_pictures_of_another_size_are_none() -> None:
    estimator = Estimator("poet_r50", "random", "cpu", input_size=(96, 128), score_threshold=0.0, max_persons=3,
                          smoothing="always")  # fmt: skip
    frames = _frames([np.full((side, side, 3), 90, np.uint8) for side in (64, 96)])
    for _ in range(2):
        estimator.estimate(frames, 1)
        looks = frames[1].looks
        assert looks is not None and (looks.count == 1).all()
        frames[0].looks, frames[0].encoder = looks, estimator  # the same place, by chance
