"""The overlay: what is drawn where, in which colours, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pave_ros.drawing import contact_sheet, draw
from pave_ros.persons import Persons
from pave_ros.skeletons import SKELETONS

# An upright COCO-17 figure facing us, 0..1.
FIGURE = np.array(
    [(.5, .1), (.54, .07), (.46, .07), (.59, .09), (.41, .09), (.65, .25), (.35, .25), (.75, .4), (.25, .4),
     (.8, .55), (.2, .55), (.6, .55), (.4, .55), (.62, .75), (.38, .75), (.63, .95), (.37, .95)], np.float32
)  # fmt: skip


def people(*places: tuple[float, float, float], scores: float = 0.9) -> Persons:
    """COCO-17 people at (x, y, height)."""
    keypoints = np.full((len(places), 17, 3), scores, np.float32)
    for i, (x, y, height) in enumerate(places):
        keypoints[i, :, :2] = FIGURE * height + (x, y)
    return Persons.from_keypoints(keypoints, np.linspace(0.9, 0.5, len(places)), "coco17")


def canvas(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


def changed(image: np.ndarray) -> np.ndarray:
    return (image != 128).any(-1)


def test_draws_in_place_near_the_person_only() -> None:
    image = canvas()
    assert draw(image, people((60, 60, 150)), label=False) is image
    ys, xs = np.nonzero(changed(image))
    assert 80 < xs.min() < 92 and 178 < xs.max() < 188 and 62 < ys.min() < 72 and 200 < ys.max() < 210
    for x, y in FIGURE * 150 + 60:
        assert changed(image)[round(y), round(x)]


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_every_skeleton(skeleton: str) -> None:
    image = canvas()
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(20, 200, (2, len(SKELETONS[skeleton]), 3))
    keypoints[..., 2] = 1
    draw(image, Persons.from_keypoints(keypoints, [1, 1], skeleton), boxes=True)
    assert changed(image).sum() > 500


def test_channel_order() -> None:
    rgb, bgr = canvas(), canvas()
    draw(rgb, people((60, 60, 150)))
    draw(bgr, people((60, 60, 150)), bgr=True)
    assert (rgb == bgr[..., ::-1]).all() and (rgb != bgr).any()


def test_missing_and_doubtful_keypoints_are_left_out() -> None:
    person = people((60, 60, 150))
    keypoints = person.keypoints.copy()
    keypoints[0, 15] = (np.nan, np.nan, 0)  # left ankle
    keypoints[0, 9, 2] = 0.1  # left wrist
    image = canvas()
    draw(image, replace(person, keypoints=keypoints), keypoint_threshold=0.3, label=False)
    ankle, wrist = FIGURE[15] * 150 + 60, FIGURE[9] * 150 + 60
    for x, y in (ankle, wrist):
        assert not changed(image)[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4].any()


def test_nothing_to_draw() -> None:
    nobody = people()
    unseen = Persons.from_keypoints(np.full((1, 17, 3), np.nan), [0.9], "coco17")
    wild = people((1e9, -1e9, 1e12))
    for persons in (nobody, unseen, replace(wild, boxes=np.full((1, 4), np.nan, np.float32))):
        assert not changed(draw(canvas(), persons)).any()


def test_people_partly_outside() -> None:
    draw(canvas(), people((-75, -75, 150), (300, 200, 100), (-500, 0, 50)), boxes=True)


def test_track_keeps_its_colour_whatever_its_rank() -> None:
    two = replace(people((20, 40, 150), (170, 40, 150)), track_ids=np.array([7, 9], np.int32))
    swapped = two[np.array([1, 0])]
    assert (draw(canvas(), two, label=False) == draw(canvas(), swapped, label=False)).all()


def test_line_width_follows_the_person() -> None:
    small = changed(draw(canvas(1280, 960), people((50, 50, 60)), label=False)).sum() / 60
    large = changed(draw(canvas(1280, 960), people((50, 50, 800)), label=False)).sum() / 800
    assert large > 2 * small


def test_labels_do_not_cover_each_other_and_stay_inside() -> None:
    same_place = people(*[(100, 0, 200)] * 4)
    labels = changed(draw(canvas(), same_place)) & ~changed(draw(canvas(), same_place, label=False))
    one = changed(draw(canvas(), same_place[:1])) & ~changed(draw(canvas(), same_place[:1], label=False))
    assert labels.sum() > 1.5 * one.sum()


def test_view_into_a_larger_array() -> None:
    whole = canvas(400, 300)
    draw(whole[20:260, 30:350], people((60, 60, 150)), label=False)
    plain = draw(canvas(), people((60, 60, 150)), label=False)
    assert (whole[20:260, 30:350] == plain).all() and not changed(whole[:20]).any()


def test_any_view_is_drawn_on() -> None:
    straight, turned, mirrored = canvas(), canvas(), canvas()
    draw(straight, people((60, 60, 150)))
    draw(turned[..., ::-1], people((60, 60, 150)), bgr=True)
    draw(mirrored[:, ::-1], people((60, 60, 150)))
    assert np.array_equal(straight, turned) and np.array_equal(straight, mirrored[:, ::-1])


@pytest.mark.parametrize(("image", "reason"), [
    (canvas().astype(np.float32), "has to be a uint8 array of shape"), (canvas()[..., 0], "has to be a uint8 array of"),
    (np.frombuffer(canvas().tobytes(), np.uint8).reshape(240, 320, 3), "is not to be written to"),
])  # fmt: skip
def test_what_cannot_be_drawn_into_is_told(image: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        draw(image, people((60, 60, 150)))


def test_boxes_that_reach_far_outside() -> None:
    far = people((60, 60, 150))
    far = replace(far, boxes=np.array([[-3e8, 20, 6e8, 40]], np.float32))
    image = draw(canvas(), far, boxes=True)
    assert changed(image)[20].all() and changed(image)[60].all(), "lines from border to border"


def test_a_contact_sheet_has_no_more_columns_than_fit() -> None:
    white = [np.full((6, 8, 3), 255, np.uint8)] * 300
    sheet = contact_sheet(white, columns=300, width=90)
    assert sheet.shape[1] == 90 and (sheet == 255).all(-1).sum() >= 300


def test_contact_sheet() -> None:
    images = [np.full((60, 80, 3), 50 * (i + 1), np.uint8) for i in range(3)] + [np.full((200, 100, 3), 200, np.uint8)]
    sheet = contact_sheet(images, columns=2, width=400, captions=["one"])
    cell = (400 - 3 * 8) // 2
    assert sheet.shape == (2 * (round(cell * 0.75) + 8) + 8, 400, 3)
    assert (sheet[8 + 70, 8 + cell // 2] == 50).all() and (sheet[8 + 70, 16 + cell + cell // 2] == 100).all()
    assert (sheet[-80, -8 - cell // 2] == 200).all() and (sheet[-80, -20] == 20).all()  # the tall one is in the middle
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
