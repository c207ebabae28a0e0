"""The overlay: what is drawn where, in which colours, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pave_ros.drawing import contact_sheet, draw, hue
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


def test_numbers_that_follow_each_other_have_colours_that_are_far_apart() -> None:
    for number in range(50):
        apart = abs(hue(number + 1) - hue(number))
        assert 0.3 < apart < 0.7, "around the circle"


def test_a_person_of_number_0_keeps_the_colour_too() -> None:
    two = replace(people((20, 40, 150), (170, 40, 150)), track_ids=np.array([9, 0], np.int32))
    swapped = two[np.array([1, 0])]
    assert (draw(canvas(), two, label=False) == draw(canvas(), swapped, label=False)).all()


def test_a_keypoint_that_is_just_sure_enough_is_drawn() -> None:
    person = people((60, 60, 150), scores=0.5)
    assert (draw(canvas(), person, keypoint_threshold=0.5) == draw(canvas(), person)).all()


def test_people_who_are_apart_are_drawn_as_each_alone() -> None:
    """With number, score, label and box of their own."""
    two = replace(people((20, 60, 150), (170, 60, 150)), track_ids=np.array([7, 12], np.int32))
    alone = draw(draw(canvas(), two[:1], boxes=True), two[1:], boxes=True)
    assert (draw(canvas(), two, boxes=True) == alone).all()


def test_the_label_tells_numbers_from_0_on_and_none_of_who_is_not_followed() -> None:
    nobody = people((60, 60, 150))
    labels = [draw(canvas(), replace(nobody, track_ids=np.array([number], np.int32))) for number in (-1, -2, 0)]
    assert (labels[0] == labels[1]).all() and (labels[0] != labels[2]).any()


def test_a_label_stands_above_the_middle_of_the_person() -> None:
    person = people((60, 60, 150))
    rows, columns = np.nonzero((draw(canvas(), person) != draw(canvas(), person, label=False)).any(-1))
    assert abs((columns.min() + columns.max()) / 2 - 135) <= 2 and 30 < rows.min() < rows.max() < 70


@pytest.mark.parametrize(("wrist", "drawn"), [(-20, True), (-300, True), (-330, False), (610, True), (650, False)])
def test_a_limb_is_drawn_up_to_the_border_that_it_leaves_through(wrist: float, drawn: bool) -> None:
    """Also one that ends far outside, up to the picture's width; beyond that it is not to be believed."""
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[0, 7], keypoints[0, 9] = (160, 120, 1), (wrist, 120, 1)
    image = draw(canvas(), Persons.from_keypoints(keypoints, [1], "coco17"), label=False)
    assert changed(image)[120, 0 if wrist < 0 else -1] == drawn and changed(image)[120, 160]


@pytest.mark.parametrize("options", [{"keypoint_threshold": 0.95}, {"boxes": True}, {"label": False}])
def test_options_count_on_any_view(options: dict[str, Any]) -> None:
    straight, mirrored = canvas(), canvas()
    draw(straight, people((60, 60, 150)), **options)
    draw(mirrored[:, ::-1], people((60, 60, 150)), **options)
    assert np.array_equal(straight, mirrored[:, ::-1])


def test_every_picture_of_a_sheet_has_its_own_caption() -> None:
    images = [np.full((60, 80, 3), 90, np.uint8)] * 2
    both = contact_sheet(images, columns=2, width=400, captions=["one", "two"])
    swapped = contact_sheet(images, columns=2, width=400, captions=["two", "one"])
    cell = (400 - 3 * 8) // 2
    left, right = np.s_[:, 8 : 8 + cell], np.s_[:, 16 + cell : 16 + 2 * cell]
    assert (both[left] == swapped[right]).all() and (both[right] == swapped[left]).all()
    assert (both[left] != both[right]).any()


def test_left_limbs_are_lighter_right_ones_deeper_and_those_between_neither() -> None:
    image = draw(canvas(1280, 960), people((200, 60, 800)), label=False).astype(int)
    for (x, y), color in {
        (0.7, 0.325): (255, 153, 153),  # left upper arm
        (0.225, 0.475): (217, 11, 11),  # right forearm
        (0.52, 0.085): (255, 153, 153),  # nose to left eye
        (0.5, 0.25): (255, 76, 76),  # shoulders
    }.items():
        assert np.abs(image[round(60 + 800 * y), round(200 + 800 * x)] - color).max() <= 1


@pytest.mark.parametrize(("joint", "color"), [(0, (255, 76, 76)), (9, (255, 153, 153)), (10, (217, 11, 11))])
def test_a_keypoint_is_a_white_spot_in_the_colour_of_its_side(joint: int, color: tuple[int, int, int]) -> None:
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    keypoints[0, joint] = (640, 480, 1)
    person = Persons.from_keypoints(keypoints, [1], "coco17", [[400, 200, 400, 600]])
    image = draw(canvas(1280, 960), person, label=False).astype(int)
    assert (image[480, 640] == 255).all() and (np.abs(image[480] - color).max(-1) <= 1).any()


def test_the_best_person_is_drawn_on_top() -> None:
    two = people((200, 60, 800), (200, 60, 800))
    arm = draw(canvas(1280, 960), two, label=False)[60 + 260, 200 + 560].astype(int)
    assert np.abs(arm - (255, 153, 153)).max() <= 1, "the first one's red, not the second one's blue"


def test_a_label_is_written_dark_on_a_bright_ground() -> None:
    person = people((60, 60, 150))
    before, after = draw(canvas(), person, label=False), draw(canvas(), person)
    label = after[(before != after).any(-1)]
    assert label[:, 0].max() == 255 and label[:, 0].min() < 60 and label[:, 1].max() < 100, "nothing white on red"


def test_people_without_numbers_have_colours_of_their_own() -> None:
    image = draw(canvas(640, 480), people((0, 100, 300), (300, 100, 300)), label=False)
    left, right = image[:, :300], image[:, 300:]
    assert (left[..., 0] >= left[..., 2]).all() and (left[..., 0] > left[..., 2]).any(), "red and grey"
    assert (right[..., 2] >= right[..., 0]).all() and (right[..., 2] > right[..., 0]).any(), "blue and grey"


def test_people_whose_boxes_are_unknown_are_drawn_by_their_keypoints() -> None:
    known = people((60, 60, 150))
    unknown = replace(known, boxes=np.full((1, 4), np.nan, np.float32))
    assert np.array_equal(draw(canvas(), unknown, boxes=True), draw(canvas(), known, boxes=True))


@pytest.mark.parametrize(("width", "box"), [(4000, 40), (320, 300)])
def test_lines_are_neither_invisible_nor_clumsy(width: int, box: int) -> None:
    """However small or large a person is in the picture; with their dark rim and soft borders."""
    keypoints = np.full((1, 17, 3), np.nan)
    keypoints[0, [7, 9]] = (140, 100, 1), (180, 100, 1)  # the left forearm
    person = Persons.from_keypoints(keypoints, [0.9], "coco17", [[140, 0, box, box]])
    found = changed(draw(canvas(width, 200), person, label=False))[:, 160].sum()
    assert 8 <= found <= 11
